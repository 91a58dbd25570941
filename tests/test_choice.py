"""A sweep chooses by the validation split, and shows the test error of what it chose alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from conftest import ROOT
from in_process import call
from test_sweep import QUICK, run_job

from harness.comparison.choice import NOT_SHOWN, choose, show_choices, the_folder, validation_error
from harness.comparison.records import compare, find_records, read_record
from harness.errors import UserError
from harness.run.files import CHOOSING_VARIABLE

FINISHED = ROOT / "tests" / "fixtures" / "2026-11" / "runs" / "mlp-digits" / "finished"
MLP = ("model=mlp", "model.hidden=[8]", "recipe.epochs=2", *QUICK)


def run(place: Path, rate: float, seed: int, validation: float | None, test: float, images: int = 1257) -> Path:
    """The folder of a run of the fixture's, with other settings and errors."""
    folder = place / f"{rate}-{seed}"
    shutil.copytree(FINISHED, folder)
    content = json.loads((folder / "result.json").read_text())
    content["training"] |= {"seed": seed, "images": images, "fingerprint": f"of {images}"}
    content["training"]["recipe"]["learning_rate"] = rate
    content |= {"top1_error": test, "weights": {**content["weights"], "sha256": f"{rate} {seed}"}}
    (folder / "result.json").write_text(json.dumps(content))
    lines = (folder / "metrics.csv").read_text().splitlines()
    *others, last = [line.split(",") for line in lines]
    last[-2] = "" if validation is None else str(validation)
    others[-1][-2] = "1.0"  # an epoch before the one that is reported
    (folder / "metrics.csv").write_text("\n".join(map(",".join, [*others, last])) + "\n")
    return folder


def shown(place: Path, everything: bool, capsys: pytest.CaptureFixture[str]) -> tuple[str, str | None]:
    """What a sweep of the runs in a folder prints, and the folder that it chooses."""
    (choice,) = show_choices(compare(find_records([str(place)])[0]), everything)
    return capsys.readouterr().out, choice.folder


def lines_of(out: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if re.match(r"│ \d", line)]


def test_rows_are_chosen_by_the_mean_validation_error_over_their_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, better, worse in ((0, 6.0, 1.0), (1, 2.0, 9.0)):  # by one seed alone the other row would be the best
        run(tmp_path, 0.1, seed, better, 50.25)
        run(tmp_path, 0.2, seed, worse, 11.25)  # of which nobody hears
    out, folder = shown(tmp_path, False, capsys)
    first, second = lines_of(out)
    assert first[1].startswith("mlp learning_rate=0.1") and first[5] == "4.00 ± 2.83, the best" and "50.25" in first[6]
    assert second[5] == "5.00 ± 5.66" and second[6:8] == [NOT_SHOWN, NOT_SHOWN]
    assert "11.25" not in out and "McNemar" not in out
    assert folder == str(tmp_path / "0.1-0")  # the smallest seed, not the one with the lowest error
    out, folder = shown(tmp_path, True, capsys)
    assert "11.25" in out and "50.25" in out and "McNemar" in out and "4.00 ± 2.83, the best" in out
    assert folder == str(tmp_path / "0.1-0") and "chosen by the validation error: mlp learning_rate=0.1 " in out


def test_rows_without_a_validation_error_are_not_chosen_nor_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, 0.1, 0, 30.0, 50.25)
    run(tmp_path, 0.2, 0, None, 11.25)
    run(tmp_path, 0.3, 0, 20.0, 60.25)
    out, folder = shown(tmp_path, False, capsys)
    assert [line[5] for line in lines_of(out)] == ["20.00, the best", "30.00", "-"]
    assert folder == str(tmp_path / "0.3-0") and "11.25" not in out
    assert "among the 2 of 3 rows that have one: mlp learning_rate=0.3" in out


def test_equal_validation_errors_are_told_apart_by_the_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rate, test in ((0.2, 11.0), (0.1, 50.0)):
        run(tmp_path, rate, 0, 5.0, test)
    assert shown(tmp_path, False, capsys)[1] == str(tmp_path / "0.1-0")  # whatever their test errors are


@pytest.mark.parametrize(
    ("validation", "images", "why"),
    [
        ((None, None), (1257, 1257), "no validation split, so there is nothing to choose by: these are test errors"),
        ((5.0, 6.0), (1257, 1157), "validated on different images, so there is nothing to choose by"),
    ],
    ids=("none", "different"),
)
def test_where_there_is_nothing_to_choose_by_the_table_is_a_comparison(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    validation: Sequence[float | None],
    images: Sequence[int],
    why: str,
) -> None:
    for rate, test, error, count in zip((0.1, 0.2), (50.25, 11.25), validation, images, strict=True):
        run(tmp_path, rate, 0, error, test, count)
    out, folder = shown(tmp_path, False, capsys)
    assert folder is None and why in out and "50.25" in out and "11.25" in out and "McNemar" in out


def test_one_row_is_no_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        run(tmp_path, 0.1, seed, 5.0, 50.25)
    out, folder = shown(tmp_path, False, capsys)
    assert "50.25" in out and "chosen" not in out and lines_of(out)[0][5] == "5.00 ± 0.00"
    assert folder == str(tmp_path / "0.1-0")


def test_the_validation_error_is_that_of_the_reported_epoch(tmp_path: Path) -> None:
    folder = run(tmp_path, 0.1, 0, 5.0, 50.0)
    assert validation_error(read_record(folder / "result.json")) == 5.0
    content = json.loads((folder / "result.json").read_text())
    content["weights"]["epoch"] = 2  # as with a patience
    (folder / "result.json").write_text(json.dumps(content))
    assert validation_error(read_record(folder / "result.json")) == 1.0
    (folder / "metrics.csv").unlink()  # as beside an evaluation
    assert validation_error(read_record(folder / "result.json")) is None


def test_runs_on_several_data_sets_have_no_single_choice(tmp_path: Path) -> None:
    for name in ("digits", "other"):
        folder = run(tmp_path / name, 0.1, 0, 5.0, 50.0)
        content = json.loads((folder / "result.json").read_text())
        content["data"]["name"] = name
        (folder / "result.json").write_text(json.dumps(content))
    choices = [choose(comparison) for comparison in compare(find_records([str(tmp_path)])[0])]
    with pytest.raises(UserError, match="report on different images or by different protocols"):
        the_folder(choices)
    with pytest.raises(UserError, match="no run left a record"):
        the_folder([])


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.command.sweep._run_job", run_job)


@pytest.mark.slow
@pytest.mark.usefixtures("in_process")
def test_a_sweep_ends_with_the_chosen_folder_and_its_jobs_keep_their_test_errors_to_themselves(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call("train.py", "-m", "choose=validation", "recipe.learning_rate=0.01,0.1", *MLP) == 0
    out = capfd.readouterr().out
    chosen = out.splitlines()[-1]
    errors = {
        folder: float((folder / "metrics.csv").read_text().splitlines()[-1].split(",")[-2])
        for folder in Path("runs", "mlp-digits").iterdir()
        if folder.name != "of someone else"
    }
    assert len(errors) == 2 and Path(chosen) == min(errors, key=lambda folder: errors[folder])
    assert "test top-1" not in out and out.count("the test error is in the record") == 2
    assert all("test top-1" not in (folder / "log.txt").read_text() for folder in errors)
    hidden = json.loads((max(errors, key=lambda folder: errors[folder]) / "result.json").read_text())
    assert f"{hidden['top1_error']:.2f} (" not in out


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("seed=0,1",), False),  # no choice is made among seeds
        (("recipe.learning_rate=0.01,0.1", "show=all"), False),
        (("recipe.learning_rate=0.01,0.1", "data.validation=0"), False),
        (("recipe.learning_rate=0.01,0.1",), True),
    ],
)
def test_jobs_are_silent_about_the_test_split_only_where_a_choice_is_made(words: Sequence[str], said: bool) -> None:
    told = []

    def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
        told.append(CHOOSING_VARIABLE in environment)
        return 0

    with patch("harness.command.sweep._run_job", run):
        call("train.py", "-m", *words, "model=mlp")
    assert len(told) >= 2 and set(told) == {said}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("script", "words", "line"),
    [
        (
            "train.py",
            ("choose=validation", "data.validation=0", "seed=0,1"),
            "train.py: choose=validation: job data.validation=0 seed=0 has no validation split; set data.validation "
            "above 0; no job was started",
        ),
        (
            "train.py",
            ("choose=validation", "data=digits,mnist"),
            "train.py: choose=validation: chooses among runs on the same images, not on data=digits,mnist",
        ),
        ("train.py", ("choose=test", "seed=0,1"), "train.py: choose=test: no such choice; the nearest are: validation"),
        (
            "train.py",
            ("recipe.learning_rate=interval(0.1,1)",),
            "train.py: recipe.learning_rate=interval(0.1,1): python tools/tune.py searches an interval; a sweep takes",
        ),
        ("train.py", ("jobs=0", "seed=0,1"), "train.py: jobs=0: must be at least 1 (number of jobs of a sweep"),
        ("train.py", ("jobs=two", "seed=0,1"), "train.py: jobs: Value 'two' of type 'str' could not be converted"),
        ("eval.py", ("choose=validation", "run=a,b"), "eval.py: choose= and show= are for train.py: eval.py measures"),
    ],
)
def test_what_cannot_be_chosen_is_said_before_any_job(
    script: str, words: Sequence[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with patch("harness.command.sweep._run_job", pytest.fail), patch("harness.command.plan.check"):
        assert call(script, "-m", *words) == 2
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("word", ["jobs=2", "choose=validation", "show=all"])
def test_the_words_of_a_sweep_belong_to_a_sweep(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train.py", word) == 2
    assert capsys.readouterr().err == f"train.py: {word}: is for a sweep; add -m\n"
    assert call("train.py", "--help", word.partition("=")[0]) == 0
    assert f"    {word.partition('=')[0]}=" in capsys.readouterr().out
