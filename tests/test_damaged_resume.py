"""Resuming from a checkpoint whose state of training was damaged is one line, or goes on."""

from __future__ import annotations

import copy
import random
import shutil
from pathlib import Path
from typing import Any

import damage
import pytest
import torch
from in_process import call

from harness.training.recorder import Recorder


class CutError(Exception):
    """Ends a run as a kill would."""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cut off in its third epoch."""
    place = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        step = Recorder.on_train_batch_end

        def cut(self: Recorder, trainer: Any, *rest: Any) -> None:
            step(self, trainer, *rest)
            if trainer.global_step == 50:
                raise CutError

        patch.setattr(Recorder, "on_train_batch_end", cut)
        words = ("model=mlp", "model.hidden=[4]", "recipe.epochs=3", "recipe.warmup_epochs=0", "trainer.threads=1")
        with pytest.raises(CutError):
            call("train.py", *words, f"runs={place}")
    return next(place.glob("*/*"))


@pytest.mark.parametrize("start", [0, pytest.param(100, marks=pytest.mark.slow)])
def test_a_damaged_state_of_training_is_one_line_or_goes_on(
    start: int, interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = torch.load(interrupted / "checkpoints" / "last.ckpt", weights_only=True)
    refused = 0
    for number in range(start, start + (300 if start else 6)):
        draw = random.Random(number)
        run = tmp_path / str(number)
        shutil.copytree(interrupted, run)
        (run / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
        part = ("optimizer_states", "loops")[number % 2]
        damaged = {**whole, part: damage.values(draw, copy.deepcopy(whole[part]))}
        torch.save(damaged, run / "checkpoints" / "last.ckpt")
        code = call("train.py", f"resume={run}", "trainer.progress=false")
        said = capsys.readouterr().err
        assert code in (0, 2), number
        assert code == 0 or said.count("\n") == 1, said
        refused += code == 2
    assert refused >= (60 if start else 1)


def test_a_position_that_is_no_number_is_found_before_training(
    interrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(interrupted, run)
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] = {"a": 1}
    torch.save(content, run / "checkpoints" / "last.ckpt")
    assert call("train.py", f"resume={run}") == 2
    line = capsys.readouterr().err
    assert "batch_progress.current.ready is {'a': 1}" in line and "move it away, and the checkpoint before it" in line
