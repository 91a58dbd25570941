"""The record of an evaluation: `result.json` and `predictions.csv`. Comparisons and charts read these, never logs.

Both hold nothing that differs between two equal runs: no times, no folder names.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from harness.checkpoint import Trained
from harness.config import DataConfig, ProtocolConfig
from harness.data.sources import ImageSet
from harness.data.stateless import HASH_VERSION
from harness.evaluation.counts import Counts
from harness.evaluation.evaluator import Evaluator, Predictions
from harness.evaluation.intervals import wilson
from harness.evaluation.schema import (
    PREDICTIONS_COLUMNS,
    PREDICTIONS_VERSION,
    RESULT_FILE,
    RESULT_SCHEMA,
    RESULT_VERSION,
)
from harness.files import write_json, write_text
from harness.run_folder import log


def error_rates(counts: Counts) -> dict[str, Any]:
    """Counts, errors in percent, and their 95% Wilson intervals."""
    return {
        "seen": counts.seen,
        "correct_top1": counts.correct_top1,
        "correct_top5": counts.correct_top5,
        "top1_error": counts.top1_error,
        "top5_error": counts.top5_error,
        "top1_error_interval_95": wilson(counts.seen - counts.correct_top1, counts.seen),
        "top5_error_interval_95": wilson(counts.seen - counts.correct_top5, counts.seen),
    }


def weights_sha256(state_dict: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes of a network's tensors, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def predictions_csv(ids: Sequence[str], predictions: Predictions) -> str:
    """One line an image: its id, its label, and the five likeliest classes with their probabilities.

    Classes are positions in the record's `class_names`. Fields stay empty past the last class, and throughout where a
    score was not a number.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PREDICTIONS_COLUMNS)
    rows = (predictions.labels.tolist(), predictions.classes.tolist(), predictions.probabilities.tolist())
    for image, label, classes, probabilities in zip(ids, *rows, strict=True):
        answers = [
            field
            for choice, probability in zip(classes, probabilities, strict=True)
            for field in (("", "") if choice < 0 else (choice, f"{probability:.6f}"))
        ]
        writer.writerow([image, label, *answers, *[""] * (10 - len(answers))])
    return text.getvalue()


def write_record(
    folder: Path,
    evaluator: Evaluator,
    split: ImageSet,
    trained: Trained,
    *,
    data: DataConfig,
    protocol: ProtocolConfig,
    epoch: int | None,
    best: dict[str, Any] | None = None,
) -> None:
    """Write `result.json` and `predictions.csv` and say what they say.

    Args:
        folder: of the run or evaluation.
        evaluator: after its test.
        split: the images that it saw.
        trained: what the checkpoint says of the network.
        data: the data set of the split.
        protocol: how it was evaluated.
        epoch: that the weights are of; None for pretrained ones.
        best: the epoch that the validation split would have chosen; kept beside the result, never it.
    """
    assert evaluator.predictions is not None
    predictions = predictions_csv(split.ids, evaluator.predictions)
    write_text(folder / "predictions.csv", predictions)
    network = evaluator.network
    result = {
        "schema": RESULT_SCHEMA,
        "version": RESULT_VERSION,
        "model": {
            "name": trained.model,
            "options": trained.options,
            "parameters": sum(p.numel() for p in network.parameters()),
        },
        "data": {"name": data.name, "split": "test", "images": len(split), "fingerprint": split.fingerprint()},
        "protocol": vars(protocol),
        **error_rates(evaluator.counts),
        "unreadable": 0,
        "weights": {
            "source": "trained here" if trained.training else "pretrained",
            "epoch": epoch,
            "sha256": weights_sha256(network.state_dict()),
        },
        "pretrained": trained.pretrained and trained.pretrained.as_plain(),
        "training": trained.training,
        "trained_on": trained.trained_on,
        "best_on_validation": best,
        "preprocessing": trained.preprocessing.as_plain(),
        "class_names": list(trained.class_names),
        "predictions": {
            "file": "predictions.csv",
            "version": PREDICTIONS_VERSION,
            "sha256": hashlib.sha256(predictions.encode()).hexdigest(),
        },
        "hash_version": HASH_VERSION,
        "device": evaluator.trainer.strategy.root_device.type,
        "versions": {package: metadata.version(package) for package in ("torch", "lightning")},
    }
    write_json(folder / RESULT_FILE, result)
    for k in (1, 5):
        low, high = result[f"top{k}_error_interval_95"]
        wrong = len(split) - result[f"correct_top{k}"]
        log.info(
            f"test top-{k} error {result[f'top{k}_error']:.2f}% ({wrong:,} of {len(split):,} images; "
            f"95% interval {low:.2f} to {high:.2f}%)"
        )
    log.info(f"record: {folder / 'result.json'}")
