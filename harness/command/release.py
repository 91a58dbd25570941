"""Release a finished run: its network as a file of `models/weights/`, under a name of its own, with a card beside it.

    python tools/release.py runs/lenet5-digits/DATE_TIME --name DIGITS
    python tools/release.py runs/lenet4-mnist/DATE_TIME --name MNIST --seeds runs/lenet4-mnist/*/result.json

The file holds class names, preprocessing, every setting, the record and the errors of each epoch. Its numbers are in
half precision if a record that is made again with them is the same. The run of the smallest seed is released, whatever
it scored; the card has the errors of all seeds. The network is `weights=NAME` then, for train, eval, predict, export
and torch.hub.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from harness.command import arguments
from harness.errors import UserError
from harness.run import program
from harness.run.printable import say
from models.catalogue import WEIGHTS


def main() -> int:
    """Read the command line and release; returns the exit code."""
    parser = arguments.Parser(
        description=program.typed(str(__doc__)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--name", required=True, help="what the weights are called, after their data: MNIST")
    parser.add_argument("--seeds", nargs="+", type=Path, default=[], help="result.json of the runs of other seeds")
    parser.add_argument("--root", help="folder of the data, if it is not the data's own (data.root)")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder of released weights (default: %(default)s)")
    return arguments.main(parser, release)


def release(given: argparse.Namespace) -> int:
    """Release the run and print the path of the file; returns the exit code."""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", given.name):
        raise UserError(f"--name {given.name}: write capital letters, digits and _, such as MNIST_DISTORTED")
    if not given.out.is_dir():
        raise UserError(f"--out {given.out}: there is no such folder")

    from harness.run.log import spoken
    from harness.stories.release import release as release_run

    with spoken(True):
        file = release_run(given.run, given.name, given.out, given.seeds, given.root)
    say(f"{file}: {file.stat().st_size:,} bytes")
    return 0
