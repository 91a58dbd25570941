"""The command line: words become a typed config, a mistake becomes one line, and a sweep becomes jobs."""
