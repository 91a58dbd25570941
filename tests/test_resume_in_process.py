"""A run that is cut off and goes on equals one that never was, in this process: quick, and at any moment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from test_finetune import Run, Small, changed, copies
from test_training import RECIPE
from torch import nn

from harness.run.checkpoint import BEST, CHECKPOINTS, LAST, read_checkpoint, read_content

PLAIN = dataclasses.replace(RECIPE, epochs=4, weight_decay=0.01, nesterov=True, schedule="cosine", warmup_epochs=1)


class WithDropout(Small):
    """Draws random numbers in each step."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__()
        self.conv3_x.append(nn.Dropout(0.3))


class CutInValidation(L.Callback):
    """Ends a run before or after its n-th validation, when its checkpoint is not written yet."""

    def __init__(self, moment: str, number: int) -> None:
        self.moment = moment
        self.left = number

    def _cut(self, moment: str) -> None:
        self.left -= moment == self.moment
        if moment == self.moment and self.left == 0:
            raise InterruptedError

    def on_validation_start(self, *_: Any) -> None:
        self._cut("before")

    def on_validation_end(self, *_: Any) -> None:
        self._cut("after")


def run(folder: Path, **options: Any) -> Run:
    torch.rand(7)  # whatever was drawn before
    return Run(folder, PLAIN, network=WithDropout(), **options)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("unbroken"))


def assert_equal(broken: Run, unbroken: Run) -> None:
    assert broken.classifier.history == unbroken.classifier.history
    assert not changed(copies(unbroken.network), broken.network)
    assert (broken.folder / "metrics.csv").read_bytes() == (unbroken.folder / "metrics.csv").read_bytes()
    for file in (LAST, BEST):
        mine, whole = (read_checkpoint(folder / CHECKPOINTS / file) for folder in (broken.folder, unbroken.folder))
        assert (mine.epoch, mine.step) == (whole.epoch, whole.step)
        assert all(torch.equal(mine.state_dict[key], value) for key, value in whole.state_dict.items())


@pytest.mark.parametrize("steps", [(3,), (5,), (7, 8), (15,), (3, 9, 14, 19)], ids=str)
@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_cut_off_before_a_step(steps: tuple[int, ...], checkpoint_every: int, unbroken: Run, tmp_path: Path) -> None:
    for step in steps:
        run(tmp_path, cut_at=step, checkpoint_every=checkpoint_every)
    assert_equal(run(tmp_path), unbroken)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_cut_off_around_a_validation(
    moment: str, epoch: int, checkpoint_every: int, unbroken: Run, tmp_path: Path
) -> None:
    callbacks = (CutInValidation(moment, epoch),)
    run(tmp_path, cut_at=5 * epoch, checkpoint_every=checkpoint_every, callbacks=callbacks)
    assert_equal(run(tmp_path), unbroken)


@pytest.mark.parametrize("missing", ["metrics.csv", "curves.png", BEST, "timing.csv"])
def test_what_a_kill_behind_the_last_checkpoint_prevented_is_done_when_nothing_is_left_to_train(
    missing: str, tmp_path: Path
) -> None:
    """The run reports its best epoch; that is its last one, whose checkpoint may not have been copied yet."""
    patient = dataclasses.replace(PLAIN, patience=4)
    whole = Run(tmp_path, patient, network=WithDropout())
    best = whole.recorder.reported
    files = {name: (tmp_path / name).read_bytes() for name in ("metrics.csv", "timing.csv")}
    kept = tmp_path / CHECKPOINTS / BEST
    if missing == BEST:
        last = read_content(tmp_path / CHECKPOINTS / LAST)
        for epoch in last["cnn_zoo_progress"]["history"][:-1]:
            epoch["validation"]["correct_top1"] = 0  # now the last is the best
        torch.save(last, tmp_path / CHECKPOINTS / LAST)
        best = 4
        assert read_checkpoint(kept).epoch < 4, "this test needs another best epoch before"
    elif missing == "curves.png":
        (tmp_path / missing).unlink()
    else:
        lines = files[missing].splitlines(keepends=True)
        (tmp_path / missing).write_bytes(
            b"".join(lines[:-1] if missing == "metrics.csv" else [*lines, b"5,1,1,1,1,1\n"])
        )
    again = Run(tmp_path, patient, network=WithDropout())
    assert again.recorder.reported == best == read_checkpoint(kept).epoch
    assert not changed(copies(again.network), again.network)
    assert all(
        torch.equal(value, again.network.state_dict()[key]) for key, value in read_checkpoint(kept).state_dict.items()
    )
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    if missing != BEST:
        assert {name: (tmp_path / name).read_bytes() for name in files} == files
