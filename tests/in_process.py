"""The scripts inside the tests' own process: the same command line without the seconds that importing torch takes."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

from harness.command.cli import main
from harness.run.folder import given_back
from harness.run.log import spoken


def call(script: str, *arguments: str) -> int:
    """Run `train.py` or `eval.py` with these arguments; its exit code."""
    words = [script, *arguments]
    own = patch.object(sys, "argv", words), patch.object(sys, "orig_argv", [sys.executable, *words])
    with spoken(False), given_back(), own[0], own[1]:
        try:
            main(script.removesuffix(".py"))
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def only(folder: Path) -> Path:
    """The only thing in a folder."""
    (found,) = folder.iterdir()
    return found
