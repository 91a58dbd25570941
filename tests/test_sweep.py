"""A sweep ends in one table of its own jobs: by the folders that they made, wherever and whenever others write."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from conftest import ROOT
from in_process import call

from harness.run.files import FOLDERS_VARIABLE, announce, announced

FIXTURES = ROOT / "tests" / "fixtures" / "2026-11" / "runs" / "mlp-digits"
QUICK = ("trainer.accelerator=cpu", "trainer.threads=1")


def run_job(command: list[str], environment: dict[str, str]) -> int:
    """A job in this process, beside which another one writes its record into the same folder."""
    other = Path("runs") / "mlp-digits" / "of someone else"
    shutil.copytree(FIXTURES / "finished", other, dirs_exist_ok=True)
    (other / "result.json").touch()
    with patch.dict(os.environ, environment):
        return call(Path(command[1]).name, *command[2:])


@pytest.fixture(autouse=True)
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.command.sweep._run_job", run_job)


def rows(out: str) -> dict[str, str]:
    """Seeds of each row of the table on the terminal."""
    table = out.rpartition("jobs done\n")[2].partition("McNemar")[0]
    return dict(re.findall(r"│ \d +│ (.*?) +│ [\d,]+ +│ 360 +│ (\d) ", table))


def test_a_sweep_over_settings_is_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    swept = ("recipe.learning_rate=0.01,0.1", "seed=0,1")
    assert call("train.py", "-m", "model=mlp", "model.hidden=[8]", "recipe.epochs=2", "show=all", *QUICK, *swept) == 0
    out = capsys.readouterr().out
    assert "4 of 4 jobs done\n" in out
    assert rows(out) == {"mlp learning_rate=0.1": "2", "mlp learning_rate=0.01": "2"}
    tests = re.findall(r"│ 1 +│ 2 +│ (\d) ", out.partition("McNemar")[2])
    assert tests == ["0", "1"]


@pytest.mark.parametrize(
    ("swept", "labels"),
    [
        (("data.validation=180,100",), {"mlp validation=180", "mlp validation=100"}),
        (("trainer.max_epochs=1,null", "recipe.batch_size=64"), {"mlp max_epochs=1", "mlp"}),
    ],
    ids=("validation", "epochs"),  # a set has no order that two workers of a test run share
)
def test_a_sweep_over_anything(swept: tuple[str, ...], labels: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train.py", "-m", "model=mlp", "model.hidden=[8]", "recipe.epochs=2", *QUICK, *swept) == 0
    assert set(rows(capsys.readouterr().out)) == labels


def test_a_sweep_of_evaluations_and_of_runs_that_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(FIXTURES, "own")
    last, best = (f"own/finished/checkpoints/{name}.ckpt" for name in ("last", "best_on_validation"))
    assert call("eval.py", "-m", f"checkpoint={last},{best}", *QUICK) == 0
    assert set(rows(capsys.readouterr().out)) == {"mlp", "mlp epoch=best_on_validation"}
    assert call("train.py", "-m", "resume=own/killed", *QUICK) == 0
    assert rows(capsys.readouterr().out) == {"mlp": "1"}


def test_what_a_sweep_cannot_compare_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train.py", "-m", "model=mlp", "model.hidden=[8]", "trainer=smoke", "seed=0,1") == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"passed over: .*result.json: a run cut short by trainer.max_batches\n", out)) == 2
    assert out.endswith("2 of 2 jobs done\n")


def test_folders_are_told_whatever_they_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(tmp_path)  # no sweep listens
    file = tmp_path / "folders"
    assert announced(file) == []
    monkeypatch.setenv(FOLDERS_VARIABLE, str(file))
    folders = [tmp_path / "été, 2024", tmp_path / "two\nlines", tmp_path / os.fsdecode(b"\xff")]
    for folder in (*folders, folders[0]):
        announce(folder)
    assert announced(file) == list(map(str, folders))
