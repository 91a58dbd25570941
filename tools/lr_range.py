"""Measure at which learning rates the loss falls: `python tools/lr_range.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("lr_range.py")  # before the import below, which takes its time

from harness.command.lr_range import main

if __name__ == "__main__":
    main()
