"""What the user started: a script of the repository, such as `train.py`, or a command of the installed `cnn-zoo`.

Python puts `train.py` into `sys.argv[0]`, and `harness.command.zoo` puts `cnn-zoo train` there. So `sys.argv` holds
what the user started and its arguments in either case. `sys.orig_argv` holds the words that Python was started with.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ZOO = "cnn-zoo"  # the installed command
TORCHRUN, SRUN = "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"  # environment variables that their tasks alone have
IN_REPOSITORY = re.compile(
    r"(?:python )?(?:tools/)?\b"
    r"(train|eval|compare|tune|lr_range|predict|visualize|errors|audit|export|prepare_imagenet|shard)\.py\b"
    r"|python -m (models)\b"
)


def name() -> str:
    """What the user started, as it begins the line of a mistake: `train.py` or `cnn-zoo train`."""
    return Path(sys.argv[0]).name


def typed(text: str) -> str:
    """A text in which commands stand as this user types them.

    Args:
        text: names scripts of the repository: `python train.py seed=1`, `python tools/predict.py`, `python -m models`.

    Returns:
        The text as it is if the user started a script; with `cnn-zoo train seed=1` if the user started `cnn-zoo`.
    """
    return IN_REPOSITORY.sub(rf"{ZOO} \1\2", text) if name().split(" ")[0] == ZOO else text


def is_task() -> bool:
    """Return whether torchrun or srun started this process."""
    return TORCHRUN in os.environ or SRUN in os.environ


def start() -> list[str]:
    """The words that start this program once more; arguments go behind them."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def start_train() -> list[str]:
    """The words that start `train` beside this program; arguments go behind them."""
    *words, last = start()
    return [*words, "train"] if name().split(" ")[0] == ZOO else [*words, str(Path(last).parents[1] / "train.py")]


def go_on(folder: object) -> str:
    """How a run is continued."""
    return f"go on with: {typed('python train.py')} resume='{folder}'"
