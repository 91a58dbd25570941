"""A run as a user sees it: its folder, its record, and the evaluation of what it left."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
import torch
from conftest import run_script
from filelock import FileLock
from omegaconf import OmegaConf

from harness.evaluation.schema import PREDICTIONS_COLUMNS
from harness.run.checkpoint import read_checkpoint, weights_sha256
from harness.run.files import new_folder

FILES = {
    "config.yaml",
    "environment.json",
    "metrics.csv",
    "timing.csv",
    "curves.png",
    "checkpoints",
    "result.json",
    "predictions.csv",
    "predictions_readable.csv",
    "evaluation_timing.json",
    "log.txt",
}


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_a_run_leaves_one_folder_with_everything_in_it(trained_run: Path) -> None:
    assert {path.name for path in trained_run.iterdir() if not path.name.startswith(".")} == FILES
    kept = {path.name for path in (trained_run / "checkpoints").iterdir()}
    assert kept == {"last.ckpt", "previous.ckpt", "best_on_validation.ckpt"}
    config = OmegaConf.to_container(OmegaConf.load(trained_run / "config.yaml"))
    assert isinstance(config, dict)
    assert config["model"] == {"name": "lenet5"} and config["recipe"]["name"] == "sgd_cosine"
    assert "$" not in (trained_run / "config.yaml").read_text()
    environment = json.loads((trained_run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0] or "+" in torch.__version__
    assert environment["threads"] >= 1 and "git_commit" in environment and "git_dirty" in environment
    assert (trained_run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_record_agrees_with_the_predictions_and_the_weights(trained_run: Path) -> None:
    result = json.loads((trained_run / "result.json").read_text())
    text = (trained_run / "predictions.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == PREDICTIONS_COLUMNS
    assert (result["schema"], result["version"], result["predictions"]["version"]) == ("cnn-zoo result", 5, 1)
    assert result["predictions"]["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert len(rows) == len({row["image"] for row in rows}) == result["seen"] == result["data"]["images"] == 360
    top1 = sum(row["label"] == row["class_1"] for row in rows)
    top5 = sum(row["label"] in [row[f"class_{k}"] for k in range(1, 6)] for row in rows)
    assert (top1, top5) == (result["correct_top1"], result["correct_top5"])
    assert result["top1_error"] == pytest.approx(100 * (360 - top1) / 360)
    low, high = result["top1_error_interval_95"]
    assert low < result["top1_error"] < high
    for row in rows:
        probabilities = [float(row[f"probability_{k}"]) for k in range(1, 6)]
        assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.00001
    weights = read_checkpoint(trained_run / "checkpoints" / "last.ckpt").state_dict
    moment = {"epoch": 3, "step": 60, "file": "last.ckpt"}
    assert result["weights"] == {"source": "trained here", **moment, "sha256": weights_sha256(weights)}


def test_metrics_hold_each_epoch_and_no_times(trained_run: Path) -> None:
    with (trained_run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"] and not any("second" in column for column in rows[0])
    assert all(row["train_images"] == "1257" and row["validation_images"] == "180" for row in rows)
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    with (trained_run / "timing.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_eval_of_the_run_reports_the_same(trained_run: Path, tmp_path: Path) -> None:
    done = run_script("eval.py", f"run={trained_run}", "runs=evaluated", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = only(tmp_path / "evaluated" / "lenet5-digits")
    assert folder.name.endswith("-eval")
    assert (folder / "predictions.csv").read_bytes() == (trained_run / "predictions.csv").read_bytes()
    assert (folder / "result.json").read_bytes() == (trained_run / "result.json").read_bytes()
    assert {"result.json", "predictions.csv", "config.yaml", "environment.json", "log.txt"} <= {
        path.name for path in folder.iterdir()
    }


def test_equal_commands_give_equal_records(trained_run: Path, tmp_path: Path) -> None:
    done = run_script("train.py", "recipe.epochs=3", "recipe.warmup_epochs=1", f"runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    again = only(tmp_path / "lenet5-digits")
    for file in ("metrics.csv", "result.json", "predictions.csv"):
        assert (again / file).read_bytes() == (trained_run / file).read_bytes()


def test_output_is_plain_lines_without_tips_or_warnings(tmp_path: Path) -> None:
    done = run_script("train.py", "model=mlp", "model.hidden=[20,10]", "trainer=smoke", "runs=r", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    folder = only(tmp_path / "r" / "mlp-digits")
    assert (folder / "log.txt").read_text().splitlines() == lines
    assert lines[0] == "training mlp on digits: recipe=sgd_cosine, 2 epochs, batch 64, seed 0; a new folder in r"
    assert lines[1] == "mlp: 20,820 parameters, images of 1 x 32 x 32; steps of an epoch: 4"
    assert lines[3].startswith("epoch 1/2  loss ") and lines[-6].startswith("test top-1 error ")
    assert lines[-2].startswith("worst classes: ") and lines[-1].startswith(
        "why it is wrong: python tools/errors.py r/"
    )
    assert "\r" not in done.stdout and "\x1b" not in done.stdout
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt").trained.options == {"hidden": [20, 10]}


def test_a_folder_is_never_reused(tmp_path: Path) -> None:
    wanted = tmp_path / "runs" / "2026-01-01_00-00-00"
    names = [new_folder(wanted).name for _ in range(3)]
    assert names == ["2026-01-01_00-00-00", "2026-01-01_00-00-00_2", "2026-01-01_00-00-00_3"]


def test_the_lock_is_free_after_the_run(trained_run: Path) -> None:
    with FileLock(trained_run / ".lock", timeout=0):
        pass


@pytest.mark.slow
def test_a_sweep_runs_every_job_in_a_folder_of_its_own_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    done = run_script(
        "train.py",
        "-m",
        "model=mlp",
        "recipe.learning_rate=1e30,0.1",
        "seed=0,1",
        "trainer=smoke",
        "runs=a b",
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 of 4 jobs done"
    assert done.stderr.count("failed: ") == 2
    folders = list((tmp_path / "a b" / "mlp-digits").iterdir())
    assert len(folders) == 4
    assert sum((folder / "result.json").exists() for folder in folders) == 2
    (lost, _) = (folder for folder in folders if not (folder / "result.json").exists())
    assert "the loss is not a finite number at step" in (lost / "log.txt").read_text()


def test_eval_refuses_data_of_other_classes(trained_run: Path, tmp_path: Path) -> None:
    done = run_script("eval.py", f"run={trained_run}", "data=fashion_mnist", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "data=fashion_mnist: its classes are not those of" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_mnist_trains_and_crosses_over_to_digits(mnist_root: Path, tmp_path: Path) -> None:
    done = run_script(
        "train.py", "model=lenet5", "data=mnist", f"data.root={mnist_root}", "trainer.max_epochs=1", f"runs={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    run = only(tmp_path / "lenet5-mnist")
    result = json.loads((run / "result.json").read_text())
    assert result["seen"] == 10_000 and result["top1_error"] < 5
    done = run_script("eval.py", f"run={run}", "data=digits", f"runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    crossed = json.loads((only(tmp_path / "lenet5-digits") / "result.json").read_text())
    assert crossed["trained_on"] == "mnist" and crossed["data"]["name"] == "digits"
    assert crossed["preprocessing"]["mean"] == [0.1307]
