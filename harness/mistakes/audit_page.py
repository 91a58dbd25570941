"""The page on the data of a record: labels that are probably wrong, and pictures that lie in two splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.comparison.answers import Answers, Integers
from harness.comparison.errors import by_class
from harness.config.data import DataConfig, FolderConfig
from harness.data.images.image_files import ImageFiles
from harness.data.sources.splits import Split
from harness.data.sources.table import describe, load, load_test
from harness.errors import UserError
from harness.mistakes.duplicates import MOST, Pair, across, see
from harness.mistakes.errors_page import os_text, title_of
from harness.mistakes.labels import likely_label, suspects
from harness.mistakes.page import SHOWN, Card, Room, document, gallery, in_turns, picture, place_of, short, write
from harness.mistakes.pictures import Pictures, settings_of_data
from harness.prediction.output import Names
from harness.run.files import csv_text
from harness.run.printable import harmless, markup

PAIRS = 300  # near-duplicates of a page, at most; the CSV has all


class Copy(NamedTuple):
    """A picture that has a near-duplicate: its split, its id and the name of its class."""

    split: str
    image: str
    label: str


class Audit(NamedTuple):
    """What was found.

    Attributes:
        answers: of the record, or of all folds.
        suspects: positions of images whose label is probably wrong, the most suspicious first.
        pairs: pictures of different splits that are nearly the same: both, their distance, and whether one is mirrored.
        searched: a line on the splits that were searched for such pairs, or why they were not.
        pictures: of all splits that were searched, otherwise those of the record.
    """

    answers: Answers
    suspects: Integers
    pairs: list[tuple[Copy, Copy, float, bool]]
    searched: str
    pictures: Pictures


Progress = Callable[[Iterable[int]], Iterable[int]]


def audit(each: Sequence[Answers], whole: Answers, pictures: Pictures, root: Path | None, progress: Progress) -> Audit:
    """Look for wrong labels and near-duplicates.

    Args:
        each: the answers of the record, or of each fold.
        whole: all of them as one.
        pictures: of the record; without any, near-duplicates are not searched for.
        root: folder of the data, where the user names it.
        progress: passes positions on, and may show how many are left.

    Raises:
        UserError: cleanlab is not installed, or the labels are all of one class.
    """
    found = suspects(whole)
    if pictures.note:
        return Audit(whole, found, [], pictures.note, pictures)
    settings = settings_of_data(each[0], root)
    splits = _splits(each, settings, pictures)
    count = sum(map(len, splits.values()))
    named = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
    if count > MOST:
        return Audit(whole, found, [], f"Not searched: {count:,} pictures are more than {MOST:,}.", pictures)
    if len(splits) < 2:
        return Audit(whole, found, [], f"Not searched: there is one split ({named}).", pictures)
    pairs = across({name: see(split, progress) for name, split in splits.items()})
    copies = _copies(splits, describe(settings).class_names, pairs)
    return Audit(whole, found, copies, f"Searched: {named}.", Pictures(tuple(splits.values())))


def _splits(each: Sequence[Answers], settings: DataConfig, pictures: Pictures) -> dict[str, Split]:
    """The splits that may share pictures, by name: those of a run, or every fold; empty ones are left out."""
    if len(each) > 1:
        assert isinstance(settings, FolderConfig)
        folds = [one.record.fold or (0, 0) for one in each]
        return {f"fold {fold}": load_test(dataclasses.replace(settings, fold=fold)) for fold, _ in sorted(folds)}
    try:
        splits = load(settings)
    except UserError:  # there is nothing to train on
        return {"test": pictures.splits[0]}
    named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: split for name, split in named.items() if len(split)}


def _copies(
    splits: Mapping[str, Split], class_names: Sequence[str], pairs: Sequence[Pair]
) -> list[tuple[Copy, Copy, float, bool]]:
    def copy(place: tuple[str, int]) -> Copy:
        name, index = place
        split = splits[name]
        image = split.id_of(index) if isinstance(split, ImageFiles) else split.ids[index]
        return Copy(name, image, class_names[int(split.labels[index])])

    return [(copy(pair.first), copy(pair.second), pair.distance, pair.mirrored) for pair in pairs]


def in_one_line(found: Audit) -> str:
    """How much was found."""
    labels = f"{len(found.suspects):,} of {len(found.answers):,} labels are probably wrong"
    differing = sum(one.label != other.label for one, other, _, _ in found.pairs)
    copies = f"{len(found.pairs):,} pairs of near-duplicates across splits" if "Searched" in found.searched else ""
    return "; ".join(filter(None, (labels, copies and f"{copies}, {differing:,} of them with two labels")))


def write_page(found: Audit, names: Names, folder: Path) -> None:
    """Write the page and its tables into an empty folder."""
    write(folder, page(found, short(names)), tables(found, names))


def page(found: Audit, names: Names) -> str:
    """Return the page's HTML."""
    answers, room = found.answers, Room()
    note = f"<p>{markup(found.pictures.note)}</p>" if found.pictures.note else ""
    labels = (
        f"{note}<p>The network never saw these pictures, and what it says of them does not fit their labels (confident "
        "learning, Northcutt et al. 2021, JAIR 70, by cleanlab). Each is to be looked at: a picture that is hard looks "
        'like one with a wrong label. The most suspicious come first. <a href="label_errors.csv">label_errors.csv</a> '
        "lists every one.</p>"
    )
    cards = gallery("labels", _suspects(found, names), found.pictures, room, "There is none of this class.")
    copies = (
        f"<p>{markup(found.searched)} Pairs of pictures that have the same pixels, or nearly the same at 16 x 16; "
        "mirrored, re-encoded and resized copies are among them, and copies cut to another frame are not. A picture "
        "that was trained on and is tested on makes an error rate too small. "
        '<a href="duplicates.csv">duplicates.csv</a> lists every pair.</p>'
    )
    sections = [
        ("label-errors", "Labels that are probably wrong", labels + cards),
        ("duplicates", "Near-duplicates across splits", copies + _pairs(found, names, room)),
    ]
    fold = answers.record.fold
    beside = f", all {fold[1]} folds" if fold and len(answers) != answers.content["seen"] else ""
    title = f"What may be wrong with the data: {title_of(answers)}{beside}"
    about = f"<p><b>{markup(in_one_line(found))}.</b></p>\n"
    return document(title, about, sections, names, [one.label for one in by_class(answers) if one.images])


def _suspects(found: Audit, names: Names) -> Iterator[Card]:
    answers = found.answers
    order = found.suspects.tolist()
    for place, later in in_turns(range(len(order)), lambda place: int(answers.labels[order[place]]), SHOWN):
        position = order[place]
        label, likely = int(answers.labels[position]), likely_label(answers, position)
        given, said = names.readable_name(label), names.readable_name(likely) if likely >= 0 else "another class"
        caption = (
            f"labelled <b>{markup(given)}</b><br>more like <b>{markup(said)}</b>, "
            f"{100 * _probability(answers, position, likely):.1f}%<br>"
        )
        classes = (label,) if likely < 0 else (label, likely)
        yield Card(answers.images[position], classes, caption, f"labelled {given}, more like {said}", later, place)


def _probability(answers: Answers, position: int, label: int) -> float:
    """The probability of a class among the five likeliest; 0 for any other."""
    there = (answers.classes[position] == label).nonzero()[0]
    return float(answers.probabilities[position, there[0]]) if len(there) and label >= 0 else 0.0


def _pairs(found: Audit, names: Names, room: Room) -> str:
    if not found.pairs:
        return ""
    where = {name: label for label, name in enumerate(found.answers.class_names)}
    items = []
    for one, other, distance, mirrored in found.pairs[:PAIRS]:
        sides = ""
        for copy in (one, other):
            name = _class(copy, where, names)
            shown = picture(copy.image, f"{name} in {copy.split}", found.pictures, room)
            place = place_of(copy.image, found.pictures)
            sides += f"<div>{shown}{markup(copy.split)}: <b>{markup(name)}</b><br>{place}</div>"
        kind = "the same pixels" if distance == 0 and not mirrored else f"distance {distance:.3f}"
        two = " - <b>two labels</b>" if one.label != other.label else ""
        classes = " ".join(dict.fromkeys(str(where[copy.label]) for copy in (one, other) if copy.label in where))
        items.append(
            f'<li data-classes="{classes}"><div class="two">{sides}</div>{kind}{", mirrored" if mirrored else ""}{two}'
            "</li>\n"
        )
    more = f"<p>The {PAIRS:,} nearest of {len(found.pairs):,} pairs.</p>" if found.pairs[PAIRS:] else ""
    return f'{more}<ul class="gallery pairs" id="pairs">{"".join(items)}</ul>'


def _class(copy: Copy, where: Mapping[str, int], names: Names) -> str:
    return names.readable_name(where[copy.label]) if copy.label in where else copy.label


def tables(found: Audit, names: Names) -> dict[str, str]:
    """Return what was found as CSV."""
    answers = found.answers

    def path(image: str) -> str:
        place = found.pictures.path(image)
        return "" if place is None else harmless(os_text(place))

    labels = []
    for position in found.suspects.tolist():
        label, likely = int(answers.labels[position]), likely_label(answers, position)
        labels.append(
            (
                harmless(answers.images[position]),
                harmless(names.readable_name(label)),
                harmless(names.readable_name(likely)) if likely >= 0 else "",
                f"{_probability(answers, position, label):.6f}",
                f"{_probability(answers, position, likely):.6f}",
                path(answers.images[position]),
            )
        )
    copies = [
        (*(harmless(text) for copy in (one, other) for text in (*copy, path(copy.image))), f"{distance:.4f}", mirrored)
        for one, other, distance, mirrored in found.pairs
    ]
    columns = ("image", "label", "likely_label", "probability_of_label", "probability_of_likely_label", "path")
    each = [f"{what}_{number}" for number in (1, 2) for what in ("split", "image", "label", "path")]
    return {
        "label_errors.csv": csv_text(columns, labels),
        "duplicates.csv": csv_text((*each, "distance", "mirrored"), copies),
    }
