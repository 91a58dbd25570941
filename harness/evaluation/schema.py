"""The fixed parts of a record, shared by what writes and what reads it; importable without torch."""

from __future__ import annotations

RESULT_SCHEMA = "cnn-zoo result"
RESULT_VERSION = 3  # 2: pretrained weights, which were not trained here; 3: all that can move a number
READABLE_RESULTS = (1, 2, 3)
LOCAL_FILE = "local file"  # the source of weights that were given as a file
PREDICTIONS_VERSION = 1
PREDICTIONS_COLUMNS = ("image", "label", *(f"{what}_{k}" for k in range(1, 6) for what in ("class", "probability")))
