"""Pretrained weights: find, verify, read without running code, convert to our keys, and adapt to other classes.

`find` turns the user's word into a file, `load` puts the weights into a network. `harness.config.weights` checks names
without torch.
"""
