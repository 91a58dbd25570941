"""Release a run: its network as a file of `models/weights/` that says everything known of it, and a card beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from harness.comparison.records import Record, read_record
from harness.config.compose import as_word, compose
from harness.config.files import CONFIG_FILE
from harness.config.plain_yaml import read_yaml
from harness.errors import UserError
from harness.run.checkpoint import KEY, Checkpoint, checkpoint_of_run, read_checkpoint, weights_sha256
from harness.run.files import RESULT_FILE, atomic, read_json, read_table, sha256_of_file, write_text
from harness.run.history import METRICS_FILE
from harness.run.log import log
from harness.stories.evaluate import evaluate_network
from harness.stories.model_card import card
from models.catalogue import RELEASED_FILE, Released

RELEASE = "release"  # key of what is known beside the network, in a file's description
HALF, SINGLE = torch.float16, torch.float32
SHIPPED = 2**21  # most bytes of a file that comes with the program
SCORES = ("seen", "correct_top1", "correct_top5")


def release(run: Path, name: str, folder: Path, others: Sequence[Path], root: str | None) -> Path:
    """Write the file, its card and its line in the list of released weights; returns the path of the file.

    Numbers are in half precision if a record that is made again with them is the same. Where the list has the weights
    already and the file is missing, the file alone is made again.

    Args:
        run: folder of a finished run, the one with the smallest seed.
        name: what the weights are called, after their data: `MNIST`.
        folder: `models/weights/`, or another folder with a list of released weights.
        others: records of the same settings with other seeds.
        root: folder of the data; None for that of the data's config.

    Raises:
        UserError: the run is not finished, has been changed, is not the one of the smallest seed, other records have
            other settings, the evaluation of the file differs from the run's record, or the list has another network
            under the name.
    """
    result, checkpoint = _finished(run)
    records = _records(run / RESULT_FILE, others)
    file = folder / f"{result['model']['name']}-{name}.safetensors"
    if file.exists():
        raise UserError(f"{file}: exists already; a released file never changes: choose another --name, or remove it")
    config = _config(run)
    known = {"record": result, "metrics": (run / METRICS_FILE).read_text(encoding="utf-8"), "config": config}
    content, precision = _same(run, checkpoint, known, root)
    listed = folder / RELEASED_FILE
    rows = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []
    network, before = weights_sha256(load(content)), next((row for row in rows if row["file"] == file.name), None)
    if before is not None and before["network"] != network:
        raise UserError(f"{file}: {listed} has another network under this name: choose another --name")
    with atomic(file) as target:
        target.write(content)
    if before is not None:
        log.info(f"{file.name}: the network of the released file; the list and the card stay as they are")
        return file
    size = file.stat().st_size
    shipped = size <= SHIPPED
    released = Released(
        result["model"]["name"], name, file.name, sha256_of_file(file), network, size, result["data"]["name"], shipped
    )
    if not shipped:
        log.info(
            f"{file.name}: too large to come with the program; publish it where its card says, not in the repository"
        )
    row = vars(released)
    text = card(row, precision, [record.content for record in records], config["overrides"])
    write_text(file.with_suffix(".md"), text)
    rows.append(row)
    rows.sort(key=lambda row: (row["data"], row["name"], row["model"]))
    write_text(listed, json.dumps(rows, indent=2) + "\n")
    return file


def _finished(run: Path) -> tuple[dict[str, Any], Checkpoint]:
    if not (run / RESULT_FILE).is_file():
        raise UserError(f"{run}: not the folder of a finished run: it has no {RESULT_FILE}")
    result, checkpoint = read_record(run / RESULT_FILE).content, read_checkpoint(checkpoint_of_run(run))
    if weights_sha256(checkpoint.state_dict) != result["weights"]["sha256"]:
        raise UserError(f"{run}: its checkpoint is not the network of its {RESULT_FILE}; was a file replaced?")
    return result, checkpoint


def _records(own: Path, others: Sequence[Path]) -> list[Record]:
    """All records, in order of their seeds."""
    first = read_record(own)
    records = {first.seed: first}
    for path in others:
        record = read_record(path)
        if record.settings.key != first.settings.key:
            raise UserError(f"{path}: its settings are not those of {own}: they differ in more than the seed")
        records.setdefault(record.seed, record)
    ordered = [records[seed] for seed in sorted(seed for seed in records if seed is not None)]
    if ordered[0] is not first:
        raise UserError(f"{own}: has seed {first.seed}; the run of the smallest seed is released: {ordered[0].path}")
    return ordered


def _config(run: Path) -> dict[str, Any]:
    """The settings of a run without the folders of its machine."""
    config: dict[str, Any] = read_yaml(run / CONFIG_FILE)
    words = [word for word in config["overrides"] if word.partition("=")[0] not in ("data.root", "runs", "resume")]
    return {**config, "runs": "runs", "resume": None, "data": {**config["data"], "root": "."}, "overrides": words}


def _same(run: Path, checkpoint: Checkpoint, known: Mapping[str, Any], root: str | None) -> tuple[bytes, str]:
    """The content of a file whose record is the run's, in half precision if that can be, and the precision's name."""
    described = {**json.loads(checkpoint.trained.described()), RELEASE: known}
    for precision, called in ((HALF, "half precision"), (SINGLE, "single precision")):
        tensors = {
            key: (value.to(precision) if value.is_floating_point() else value).contiguous()
            for key, value in checkpoint.state_dict.items()
        }
        content = save(tensors, {KEY: json.dumps(described, ensure_ascii=False, sort_keys=True)})
        difference = _difference(run, checkpoint, content, root)
        if difference is None:
            return content, called
        log.info(f"{called}: {difference}")
    raise UserError(f"{run}: an evaluation of its weights does not give its record again: {difference}")


def _difference(run: Path, checkpoint: Checkpoint, content: bytes, root: str | None) -> str | None:
    """How the evaluation of a file's content differs from the record of the run; None if it does not."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "weights.safetensors"
        file.write_bytes(content)
        trained = checkpoint.trained
        assert trained.data is not None, "a run names its data"
        options = [as_word(f"model.{key}", value) for key, value in trained.options.items()]
        data = [f"data={trained.data.name}", *([as_word("data.root", root)] if root is not None else [])]
        words = [f"model={trained.model}", *options, f"weights={file}", *data, f"runs={place}"]
        again = evaluate_network(compose("eval", words))
        (folder,) = Path(place).glob("*/*-eval")
        classes = [_likeliest(path / "predictions.csv") for path in (run, folder)]
    before = read_json(run / RESULT_FILE)
    if any(again[key] != before[key] for key in SCORES):
        return ", ".join(f"{key} {again[key]} instead of {before[key]}" for key in SCORES if again[key] != before[key])
    changed = sum(one != other for one, other in zip(*classes, strict=True))
    return f"{changed} images have another likeliest class" if changed else None


def _likeliest(path: Path) -> list[str]:
    return [row["class_1"] for row in read_table(path, ("class_1",))]
