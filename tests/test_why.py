"""`compare.py why=A,B`: what differs, when runs part, and the images on which they disagree."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from in_process import call, only

from harness.comparison.why import why
from harness.errors import UserError

QUICK = ("model=mlp", "recipe.epochs=2", "recipe.warmup_epochs=0", "trainer.threads=1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three short runs: two equal ones, and one at another rate in its second epoch."""
    place = tmp_path_factory.mktemp("runs")
    step = ("recipe.schedule=step", "recipe.milestones=[1]")
    for name, more in (("one", step), ("same", step), ("other", (*step, "recipe.gamma=0.5"))):
        assert call("train.py", *QUICK, *more, f"runs={place / name}") == 0
    return {path.name: only(only(path)) for path in place.iterdir()}


def test_equal_runs_differ_in_nothing(runs: dict[str, Path]) -> None:
    found = why(runs["one"], runs["same"])
    assert {name: rows for name, rows in found.differing.items() if rows} == {}
    assert found.metrics == "equal in all 2 epochs" and found.disagreements == ()


def test_runs_part_where_their_settings_do(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    first, second = runs["one"], runs["other"]
    found = why(first, second)
    assert found.differing["settings"] == (("recipe.gamma", "0.1", "0.5"),)
    assert found.differing["environment"] == found.differing["data"] == ()
    assert found.metrics.startswith("part in epoch 2: train_loss ")
    rows = []
    for folder in (first, second):
        with (folder / "predictions.csv").open(newline="") as file:
            rows.append({row["image"]: (row["label"], row["class_1"]) for row in csv.DictReader(file)})
    others = {image for image, answer in rows[0].items() if rows[1][image] != answer}
    assert {row.image for row in found.disagreements} == others and others
    right = [sum(label == answer for label, answer in row.values()) for row in rows]
    both = sum(rows[0][image] == rows[1][image] and len({*rows[0][image]}) == 1 for image in rows[0])
    assert f"both are right on {both:,}, only the first on {right[0] - both:,}, " in found.counts
    assert f"only the second on {right[1] - both:,}, none on {360 - sum(right) + both:,}" in found.counts
    out = first.parent / "why"
    assert call("compare.py", f"why={first},{second}", f"out={out}") == 0
    assert "recipe.gamma" in capsys.readouterr().out
    table = list(csv.DictReader((only(out) / "disagreements.csv").read_text().splitlines()))
    assert {row["image"] for row in table} == others and set(table[0]) == {"image", "label", "first", "second"}


def test_an_evaluation_has_no_epochs_and_may_be_of_other_images(runs: dict[str, Path], tmp_path: Path) -> None:
    assert call("eval.py", f"run={runs['one']}", f"runs={tmp_path}", "trainer.threads=1") == 0
    evaluation = only(only(tmp_path))
    found = why(runs["one"], evaluation)
    assert found.metrics.startswith("not compared") and found.disagreements == ()
    lines = (evaluation / "predictions.csv").read_text().splitlines(keepends=True)
    (evaluation / "predictions.csv").write_text("".join(lines[:-10]))
    assert why(runs["one"], evaluation).counts.endswith("; 10 images are in one of them alone")


@pytest.mark.parametrize("words", ["{one}", "{one},{same},{other}", "nowhere,{one}", "{one},nowhere"])
def test_a_mistake_is_one_line(
    words: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compare.py", f"why={words.format(**runs)}", f"out={tmp_path / 'out'}") == 2
    line = capsys.readouterr().err
    wanted = "no folder of a run" if "nowhere" in words else "name two folders of runs, separated by a comma"
    assert line.startswith("compare.py: why=") and wanted in line and line.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_record_is_one_line(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"schema": "something else"}))
    with pytest.raises(UserError, match="not a record that can be used"):
        why(runs["one"], tmp_path)
