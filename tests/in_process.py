"""The scripts inside the tests' own process: the same command line without the seconds that importing torch takes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from unittest.mock import patch

from harness.command.cli import main
from harness.run import folder as run_folder


def call(script: str, *arguments: str) -> int:
    """Run `train.py` or `eval.py` with these arguments; its exit code."""
    logging.getLogger("cnn_zoo").handlers.clear()  # of the call before
    run_folder._LOCKS.clear()  # which its process would have given back at its end
    words = [script, *arguments]
    with patch.object(sys, "argv", words), patch.object(sys, "orig_argv", [sys.executable, *words]):
        try:
            main(script.removesuffix(".py"))
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def only(folder: Path) -> Path:
    """The only thing in a folder."""
    (found,) = folder.iterdir()
    return found
