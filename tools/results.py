"""Write the pages and pictures of results: `python tools/results.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.command.results import main

if __name__ == "__main__":
    sys.exit(main())
