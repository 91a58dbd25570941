"""The benchmarks run and measure what they say; how fast anything is, no test asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


def measured(out: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "tools/benchmark.py", *arguments, "--rounds", "1", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == record
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert again.returncode == 2 and "this file exists" in again.stderr
    return record


def test_startup(tmp_path: Path) -> None:
    seconds = measured(tmp_path / "startup.json", "startup")["seconds_to"]
    assert list(seconds) == ["config composed", "torch imported", "lightning imported", "data loaded", "first step"]
    assert sorted(seconds.values()) == list(seconds.values()) and seconds["config composed"] > 0


def test_index(tmp_path: Path) -> None:
    record = measured(tmp_path / "index.json", "index", "--images", "20000")
    assert record["memory_mebibytes"]["image_folder"] > 0 and record["restart_to_image_folder"]["median"] > 0
    assert record["worker_growth_mebibytes"]["image_folder"] > record["worker_growth_mebibytes"]["index"]


@pytest.mark.slow
def test_throughput(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "val" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 260 + number)).save(tmp_path / "val" / "a" / f"{number}.JPEG")
    shape = ("--model", "resnet18", "--batch-size", "2", "--batches", "1")
    rate = measured(tmp_path / "r.json", "throughput", "--root", str(tmp_path / "val"), *shape)["images_per_second"]
    assert list(rate) == ["train", "train_synthetic", "evaluation", "evaluation_synthetic"] and min(rate.values()) > 0


@pytest.mark.slow
def test_training(mnist_root: Path, tmp_path: Path) -> None:
    record = measured(tmp_path / "training.json", "training", "--root", str(mnist_root))
    for name in ("shipped_to_bare", "usual_to_shipped", "counting_to_torchmetrics_top5"):
        assert 0 < record[name]["lowest"] <= record[name]["median"] <= record[name]["highest"]


@pytest.mark.slow
def test_networks(tmp_path: Path) -> None:
    shape = ("--pixels", "32", "--batch-size", "4", "--steps", "1", "--threads", "1")
    record = measured(tmp_path / "networks.json", "networks", "plain20", "resnet20", *shape)
    assert record["multiply_adds"]["plain20"] == record["multiply_adds"]["resnet20"] == 40_551_040
    assert len(record["images_per_second"]) == 8 and min(record["images_per_second"].values()) > 0
    assert record["ratio_to_first"]["plain20 32-true contiguous"]["median"] == 1
