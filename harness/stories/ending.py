"""What the end of a training or an evaluation says after its errors: where they are, and which command shows why."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from harness.comparison.answers import read_answers
from harness.comparison.errors import in_one_line
from harness.run.files import CHOOSING_VARIABLE
from harness.run.log import log
from harness.run.program import typed
from harness.weights.find import imagenet_names


def tell_worst(folder: Path) -> None:
    """Log the three worst classes of a record and its most frequent confusion, if there are such.

    They are of the test split, so a run among which a choice will be made does not tell them.
    """
    if CHOOSING_VARIABLE in os.environ:
        return
    answers = read_answers(folder)
    names = imagenet_names(answers.class_names)
    line = in_one_line(answers, lambda label: names.get(answers.class_names[label], answers.class_names[label]))
    if line is not None:
        log.info(line)


def tell_why(folder: Path) -> None:
    """Log the command that makes the page on a record."""
    log.info(f"why it is wrong: {typed('python tools/errors.py')} {shlex.quote(str(folder))}")
