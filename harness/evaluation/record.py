"""Write the record of an evaluation: `result.json` and `predictions.csv`. Comparisons and charts read only records.

Two equal runs write equal records, because neither file holds times or folder names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.config.data import DataConfig, ImageFilesConfig
from harness.data.images.folder import printable
from harness.data.images.image_files import ImageFiles
from harness.data.loading.stateless import HASH_VERSION
from harness.data.loading.waiting import advice
from harness.data.sources.folder import SPLITS
from harness.data.sources.splits import Split
from harness.data.sources.table import recorded
from harness.evaluation.evaluator import Evaluator, Predictions
from harness.evaluation.intervals import wilson
from harness.evaluation.published import line_about, published_beside
from harness.evaluation.schema import (
    PREDICTIONS_COLUMNS,
    PREDICTIONS_VERSION,
    RESULT_SCHEMA,
    RESULT_VERSION,
    TIMING_FILE,
    telling,
)
from harness.run.checkpoint import BEST, LAST, Checkpoint, Trained, weights_sha256
from harness.run.files import CHOOSING_VARIABLE, RESULT_FILE, csv_text, read_table, write_json, write_text
from harness.run.history import Counts
from harness.run.log import log
from harness.run.machine import available_cores
from harness.run.printable import harmless

READABLE_FILE = "predictions_readable.csv"
UNREADABLE_FILE = "unreadable.csv"
PACKAGES = ("torch", "lightning", "pillow", "simplejpeg")


@dataclass(frozen=True)
class Moment:
    """The moment of a training run from which weights come.

    Attributes:
        epoch: number of complete epochs.
        step: number of optimiser steps.
        file: name of the checkpoint: `last.ckpt` after the last epoch, or `best_on_validation.ckpt`; None for any
            other.
    """

    epoch: int
    step: int
    file: str | None

    @classmethod
    def of(cls, checkpoint: Checkpoint, path: Path) -> Moment:
        """Return the moment of a checkpoint that was read from this path."""
        epochs = (checkpoint.trained.training or {}).get("epochs")
        known = BEST if path.name == BEST else LAST if checkpoint.epoch == epochs else None
        return cls(checkpoint.epoch, checkpoint.step, known)


def error_rates(counts: Counts) -> dict[str, Any]:
    """Return counts, errors in percent, and their 95% Wilson intervals."""
    return {
        "seen": counts.seen,
        "correct_top1": counts.correct_top1,
        "correct_top5": counts.correct_top5,
        "top1_error": counts.top1_error,
        "top5_error": counts.top5_error,
        "top1_error_interval_95": wilson(counts.seen - counts.correct_top1, counts.seen),
        "top5_error_interval_95": wilson(counts.seen - counts.correct_top5, counts.seen),
    }


def predictions_csv(ids: Sequence[str], predictions: Predictions) -> str:
    """Return a table with one line for each image: id, label, and the five likeliest classes with probabilities.

    Classes are indices into the record's `class_names`. Fields after the last class stay empty, and so do all fields of
    an image with a score that was not a number.
    """
    table = []
    rows = (predictions.labels.tolist(), predictions.classes.tolist(), predictions.probabilities.tolist())
    for image, label, classes, probabilities in zip(ids, *rows, strict=True):
        answers = [
            field
            for choice, probability in zip(classes, probabilities, strict=True)
            for field in (("", "") if choice < 0 else (choice, f"{probability:.6f}"))
        ]
        table.append([image, label, *answers, *[""] * (10 - len(answers))])
    return csv_text(PREDICTIONS_COLUMNS, table)


def readable_csv(split: Split, predictions: Predictions, class_names: Sequence[str]) -> str:
    """Return the same table for people and spreadsheets: where each image lies, and classes by name.

    Names that a spreadsheet would compute have an apostrophe before them.
    """
    table = []
    rows = (predictions.labels.tolist(), predictions.classes.tolist(), predictions.probabilities.tolist())
    for index, (image, label, classes, probabilities) in enumerate(zip(split.ids, *rows, strict=True)):
        path = Path(os.fsdecode(split.path(index))).absolute() if isinstance(split, ImageFiles) else None
        named = [class_names[choice] if choice >= 0 else "" for choice in classes]
        known = [f"{value:.6f}" if name else "" for name, value in zip(named, probabilities, strict=True)]
        answers = [field for pair in zip(map(harmless, named), known, strict=True) for field in pair]
        place = [] if path is None else [harmless(printable(os.fsencode(path)))]
        table.append([harmless(image), *place, harmless(class_names[label]), *answers])
    places = ["path"] if isinstance(split, ImageFiles) else []
    answered = [f"{kind}_{k + 1}" for k in range(predictions.classes.shape[1]) for kind in ("class", "probability")]
    return csv_text(["image", *places, "label", *answered], table)


def _last(prefix: str) -> str:
    return prefix.rpartition("/")[2].casefold()


def unreadable_csv(reasons: Mapping[str, str]) -> str:
    """Return a table with one line for each image that could not be read: its id and the reason."""
    return csv_text(("image", "reason"), sorted(reasons.items()))


def read_unreadable(path: Path) -> dict[str, str]:
    """Read the table of unreadable images: ids and reasons; empty if there is no file."""
    if not path.exists():
        return {}
    return {row["image"]: row["reason"] for row in read_table(path, ("image", "reason"))}


def training_data(trained: Trained) -> dict[str, Any] | None:
    """Return the config of the training data without its paths; None if the network was not trained here."""
    if trained.data is None or trained.training is None:
        return None
    known = {key: value for key, value in vars(trained.data).items() if key not in ("root", "download")}
    return {key: value for key, value in known.items() if key != "cache" or value is not None}  # older records lack it


def write_record(
    folder: Path,
    evaluator: Evaluator,
    trained: Trained,
    *,
    data: DataConfig,
    moment: Moment | None,
    multiply_adds: int,
    best: dict[str, Any] | None = None,
    advise: bool = True,
) -> None:
    """Write `result.json` and `predictions.csv`, and log the errors.

    Args:
        folder: folder of the run or evaluation.
        evaluator: evaluator that has finished its test.
        trained: description of the network.
        data: settings of the data set that was evaluated.
        moment: moment of training from which the weights come; None for pretrained weights.
        multiply_adds: of the network for one image of its size.
        best: the best epoch on the validation split; it is recorded beside the result and does not change it.
        advise: whether to say how images could come faster.
    """
    assert evaluator.predictions is not None and evaluator.timing is not None
    split, protocol, rates = evaluator.split, evaluator.protocol, error_rates(evaluator.counts)
    ids = split.ids  # a property that makes a new list each time
    predictions = predictions_csv(ids, evaluator.predictions)
    write_text(folder / "predictions.csv", predictions)
    write_text(folder / READABLE_FILE, readable_csv(split, evaluator.predictions, trained.class_names))
    network = evaluator.network
    result: dict[str, Any] = {
        "schema": RESULT_SCHEMA,
        "version": RESULT_VERSION,
        "model": {
            "name": trained.model,
            "options": trained.options,
            "parameters": sum(p.numel() for p in network.parameters()),
            "multiply_adds": multiply_adds,
        },
        "data": {
            "name": data.name,
            "split": "val" if isinstance(split, ImageFiles) and _last(split.prefix) in SPLITS["val"] else "test",
            "images": len(split),
            "fingerprint": split.fingerprint(),
            **({"decoder": data.decoder} if isinstance(data, ImageFilesConfig) else {}),
            **({"answers_among": len(evaluator.among)} if evaluator.among is not None else {}),
            **recorded(data),
        },
        "protocol": vars(protocol),
        **rates,
        "unreadable": len(evaluator.unreadable),
        "weights": {
            "source": "trained here" if trained.training else "pretrained",
            **(vars(moment) if moment else {"epoch": None}),
            "sha256": weights_sha256(network.state_dict()),
        },
        "pretrained": trained.pretrained and trained.pretrained.as_plain(),
        "training": trained.training,
        "training_data": training_data(trained),
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
        "versions": {package: metadata.version(package) for package in PACKAGES},
    }
    write_text(folder / TIMING_FILE, json.dumps(vars(evaluator.timing)) + "\n")
    if evaluator.unreadable:
        reasons = {ids[index]: reason for index, reason in evaluator.unreadable}
        write_text(folder / UNREADABLE_FILE, unreadable_csv(reasons))
    result["published"] = published_beside(result)
    write_json(folder / RESULT_FILE, result)
    _tell(folder, evaluator, result, data, advise)


def _tell(folder: Path, evaluator: Evaluator, result: Mapping[str, Any], data: DataConfig, advise: bool) -> None:
    """Log the errors of a record."""
    assert evaluator.timing is not None
    images, unreadable, timing = len(evaluator.split), len(evaluator.unreadable), evaluator.timing
    if unreadable:
        log.info(
            f"scored {images - unreadable:,} of {images:,} images; {unreadable:,} could not be read and count as "
            f"errors: {folder / UNREADABLE_FILE}"
        )
    if CHOOSING_VARIABLE in os.environ:
        log.info("the test error is in the record; the choice among the runs is made without it")
    for k in () if CHOOSING_VARIABLE in os.environ else telling(len(result["class_names"])):
        low, high = result[f"top{k}_error_interval_95"]
        wrong = images - result[f"correct_top{k}"]
        log.info(
            f"test top-{k} error {result[f'top{k}_error']:.2f}% ({wrong:,} of {images:,} images; "
            f"95% interval {low:.2f} to {high:.2f}%)"
        )
    if result["published"] is not None and CHOOSING_VARIABLE not in os.environ:
        log.info(line_about(result["published"]))
    log.info(
        f"{timing.images_per_second:,.0f} images/s, {100 * timing.waiting_share:.0f}% of the time waiting for input"
    )
    if advise and timing.workers is not None and isinstance(data, ImageFilesConfig):
        devices = evaluator.trainer.num_devices
        line = advice(timing.waiting_share, timing.workers, max(1, available_cores() // devices), data.decoder)
        if line:
            log.info(line)
    log.info(f"record: {folder / 'result.json'}")
