"""What only a GPU can show: training, evaluation, bf16, torch.compile and one-device DDP. Run with `-m gpu`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import run_script

from harness.evaluation.counts import count_correct, rank_of_label
from models import build_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def result(runs: Path, *settings: str) -> dict[str, Any]:
    done = run_script("train.py", "recipe.epochs=8", f"runs={runs}", *settings)
    assert done.returncode == 0, done.stderr
    (folder,) = (runs / "lenet5-digits").iterdir()
    record: dict[str, Any] = json.loads((folder / "result.json").read_text())
    assert run_script("eval.py", f"run={folder}", f"runs={runs / 'evaluated'}").returncode == 0
    return record


@pytest.mark.parametrize(
    "settings", [["trainer=gpu"], ["trainer=gpu", "recipe.precision=bf16-mixed"], ["trainer=ddp", "trainer.devices=1"]]
)
def test_training_and_evaluation(settings: list[str], tmp_path: Path) -> None:
    record = result(tmp_path, *settings)
    assert record["device"] == "cuda" and record["seen"] == 360 and record["top1_error"] < 10


def test_equal_commands_give_equal_counts(tmp_path: Path) -> None:
    first, second = (result(tmp_path / name, "trainer=gpu") for name in "ab")
    assert first == second


def test_counts_equal_the_cpus() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-3, 3, (1000, 10), generator=generator).float()
    scores[::9, 3] = torch.nan
    labels = torch.randint(0, 10, (1000,), generator=generator)
    assert torch.equal(rank_of_label(scores.cuda(), labels.cuda()).cpu(), rank_of_label(scores, labels))
    assert torch.equal(count_correct(scores.cuda(), labels.cuda()).cpu(), count_correct(scores, labels))


def test_compiled_networks_give_the_same_logits() -> None:
    network = build_model("lenet5").cuda().eval()
    images = torch.randn(64, 1, 32, 32, device="cuda")
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(network)(images), network(images), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        ["recipe.fused=true"],
        ["recipe.deterministic=false"],
        ["recipe.compile=true", "recipe.cuda_graphs=true"],
        ["recipe.compile=true", "recipe.cuda_graphs=true", "recipe.precision=bf16-mixed", "recipe.channels_last=true"],
    ],
    ids=["fused", "not deterministic", "graphs", "graphs in bfloat16"],
)
def test_what_makes_training_faster_learns_as_much(settings: list[str], tmp_path: Path) -> None:
    assert result(tmp_path, "trainer=gpu", *settings)["top1_error"] < 10
