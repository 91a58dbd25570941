"""Show why a network is wrong, as one page of HTML that works without a network, with tables as CSV beside it.

    python tools/errors.py runs/lenet5-digits/DATE_TIME
    python tools/errors.py runs/resnet18-folder/DATE_TIME --root my_photos
    python tools/errors.py runs/lenet5-digits/DATE_TIME runs/mlp-digits/DATE_TIME

Name the folder of a run or of an evaluation that has ended. The page shows the error of each class with its interval,
which classes are taken for which, how far the probabilities can be believed, the error against the pictures' size and
shape, the most confident mistakes and the least confident hits. Of two folders it shows where one is right and the
other wrong. The pictures are looked for where they were evaluated, or where --root says, and shown only if they are
the same; without them the page has everything else. The exit code is 0, or 2 for a mistake.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.command import arguments
from harness.comparison.answers import read_answers
from harness.errors import UserError
from harness.run.files import new_folder
from harness.run.printable import say
from harness.run.program import typed


def main() -> int:
    """Read the command line and write the page; returns the exit code."""
    parser = arguments.Parser(
        usage="%(prog)s RUN [RUN] [--option ...]",
        description=typed(str(__doc__)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run or an evaluation; one or two"
    )
    parser.add_argument("--root", type=Path, help="folder of the data, if they have moved")
    parser.add_argument("--out", type=Path, help="a new folder (default: RUN-errors, beside the run)")
    return arguments.main(parser, errors)


def errors(given: argparse.Namespace) -> int:
    """Read the records, find their pictures, and write the page; returns the exit code."""
    if len(given.runs) > 2:
        raise UserError(f"{len(given.runs)} runs: name one, or two to compare; compare.py takes any number")
    arguments.check_new_folder(given.out)
    answers = [read_answers(run) for run in given.runs]

    from harness.mistakes import errors_page, pair_page
    from harness.mistakes.page import INDEX
    from harness.mistakes.pictures import find_pictures
    from harness.prediction.output import Names
    from harness.weights.find import imagenet_names

    names = Names(answers[0].class_names, imagenet_names(answers[0].class_names))
    pair = pair_page.look(*answers) if len(answers) == 2 else None
    pictures = find_pictures(answers[:1], given.root)
    if pictures.note:
        say(pictures.note, sys.stderr)
    found = errors_page.look(answers[0], pictures) if pair is None else None
    folder = new_folder(given.out or arguments.beside(given.runs[0], "errors"))
    if pair is not None:
        pair_page.write_page(pair, names, pictures, folder)
        say(pair_page.in_one_line(pair))
    elif found is not None:
        errors_page.write_page(found, names, pictures, folder)
    say(folder / INDEX)
    return 0
