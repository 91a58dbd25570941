"""Pretrained weights: named, found, verified, read without running anything, converted to our keys, adapted.

`names` alone imports without torch. `find` answers what the user's word stands for, `load` puts it into a network.
"""
