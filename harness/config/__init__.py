"""Settings: from words to typed dataclasses, which are checked when they are made. Nothing here imports torch.

One file holds the settings of a group: `model`, `data`, `recipe`, `protocol`, `trainer`; `commands` puts them together
for each command. A setting is told once, by its field (`fields`): its meaning, its bounds, its other names. `compose`
makes these dataclasses of the values in `configs/` and the user's words, `mistakes` tells in one line what is wrong
with those, and `fit` checks what goes with what. `facts` are plain values that other rooms hand to each other.
"""
