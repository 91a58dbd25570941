"""A batch in parts: the same images, the same steps as of the whole batch, less memory."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from in_process import call, only
from test_finetune import Run, copies
from test_resume_in_process import PLAIN, WithDropout, assert_equal
from test_training import recipe
from torch import nn

from harness.comparison.records import compare, find_records
from harness.config.compose import compose
from harness.errors import memory_error
from harness.training.classifier import Classifier

MIXES: dict[str, Any] = {"mixup": 0.4, "cutmix": 1.0, "label_smoothing": 0.1}
EVERYTHING = dataclasses.replace(
    PLAIN,
    schedule="plateau",
    gamma=0.5,
    warmup_epochs=0.5,
    average_decay=0.8,
    average_every=2,
    exact_batch_norm=True,
    clip_norm=1.0,
    norm_weight_decay=0.0,
    crop_padding=1,
    flip=True,
    erasing=0.5,
    **MIXES,
)


class Plain(nn.Module):
    """A network without batch norm and dropout, which remembers what it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(64, 3)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(x.detach().clone())
        logits: torch.Tensor = self.fc(self.conv(x).relu().flatten(1))
        return logits


def run(folder: Path, accumulate: int, **changes: Any) -> tuple[Run, Plain]:
    network = Plain()
    settings = dataclasses.replace(PLAIN, crop_padding=1, flip=True, clip_norm=0.5, **changes)
    return Run(folder, settings, network=network, accumulate=accumulate), network


@pytest.mark.parametrize("changes", [{}, MIXES], ids=["plain", "mixed"])
@pytest.mark.parametrize("accumulate", [2, 3, 100])
def test_parts_make_the_steps_of_the_whole_batch(accumulate: int, changes: dict[str, Any], tmp_path: Path) -> None:
    """Batches of 8 and a last one of 5; mixed images are the same to the bit."""
    whole, seen_whole = run(tmp_path / "whole", 1, **changes)
    parts, seen_parts = run(tmp_path / "parts", accumulate, **changes)
    assert len(seen_whole.seen) == 20 and all(len(part) >= 2 for part in seen_parts.seen)
    assert len(seen_parts.seen) == 4 * (4 * min(accumulate, 4) + min(accumulate, 2))
    assert torch.equal(torch.cat(seen_whole.seen), torch.cat(seen_parts.seen))
    for key, value in copies(whole.network).items():
        torch.testing.assert_close(copies(parts.network)[key], value, atol=1e-6, rtol=1e-5)
    for mine, other in zip(parts.classifier.history, whole.classifier.history, strict=True):
        assert mine.train_loss == pytest.approx(other.train_loss, rel=1e-5)
        assert (mine.train, mine.validation) == (other.train, other.validation)


def test_all_devices_have_as_many_parts() -> None:
    """Otherwise one would wait for ever for the statistics or gradients of another."""
    classifier = Classifier(Plain(), recipe(), 5, seed=3, accumulate=4)
    for devices, shares in ((2, (7, 6)), (3, (3, 2, 2)), (2, (9, 4)), (2, (1, 0))):  # 4: others could not be read
        classifier._trainer = SimpleNamespace(world_size=devices)  # type: ignore[assignment]
        parts = [
            classifier._parts(SimpleNamespace(labels=torch.zeros(share), global_size=sum(shares)))  # type: ignore[arg-type]
            for share in shares
        ]
        assert len({len(each) for each in parts}) == 1
        for share, each in zip(shares, parts, strict=True):
            assert [row for part in each for row in range(share)[part]] == list(range(share))


@pytest.mark.parametrize("steps", [(3,), (5,), (7, 8), (15,), (3, 9, 14, 19)], ids=str)
def test_with_everything_on_a_run_that_is_cut_off_goes_on_exactly(steps: tuple[int, ...], tmp_path: Path) -> None:
    def go_on(name: str, **options: Any) -> Run:
        torch.rand(7)  # whatever was drawn before
        return Run(tmp_path / name, EVERYTHING, network=WithDropout(), accumulate=2, **options)

    unbroken = go_on("unbroken")
    for step in steps:
        go_on("broken", cut_at=step)
    assert_equal(go_on("broken"), unbroken)


def test_a_record_says_it_and_a_comparison_tells_it_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (("whole", ()), ("parts", ("trainer.accumulate=2",))):
        quick = ("model=mlp", "recipe.epochs=1", "trainer.threads=1")
        assert call("train.py", *quick, *words, f"runs={tmp_path / name}") == 0
    files = [only(only(tmp_path / name)) / "result.json" for name in ("whole", "parts")]
    whole, parts = (json.loads(file.read_text())["training"]["places"] for file in files)
    assert "accumulate" not in whole[0] and parts[0]["accumulate"] == 2
    (compared,) = compare(find_records([str(tmp_path)])[0])
    assert sorted(row.model for row in compared.rows) == ["mlp accumulate=1", "mlp accumulate=2"]


def test_memory_that_is_full_is_answered_with_it() -> None:
    line = memory_error(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert line is not None and "trainer.accumulate=2" in line and "keeps the recipe" in line and "\n" not in line
    assert memory_error(RuntimeError("size mismatch")) is None
    assert compose("train", ["trainer.accumulate=8"]).trainer.accumulate == 8
