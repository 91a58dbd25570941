"""The comparison of fine-tuning with training from scratch: its images, its statistics, its table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from benchmarks import pictures
from benchmarks.pictures import Pictures
from benchmarks.transfer_report import interval, table

RECORD = ROOT / "benchmarks" / "results" / "transfer.json"


@pytest.fixture
def numbered() -> Pictures:
    """Sixty grey pictures of three classes; the first pixel of each is its number."""
    images = np.zeros((60, 4, 4), dtype=np.uint8)
    images[:, 0, 0] = np.arange(60)
    return Pictures(images, np.arange(60) % 3, ("a", "b", "c"))


def numbers(part: Pictures) -> set[int]:
    return set(part.images[:, 0, 0].tolist())


def test_few_are_of_every_class_and_among_more(numbered: Pictures) -> None:
    few, others = numbered.few(5, seed=1)
    assert np.bincount(few.labels).tolist() == [5, 5, 5]
    assert (few.labels == few.images[:, 0, 0] % 3).all() and (others.labels == others.images[:, 0, 0] % 3).all()
    assert numbers(few) | numbers(others) == set(range(60)) and not numbers(few) & numbers(others)
    more, _ = numbered.few(10, seed=1)
    assert numbers(few) < numbers(more)
    assert numbers(few) != numbers(numbered.few(5, seed=2)[0])


def test_classes_are_numbered_anew_and_keep_their_names(numbered: Pictures) -> None:
    part = numbered.classes(1, 3)
    assert part.class_names == ("b", "c") and np.bincount(part.labels).tolist() == [20, 20]
    assert (part.labels + 1 == part.images[:, 0, 0] % 3).all()


def test_pictures_come_back_from_parquet_as_they_were(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    colour = Pictures(random.integers(0, 256, (9, 8, 8, 3), dtype=np.uint8), np.arange(9) % 3, ("a", "b", "ç"))
    for split in ("train", "test"):
        colour.write(tmp_path / f"{split}.parquet")
    for back in pictures.parquet(tmp_path):
        assert np.array_equal(back.images, colour.images) and np.array_equal(back.labels, colour.labels)
        assert back.class_names == colour.class_names


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
