"""Fine-tuning against training from scratch on few images: runs, record, table and figure.

python tools/transfer.py run --mnist data --cifar10 cifar10 --folder transfer --out transfer.json
python tools/transfer.py draw transfer.json --out transfer.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("transfer.py")  # before the imports below, which take their time

from harness.errors import EXIT_CODE, UserError
from harness.run.files import write_json

RATES = [0.003, 0.01, 0.03, 0.1, 0.3]


def run(arguments: argparse.Namespace) -> None:
    """Train all networks, some hundred short runs, and write the record; started again, it goes on."""
    from benchmarks.transfer import Experiment

    experiment = Experiment(arguments.folder.absolute(), arguments.mnist.absolute(), arguments.cifar10.absolute())
    write_json(arguments.out, experiment.measure(arguments.seeds))


def tune(arguments: argparse.Namespace) -> None:
    """Try learning rates from scratch on images that `run` never tests on, and write the errors."""
    from benchmarks.transfer import Experiment

    experiment = Experiment(arguments.folder.absolute(), arguments.mnist.absolute(), arguments.cifar10.absolute())
    write_json(arguments.out, experiment.tune(arguments.rates))


def draw(arguments: argparse.Namespace) -> None:
    """Print a record's table, and draw its figure."""
    from benchmarks.transfer_report import draw, table

    try:
        record = json.loads(arguments.record.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{arguments.record}: no record that can be read ({error})") from error
    print(table(record))
    draw(arguments.out, record)


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for command in (run, tune, draw):
        sub = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(command=command)
        sub.add_argument("--out", type=Path, required=True, help="a new file")
        if command is draw:
            sub.add_argument("record", type=Path, help="what `run` wrote")
            continue
        sub.add_argument("--mnist", type=Path, required=True, help="folder of torchvision's MNIST files")
        sub.add_argument("--cifar10", type=Path, required=True, help="folder of CIFAR-10 in parquet files")
        sub.add_argument("--folder", type=Path, required=True, help="for data files and runs")
        if command is run:
            sub.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
        else:
            sub.add_argument("--rates", type=float, nargs="+", default=RATES, help="to be tried")
    arguments = parser.parse_args()
    try:
        if arguments.out.exists():
            raise UserError(f"--out {arguments.out}: this file exists; name a new one")
        arguments.command(arguments)
    except UserError as error:
        print(f"transfer.py: {error}", file=sys.stderr)
        return EXIT_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
