"""Images: `sources` says which ones, `images` reads one, `loading` makes batches of many.

`sources` and the index of a folder load no torch before images are asked for.
"""
