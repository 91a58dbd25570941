"""Show why a network is wrong: `python tools/errors.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("errors.py")  # before the import below, which takes its time

from harness.command.errors import main

if __name__ == "__main__":
    sys.exit(main())
