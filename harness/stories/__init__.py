"""One run each, to be read from top to bottom: compose, load, build, run, record."""
