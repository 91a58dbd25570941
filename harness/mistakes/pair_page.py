"""The page on two records of the same images: where one network is right and the other wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.comparison import errors
from harness.comparison.answers import Answers, Integers
from harness.comparison.errors import Difference
from harness.mistakes.errors_page import answer_in_words, os_text, title_of
from harness.mistakes.page import (
    SHOWN,
    Card,
    Cell,
    Column,
    Room,
    chosen,
    document,
    gallery,
    in_turns,
    short,
    table,
    write,
)
from harness.mistakes.pictures import Pictures
from harness.prediction.output import Names
from harness.run.files import csv_text
from harness.run.printable import harmless, markup


class Pair(NamedTuple):
    """Two records, and where their networks differ."""

    first: Answers
    second: Answers
    difference: Difference


def look(first: Answers, second: Answers) -> Pair:
    """Compare two records; raises as `harness.comparison.errors.difference` does."""
    return Pair(first, second, errors.difference(first, second))


def in_one_line(pair: Pair) -> str:
    """The counts and the paired test."""
    found = pair.difference
    return (
        f"{len(pair.first):,} images: both are right on {found.both:,}, only the first on {len(found.only_first):,}, "
        f"only the second on {len(found.only_second):,}, none on {found.neither:,}; McNemar's exact test p = "
        f"{found.p:.2g}"
    )


def write_page(pair: Pair, names: Names, pictures: Pictures, folder: Path) -> None:
    """Write the page and its tables into an empty folder."""
    write(folder, page(pair, short(names), pictures), tables(pair, names, pictures))


def page(pair: Pair, names: Names, pictures: Pictures) -> str:
    """Return the page's HTML."""
    found, first = pair.difference, pair.first
    note = f"<p>{markup(pictures.note)}</p>" if pictures.note else ""
    text = (
        f"{note}<p>The surest wrong answers come first. Before a class is chosen, {SHOWN} are shown. "
        '<a href="differing.csv">differing.csv</a> lists every one.</p>'
    )
    galleries = []
    whole = Room()
    for name, positions in (("first", found.only_first), ("second", found.only_second)):
        room = Room(whole.pictures // 2, whole.bytes // 2)
        cards = _cards(pair, positions, names)
        galleries.append(text + gallery(f"only-{name}", cards, pictures, room, "There is none of this class."))
    classes = [one.label for one in errors.by_class(first)]
    sections = [
        ("classes", "Classes", _classes(pair, names)),
        ("only-first-right", "Only the first is right", galleries[0]),
        ("only-second-right", "Only the second is right", galleries[1]),
    ]
    title = f"Where two networks differ: {title_of(first)} and {title_of(pair.second)}"
    return document(title, _about(pair), sections, names, classes)


def _about(pair: Pair) -> str:
    rows = "".join(
        f"<li>the {place}: {markup(title_of(one))}, top-1 error {100 * float((~one.right).mean()):.2f}%, "
        f"<code>{markup(str(one.record.path))}</code></li>"
        for place, one in (("first", pair.first), ("second", pair.second))
    )
    meant = (
        "The p-value is the probability of counts at least as uneven if both were equally good."
        if len(pair.difference.only_first) + len(pair.difference.only_second)
        else "They are right and wrong on the same images."
    )
    return f"<ul>{rows}</ul><p><b>{markup(in_one_line(pair))}.</b> {meant}</p>\n"


def _classes(pair: Pair, names: Names) -> str:
    labels, count = pair.first.labels, len(pair.first.class_names)
    images = np.bincount(labels, minlength=count)
    only = [
        np.bincount(labels[positions], minlength=count)
        for positions in (pair.difference.only_first, pair.difference.only_second)
    ]
    columns = (
        Column("class", text=True),
        *map(Column, ("images", "only the first is right", "only the second is right", "first ahead by")),
    )
    rows = []
    for label in sorted(np.flatnonzero(images).tolist(), key=lambda label: -abs(int(only[0][label] - only[1][label]))):
        counts = (images[label], only[0][label], only[1][label])
        ahead = int(only[0][label] - only[1][label])
        cells = [
            Cell(chosen(label, names)),
            *(Cell(f"{number:,}", int(number)) for number in counts),
            Cell(f"{ahead:+,}" if ahead else "0", ahead),
        ]
        rows.append(((label,), cells))
    caption = "Images of each class on which one network is right and the other wrong; the largest differences first."
    return table(caption, columns, rows)


def _cards(pair: Pair, positions: Integers, names: Names) -> Iterator[Card]:
    wrong, at = _wrong(pair, positions)
    sure = np.nan_to_num(wrong.confidence[at], nan=-1)
    order = np.argsort(-sure, kind="stable").tolist()
    ranked = in_turns(range(len(order)), lambda rank: int(pair.first.labels[positions[order[rank]]]), SHOWN)
    for rank, later in ranked:
        place = order[rank]
        position = int(positions[place])
        label, answer = int(pair.first.labels[position]), int(wrong.answer[at[place]])
        true, said = names.readable_name(label), answer_in_words(wrong, int(at[place]), names)
        probability = "" if answer < 0 else f"{100 * wrong.confidence[at[place]]:.1f}%"
        caption = f"<b>{markup(true)}</b><br>the other: <b>{markup(said)}</b>, {probability}<br>"
        classes = (label,) if answer < 0 else (label, answer)
        yield Card(pair.first.images[position], classes, caption, f"{true}, answered {said} by the other", later, rank)


def _wrong(pair: Pair, positions: Integers) -> tuple[Answers, Integers]:
    """The network that is wrong on these images, and where they stand in its answers."""
    if len(positions) and not pair.first.right[positions[0]]:
        return pair.first, positions
    return pair.second, pair.difference.second[positions]


def tables(pair: Pair, names: Names, pictures: Pictures) -> dict[str, str]:
    """Return what the page shows as CSV."""
    rows = []
    for right, positions in (("first", pair.difference.only_first), ("second", pair.difference.only_second)):
        for position in positions.tolist():
            path = pictures.path(pair.first.images[position])
            other = int(pair.difference.second[position])
            rows.append(
                (
                    harmless(pair.first.images[position]),
                    harmless(names.readable_name(int(pair.first.labels[position]))),
                    right,
                    harmless(answer_in_words(pair.first, position, names)),
                    harmless(answer_in_words(pair.second, other, names)),
                    "" if path is None else harmless(os_text(path)),
                )
            )
    return {"differing.csv": csv_text(("image", "label", "right", "first", "second", "path"), rows)}
