"""One file for each kind of run, to be read from top to bottom: compose, load, build, run, record."""
