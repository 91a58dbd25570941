"""Search for settings by the validation error: `python tools/tune.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("tune.py")  # before the import below, which takes its time

from harness.command.tune import main

if __name__ == "__main__":
    main()
