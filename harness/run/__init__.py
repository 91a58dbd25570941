"""Everything about one run: processes, signals, folder, files, checkpoints, resuming, and what the user sees."""
