"""Names and versions in a record, shared by the code that writes and the code that reads it. No torch."""

from __future__ import annotations

RESULT_SCHEMA = "cnn-zoo result"
RESULT_VERSION = 5  # 2: pretrained weights; 3: all that can move a number; 4: new names of recipes; 5: verdicts
READABLE_RESULTS = (1, 2, 3, 4, 5)
TIMING_FILE = "evaluation_timing.json"  # beside the record
PREDICTIONS_VERSION = 1
PREDICTIONS_COLUMNS = ("image", "label", *(f"{what}_{k}" for k in range(1, 6) for what in ("class", "probability")))


def telling(classes: int | None) -> tuple[int, ...]:
    """Return the k of the top-k errors that say something: among five classes or fewer the first five are all of them.

    Args:
        classes: their number; None if a record does not say it.
    """
    return (1, 5) if classes is None or classes > 5 else (1,)
