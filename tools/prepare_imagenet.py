"""Turn the official archives of ImageNet into folders of classes: `python tools/prepare_imagenet.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("prepare_imagenet.py")  # before the import below, which takes its time

from harness.command.prepare_imagenet import main

if __name__ == "__main__":
    sys.exit(main())
