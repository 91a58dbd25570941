"""Labels that are probably wrong, by confident learning [Northcutt 2021, JAIR 70] over answers to unseen images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.comparison.answers import Answers, Integers, read_answers, together
from harness.errors import UserError


def answers_of(runs: Sequence[Path]) -> tuple[list[Answers], Answers]:
    """Read one record, or those of all folds of a cross-validation; return each, and all as one.

    Raises:
        UserError: a record that cannot be used, or runs that are not all folds of the same images, each once.
    """
    each = [read_answers(run) for run in runs]
    return each, each[0] if len(each) == 1 else together(each)


def probabilities(answers: Answers, classes: Integers) -> npt.NDArray[np.float64]:
    """Probabilities of these classes, float64 (N, C), which sum to 1, of images that all have an answer.

    A record keeps the five likeliest classes of an image. What they leave is spread evenly over the others: each of
    them is less likely than the fifth, so that it is never the answer.
    """
    count = len(answers.class_names)
    known = answers.classes >= 0
    left = np.clip(1 - np.nansum(answers.probabilities, axis=1), 0, 1) / max(1, count - known.shape[1])
    whole = np.repeat(left[:, None], count, axis=1)
    rows = np.broadcast_to(np.arange(len(answers))[:, None], known.shape)
    whole[rows[known], answers.classes[known]] = answers.probabilities[known]
    among = whole[:, classes] + 1e-12  # so that a row of zeros is even
    result: npt.NDArray[np.float64] = among / among.sum(axis=1, keepdims=True)
    return result


def suspects(answers: Answers) -> Integers:
    """Positions of the images whose label is probably wrong, the most suspicious first, by cleanlab.

    Raises:
        UserError: cleanlab is not installed, or all images are of one class.
    """
    known = np.flatnonzero(answers.answer >= 0)
    classes, labels = np.unique(answers.labels[known], return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"{answers.record.path}: its images are all of one class, which says nothing of their labels")
    positions: Integers = known[issues(labels, probabilities(answers, classes)[known])]
    return positions


def issues(labels: Integers, shares: npt.NDArray[np.float64]) -> Integers:
    """Positions of labels that do not fit probabilities (N, C), the least fitting first; raises as `suspects` does."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise UserError(f"the audit of labels needs cleanlab: pip install 'cnn-zoo[audit]' ({error})") from error
    ranked = {"filter_by": "low_self_confidence", "return_indices_ranked_by": "self_confidence"}
    return np.asarray(find_label_issues(labels, shares, n_jobs=1, verbose=False, **ranked), dtype=np.int64)


def likely_label(answers: Answers, position: int) -> int:
    """The class that the network thinks an image is, other than its label; -1 if it has none."""
    others = [label for label in answers.classes[position].tolist() if label not in (-1, answers.labels[position])]
    return int(others[0]) if others else -1
