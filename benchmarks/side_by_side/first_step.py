"""A script as a user would start it: it ends with the first optimiser step, whose moment it prints.

python -m benchmarks.side_by_side.first_step WHO WORK
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.side_by_side.work import Work
from benchmarks.terminal import unseen_terminal


def main() -> None:
    """Begin an epoch."""
    who, given = sys.argv[1:]
    work, replies = Work(**json.loads(given)), sys.stdout

    def end(*_: Any) -> None:
        print(time.time(), file=replies, flush=True)
        os._exit(0)

    register_optimizer_step_post_hook(end)
    torch.set_num_threads(work.threads)
    with unseen_terminal():
        importlib.import_module(f"benchmarks.side_by_side.{who}").epoch(work)


if __name__ == "__main__":
    main()
