"""One image: the index of a folder, decoding, geometry, what it goes through before a network."""
