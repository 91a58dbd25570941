"""Show what a network sees on pictures: `python tools/visualize.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("visualize.py")  # before the import below, which takes its time

from harness.command.visualize import main

if __name__ == "__main__":
    sys.exit(main())
