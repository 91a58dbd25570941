"""The page on one record: errors by class, confusions, calibration, size and shape, and the pictures themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.comparison import errors
from harness.comparison.answers import Answers
from harness.comparison.errors import Bin, ClassErrors, Confusion, Group
from harness.evaluation.intervals import wilson
from harness.mistakes import charts
from harness.mistakes.calibration import expected_calibration_error
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
from harness.run.printable import harmless, markup, printable

MATRIX = 30  # classes of a confusion matrix, at most
PAIRS = 300  # confusions of a page, at most; the CSV has all
HITS = 400  # pictures of the least confident hits, at most


class Found(NamedTuple):
    """What the page says, before it is HTML.

    Attributes:
        answers: of the record.
        classes: how each did.
        confusions: pairs of a class and a wrong answer.
        bins: of the probabilities.
        calibration_error: 0 to 1; None if there is no answer.
        sizes: groups of pictures by their shorter edge in pixels; None where the pictures say nothing of it.
        shapes: groups by width over height; None likewise.
        same_size: a line where all pictures have one size; empty otherwise.
    """

    answers: Answers
    classes: list[ClassErrors]
    confusions: list[Confusion]
    bins: list[Bin]
    calibration_error: float | None
    sizes: list[Group] | None
    shapes: list[Group] | None
    same_size: str


def look(answers: Answers, pictures: Pictures) -> Found:
    """Compute what the page says."""
    sizes, shapes, same = _sizes(answers, pictures)
    calibration = errors.reliability(answers), expected_calibration_error(answers)
    return Found(answers, errors.by_class(answers), errors.confusions(answers), *calibration, sizes, shapes, same)


def _sizes(answers: Answers, pictures: Pictures) -> tuple[list[Group] | None, list[Group] | None, str]:
    if not pictures.splits:
        return None, None, ""
    found = pictures.sizes(answers.images)
    if found is None:
        shape = pictures.pixels(answers.images[0])
        assert shape is not None, "an image that lies in memory"
        return None, None, f"All pictures have one size, {shape.shape[1]} x {shape.shape[0]} pixels."
    edge, aspect = found.min(axis=1), found[:, 0] / found[:, 1]
    known = ~np.isnan(edge)
    if known.any() and (found[known] == found[known][0]).all():
        width, height = found[known][0].astype(int).tolist()
        return None, None, f"All pictures have one size, {width} x {height} pixels."
    return errors.by_value(edge, answers.right), errors.by_value(aspect, answers.right), ""


def write_page(found: Found, names: Names, pictures: Pictures, folder: Path) -> None:
    """Write the page and its tables into an empty folder."""
    write(folder, page(found, short(names), pictures), tables(found, names, pictures))


def title_of(answers: Answers) -> str:
    """What was evaluated on what: `lenet5 on digits (test)`."""
    data = answers.content["data"]
    return printable(f"{answers.content['model']['name']} on {data['name']} ({data['split']})")


def page(found: Found, names: Names, pictures: Pictures) -> str:
    """Return the page's HTML."""
    answers = found.answers
    room = Room()
    mistakes = gallery(
        "mistakes", _mistakes(answers, names), pictures, room, "No mistakes of this class are on the page."
    )
    room.pictures = min(HITS, max(room.pictures, SHOWN))
    room.bytes = max(room.bytes, 1_000_000)
    hits = gallery("hits", _hits(answers, names), pictures, room, "No hits of this class are on the page.")
    note = f"<p>{markup(pictures.note)}</p>" if pictures.note else ""
    order = (
        f"<p>The surest come first. Before a class is chosen, the {SHOWN} of all classes are shown; a class shows "
        "those of its pictures that were taken for another, and those of others taken for it, as many as the page has "
        'room for. <a href="mistakes.csv">mistakes.csv</a> lists every one.</p>'
    )
    sections = [
        ("classes", "Classes", _classes(found, names)),
        ("confusions", "Confusions", _confusions(found, names)),
        ("calibration", "Calibration", _calibration(found)),
        ("sizes", "Size and shape of the pictures", _size_and_shape(found, pictures)),
        ("sure", "The most confident mistakes", note + order + mistakes),
        ("unsure", "The least confident hits", f"{note}<p>Right answers, the least sure ones first.</p>{hits}"),
    ]
    title = f"Why it is wrong: {title_of(answers)}"
    return document(title, _about(found), sections, names, [one.label for one in found.classes])


def _about(found: Found) -> str:
    content, answers = found.answers.content, found.answers
    wrong = int((~answers.right).sum())
    low, high = wilson(wrong, len(answers))
    return (
        f"<p><b>Top-1 error {100 * wrong / len(answers):.2f}%</b>: {wrong:,} of {len(answers):,} images, 95% interval "
        f"{low:.2f} to {high:.2f}%. Protocol {markup(str(content['protocol']['name']))}. Record: "
        f"<code>{markup(str(answers.record.path))}</code></p>\n"
    )


def _classes(found: Found, names: Names) -> str:
    columns = (
        Column("class", text=True),
        *map(Column, ("images", "wrong", "error (%)", "95% from", "to", "others taken for it")),
        Column("most often taken for", text=True),
        Column("times"),
    )
    rows = []
    for one in sorted(found.classes, key=lambda one: (one.error is None, -(one.error or 0), one.label)):
        error, (low, high) = one.error, one.interval or (None, None)
        cells = [
            Cell(chosen(one.label, names)),
            *(Cell(f"{count:,}", count) for count in (one.images, one.wrong)),
            *(Cell("-" if value is None else f"{value:.2f}", value) for value in (error, low, high)),
            Cell(f"{one.taken:,}", one.taken),
            Cell("" if one.confused is None else markup(names.readable_name(one.confused))),
            Cell(f"{one.times:,}" if one.times else "", one.times),
        ]
        rows.append(((one.label,), cells))
    caption = (
        "The error of each class with its 95% interval (Wilson), the worst first. A head sorts, a name chooses its "
        'class on the whole page. <a href="classes.csv">classes.csv</a>'
    )
    return table(caption, columns, rows)


# ----------------------------------------------------------------------------------------------------------- confusions


def _confusions(found: Found, names: Names) -> str:
    if not found.confusions:
        return "<p>No image was taken for another class.</p>"
    matrix = _matrix(found, names) if len(found.classes) <= MATRIX else ""
    columns = (Column("class", text=True), Column("taken for", text=True), Column("times"), Column("% of the class"))
    images = {one.label: one.images for one in found.classes}
    rows = []
    for label, answer, times in found.confusions[:PAIRS]:
        share = 100 * times / images[label]
        cells = [
            Cell(chosen(label, names)),
            Cell(chosen(answer, names)),
            Cell(f"{times:,}", times),
            Cell(f"{share:.1f}", share),
        ]
        rows.append(((label, answer), cells))
    many = (
        f"The {PAIRS:,} most frequent of {len(found.confusions):,} pairs" if found.confusions[PAIRS:] else "All pairs"
    )
    caption = f'{many} of a class and another that it was taken for. <a href="confusions.csv">confusions.csv</a>'
    return matrix + table(caption, columns, rows)


def _matrix(found: Found, names: Names) -> str:
    labels = [one.label for one in found.classes]
    times = {(pair.label, pair.answer): pair.times for pair in found.confusions}
    heads = "".join(f'<th scope="col">{markup(names.readable_name(label))}</th>' for label in labels)
    rows = []
    for one in found.classes:
        named = sum(times.get((one.label, answer), 0) for answer in labels if answer != one.label)
        counts = [
            int((found.answers.right & (found.answers.labels == one.label)).sum())
            if answer == one.label
            else times.get((one.label, answer), 0)
            for answer in labels
        ]
        if sum(counts) + one.wrong - named != one.images:
            raise RuntimeError(f"{one.label}: the counts of its row are not those of its {one.images} images")
        cells = "".join(
            _matrix_cell(count, one, answer == one.label) for count, answer in zip(counts, labels, strict=True)
        )
        rows.append(f'<tr><th scope="row" class="text">{chosen(one.label, names)}</th>{cells}</tr>')
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="confusion matrix"><table class="matrix"><caption>'
        "<span>Images by their class (rows) and the answer (columns). The stronger a colour, the larger the share of "
        "the row's class: green is right, red is wrong.</span></caption><thead><tr>"
        f'<th scope="col" class="text">class \\ answer</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _matrix_cell(count: int, one: ClassErrors, right: bool) -> str:
    if not count:
        return '<td class="none">0</td>'
    share = count / one.images
    strength = 0.45 * share if right else 0.12 + 0.5 * min(1.0, 2 * share)
    return f'<td style="background: rgba(var(--{"right" if right else "wrong"}), {strength:.2f})">{count:,}</td>'


# ----------------------------------------------------------------------------------------- calibration, size and shape


def _calibration(found: Found) -> str:
    if found.calibration_error is None:
        return "<p>No image has an answer.</p>"
    error = 100 * found.calibration_error
    sure = float(np.nanmean(found.answers.confidence))
    right = float(found.answers.right[~np.isnan(found.answers.confidence)].mean())
    more = "more sure than right" if sure > right else "less sure than right"
    text = (
        f"<p><b>Expected calibration error {error:.2f}%</b>: the mean distance between the probability of an answer "
        f"and the share of such answers that is right, over {errors.BINS} equal bins (Guo et al. 2017, arXiv "
        f"1706.04599; computed by torchmetrics). On the mean the network gives its answer {100 * sure:.1f}% and is "
        f"right on {100 * right:.1f}%: it is {more}. Bars below the dashed line say that it is too sure there.</p>"
    )
    said = "Reliability: " + "; ".join(
        f"{one.images:,} images of probability {100 * one.confidence:.0f}%, {100 * one.right:.0f}% right"
        for one in found.bins
    )
    columns = (
        *(Column(head, largest_first=False) for head in ("probability from (%)", "to")),
        *map(Column, ("images", "mean probability (%)", "right (%)")),
    )
    rows = [
        (
            (),
            [
                *(Cell(f"{100 * edge:.1f}", edge) for edge in (one.low, one.high)),
                Cell(f"{one.images:,}", one.images),
                *(Cell(f"{100 * share:.1f}", share) for share in (one.confidence, one.right)),
            ],
        )
        for one in found.bins
    ]
    caption = 'The bins of the chart. <a href="calibration.csv">calibration.csv</a>'
    return (
        f'{text}<div class="charts"><figure>{charts.reliability(found.bins, said)}</figure></div><details><summary>'
        f"The chart as a table</summary>{table(caption, columns, rows)}</details>"
    )


def _size_and_shape(found: Found, pictures: Pictures) -> str:
    if pictures.note:
        return f"<p>{markup(pictures.note)}</p>"
    if found.same_size:
        return f"<p>{found.same_size}</p>"
    parts = [
        _groups(kind, what, groups or [])
        for kind, what, groups in (
            ("size", "shorter edge (pixels)", found.sizes),
            ("shape", "width over height", found.shapes),
        )
    ]
    return (
        "<p>The pictures in about equally large groups of like size and of like shape, before anything is resized, "
        'with 95% intervals (Wilson). <a href="sizes.csv">sizes.csv</a></p>'
        f'<div class="charts">{"".join(parts)}</div>'
    )


def _groups(kind: str, what: str, groups: Sequence[Group]) -> str:
    if not groups:
        return f"<p>All pictures have one {kind}.</p>"
    names = [group_name(group) for group in groups]
    said = f"Error by {what}: " + "; ".join(
        f"{name}: {100 * group.wrong / group.images:.1f}% of {group.images:,} images"
        for name, group in zip(names, groups, strict=True)
    )
    columns = (Column(what, largest_first=False), *map(Column, ("images", "wrong", "error (%)", "95% from", "to")))
    rows = [
        (
            (),
            [
                Cell(name, group.low),
                *(Cell(f"{count:,}", count) for count in (group.images, group.wrong)),
                *(Cell(f"{v:.2f}", v) for v in (100 * group.wrong / group.images, *group.interval)),
            ],
        )
        for name, group in zip(names, groups, strict=True)
    ]
    caption = f"Errors by {what}"
    return (
        f"<figure>{charts.groups(groups, what, names, said)}<details><summary>The chart as a table</summary>"
        f"{table(caption, columns, rows)}</details></figure>"
    )


def group_name(group: Group) -> str:
    """The values of a group: `224`, `75-150`, `0.66-1.33`."""
    if group.high >= 20:  # pixels
        low, high = f"{group.low:.0f}", f"{group.high:.0f}"
    else:
        low, high = f"{group.low:.2f}", f"{group.high:.2f}"
    return low if low == high else f"{low}-{high}"


# ------------------------------------------------------------------------------------------------------------- pictures


def _mistakes(answers: Answers, names: Names) -> Iterator[Card]:
    yield from _cards(answers, errors.most_confident_mistakes(answers).tolist(), names)


def _hits(answers: Answers, names: Names) -> Iterator[Card]:
    yield from _cards(answers, errors.least_confident_hits(answers).tolist(), names)


def _cards(answers: Answers, order: Sequence[int], names: Names) -> Iterator[Card]:
    for place, later in in_turns(range(len(order)), lambda place: int(answers.labels[order[place]]), SHOWN):
        yield _card(answers, order[place], names, later, place)


def _card(answers: Answers, position: int, names: Names, later: bool, place: int) -> Card:
    label, answer = int(answers.labels[position]), int(answers.answer[position])
    true = names.readable_name(label)
    classes = (label,) if answer < 0 else (label, answer)
    said = answer_in_words(answers, position, names)
    wrong = "" if answer == label else f"taken for <b>{markup(said)}</b>, "
    sure = "" if answer < 0 else f"{100 * answers.confidence[position]:.1f}%"
    caption = f"<b>{markup(true)}</b><br>{wrong or 'right, '}{sure}<br>"
    words = f"{true}, answered {said}"
    return Card(answers.images[position], classes, caption, words, later, place)


def answer_in_words(answers: Answers, position: int, names: Names) -> str:
    """The likeliest class of an image, by name."""
    answer = int(answers.answer[position])
    return "no class (not read, or no number)" if answer < 0 else names.readable_name(answer)


# --------------------------------------------------------------------------------------------------------------- tables


def tables(found: Found, names: Names, pictures: Pictures) -> dict[str, str]:
    """Return what the page shows as CSV, by the names of the files; nothing in it is computed by a spreadsheet."""

    def name(label: int | None) -> str:
        return "" if label is None or label < 0 else harmless(names.readable_name(label))

    answers = found.answers
    made = {
        "classes.csv": csv_text(
            ("class", "images", "wrong", "error", "low_95", "high_95", "others_taken_for_it", "taken_for", "times"),
            [
                (
                    name(one.label),
                    one.images,
                    one.wrong,
                    one.error,
                    *(one.interval or ("", "")),
                    one.taken,
                    name(one.confused),
                    one.times,
                )
                for one in found.classes
            ],
        ),
        "confusions.csv": csv_text(
            ("class", "taken_for", "times"),
            [(name(one.label), name(one.answer), one.times) for one in found.confusions],
        ),
        "calibration.csv": csv_text(Bin._fields, found.bins),
        "mistakes.csv": pictures_csv(answers, errors.most_confident_mistakes(answers).tolist(), names, pictures),
        "least_confident_hits.csv": pictures_csv(
            answers, errors.least_confident_hits(answers)[:HITS].tolist(), names, pictures
        ),
    }
    if found.sizes is not None and found.shapes is not None:
        made["sizes.csv"] = csv_text(
            ("grouped_by", "low", "high", "images", "wrong", "low_95", "high_95"),
            [
                (kind, *group[:4], *group.interval)
                for kind, groups in (("shorter edge", found.sizes), ("width over height", found.shapes))
                for group in groups
            ],
        )
    return made


def pictures_csv(answers: Answers, positions: Sequence[int], names: Names, pictures: Pictures) -> str:
    """Return a table of some images: id, label, answer, its probability, and where the file lies."""
    rows = []
    for position in positions:
        answer = int(answers.answer[position])
        path = pictures.path(answers.images[position])
        rows.append(
            (
                harmless(answers.images[position]),
                harmless(names.readable_name(int(answers.labels[position]))),
                "" if answer < 0 else harmless(names.readable_name(answer)),
                "" if answer < 0 else f"{answers.confidence[position]:.6f}",
                "" if path is None else harmless(os_text(path)),
            )
        )
    return csv_text(("image", "label", "answer", "probability", "path"), rows)


def os_text(path: bytes) -> str:
    """A path as text; bytes that are no UTF-8 stand as escapes."""
    return path.decode("utf-8", "backslashreplace")
