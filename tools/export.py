"""Write a network for other programs: `python tools/export.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("export.py")  # before the import below, which takes its time

from harness.command.export import main

if __name__ == "__main__":
    sys.exit(main())
