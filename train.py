"""Train a network and report its error on the test split: `python train.py --help`."""

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("train.py")  # before the import below, which takes its time

from harness.command.cli import main

if __name__ == "__main__":
    main("train")
