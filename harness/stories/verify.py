"""Evaluate every released file of weights whose data are there, and compare the counts with the record in the file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.commands import EvalConfig
from harness.config.compose import compose
from harness.data.sources.table import load_test
from harness.errors import UserError
from harness.run.checkpoint import KEY
from harness.run.files import RESULT_FILE, read_json, read_table
from harness.run.log import log
from harness.stories.evaluate import evaluate_into_folder
from harness.stories.release import RELEASE
from models.catalogue import RELEASED, WEIGHTS, Released

CLOSE = 1e-4  # largest difference of an image's two best logits at which rounding may exchange them


class Verified(NamedTuple):
    """How a file did: a line about it, and whether its counts are those of its record."""

    line: str
    holds: bool


def verify(config: EvalConfig) -> None:
    """Evaluate the released weights of the config's model and data, or all.

    Raises:
        UserError: counts differ from a record by more images than have their two best logits within `CLOSE`, or there
            are no such weights.
    """
    model, data = config.model and config.model.name, config.data and config.data.name
    chosen = [row for row in RELEASED if model in (None, row.model) and data in (None, row.data)]
    if not chosen:
        raise UserError(f"verify=all: no weights are released for model={model or 'any'} data={data or 'any'}")
    verified = [_verify(row, config) for row in chosen]
    for line, _ in verified:
        log.info(line)
    failed = [line for line, holds in verified if not holds]
    if failed:
        raise UserError(f"verify=all: {len(failed)} of {len(chosen)} do not give their record: {'; '.join(failed)}")


def _verify(row: Released, config: EvalConfig) -> Verified:
    called = f"model={row.model} weights={row.name}"
    if not (WEIGHTS / row.file).is_file():
        return Verified(f"{called}: not here ({row.file}, {row.bytes:,} bytes)", True)
    words = [word for word in config.overrides if word.partition("=")[0] not in ("verify", "model", "data")]
    own = compose("eval", [f"model={row.model}", f"weights={row.name}", f"data={row.data}", *words])
    assert own.data is not None, "the words name the data"
    try:
        load_test(replace(own.data, download=False) if own.data.download else own.data)
    except UserError as error:
        hint = f"with `verify=all data={row.data} data.root=FOLDER`"
        return Verified(f"{called}: not evaluated: {error} ({hint})", True)
    return _compared(called, evaluate_into_folder(own), _record(WEIGHTS / row.file))


def _record(file: Path) -> dict[str, Any]:
    """The record in a released file."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as content:
        record: dict[str, Any] = json.loads(content.metadata()[KEY])[RELEASE]["record"]
    return record


def _compared(called: str, folder: Path, record: dict[str, Any]) -> Verified:
    """Compare an evaluation with a record; images whose best two classes are nearly equal may go either way."""
    result, close = read_json(folder / RESULT_FILE), close_images(folder / "predictions.csv")
    seen, right = result["seen"], result["correct_top1"]
    apart = abs(right - record["correct_top1"])
    others = [key for key in ("seen", "correct_top5") if result[key] != record[key]]
    line = f"{called}: {right:,} of {seen:,} right, top-1 error {result['top1_error']:.2f}%"
    if not apart and not others:
        line += ", as in its record"
    if apart:
        line += f"; its record has {record['correct_top1']:,}, {apart} apart"
    if apart or close:
        line += f"; two best classes within {CLOSE:g}: {', '.join(close) or 'no image'}"
    line += "".join(f"; {key} {result[key]:,}, in its record {record[key]:,}" for key in others)
    return Verified(line, apart <= len(close) and not others)


def close_images(path: Path) -> list[str]:
    """Return the ids of the images in a table of predictions whose two best logits are within `CLOSE`."""
    return [
        row["image"]
        for row in read_table(path, ("image", "probability_1", "probability_2"))
        if row["probability_2"]
        and float(row["probability_2"]) > 0
        and math.log(float(row["probability_1"]) / float(row["probability_2"])) <= CLOSE
    ]
