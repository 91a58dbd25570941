"""The comparison of fine-tuning with training from scratch: its images, its statistics, its table."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from PIL import Image

from benchmarks import pictures, transfer
from benchmarks.pictures import Pictures
from benchmarks.transfer import Experiment
from benchmarks.transfer_report import table
from harness.comparison.ways_table import flowers_table, interval

Traced = tuple[Experiment, list[list[str]]]
RECORD = ROOT / "benchmarks" / "results" / "transfer.json"


@pytest.fixture
def numbered() -> Pictures:
    """Many grey pictures of three classes; the first pixel of each is its number."""
    images = np.zeros((240, 4, 4), dtype=np.uint8)
    images[:, 0, 0] = np.arange(240)
    return Pictures(images, np.arange(240) % 3, ("a", "b", "c"))


def numbers(part: Pictures) -> set[int]:
    return set(part.images[:, 0, 0].tolist())


def test_few_are_of_every_class_and_among_more(numbered: Pictures) -> None:
    few, others = numbered.few(5, seed=1)
    assert np.bincount(few.labels).tolist() == [5, 5, 5]
    assert (few.labels == few.images[:, 0, 0] % 3).all() and (others.labels == others.images[:, 0, 0] % 3).all()
    assert numbers(few) | numbers(others) == set(range(240)) and not numbers(few) & numbers(others)
    more, _ = numbered.few(10, seed=1)
    assert numbers(few) < numbers(more)
    assert numbers(few) != numbers(numbered.few(5, seed=2)[0])


def test_classes_are_numbered_anew_and_keep_their_names(numbered: Pictures) -> None:
    part = numbered.classes(1, 3)
    assert part.class_names == ("b", "c") and np.bincount(part.labels).tolist() == [80, 80]
    assert (part.labels + 1 == part.images[:, 0, 0] % 3).all()


def test_pictures_come_back_from_parquet_as_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    colour = Pictures(random.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8), np.arange(9) % 3, ("a", "b", "ç"))
    for split in ("train", "test"):
        colour.write(tmp_path / f"{split}.parquet")
    for back in pictures.parquet(tmp_path):
        assert np.array_equal(back.images, colour.images) and np.array_equal(back.labels, colour.labels)
        assert back.class_names == colour.class_names


@pytest.fixture
def experiment(
    numbered: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Experiment, list[list[str]]]:
    """One that trains nothing: what `train.py` is called with, and records whose error is the number of the call."""
    calls: list[list[str]] = []

    def train(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command[2:])
        (runs,) = (Path(word.partition("=")[2]) for word in command if word.startswith("runs="))
        (runs / "a" / "b").mkdir(parents=True)
        result = {"top1_error": float(len(calls)), "seen": 30, "correct_top1": 3}
        (runs / "a" / "b" / "result.json").write_text(json.dumps(result))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", train)
    monkeypatch.setattr(transfer, "IMAGES_PER_CLASS", (2, 5))
    monkeypatch.setattr(Experiment, "_target", lambda *_: (numbered, numbered))
    monkeypatch.setattr(pictures, "parquet", lambda _: (numbered, numbered))
    return Experiment(tmp_path / "folder", tmp_path / "mnist", tmp_path / "cifar10"), calls


def test_every_way_learns_the_same_images_once(experiment: Traced) -> None:
    compared, calls = experiment
    record = compared.measure(seeds=2)
    assert len(record["runs"]) == 2 * 2 * 2 * 3  # tasks, counts, seeds, ways
    assert len(calls) == 24 + 2  # and the two source networks
    learnt = [call for call in calls if any("-seed1" in word for word in call)]
    for task, model in (("digits", "lenet5"), ("cifar", "resnet20")):
        roots = {
            word for call in learnt for word in call if word.startswith("data.root=") and f"{task}-5-seed1" in word
        }
        ways = [call for call in learnt if roots & set(call)]
        assert (
            len(roots) == 1 and len(ways) == 3 and all(f"model={model}" in call and "seed=1" in call for call in ways)
        )
        scratch, finetune, probe = ways
        assert not any(word.startswith("weights=") for word in scratch)
        source = f"weights={compared.folder / 'runs' / f'{task}-source' / 'a' / 'b'}"
        assert source in finetune and source in probe
        assert f"recipe.learning_rate={transfer.TASKS[task].rate}" in scratch
        assert not any(word.startswith("recipe.learning_rate") for word in finetune + probe)
        assert "recipe.epochs=300" in scratch and "recipe.epochs=300" in finetune  # one batch of 15 images
    assert {run["top1_error"] for run in record["runs"]} <= {float(number) for number in range(1, 27)}
    assert compared.measure(seeds=2) == record and len(calls) == 26


def test_rates_are_tried_from_scratch_on_training_images(experiment: Traced) -> None:
    compared, calls = experiment
    assert compared.tune((0.1, 0.2)) == {"digits": {"0.1": 1.0, "0.2": 2.0}, "cifar": {"0.1": 3.0, "0.2": 4.0}}
    assert all("recipe=sgd_cosine" in call for call in calls)
    learnt, held_out = pictures_of(compared.folder / "data" / "digits-tuning")
    assert len(learnt) == 150 and not learnt & held_out and learnt | held_out == set(range(240))


def pictures_of(root: Path) -> tuple[set[int], set[int]]:
    train, test = (pq.read_table(root / f"{split}.parquet")["img"].to_pylist() for split in ("train", "test"))
    first = [{int(np.asarray(Image.open(io.BytesIO(row["bytes"])))[0, 0]) for row in part} for part in (train, test)]
    return first[0], first[1]


def made_up() -> dict[str, Any]:
    errors = {"scratch": (40.0, 44.0), "linear_probe": (30.0, 31.0), "finetune": (20.0, 20.0)}
    runs = [
        {"task": "t", "way": way, "images_per_class": 10, "seed": seed, "top1_error": error}
        for way, both in errors.items()
        for seed, error in reversed(list(enumerate(both)))
    ]
    return {"tasks": {"t": "A to B"}, "runs": runs}


def test_the_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3.0
    assert half == pytest.approx(2.776 * 1.5811 / 5**0.5, rel=1e-3)  # t of 4 degrees of freedom, from a printed table


def test_the_table_pairs_seeds(tmp_path: Path) -> None:
    (row,) = table(made_up()).splitlines()[2:]
    assert row == "| A to B | 10 | 42.00 ± 25.41 | 30.50 ± 6.35 | 20.00 ± 0.00 | 22.00 ± 25.41 |"
    record, out = tmp_path / "record.json", tmp_path / "figure.png"
    record.write_text(json.dumps(made_up()), encoding="utf-8")
    command = [sys.executable, "tools/transfer.py", "draw", str(record), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and row in done.stdout and out.read_bytes().startswith(b"\x89PNG")
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 2 and "this file exists" in again.stderr


def test_flowers_are_paired_by_seed_and_need_two(tmp_path: Path) -> None:
    def run(way: str, model: str, errors: dict[int, float]) -> None:
        folder = tmp_path / f"flowers_{way}"
        folder.mkdir(exist_ok=True)
        for seed, error in errors.items():
            record = {"training": {"seed": seed}, "top1_error": error}
            (folder / f"{model}-seed{seed}.json").write_text(json.dumps(record), encoding="utf-8")

    run("scratch", "resnet18", {1: 44.0, 0: 40.0, 2: 60.0})
    run("finetune", "resnet18", {0: 20.0, 1: 20.0})
    run("linear_probe", "resnet18", {0: 30.0})
    alexnet, resnet18 = flowers_table(tmp_path).splitlines()[2:]
    assert alexnet.startswith("| AlexNet from") and alexnet.count("not measured yet") == 4
    assert resnet18.split(" | ")[2:] == ["48.00 ± 26.29", "not measured yet", "20.00 ± 0.00", "22.00 ± 25.41 |"]


def test_the_page_tells_how_many_flowers_were_trained_on_nearly_as_they_are() -> None:
    with RECORD.with_name("flowers-duplicates.csv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    assert {(pair["split_1"], pair["split_2"]) for pair in pairs} == {("train", "test")}
    tested = {pair["image_2"] for pair in pairs}
    assert f" {len(tested)} of the 240 have a near-duplicate" in (ROOT / "docs" / "fine-tuning.md").read_text()


def test_the_shown_table_is_the_records_and_fine_tuning_is_ahead() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "fine-tuning.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- transfer -->\n(.*?)\n<!-- /transfer -->", text, re.DOTALL)
    assert shown is not None and shown[1] == table(record)
    for line in table(record).splitlines()[2:]:
        ahead, half = (float(part) for part in line.split("|")[-2].split("±"))
        assert ahead - half > 0, line


def test_from_scratch_has_the_rate_that_was_best() -> None:
    tried = json.loads(RECORD.with_name("transfer-rates.json").read_text(encoding="utf-8"))
    assert {task: float(min(errors, key=errors.get)) for task, errors in tried.items()} == {
        task: what.rate for task, what in transfer.TASKS.items()
    }
