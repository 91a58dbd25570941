"""A study: what it proposes, when it gives a trial up, that it goes on where it was cut off, and what it ends in."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import pytest
from conftest import ROOT, run_script

from harness.command import study as studies
from harness.command import tune
from harness.command.study import Interval, Trial, divided, propose, pruned_at, read_trials
from harness.comparison.study_chart import Axis, draw_study
from harness.config.commands import TrainConfig
from harness.config.compose import compose
from harness.errors import StoppedError, UserError
from harness.run.files import FOLDERS_VARIABLE

pytest.importorskip("optuna", reason="Optuna is not installed: cnn-zoo[tune]")

FINISHED = ROOT / "tests" / "fixtures" / "2026-11" / "runs" / "mlp-digits" / "finished"
RATE, DECAY = "recipe.learning_rate=interval(0.001,1)", "recipe.weight_decay=0,1e-4"
FIFTEEN = (0.5, 0.01, 0.9, 0.1, 0.002, 0.3, 0.12, 0.05, 0.7, 0.08, 0.005, 0.2, 0.001, 0.06, 0.4)  # rates
MLP = ("model=mlp", "model.hidden=[8]", "trainer.max_epochs=8")


def error_of(rate: float, epoch: int) -> float:
    """What a made-up training has: the best rate is 0.1, and each epoch is better than the one before."""
    return round(100 * min(1.0, abs(rate - 0.1) + 0.05) / math.sqrt(epoch), 4)


class Trainings:
    """Stands for the processes of trials: each leaves the folder of a run, or is killed after some epochs."""

    def __init__(self, killed_in: int | None = None, fails: Sequence[int] = ()) -> None:
        self.commands: list[list[str]] = []
        self.killed_in, self.fails = killed_in, fails

    def __call__(
        self, command: Sequence[str], environment: Mapping[str, str], output: Path, bad: Callable[[], bool], advice: str
    ) -> int:
        words = list(command)[2:]
        self.commands.append(words)
        number = len(self.commands) - 1
        listed = Path(environment[FOLDERS_VARIABLE])
        given = dict(word.split("=", 1) for word in words)
        if number in self.fails:
            output.write_text("train.py: the loss is not a finite number\n")
            return 2
        if "resume" in given:
            folder = Path(given["resume"].strip("'"))
            rate = float((folder / "rate").read_text())
        else:
            rate = float(given["recipe.learning_rate"])
            folder = Path(given["runs"].strip("'")) / f"run-{listed.name}"
            shutil.copytree(FINISHED, folder)
            (folder / "result.json").rename(folder / "later.json")
            (folder / "rate").write_text(str(rate))
            listed.write_text(json.dumps(str(folder)) + "\n")
        killed = number == self.killed_in
        for epoch in range(1, (3 if killed else 8) + 1):
            lines = ["epoch,validation_top1_error", *(f"{e},{error_of(rate, e)}" for e in range(1, epoch + 1))]
            (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
            if bad():
                return 143
        if killed:
            raise StoppedError(f"stopped by SIGTERM; {advice}", 143)
        content = json.loads((folder / "later.json").read_text())
        content["weights"]["epoch"] = 8
        (folder / "result.json").write_text(json.dumps(content))
        return 0


def search(words: Sequence[str], trainings: Trainings | None = None) -> Trainings:
    trainings = trainings or Trainings()
    with patch("harness.command.tune._run_trial", trainings), patch("harness.command.tune.draw_study") as drawn:
        assert tune.tune(words) == 0
    assert drawn.call_count > len(trainings.commands)  # also while the study runs
    return trainings


def only_study() -> Path:
    (folder,) = Path("studies").iterdir()
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "folder"} for row in csv.DictReader(file)]


@functools.cache
def composed(command: Literal["train"], words: tuple[str, ...]) -> TrainConfig:
    return compose(command, words)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "compose", lambda command, words: composed(command, tuple(words)))
    monkeypatch.setattr(sys, "argv", [str(ROOT / "tools" / "tune.py")])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, str(ROOT / "tools" / "tune.py")])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("recipe.learning_rate=interval(0.001,1)", Interval(0.001, 1, log=True, whole=False)),
        ("recipe.learning_rate=interval(0.2,1)", Interval(0.2, 1, log=False, whole=False)),
        ("recipe.learning_rate=tag(log,interval(0.2,1))", Interval(0.2, 1, log=True, whole=False)),
        ("recipe.learning_rate=tag(linear,interval(0.001,1))", Interval(0.001, 1, log=False, whole=False)),
        ("recipe.momentum=interval(0,0.99)", Interval(0, 0.99, log=False, whole=False)),
        ("recipe.batch_size=interval(16,256)", Interval(16, 256, log=True, whole=True)),
        ("recipe.weight_decay=0,1e-4", ("0", "0.0001")),
        ("model=lenet5,mlp", ("lenet5", "mlp")),
        ("recipe.epochs=range(2,5)", ("2", "3", "4")),
    ],
)
def test_the_grammar_of_sweeps_says_what_is_searched(word: str, expected: Any) -> None:
    space, fixed = divided([word, "data=digits"])
    ((key, found),) = space.items()
    assert fixed == ["data=digits"]
    as_numbers = key != "model" and not isinstance(found, Interval)
    assert found == expected or (as_numbers and [*map(float, found)] == [*map(float, expected)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("model=mlp",), "nothing to search: write a setting as 'recipe.learning_rate=interval(0.001,1)'"),
        (("seed=0,1", RATE), "seed: a study compares settings at one seed; give one"),
        (("recipe.learning_rate=interval(1,0.001)",), "the first end must be below the second"),
        (("recipe.learning_rate=tag(log,interval(0,1))",), "both ends must be above 0 to search by ratios"),
        (("recipe.learning_rate=tag(slow,interval(0,1))",), "an interval has the tags log and linear alone"),
        (("recipe.loss=interval(0,1)",), "recipe.loss is no number; write its values one by one"),
        ((RATE, "data.validation=0"), "there is no validation split; set data.validation above 0"),
        ((RATE, "recipe.weight_decay=0,-1"), "recipe.weight_decay=-1.0: must be at least 0"),
        (("recipe.momentum=interval(0.5,1)",), "recipe.momentum=1.0: must be at least 0 and below 1"),
        ((RATE, "recipe.lr=1"), "lr: no such key; it is called recipe.learning_rate"),
        ((RATE, "runs=elsewhere"), "a study has its runs in its own folder"),
        ((RATE, "trials=0"), "trials=0: must be at least 1"),
        (("study=elsewhere",), "study=elsewhere: not the folder of a study"),
    ],
)
def test_a_mistake_is_one_line_before_the_first_trial(words: Sequence[str], line: str) -> None:
    with patch("harness.command.tune._run_trial", pytest.fail), pytest.raises(UserError) as said:
        tune.tune(words)
    assert line in str(said.value) and "\n" not in str(said.value)
    assert not Path("studies").exists()


def test_without_optuna_the_line_says_how_to_get_it() -> None:
    absent = patch("harness.command.tune.find_spec", lambda name: None)
    with absent, pytest.raises(UserError, match=r"a study needs Optuna: pip install 'cnn-zoo\[tune\]'"):
        tune.tune([RATE])


def ended(number: int, rate: float, state: str = studies.COMPLETE, epochs: int = 8) -> Trial:
    steps = [error_of(rate, epoch) for epoch in range(1, epochs + 1)]
    return Trial(number, {"recipe.learning_rate": rate}, state, "x", steps[-1] if state == "complete" else None, steps)


def test_what_is_proposed_is_a_function_of_the_seed_and_of_what_came_before() -> None:
    space, _ = divided([RATE])
    trials = [ended(number, rate) for number, rate in enumerate(FIFTEEN)]
    first = propose(space, trials, 0)
    assert first.number == 15 and propose(space, trials, 0) == first
    assert propose(space, trials, 1) != first and propose(space, trials[:14], 1) != first
    drawn = [float(propose(space, trials[:0], seed).asked["recipe.learning_rate"]) for seed in range(40)]
    assert 0.001 <= min(drawn) < 0.01 < 0.1 < max(drawn) <= 1  # by ratios: a third of them in each decade
    assert all(len(f"{rate:.3e}".rstrip("0")) <= 9 and float(f"{rate:.4g}") == rate for rate in drawn)
    later = [propose(space, trials, seed).asked["recipe.learning_rate"] for seed in range(40)]
    near, far = (sum(0.012 < rate < 0.2 for rate in rates) for rates in (later, drawn))
    assert near > 1.5 * far  # after good ones were found, near them


def test_a_trial_is_given_up_above_the_median_of_the_complete_ones() -> None:
    space, _ = divided([RATE])
    complete = [ended(number, rate) for number, rate in enumerate((0.1, 0.15, 0.2, 0.3, 0.4))]
    good, bad = ([error_of(rate, epoch) for epoch in range(1, 9)] for rate in (0.18, 0.9))
    assert pruned_at(space, complete, good, 8) is None
    assert pruned_at(space, complete, bad, 8) == 2  # the first epoch after the first quarter
    assert pruned_at(space, complete, bad[:1], 8) is None
    assert pruned_at(space, complete[:4], bad, 8) is None  # fewer than five
    assert pruned_at(space, [*complete[:4], ended(4, 0.4, studies.FAILED)], bad, 8) is None
    assert pruned_at(space, complete, [*good[:7], 99.0], 8) is None  # its last epoch is not stopped


def test_a_study_ends_in_the_best_settings_and_their_folder(capsys: pytest.CaptureFixture[str]) -> None:
    trainings = search(["trials=9", RATE, DECAY, *MLP], Trainings(fails=(3,)))
    folder, out = only_study(), capsys.readouterr().out.splitlines()
    table = rows(folder)
    states = [row["state"] for row in table]
    assert len(table) == len(trainings.commands) == 9 and states[3] == "failed" and states[:3] == ["complete"] * 3
    assert "pruned" in states and states.count("complete") >= 5
    complete = [row for row in table if row["state"] == "complete"]
    best = min(complete, key=lambda row: float(row["validation_top1_error"]))
    assert (
        out[-2]
        == f"recipe.learning_rate={best['recipe.learning_rate']} recipe.weight_decay={best['recipe.weight_decay']}"
    )
    assert Path(out[-1]).is_relative_to(folder / "runs") and (Path(out[-1]) / "result.json").exists()
    assert float((Path(out[-1]) / "rate").read_text()) == float(best["recipe.learning_rate"])
    assert any("failed: train.py: the loss is not a finite number" in line for line in out)
    assert sum("test" in line for line in out) == 1 and "its test top-1 error is " in out[-3]
    assert all(command[:3] == list(MLP) and command[-1].startswith("runs=") for command in trainings.commands)


def test_a_study_that_was_cut_off_ends_like_one_that_never_was(tmp_path: Path, monkeypatch: Any) -> None:
    words = ["trials=8", RATE, DECAY, *MLP]
    search(words)
    whole = rows(only_study())
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pytest.raises(StoppedError, match=r"go on with: python tools/tune.py study='studies/"):
        search(words, Trainings(killed_in=4))
    folder = only_study()
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"number": 5, "ask')  # killed while it wrote
    (unfinished,) = [trial for trial in read_trials(folder) if trial.state is None]
    trainings = search([f"study={folder}"])
    unfinished_run = f"{folder}/runs/run-.folder_{unfinished.number + 1}"
    assert trainings.commands[0] == [f"resume='{unfinished_run}'", "trainer.max_epochs=8"]
    assert rows(folder) == whole and len(trainings.commands) == 4
    assert not search([f"study={folder}"]).commands  # it is done
    more = search([f"study={folder}", "trials=9", RATE, DECAY, *MLP])
    assert len(more.commands) == 1 and rows(folder)[:8] == whole
    with pytest.raises(UserError, match=r"its words are .*; they stay: leave the others out"):
        search([f"study={folder}", RATE])


def test_a_trial_that_had_ended_before_it_was_noted_is_not_run_again() -> None:
    search(["trials=2", RATE, *MLP])
    folder = only_study()
    before, lines = rows(folder), (folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (folder / "trials.jsonl").write_text("".join(lines[:-1]))
    assert not search([f"study={folder}"]).commands and rows(folder) == before
    (folder / "trials.jsonl").write_text("".join(lines[:-1]) + "[1]\n")
    with pytest.raises(UserError, match=r"trials.jsonl: line 4 is damaged"):
        search([f"study={folder}"])


def test_a_quick_trial_is_given_up_at_the_same_epoch_as_a_watched_one() -> None:
    """The rule decides, not how often somebody looks: otherwise two equal studies would propose other trials."""
    words = ["trials=8", RATE, *MLP]
    search(words)
    watched = rows(only_study())
    shutil.rmtree("studies")
    blind = Trainings()

    def unseen(*arguments: Any) -> int:
        command, environment, output, _, advice = arguments
        return blind(command, environment, output, bool, advice)

    with patch("harness.command.tune._run_trial", unseen), patch("harness.command.tune.draw_study"):
        assert tune.tune(words) == 0
    assert rows(only_study()) == watched and any(row["state"] == "pruned" for row in watched)


def test_the_picture_of_a_study_has_a_point_for_each_trial(tmp_path: Path) -> None:
    axes = [Axis("recipe.learning_rate", [0.1, 0.01, 1.0], True), Axis("model", ["mlp", "lenet5", "mlp"], False)]
    with patch("matplotlib.figure.Figure.savefig", autospec=True) as saved:
        draw_study(tmp_path / "history.png", [5.0, None, 3.0], [None, 40.0, None], axes)
    figure = saved.call_args.args[0]
    top, rates, models = figure.axes
    points = {line.get_label(): line.get_xydata().tolist() for line in top.lines}
    assert points["complete"] == [[1, 5], [3, 3]] and points["given up"] == [[2, 40]]
    assert points["best so far"] == [[1, 5], [3, 3], [3, 3]]
    assert rates.get_xscale() == "log" and [label.get_text() for label in models.get_xticklabels()] == ["mlp", "lenet5"]
    assert models.lines[0].get_xydata().tolist() == [[0, 5], [0, 3]]
    draw_study(
        tmp_path / "history.png", [None], [None], [Axis("recipe.learning_rate", [0.1], True)]
    )  # of which the only trial failed


def test_a_study_without_a_complete_trial_says_where_to_look() -> None:
    with pytest.raises(UserError, match=r"no trial was complete; studies/.*/trial_1.txt says what the first printed"):
        search(["trials=2", RATE, *MLP], Trainings(fails=(0, 1)))


def test_a_process_is_stopped_once_it_is_bad_and_what_it_prints_is_kept(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); print('x', flush=True); time.sleep(60)"
    )
    output = tmp_path / "output"

    def bad() -> bool:
        return output.read_text() == "x\n"

    assert tune._run_trial((sys.executable, "-c", code), {}, output, bad, "") == 143
    assert output.read_text() == "x\n"
    assert tune._run_trial((sys.executable, "-c", "raise SystemExit(3)"), {}, output, lambda: False, "") == 3


@pytest.mark.slow
def test_a_real_study_goes_on_after_ctrl_c_and_prunes(tmp_path: Path) -> None:
    words = [RATE, *MLP[:2], "recipe.epochs=12", "trainer.accelerator=cpu", "trainer.threads=1", "trials=9"]
    environment = {**os.environ, "CNN_ZOO_PARENT": ""}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "tune.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("trial 3 of 9"):
            break
    time.sleep(4)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    folder = only_study()
    assert re.search(r"go on with: python tools/tune.py study='studies/.*'\n$", errors), errors
    done = run_script("tools/tune.py", f"study={folder}", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    table = rows(folder)
    assert [int(row["trial"]) for row in table] == [*range(9)] and {row["state"] for row in table} <= {
        "complete",
        "pruned",
    }
    chosen = tmp_path / done.stdout.splitlines()[-1]
    assert json.loads((chosen / "result.json").read_text())["model"]["name"] == "mlp"
    assert "test top-1" not in (chosen / "log.txt").read_text()
