"""The same work by what users would run instead: one file for each of them, none of which calls this program's code.

They share the network, the optimiser, the pictures and the sizes of `work.py`, and nothing else. Each has a function
`epoch`, which gives the seconds of an epoch of training, and most have `evaluation`, which gives those of an
evaluation; what is made before, such as data sets and networks, is in none of the times.
"""
