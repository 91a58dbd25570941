"""Records of crafted answers, for tests of what reads records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT

from harness.evaluation.schema import PREDICTIONS_COLUMNS
from harness.run.files import csv_text

OLDER = ROOT / "tests" / "fixtures" / "2026-11" / "runs" / "mlp-digits"  # a run on digits, and its evaluation
Answer = tuple[str, int, Sequence[tuple[int, float]]]  # image, label, likeliest classes with probabilities


def write_record(
    folder: Path,
    answers: Sequence[Answer],
    class_names: Sequence[str],
    config: dict[str, Any] | None = None,
    **data: Any,
) -> Path:
    """A record with these answers; `data` changes what it says of the data, `config` is the config of the data."""
    content = json.loads((OLDER / "finished" / "result.json").read_text(encoding="utf-8"))
    rows = [
        [image, label, *[cell for pair in best for cell in pair], *[""] * (10 - 2 * len(best))]
        for image, label, best in answers
    ]
    wrong = sum(not best or best[0][0] != label for _, label, best in answers)
    right = len(answers) - wrong
    content |= {"seen": len(answers), "correct_top1": right, "correct_top5": right}
    content |= {"top1_error": 100 * wrong / len(answers), "top5_error": 100 * wrong / len(answers)}
    content |= {"class_names": list(class_names), "training": None, "training_data": None}
    content["data"] |= {"images": len(answers), **data}
    folder.mkdir(parents=True, exist_ok=True)
    text = csv_text(PREDICTIONS_COLUMNS, rows)
    (folder / "predictions.csv").write_text(text, encoding="utf-8", newline="")
    content["predictions"]["sha256"] = hashlib.sha256((folder / "predictions.csv").read_bytes()).hexdigest()
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump({"data": config}), encoding="utf-8")
    return folder
