"""Find labels that are probably wrong, and pictures that lie in two splits; one page of HTML, and tables as CSV.

    python tools/audit.py runs/lenet5-digits/DATE_TIME
    python train.py -m data=folder data.root=my_photos data.folds=5 data.fold=0,1,2,3,4
    python tools/audit.py runs/resnet18-folder/DATE_TIME_0 ... runs/resnet18-folder/DATE_TIME_4

Name the folder of a run or of an evaluation that has ended: the labels of its test split are looked at. Or name one
run of every fold of a cross-validation: each picture is then judged by a network that never saw it. Near-duplicates
are looked for across the splits of a run, or across the folds. Needs cleanlab: pip install 'cnn-zoo[audit]'. The exit
code is 0, or 2 for a mistake.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.command import arguments
from harness.run.files import new_folder
from harness.run.printable import say
from harness.run.program import typed


def main() -> int:
    """Read the command line and write the page; returns the exit code."""
    parser = arguments.Parser(
        usage="%(prog)s RUN... [--option ...]",
        description=typed(str(__doc__)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or those of all its folds")
    parser.add_argument("--root", type=Path, help="folder of the data, if they have moved")
    parser.add_argument("--out", type=Path, help="a new folder (default: RUN-audit, beside the first run)")
    return arguments.main(parser, audit)


def audit(given: argparse.Namespace) -> int:
    """Read the records, look at labels and pictures, and write the page; returns the exit code."""
    arguments.check_new_folder(given.out)

    from harness.mistakes import audit_page
    from harness.mistakes.labels import answers_of
    from harness.mistakes.page import INDEX
    from harness.mistakes.pictures import find_pictures
    from harness.prediction.output import Names
    from harness.weights.find import imagenet_names

    each, whole = answers_of(given.runs)
    pictures = find_pictures(each, given.root)
    if pictures.note:
        say(pictures.note, sys.stderr)
    found = audit_page.audit(each, whole, pictures, given.root, _shown)
    folder = new_folder(given.out or arguments.beside(given.runs[0], "audit"))
    audit_page.write_page(found, Names(whole.class_names, imagenet_names(whole.class_names)), folder)
    say(audit_page.in_one_line(found))
    say(folder / INDEX)
    return 0


def _shown(positions: Iterable[int]) -> Iterable[int]:
    """The same positions, with a bar on a terminal."""
    if not sys.stderr.isatty():
        return positions
    from rich.console import Console
    from rich.progress import track

    return track(positions, "looking", console=Console(stderr=True), transient=True)
