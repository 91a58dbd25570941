"""Write pages and pictures of the results from the records that are committed.

    python tools/results.py            # writes docs/results.md, docs/images/*.png and the tables of README.md
    python tools/results.py --check    # changes nothing; exit code 1 if one of them is not what the records say

The records are in benchmarks/results/experiments/EXPERIMENT/, each the result.json of a run, as it is: seed0.json, or
lenet5-seed0.json where the experiment sweeps the model, too. A record of other settings than its experiment has in
configs/experiment/ is refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.command import arguments
from harness.command.sweep import jobs_of
from harness.comparison.experiments import Section, lines_of, sections_of
from harness.comparison.results_chart import draw, drawn, drawn_in
from harness.comparison.results_page import between, page, short_table
from harness.config.files import choices
from harness.run import program
from harness.run.files import write_text
from harness.run.printable import say

ROOT = Path(__file__).parents[2]
RECORDS = Path("benchmarks/results/experiments")
PAGE, README, IMAGES = Path("docs/results.md"), Path("README.md"), Path("docs/images")
SHOWN = {  # an experiment of a section with a picture: the picture, its title, and the name of its table in the README
    "lenet5_1998_mnist": ("figure9.png", "MNIST, after Figure 9 of LeCun et al., 1998", "figure9"),
    "digits_zoo": ("digits_zoo.png", "The digits of scikit-learn, 360 test images", "digits"),
}


def main() -> int:
    """Read the command line and write or compare; returns the exit code."""
    parser = arguments.Parser(
        description=program.typed(str(__doc__)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    return arguments.main(parser, lambda given: results(ROOT, given.check))


def results(root: Path, check: bool) -> int:
    """Write pages and pictures, or compare them with the records.

    Args:
        root: folder of the repository.
        check: whether to write nothing and to print what is out of date.

    Returns:
        Exit code: 1 if something is out of date, otherwise 0.
    """
    sections = sections_of_records(root / RECORDS)
    shown = {name: section for section in sections for name in SHOWN if _has(section, name)}
    pictures = {section.title: f"images/{SHOWN[name][0]}" for name, section in shown.items()}
    texts = {PAGE: page(sections, pictures, f"../{RECORDS}")}
    texts[README] = (root / README).read_text(encoding="utf-8")
    for name, section in shown.items():
        texts[README] = between(texts[README], SHOWN[name][2], short_table(section))
    old = [path for path, text in texts.items() if _read(root / path) != text]
    rows = {name: drawn(section) for name, section in shown.items()}
    old_pictures = [name for name in shown if drawn_in(root / IMAGES / SHOWN[name][0]) != rows[name]]
    if check:
        for path in [*old, *(IMAGES / SHOWN[name][0] for name in old_pictures)]:
            say(f"{path}: not what the records say; run python tools/results.py")
        return 1 if old or old_pictures else 0
    for path in old:
        write_text(root / path, texts[path])
    for name in shown:
        draw(root / IMAGES / SHOWN[name][0], rows[name], SHOWN[name][1])
    return 0


def sections_of_records(folder: Path) -> list[Section]:
    """Return every experiment with the records in this folder, divided into tables."""
    lines = [
        line
        for experiment in choices("experiment")
        for line in lines_of(experiment, jobs_of([f"experiment={experiment}"]), folder)
    ]
    return sections_of(lines)


def _has(section: Section, experiment: str) -> bool:
    return any(line.experiment == experiment for line in section.lines)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
