"""Pack a data set into tars that `data=shards` reads: `python tools/shard.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("shard.py")  # before the import below, which takes its time

from harness.command.shard import main

if __name__ == "__main__":
    sys.exit(main())
