"""Write pages and pictures of the results from the records that are committed.

    python tools/results.py            # writes docs/results.md, docs/images/*.png, and tables of README.md,
                                       # docs/fine-tuning.md and docs/performance.md
    python tools/results.py --check    # changes nothing; exit code 1 if one of them is not what the records say

The records are in benchmarks/results/experiments/EXPERIMENT/, each the result.json of a run, as it is: seed0.json, or
lenet5-seed0.json where the experiment sweeps the model, too. A record of other settings than its experiment has in
configs/experiment/ is refused. Those of `python tools/benchmark.py side_by_side`, which the tables of performance are
made of, are in benchmarks/results/side-by-side/. Paired tests are those that compare.py writes over the runs of an
experiment, comparison_tests.csv, kept as benchmarks/results/tests/EXPERIMENT.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.command import arguments
from harness.command.plan import jobs_of
from harness.comparison import cost_chart, depth_chart, side_by_side
from harness.comparison.experiments import Section, lines_of, sections_of
from harness.comparison.results_chart import draw, drawn, drawn_in
from harness.comparison.results_page import between, page, short_table, tests_table
from harness.comparison.ways_table import flowers_table
from harness.config.files import choices
from harness.run import program
from harness.run.files import read_json, write_text
from harness.run.printable import say

ROOT = Path(__file__).parents[2]
RECORDS = Path("benchmarks/results/experiments")
PAGE, README, IMAGES = Path("docs/results.md"), Path("README.md"), Path("docs/images")
SPEED = Path("benchmarks/results/networks-imagenette-cpu.json")  # of tools/benchmark.py networks
CURVES = Path("benchmarks/results/curves")  # EXPERIMENT/MODEL-seedN/ with metrics.csv and gradients.csv of a run
FINE_TUNING = Path("docs/fine-tuning.md")
PERFORMANCE, TURNS = Path("docs/performance.md"), Path("benchmarks/results/side-by-side")
TESTS = Path("benchmarks/results/tests")  # EXPERIMENT.csv: comparison_tests.csv of compare.py over its runs


class Shown(NamedTuple):
    """A picture of the section that an experiment is in.

    Attributes:
        picture: name of the file.
        title: what stands over it.
        alt: what it shows, for those who cannot see it.
        drawn: gives what is drawn of a section in the repository at a folder; nothing as long as there is no record.
        draw: draws that.
        table: name of the section's table in the README; None: it has none there.
        said: says in a paragraph what the picture shows.
    """

    picture: str
    title: str
    alt: str
    drawn: Callable[[Section, Path], list[dict[str, Any]]]
    draw: Callable[[Path, Sequence[dict[str, Any]], str], None]
    table: str | None = None
    said: Callable[[Sequence[dict[str, Any]]], str] | None = None


def _bars(section: Section, root: Path) -> list[dict[str, Any]]:
    return drawn(section)


def _costs(section: Section, root: Path) -> list[dict[str, Any]]:
    measured = (root / SPEED).exists() and any(line.records for line in section.lines)
    return cost_chart.drawn(section, read_json(root / SPEED)) if measured else []


def _depths(section: Section, root: Path) -> list[dict[str, Any]]:
    return depth_chart.drawn(section, root / CURVES / section.lines[0].experiment)


BARS = "Bars of the errors in the table below"
SHOWN = {  # by an experiment of the section
    "lenet5_1998_mnist": Shown("figure9.png", "MNIST, after Figure 9 of LeCun et al., 1998", BARS, _bars, draw),
    "digits_zoo": Shown("digits_zoo.png", "The digits of scikit-learn, 360 test images", BARS, _bars, draw),
    "imagenette_zoo": Shown(
        "imagenette.png",
        "imagenette: photographs of ten classes, 3,925 to test, 128 pixels, 10 epochs",
        "The errors in the table below against multiply-adds and against the seconds that an epoch takes",
        _costs,
        cost_chart.draw,
        table="imagenette",
    ),
    "cifar10_jpeg_depth": Shown(
        "depth.png",
        "CIFAR-10 re-compressed as JPEG: depth with and without shortcuts, 10 epochs, one seed",
        "Errors of training and validation by epoch, and the norm of each layer's gradient by step",
        _depths,
        depth_chart.draw,
        said=depth_chart.said,
    ),
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
    of = {name: section for section in sections for name in SHOWN if _has(section, name)}
    rows = {name: SHOWN[name].drawn(section, root) for name, section in of.items()}
    drawable = [name for name in of if rows[name]]
    pictures = {of[name].title: (SHOWN[name].alt, f"images/{SHOWN[name].picture}") for name in drawable}
    texts = {PAGE: page(sections, pictures, _further(sections, rows, root), f"../{RECORDS}")}
    texts[README] = (root / README).read_text(encoding="utf-8")
    for name, section in of.items():
        if (table := SHOWN[name].table) is not None:
            texts[README] = between(texts[README], table, short_table(section))
    if (root / FINE_TUNING).exists():
        text = (root / FINE_TUNING).read_text(encoding="utf-8")
        texts[FINE_TUNING] = between(text, "flowers", flowers_table(root / RECORDS))
    if (root / PERFORMANCE).exists():
        texts[PERFORMANCE] = performance_page(root)
    old = [path for path, text in texts.items() if _read(root / path) != text]
    old_pictures = [name for name in drawable if drawn_in(root / IMAGES / SHOWN[name].picture) != rows[name]]
    if check:
        for path in [*old, *(IMAGES / SHOWN[name].picture for name in old_pictures)]:
            say(f"{path}: not what the records say; run python tools/results.py")
        return 1 if old or old_pictures else 0
    for path in old:
        write_text(root / path, texts[path])
    for name in drawable:
        SHOWN[name].draw(root / IMAGES / SHOWN[name].picture, rows[name], SHOWN[name].title)
    return 0


def performance_page(root: Path) -> str:
    """The page of performance with the tables that the records make."""
    text = (root / PERFORMANCE).read_text(encoding="utf-8")
    for part in side_by_side.PARTS:
        path = root / TURNS / f"{part}.json"
        text = between(text, part, side_by_side.block(part, read_json(path) if path.exists() else None))
    return text


def _further(
    sections: Sequence[Section], rows: Mapping[str, Sequence[dict[str, Any]]], root: Path
) -> dict[str, list[str]]:
    """What stands below the tables of sections, by their titles: what curves show, and paired tests."""
    found: dict[str, list[str]] = {}
    for section in sections:
        for name in dict.fromkeys(line.experiment for line in section.lines):
            shown = SHOWN.get(name)
            if shown is not None and shown.said is not None and rows[name]:
                found.setdefault(section.title, []).append(shown.said(rows[name]))
            if (path := root / TESTS / f"{name}.csv").exists():
                found.setdefault(section.title, []).append(tests_table(path.read_text(encoding="utf-8")))
    return found


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
