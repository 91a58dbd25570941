"""An experiment is a row of the results: one word that chooses network, data, recipe and seeds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from in_process import call
from test_folder_data import classes

from harness.command.plan import checked_jobs
from harness.config.compose import compose
from harness.config.files import choices, describe, own_sweep

NAMES = choices("experiment")


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_its_command_and_all_its_jobs_are_valid(name: str, tmp_path: Path) -> None:
    swept = own_sweep([f"experiment={name}"])
    assert len({*swept["seed"].split(",")}) >= 3
    words = [f"experiment={name}", "seed=0"]  # a seed makes no job invalid
    if compose("train", words).data.name == "folder":
        words.append(f"data.root={classes(tmp_path / 'photos', 4)}")
    jobs = checked_jobs("train", words, None)
    assert (
        len({job.words for job in jobs})
        == len(jobs)
        == math.prod(len(values.split(",")) for key, values in swept.items() if key != "seed")
    )
    assert len(describe("experiment", name)) < 90


def test_an_experiment_overrides_what_its_data_choose() -> None:
    config = compose("train", ["experiment=lenet5_1998_mnist"])
    assert (config.model.name, config.data.name, config.recipe.name) == ("lenet5_1998", "mnist", "lecun_1998")
    assert (config.data.validation, config.recipe.loss, config.recipe.epochs) == (0, "lecun_map", 20)
    white, black = ((value - config.data.mean[0]) / config.data.std[0] for value in (0, 1))
    assert (white, black) == pytest.approx((-0.1, 1.175), abs=1e-6)  # [LeCun 1998, section II-A]


def test_the_users_words_come_before_the_experiments() -> None:
    words = ["experiment=lenet5_1998_mnist", "recipe.epochs=10", "data.root=elsewhere", "seed=3"]
    config = compose("train", words)
    assert (config.recipe.epochs, config.data.root, config.seed, config.overrides[0]) == (10, "elsewhere", 3, words[0])
    jobs = checked_jobs("train", [*words[:1], "seed=5,6"], None)
    assert [job.words for job in jobs] == [(words[0], "seed=5"), (words[0], "seed=6")]
    assert len(checked_jobs("train", [*words[:1], "recipe.learning_rate=0.01,0.1"], None)) == 10  # of five seeds


def test_one_run_of_an_experiment_says_that_there_are_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.command.cli._run", lambda config: None)
    assert call("train.py", "experiment=lenet5_1998_mnist") == 0
    assert "one run of this experiment; -m runs all: seed=0,1,2,3,4" in capsys.readouterr().out
    assert call("train.py", "experiment=lenet5_1998_mnist", "seed=1") == 0
    assert "-m runs all" not in capsys.readouterr().out


def test_an_experiment_is_for_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("eval.py", "run=x", "experiment=lenet5_1998_mnist") == 2
    assert capsys.readouterr().err == "eval.py: experiment=lenet5_1998_mnist: is for train.py; leave it out\n"
    assert call("train.py", "experiment=lenet5_1998") == 2
    assert "experiment=lenet5_1998: no such choice; the nearest are: lenet5_1998_mnist" in capsys.readouterr().err
