"""Files of networks for other programs. Each is read back in its own runtime, and compared before it takes its place.

`endings` names the formats, `formats` writes and reads them, and `export` compares.
"""
