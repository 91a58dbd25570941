"""Release a finished run as weights with a name: `python tools/release.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("release.py")  # before the import below, which takes its time

from harness.command.release import main

if __name__ == "__main__":
    sys.exit(main())
