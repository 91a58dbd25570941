"""A learning-rate range test: what it measures, what it says, and what it leaves."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from PIL import Image

from harness.command.lr_range import measure
from harness.comparison.lr_range_chart import Range, range_csv
from harness.config.compose import compose
from harness.data.loading.module import TrainData
from harness.errors import UserError
from harness.run.log import spoken
from harness.stories.lr_range import DivergedError, Ramp, rates
from harness.training.classifier import Classifier

WORDS = ("model=mlp", "model.hidden=[8]", "trainer.accelerator=cpu", "trainer.threads=1", "recipe.batch_size=256")


def falling(rate: float) -> float:
    """A loss that falls fastest, per ratio of rates, at 0.01, is least at 0.1 and then rises."""
    return 2.3 - 2 / (1 + math.exp(-4 * math.log10(rate / 0.01))) + 20 * max(0.0, math.log10(rate / 0.1)) ** 2


def test_rates_rise_by_equal_ratios() -> None:
    assert rates(1e-4, 1.0, 5) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_the_marks_are_where_the_loss_falls_fastest_and_where_it_diverges() -> None:
    wanted = rates(1e-5, 1.0, 201)
    found = Range(tuple(wanted), tuple(map(falling, wanted)), diverged=True)
    assert found.steepest is not None and wanted[found.steepest] == pytest.approx(0.01, rel=0.06)
    assert found.said == (
        "the loss falls fastest at a rate of 0.01, and is least at 0.084; diverged at 1. "
        "A rate to begin a search with, not one that was found best"
    )
    rows = list(csv.DictReader(range_csv(found).splitlines()))
    assert [row["mark"] for row in rows if row["mark"]] == ["steepest", "diverged"]
    assert [float(row["loss"]) for row in rows] == list(found.losses)


def test_a_loss_that_never_falls_has_no_mark() -> None:
    wanted = tuple(rates(1e-5, 1.0, 50))
    assert (
        Range(wanted, tuple(2.3 + rate for rate in wanted), False).said == "the loss never falls; no divergence up to 1"
    )
    assert Range(wanted[:1], (math.nan,), True).said == "the loss never falls; diverged at 1e-05"


@pytest.mark.parametrize(
    ("losses", "steps"),
    [([2.0] * 9 + [math.nan, 2.0], 10), ([2.0] * 9 + [math.inf], 10), ([1.0] * 10 + [50.0], 11), ([2.0] * 30, None)],
)
def test_the_ramp_ends_where_the_loss_diverges(losses: list[float], steps: int | None) -> None:
    ramp = Ramp()
    try:
        for loss in losses:
            ramp.note(loss)
    except DivergedError:
        pass
    assert (len(ramp.losses) if ramp.diverged else None) == steps


def test_it_trains_as_a_run_does_and_leaves_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    used: list[float] = []

    def never(self: Any) -> None:
        raise AssertionError("validation images are looked at")

    def step(self: Any, batch: Any, number: int, real: Any = Classifier.training_step) -> None:
        real(self, batch, number)
        used.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    with (
        spoken(True),
        patch.object(Classifier, "training_step", step),
        patch.object(TrainData, "val_dataloader", never),
    ):
        assert measure([*WORDS, "steps=24", "lowest=1e-3", "highest=0.1", "out=here"]) == 0
    assert used == pytest.approx(rates(1e-3, 0.1, 24))  # instead of the recipe's schedule and warm-up
    (folder,) = (tmp_path / "here").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["lr_range.csv", "lr_range.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    rows = list(csv.DictReader((folder / "lr_range.csv").read_text().splitlines()))
    assert [float(row["learning_rate"]) for row in rows] == used
    losses = [float(row["loss"]) for row in rows]
    assert losses[0] == pytest.approx(math.log(10), rel=0.3) and losses[-1] < losses[0]  # the mean over its images
    with Image.open(folder / "lr_range.png") as picture:
        assert picture.width > 500
    assert "falls fastest at a rate of" in capsys.readouterr().out


def test_it_ends_before_the_classifier_stops_for_a_loss_that_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert measure([*WORDS, "steps=40", "lowest=1", "highest=1e30"]) == 0
    (table,) = tmp_path.rglob("lr_range.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows[-1]["mark"] == "diverged" and len(rows) < 40


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("lowest=1", "highest=0.1"), "lowest=1: must be below highest=0.1"),
        (("steps=1",), "steps=1: must be at least 10 (number of steps of the ramp)"),
        (("resume=auto",), "resume=auto: a range test begins anew; leave it out"),
        (("trainer=ddp",), "trainer.devices=2: a range test takes one device"),
        (("recipe.lr=1",), "lr: no such key; it is called recipe.learning_rate"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], line: str) -> None:
    with pytest.raises(UserError) as said:
        measure(words)
    assert line in str(said.value)
    assert compose("train", ["model=mlp"]).model.name == "mlp"
