"""Why it is wrong: errors by class, confusions, calibration, and where two networks differ. No torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from harness.comparison.answers import Answers, Floats, Integers, Mask
from harness.comparison.paired import mcnemar
from harness.errors import UserError
from harness.evaluation.intervals import wilson

BINS = 15  # of the confidence [Guo 2017, arXiv 1706.04599]
GROUPS = 6  # of pictures of like size, at most
LEAST_OF_A_GROUP = 20  # pictures
WORST = 3  # classes that the end of a training names


class ClassErrors(NamedTuple):
    """How one class did.

    Attributes:
        label: position in the class names.
        images: number of its images.
        wrong: how many of them got another answer, or none.
        interval: Wilson's 95% interval of its error, in percent; None for a class without images.
        taken: how many images of other classes were taken for it.
        confused: the class that its images are most often taken for; None if they are not.
        times: how often.
    """

    label: int
    images: int
    wrong: int
    interval: tuple[float, float] | None
    taken: int
    confused: int | None
    times: int

    @property
    def error(self) -> float | None:
        """Its error in percent; None for a class without images."""
        return 100 * self.wrong / self.images if self.images else None


class Confusion(NamedTuple):
    """So many images of a class were taken for another."""

    label: int
    answer: int
    times: int


class Group(NamedTuple):
    """Pictures that have something in common.

    Attributes:
        low: the least value among them.
        high: the largest.
        images: their number.
        wrong: how many of them got a wrong answer.
        interval: Wilson's 95% interval of their error, in percent.
    """

    low: float
    high: float
    images: int
    wrong: int
    interval: tuple[float, float]


class Bin(NamedTuple):
    """Images whose answers are about as sure: their number, mean probability, and share that is right, 0 to 1."""

    low: float
    high: float
    images: int
    confidence: float
    right: float


class Difference(NamedTuple):
    """Where one of two networks is right and the other wrong.

    Attributes:
        only_first: int64, positions of the images that the first alone got right, in the order of the first.
        only_second: those that the second alone got right.
        second: int64 (N,), where each image of the first stands in the second.
        both: number of images that both got right.
        neither: number that none got right.
        p: of McNemar's exact test, two-sided.
    """

    only_first: Integers
    only_second: Integers
    second: Integers
    both: int
    neither: int
    p: float


def confusions(answers: Answers) -> list[Confusion]:
    """All pairs of a class and a wrong answer, the most frequent first, then in order of the classes."""
    wrong = ~answers.right & (answers.answer >= 0)
    pairs = np.stack([answers.labels[wrong], answers.answer[wrong]], axis=1)
    found, times = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-times, kind="stable")
    rows = np.column_stack([found, times])[order].tolist()
    return [Confusion(label, answer, count) for label, answer, count in rows]


def by_class(answers: Answers) -> list[ClassErrors]:
    """The errors of every class that has an image or was an answer, in label order."""
    count = len(answers.class_names)
    images = np.bincount(answers.labels, minlength=count)
    wrong = np.bincount(answers.labels[~answers.right], minlength=count)
    named = answers.answer[~answers.right & (answers.answer >= 0)]
    taken = np.bincount(named, minlength=count)
    most: dict[int, Confusion] = {}
    for pair in confusions(answers):
        most.setdefault(pair.label, pair)
    found = []
    for label in np.flatnonzero(images + taken).tolist():
        all_, bad = int(images[label]), int(wrong[label])
        pair = most.get(label, Confusion(label, -1, 0))
        confused = None if pair.answer < 0 else pair.answer
        found.append(
            ClassErrors(label, all_, bad, wilson(bad, all_) if all_ else None, int(taken[label]), confused, pair.times)
        )
    return found


def in_one_line(answers: Answers, name: Callable[[int], str]) -> str | None:
    """The three worst classes and the most frequent confusion; None where that says nothing.

    Args:
        answers: of an evaluation.
        name: of a class, for a person to read.
    """
    classes = [one for one in by_class(answers) if one.images]
    worst = sorted((one for one in classes if one.wrong), key=lambda one: (-one.wrong / one.images, one.label))[:WORST]
    if len(classes) < WORST or not worst:
        return None
    said = ", ".join(f"{name(one.label)} ({100 * one.wrong / one.images:.1f}% of {one.images:,})" for one in worst)
    line = f"worst class{'es' if len(worst) > 1 else ''}: {said}"
    pairs = confusions(answers)
    if pairs:
        label, answer, times = pairs[0]
        line += (
            f"; most frequent confusion: {name(label)} taken for {name(answer)} ({times:,} image{'s'[: times != 1]})"
        )
    return line


def most_confident_mistakes(answers: Answers) -> Integers:
    """Positions of the images with a wrong answer, the surest first; then those without an answer."""
    wrong = np.flatnonzero(~answers.right)
    sure = np.nan_to_num(answers.confidence[wrong], nan=-1)
    return wrong[np.argsort(-sure, kind="stable")]


def least_confident_hits(answers: Answers) -> Integers:
    """Positions of the images with a right answer, the least sure first."""
    right = np.flatnonzero(answers.right)
    return right[np.argsort(answers.confidence[right], kind="stable")]


def reliability(answers: Answers) -> list[Bin]:
    """The images in `BINS` equal bins of their answers' probabilities, a bin without its upper end; no empty bins."""
    known = ~np.isnan(answers.confidence)
    sure, right = answers.confidence[known], answers.right[known]
    number = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    return [
        Bin(bin_ / BINS, (bin_ + 1) / BINS, int(inside.sum()), float(sure[inside].mean()), float(right[inside].mean()))
        for bin_ in np.unique(number).tolist()
        for inside in [number == bin_]
    ]


def by_value(values: Floats, right: Mask) -> list[Group]:
    """The errors of up to `GROUPS` about equally large groups of pictures of like value, such as their size.

    Equal values stay together. No groups where all values are equal.

    Args:
        values: (N,), not a number for a picture that is left out.
        right: bool (N,).
    """
    known = ~np.isnan(values)
    values, right = values[known], right[known]
    if not len(values) or values.min() == values.max():
        return []
    count = max(2, min(GROUPS, len(values) // LEAST_OF_A_GROUP))
    edges = np.unique(np.quantile(values, np.arange(1, count) / count, method="lower"))
    number = np.searchsorted(edges, values, side="left")  # a group ends with its edge
    return [
        Group(
            float(values[inside].min()),
            float(values[inside].max()),
            int(inside.sum()),
            int((~right[inside]).sum()),
            wilson(int((~right[inside]).sum()), int(inside.sum())),
        )
        for group in np.unique(number).tolist()
        for inside in [number == group]
    ]


def difference(first: Answers, second: Answers) -> Difference:
    """Where one of two networks is right on an image and the other is wrong.

    Raises:
        UserError: they were evaluated on other data, another split or other images.
    """
    questions = [one.record.question[:3] for one in (first, second)]
    places = [one.record.path.parent for one in (first, second)]
    if questions[0] != questions[1] or first.class_names != second.class_names:
        (data, split, _), (other, other_split, _) = questions
        what = f"{data} {split}" if (data, split) != (other, other_split) else "other images or classes"
        beside = f" and {other} {other_split}" if (data, split) != (other, other_split) else f" of {data} {split}"
        raise UserError(
            f"{places[0]} and {places[1]}: their records are of {what}{beside}; only the same can be compared"
        )
    where = {image: position for position, image in enumerate(second.images)}
    if sorted(first.images) != sorted(second.images):
        raise UserError(f"{places[0]} and {places[1]}: their predictions are of other images")
    order = np.array([where[image] for image in first.images], dtype=np.int64)
    one, other_right = first.right, second.right[order]
    only_first, only_second = np.flatnonzero(one & ~other_right), np.flatnonzero(~one & other_right)
    p = mcnemar(len(only_first), len(only_second))
    return Difference(
        only_first, only_second, order, int((one & other_right).sum()), int((~one & ~other_right).sum()), p
    )
