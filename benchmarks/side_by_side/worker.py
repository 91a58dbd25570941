"""A process that does one's work whenever a line comes: `python -m benchmarks.side_by_side.worker WHO WHAT WORK`.

It imports what it needs in `main`, because processes that decode pictures for `train.py` import the main file anew.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """For each line of the standard input, print the seconds that the work took."""
    import torch

    from benchmarks.side_by_side.work import Work
    from benchmarks.terminal import unseen_terminal

    who, what, given = sys.argv[1:]
    work = Work(**json.loads(given))
    do = getattr(importlib.import_module(f"benchmarks.side_by_side.{who}"), what)
    torch.set_num_threads(work.threads)
    replies = sys.stdout
    for _ in sys.stdin:
        with unseen_terminal():
            seconds = do(work)
        print(seconds, file=replies, flush=True)


if __name__ == "__main__":
    main()
