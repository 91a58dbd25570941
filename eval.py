"""Evaluate a trained network on a test split: `python eval.py --help`."""

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("eval.py")  # before the import below, which takes its time

from harness.command.cli import main

if __name__ == "__main__":
    main("eval")
