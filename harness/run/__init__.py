"""A run: its processes and their signals, its folder, files and checkpoints, how it goes on, what a user sees."""
