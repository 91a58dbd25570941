"""Measure the errors of the released networks on shifted digits: `python tools/shift.py DATA_ROOT --out FILE`.

    python tools/shift.py data --out shift.json      # the record of docs/lecture.md, benchmarks/results/shift.json

DATA_ROOT holds torchvision's files of MNIST. It takes a minute on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("shift.py")  # before the imports below, which take their time

from harness.command import arguments
from harness.errors import UserError
from harness.run.files import write_json


def shift(given: argparse.Namespace) -> int:
    """Measure, and write the record."""
    if given.out.exists():
        raise UserError(f"--out {given.out}: this file exists; name a new one")
    from benchmarks.shift import measure

    record = measure(given.root)
    for row in record["networks"]:
        print(f"{row['model']} {row['weights']}: {' '.join(f'{error:.1f}' for error in row['top1_error'])} %")
    write_json(given.out, record)
    return 0


def main() -> int:
    """Read the command line; returns the exit code."""
    parser = arguments.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="folder of torchvision's MNIST files")
    parser.add_argument("--out", type=Path, required=True, help="a new JSON file")
    return arguments.main(parser, shift)


if __name__ == "__main__":
    sys.exit(main())
