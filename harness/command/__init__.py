"""The command line: from words to a typed config, a mistake to a line, a sweep to its jobs."""
