"""Why two runs differ: their settings, environments and data, the epoch in which they part, the images they differ on.

No torch: everything is read from the folders of the runs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from harness.comparison.records import Record, read_record
from harness.config.files import CONFIG_FILE
from harness.config.plain_yaml import read_yaml
from harness.errors import UserError
from harness.run.files import RESULT_FILE, csv_text, read_json
from harness.run.printable import harmless

ENVIRONMENT, METRICS = "environment.json", "metrics.csv"
OF_A_PLACE = ("runs", "resume", "overrides", "data.root", "data.download", "trainer.progress")  # they move no number
NOTHING = "-"  # of something that only the other run has


@dataclass(frozen=True)
class Disagreement:
    """An image on which two networks differ; classes by name."""

    image: str
    label: str
    first: str
    second: str


@dataclass(frozen=True)
class Why:
    """What two runs have in common and what not.

    Attributes:
        names: what the runs are called, with their errors.
        differing: under a heading each, `settings` and the like, the things that differ: name, and values of both.
        metrics: a line on when the tables of epochs part.
        counts: a line on the images that both, one or none got right.
        disagreements: all images on which their likeliest classes differ.
    """

    names: tuple[str, ...]
    differing: Mapping[str, tuple[tuple[str, str, str], ...]]
    metrics: str
    counts: str
    disagreements: tuple[Disagreement, ...]


def why(first: Path, second: Path) -> Why:
    """Compare two folders of runs or evaluations.

    Raises:
        UserError: one of them has no record, or a damaged one.
    """
    records = (_record(first), _record(second))
    settings, environments = (
        _differing(*(_flat(read(folder)) for folder in (first, second))) for read in (_settings, _environment)
    )
    data = _differing(*(_flat(_data(record)) for record in records))
    counts, disagreements = _answers(*records)
    names = tuple(f"{record.path.parent}: top-1 error {record.content['top1_error']:.2f}%" for record in records)
    differing = {"settings": settings, "environment": environments, "data": data}
    return Why(names, differing, _parting(first / METRICS, second / METRICS), counts, disagreements)


def _record(folder: Path) -> Record:
    if not (folder / RESULT_FILE).is_file():
        raise UserError(f"why={folder}: no folder of a run or an evaluation that has ended (it has no {RESULT_FILE})")
    return read_record(folder / RESULT_FILE)


def _settings(folder: Path) -> Any:
    return read_yaml(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}


def _environment(folder: Path) -> Any:
    try:
        return read_json(folder / ENVIRONMENT)
    except (OSError, ValueError):  # it is for people, and may be missing or damaged
        return {}


def _data(record: Record) -> dict[str, Any]:
    """What a record says of the images, those to train on, too, and of the weights that training began with."""
    content = record.content
    training = content["training"] or {}
    return {
        "test": content["data"],
        "training": {key: training.get(key) for key in ("images", "fingerprint")},
        "preprocessing": content.get("preprocessing"),
        "pretrained": content.get("pretrained"),
        "protocol": content["protocol"],
        "device": content.get("device"),
    }


def _flat(values: Any, above: str = "") -> dict[str, str]:
    """Values by their dotted names, as text."""
    if isinstance(values, Mapping) and (values or above == ""):
        return {
            name: text
            for key, value in values.items()
            for name, text in _flat(value, f"{above}.{key}" if above else str(key)).items()
        }
    return {above: values if isinstance(values, str) else json.dumps(values, ensure_ascii=False, default=str)}


def _differing(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    names = [name for name in dict.fromkeys((*first, *second)) if name not in OF_A_PLACE]
    found = ((name, first.get(name, NOTHING), second.get(name, NOTHING)) for name in names)
    return tuple((name, one, other) for name, one, other in found if one != other)


def _parting(first: Path, second: Path) -> str:
    """The first epoch in which two tables differ, and by what."""
    if not (first.is_file() and second.is_file()):
        return "not compared: one of them is an evaluation, which has no epochs"
    tables = [list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) for path in (first, second)]
    for number, (one, other) in enumerate(zip_longest(*tables), 1):
        if one is None or other is None:
            return f"equal for {number - 1} epochs, after which one of the runs ends"
        columns = [name for name in one if name in other and one[name] != other[name]]
        if columns:
            name = next((name for name in columns if name.endswith(("loss", "error"))), columns[0])
            return f"part in epoch {number}: {name} {_short(one[name])} and {_short(other[name])}"
    return f"equal in all {len(tables[0])} epochs"


def _short(text: str) -> str:
    try:
        return f"{float(text):.6g}"
    except ValueError:
        return text or NOTHING


def _answers(first: Record, second: Record) -> tuple[str, tuple[Disagreement, ...]]:
    """How the answers to the images that both have compare, by the classes' names."""
    mine, theirs = _rows(first), _rows(second)
    shared = [image for image in mine if image in theirs]
    both = only_first = only_second = 0
    found = []
    for image in shared:
        label, one = mine[image]
        _, other = theirs[image]
        both += one == label == other
        only_first += one == label != other
        only_second += other == label != one
        if one != other:
            found.append(Disagreement(image, label, one, other))
    none = len(shared) - both - only_first - only_second
    line = (
        f"{len(shared):,} images: both are right on {both:,}, only the first on {only_first:,}, only the second on "
        f"{only_second:,}, none on {none:,}; their answers differ on {len(found):,}"
    )
    alone = len(mine) + len(theirs) - 2 * len(shared)
    return line + (f"; {alone:,} images are in one of them alone" if alone else ""), tuple(found)


def _rows(record: Record) -> dict[str, tuple[str, str]]:
    """Label and likeliest class of each image, by name."""
    names = record.content.get("class_names") or []

    def named(index: str) -> str:
        return str(names[int(index)]) if index.isdigit() and int(index) < len(names) else index or NOTHING

    try:
        with record.predictions.open(encoding="utf-8", newline="") as file:
            return {row["image"]: (named(row["label"]), named(row["class_1"])) for row in csv.DictReader(file)}
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise UserError(f"{record.predictions}: not the predictions of a record ({type(error).__name__})") from error


def disagreements_csv(found: Why) -> str:
    """Return a table of the images on which two networks differ; names that a spreadsheet would compute are quoted."""
    rows = [[harmless(text) for text in (row.image, row.label, row.first, row.second)] for row in found.disagreements]
    return csv_text(("image", "label", "first", "second"), rows)
