"""Class names for a user's pictures.

`pictures` finds the files, `network` loads the network, `predict` asks it, and `output` writes the answers.
"""
