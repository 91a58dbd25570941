"""Settings: words become typed dataclasses, which check themselves when they are made. Nothing here imports torch.

Each group of settings has one file: `model`, `data`, `recipe`, `protocol`, `trainer`; `commands` puts them together
for each command. Each setting is declared once, by its field (`fields`): its meaning, its bounds, its other names.
`compose` fills the dataclasses from the values in `configs/` and the user's words, `mistakes` says in one line what is
wrong with those words, and `fit` checks which settings work together. `facts` holds plain values that rooms exchange.
"""
