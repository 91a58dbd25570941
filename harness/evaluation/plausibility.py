"""Refuse scores that mean nothing, and name the likely cause."""

from __future__ import annotations

from harness.data.sources.splits import Split
from harness.errors import UserError
from harness.evaluation.evaluator import Evaluator

CHANCE = 0.01  # a score that guessing reaches with at least this probability
FORCE = "; force=true records the score anyway"


def check_labels(split: Split, where: str) -> None:
    """Refuse a split whose images are all of one class.

    Raises:
        UserError: all images are of one class; the error names the likely cause.
    """
    if len(split) > 1 and bool((split.labels == split.labels[0]).all()):
        raise UserError(
            f"{where}: all {len(split):,} images are of one class, so an error rate over them means nothing; does the "
            f"path name the folder of a single class, or are all images in one folder?{FORCE}"
        )


def check_score(evaluator: Evaluator) -> None:
    """Refuse a score that guessing could reach; a high score passes even if few images cannot rule guessing out.

    Raises:
        UserError: the score is no better than guessing; the error names the likely cause.
    """
    from scipy.stats import binom

    counts, predictions, classes = evaluator.counts, evaluator.predictions, evaluator.classes
    assert predictions is not None
    if not classes:
        raise UserError(f"top-1: none of {counts.seen:,} images could be read, so there is no score{FORCE}")
    halfway = (1 + 1 / classes) / 2  # between guessing and no error
    if (
        binom.sf(counts.correct_top1 - 1, counts.seen, 1 / classes) <= CHANCE
        or counts.correct_top1 > halfway * counts.seen
    ):
        return
    cause = "are these the weights of this network, and were they trained?"
    guesses, known = predictions.classes[:, 0], predictions.classes[:, 0] >= 0
    if not known.any():
        cause = "every score was not a number"
    for shift in (-1, 1):
        right = int((guesses[known] == predictions.labels[known] + shift).sum())
        if binom.sf(right - 1, counts.seen, 1 / classes) <= CHANCE / 100:
            cause = (
                f"the labels look shifted by one: the classes are in another order ({right:,} right with {shift:+d})"
            )
    raise UserError(
        f"top-1: {counts.correct_top1:,} of {counts.seen:,} images right, no better than guessing among {classes:,} "
        f"classes: {cause}{FORCE}"
    )


def match_classes(
    ours: tuple[str, ...], theirs: tuple[str, ...], data: str, source: str, force: bool
) -> tuple[int, ...]:
    """Return the network's index of each class of the data, matched by name; the data may have fewer classes.

    With `force`, classes whose names do not match are matched by position if there are equally many.

    Raises:
        UserError: the network does not know a class; the error names the first one.
    """
    unknown = [name for name in ours if name not in theirs]
    if not unknown:
        return tuple(map(theirs.index, ours))
    if force and len(ours) == len(theirs):
        return tuple(range(len(ours)))
    beside = f" (and {len(unknown) - 1:,} more)" if len(unknown) > 1 else ""
    raise UserError(
        f"data={data}: its classes are not those of {source}: the network knows no {unknown[0]!r}{beside}; it knows "
        f"{', '.join(theirs[:5])}{', ...' if len(theirs) > 5 else ''}{FORCE if len(ours) == len(theirs) else ''}"
    )
