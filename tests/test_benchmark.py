"""The benchmarks run and measure what they say; how fast anything is, no test asks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.gpu import Sizes, _bound, measure

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


@pytest.mark.slow
def test_startup(tmp_path: Path) -> None:
    seconds = measured(tmp_path / "startup.json", "startup")["seconds_to"]
    assert list(seconds) == [
        *("config composed", "first line", "torch imported", "lightning imported", "data loaded", "first step"),
        *("first epoch", "result"),
    ]
    assert sorted(seconds.values()) == list(seconds.values()) and seconds["config composed"] > 0


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_needs_a_gpu_is_proved_on_the_cpu(tmp_path: Path) -> None:
    """All parts with tiny sizes; a part that has a record is not measured again, and none starts without time."""
    (tmp_path / "val" / "a").mkdir(parents=True)
    Image.new("RGB", (300, 260)).save(tmp_path / "val" / "a" / "0.JPEG")
    network = {"large": "resnet18", "pixels": 64, "batch": 2, "steps": 1, "compiled": False}
    sizes = Sizes(small_images=64, small_batch=32, copied=2**20, matrix=64, **network)  # type: ignore[arg-type]
    folder, root = tmp_path / "records", str(tmp_path / "val")
    assert measure(folder, 0, "cpu", root, sizes, 1)[0] == "resnet20: left out; 0 minutes are over"
    assert measure(folder, 60, "cpu", None, sizes, 1)[-1] == "files: left out; --root names the pictures"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    lines = measure(folder, 60, "cpu", root, sizes, 1)
    assert ["measured before" in line for line in lines] == [True, True, True, False]
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(after) == ["evaluation.json", "files.json", "resnet20.json", "resnet50.json"]
    assert before.items() <= after.items()
    records = {name: json.loads(content) for name, content in after.items()}
    assert list(records["resnet20.json"]["to_usual"]) == ["ours", "ours_fused", "ours_not_deterministic"]
    large = records["resnet50.json"]
    assert large["share_of_bound"] == pytest.approx(
        large["images_per_second"]["ours"] / large["bound"]["images_per_second"]
    )
    assert records["files.json"]["bound_by"]["train"] in ("the network", "the input")


def test_the_bound_counts_what_the_facts_count() -> None:
    """ResNet-50 at 224: 24.3 billion operations and 311 MB an image, at 14 passes over what convolutions give."""
    tiny = Sizes(copied=2**10, matrix=8)
    bound = _bound(tiny, torch.device("cpu"))
    assert bound["operations_per_image"] == pytest.approx(24.3e9, rel=0.01)
    assert bound["bytes_per_image"] == pytest.approx(311e6 + 30 * 25_557_032 / 256, rel=0.01)
