"""`eval.py` on a machine that says it has eight cores, so that three processes are not refused."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("eval.py")

from harness.command.cli import main
from harness.run import processes

processes.available_cores = lambda: 8  # type: ignore[attr-defined]

if __name__ == "__main__":
    main("eval")
