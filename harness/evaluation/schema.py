"""The fixed parts of a record, shared by what writes and what reads it; importable without torch."""

from __future__ import annotations

RESULT_SCHEMA = "cnn-zoo result"
RESULT_VERSION = 4  # 2: pretrained weights; 3: all that can move a number; 4: names of `harness.config.renamed`
READABLE_RESULTS = (1, 2, 3, 4)
PREDICTIONS_VERSION = 1
PREDICTIONS_COLUMNS = ("image", "label", *(f"{what}_{k}" for k in range(1, 6) for what in ("class", "probability")))
