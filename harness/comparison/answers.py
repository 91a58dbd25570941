"""The answers of a network to every image of a record, in arrays. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.comparison.records import Record, read_record
from harness.errors import UserError
from harness.evaluation.schema import PREDICTIONS_COLUMNS
from harness.run.files import RESULT_FILE, read_rows, sha256_of_file
from harness.run.program import typed

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """What one record, or all folds of a cross-validation, answered on N images.

    Attributes:
        record: the record; of several folds that of the first.
        images: N ids.
        labels: int64 (N,), the right class, a position in `class_names`.
        classes: int64 (N, 5), the likeliest classes, best first; -1 where there is none.
        probabilities: float64 (N, 5), theirs, 0 to 1; not a number where there is none.
        class_names: in label order.
    """

    record: Record
    images: tuple[str, ...]
    labels: Integers
    classes: Integers
    probabilities: Floats
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def answer(self) -> Integers:
        """int64 (N,), the likeliest class; -1 for an image without an answer."""
        return self.classes[:, 0]

    @property
    def confidence(self) -> Floats:
        """float64 (N,), the probability of the likeliest class; not a number for an image without an answer."""
        return self.probabilities[:, 0]

    @cached_property
    def right(self) -> Mask:
        """bool (N,), whether the likeliest class is the label."""
        right: Mask = self.answer == self.labels
        return right

    @property
    def content(self) -> dict[str, Any]:
        """The record's `result.json`."""
        return self.record.content


def read_answers(place: Path) -> Answers:
    """Read the record in the folder of a run or an evaluation, or a `result.json`, and its predictions.

    Raises:
        UserError: there is no record, it is damaged, or its predictions are not those that it was written with.
    """
    path = place if place.is_file() else place / RESULT_FILE
    if not path.is_file():
        hint = typed("python eval.py run=RUN") + " makes one of a run that has ended"
        raise UserError(
            f"{place}: no folder of a run or an evaluation that has ended (it has no {RESULT_FILE}); {hint}"
        )
    record = read_record(path)
    try:
        predictions, sha256 = record.predictions, record.content["predictions"]["sha256"]
        names, seen = tuple(map(str, record.content["class_names"])), record.content["seen"]
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its record does not say where its predictions are ({error!r})") from error
    if not predictions.is_file():
        raise UserError(f"{predictions}: the record's file of predictions is missing; evaluate the run again")
    if sha256_of_file(predictions) != sha256:
        raise UserError(f"{predictions}: has changed since the record was written; evaluate the run again")
    header, *rows = read_rows(predictions) or [[]]
    if tuple(header) != PREDICTIONS_COLUMNS or len(rows) != seen or any(len(row) != len(header) for row in rows):
        raise UserError(
            f"{predictions}: not the {seen:,} predictions of {path}, but {len(rows):,} rows of other columns"
        )
    try:
        labels = np.array([int(row[1]) for row in rows], dtype=np.int64)
        classes = np.array([[int(cell or -1) for cell in row[2::2]] for row in rows], dtype=np.int64)
        probabilities = np.array([[float(cell or "nan") for cell in row[3::2]] for row in rows])
    except (ValueError, OverflowError) as error:
        raise UserError(f"{predictions}: damaged, not the predictions of a record ({error})") from error
    if labels.min() < 0 or max(labels.max(), classes.max()) >= len(names) or classes.min() < -1:
        raise UserError(f"{predictions}: has a class that is none of the record's {len(names):,}")
    if np.nanmin(probabilities, initial=0) < 0 or np.nanmax(probabilities, initial=0) > 1:
        raise UserError(f"{predictions}: has a probability that is not between 0 and 1")
    return Answers(record, tuple(row[0] for row in rows), labels, classes, probabilities, names)


def together(folds: Sequence[Answers]) -> Answers:
    """The answers of all folds of one cross-validation as those on one set of images.

    Raises:
        UserError: they are not all folds of one division, each once, or know other classes.
    """
    numbers = [one.record.fold for one in folds]
    first = folds[0].record
    for one in folds:
        if one.record.fold is None:
            raise UserError(
                f"{one.record.path}: no fold of a cross-validation; name one run, or one run of each fold (data.folds=)"
            )
        same = one.content["data"].get("division") == first.content["data"].get("division")
        if not same or one.class_names != folds[0].class_names:
            raise UserError(f"{one.record.path}: a fold of other images than {first.path}")
    known = sorted(number for number in numbers if number is not None)
    count = known[0][1]
    if known != [(fold, count) for fold in range(count)]:
        named = ", ".join(str(fold) for fold, _ in known)
        raise UserError(f"folds {named}: of {count} folds, each is wanted once (data.fold=0 to {count - 1})")
    return Answers(
        first,
        tuple(image for one in folds for image in one.images),
        np.concatenate([one.labels for one in folds]),
        np.concatenate([one.classes for one in folds]),
        np.concatenate([one.probabilities for one in folds]),
        folds[0].class_names,
    )
