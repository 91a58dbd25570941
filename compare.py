"""Compare models by the records of their runs: `python compare.py --help`."""

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("compare.py")  # before the imports below, which take their time

from harness.command.cli import main
from harness.config import CompareConfig
from harness.stories.compare import compare_records

if __name__ == "__main__":
    main("compare", CompareConfig, compare_records)
