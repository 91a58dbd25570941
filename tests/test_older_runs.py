"""What earlier versions wrote goes on, is evaluated and is compared; see `tests/fixtures/README.md`."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from in_process import call, only

from harness.comparison.records import compare, find_records
from harness.evaluation.schema import PREDICTIONS_COLUMNS

RUNS = sorted((ROOT / "tests" / "fixtures").glob("*/runs"))
COUNTS = ("seen", "correct_top1", "correct_top5")
CPU = ("trainer.accelerator=cpu", "trainer.threads=1")


@pytest.fixture(params=RUNS, ids=lambda runs: runs.parent.name)
def older(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the run folders of one version, below `runs/` of the working folder."""
    shutil.copytree(request.param, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "mlp-digits"


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def assert_same_counts(one: Path, other: Path) -> None:
    assert [record(one)[key] for key in COUNTS] == [record(other)[key] for key in COUNTS]


@pytest.mark.parametrize("run", ["killed", "auto"])
def test_a_killed_run_goes_on_to_the_same_errors(run: str, older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"resume={older / run}"]
    if run == "auto":
        settings = ["resume=auto", "model=mlp", "model.hidden=[4]", "recipe.epochs=3", "recipe.batch_size=32"]
        settings += ["recipe.learning_rate=0.02", "recipe.crop_padding=0", "seed=1", "recipe.warmup_epochs=1"]
    assert call("train.py", *settings, *CPU) == 0
    assert capsys.readouterr().out.startswith("resuming ")
    assert_same_counts(older / "killed", older / "finished")
    assert record(older / "killed")["best_on_validation"]["epoch"] == 2


@pytest.mark.parametrize("run", ["finished", "patience"])
def test_an_evaluation_repeats_what_a_run_reported(run: str, older: Path) -> None:
    assert call("eval.py", f"run={older / run}", *CPU, "runs=again") == 0
    again = only(only(Path("again")))
    assert_same_counts(again, older / run)
    assert record(again)["weights"]["sha256"] == record(older / run)["weights"]["sha256"]
    assert record(again)["weights"]["epoch"] == record(older / run)["weights"]["epoch"]


def test_records_are_compared_and_the_evaluation_is_its_runs(older: Path) -> None:
    records, passed_over = find_records([str(older)])
    assert not passed_over and len(records) == 2
    (comparison,) = compare(records)
    assert [row.top1_error for row in comparison.rows] == [45.0, pytest.approx(100 * 181 / 360)]
    assert [row.seeds for row in comparison.rows] == [(1,), (1,)]
    (test,) = comparison.tests
    assert test.seed == 1 and test.only_first - test.only_second == 181 - 162


def committed() -> list[Path]:
    """The committed records of older versions, whose predictions are not."""
    results = ROOT / "benchmarks" / "results"
    return sorted(path for place in ("errors", "weights") for path in (results / place).rglob("*.json"))


def test_committed_records_are_compared(tmp_path: Path) -> None:
    """With predictions beside them that have as many right: those of 70,000 images are too large to be kept."""
    assert len(committed()) == 16
    for number, path in enumerate(committed()):
        folder, content = tmp_path / str(number), json.loads(path.read_text())
        folder.mkdir()
        wrong = content["seen"] - content["correct_top1"]
        rows = [[f"i/{i}", 0, int(i < wrong), *[""] * 9] for i in range(content["seen"])]
        with (folder / "predictions.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([PREDICTIONS_COLUMNS, *rows])
        content["predictions"]["sha256"] = hashlib.sha256((folder / "predictions.csv").read_bytes()).hexdigest()
        (folder / "result.json").write_text(json.dumps(content))
    records, passed_over = find_records([str(tmp_path)])
    assert not passed_over and len(records) == 16
    comparisons = {comparison.data: comparison for comparison in compare(records)}
    shown = {name: [f"{row.top1_error:.2f}" for row in c.rows] for name, c in comparisons.items()}
    assert shown == {"digits": ["0.83"], "mnist": ["0.61", "0.95"], "parquet": ["18.97"]}
    assert [row.seeds for row in comparisons["mnist"].rows] == [(0, 1, 2, 3, 4)] * 2
    assert len(comparisons["mnist"].tests) == 5
