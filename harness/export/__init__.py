"""A network to a file for other programs, read back in its own runtime and compared before it counts as written."""
