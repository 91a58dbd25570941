"""Compare models by the records of their runs: `python compare.py --help`."""

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("compare.py")  # before the import below, which takes its time

from harness.command.cli import main

if __name__ == "__main__":
    main("compare")
