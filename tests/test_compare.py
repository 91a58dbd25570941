"""Comparisons: grouped by question, paired by seed and image, from records alone."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, run_script
from in_process import call
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.stats import binomtest

from harness.comparison.chart import OURS, PAPER, SEED, draw_comparisons
from harness.comparison.paired import holm, mcnemar
from harness.comparison.records import compare, find_records
from harness.comparison.tables import comparison_csv, latex, markdown, show
from harness.evaluation.intervals import wilson
from harness.evaluation.schema import PREDICTIONS_COLUMNS

IMAGES = 40


PLACE = {"device": "cpu", "devices": 1, "threads": 2, "torch": "2.15.0"}
RECIPE = {
    "name": "sgd_cosine",
    "epochs": 5,
    "learning_rate": 0.1,
    "batch_size": 32,
    "class_weights": None,
    "patience": None,
}


def trained(seed: int = 0, recipe: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """What a record says of a training run."""
    known = {"seed": seed, "epochs": 5, "max_batches": None, "recipe": {**RECIPE, **(recipe or {})}}
    return {**known, "images": 90, "fingerprint": "t", "validated": {}, "places": [PLACE], **changes}


def older(version: int = 1, **changes: Any) -> dict[str, Any]:
    """What a record of an older version has otherwise."""
    training = {"seed": 0, "epochs": 5, "max_batches": None, "recipe": {"name": "modern", "epochs": 5}}
    return {"version": version, "training": {**training, **changes}, "training_data": None}


def write_record(folder: Path, name: str, wrong: set[int], seed: int = 0, **changes: Any) -> Path:
    """A record whose model is wrong on these images and right on the others."""
    folder.mkdir(parents=True)
    rows = [[f"d/{i}", i % 3, (i + (i in wrong)) % 3, "0.9", *["", ""] * 4] for i in range(IMAGES)]
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([PREDICTIONS_COLUMNS, *rows])
    content = {
        "schema": "cnn-zoo result",
        "version": 4,
        "model": {"name": name, "options": {}, "parameters": 1234},
        "data": {"name": "d", "split": "test", "images": IMAGES, "fingerprint": "f"},
        "protocol": {"name": "whole_image", "batch_size": 10, "precision": "32-true"},
        "seen": IMAGES,
        "top1_error": 100 * len(wrong) / IMAGES,
        "top5_error": 0.0,
        "weights": {
            "sha256": hashlib.sha256(f"{name}{seed}{changes}".encode()).hexdigest(),
            **{"epoch": 5, "step": 100, "file": "last.ckpt"},
        },
        "training": trained(seed),
        "training_data": {"name": "d", "validation": 10, "mean": [0.5]},
        "trained_on": "d",
        "predictions": {
            "file": "predictions.csv",
            "sha256": hashlib.sha256((folder / "predictions.csv").read_bytes()).hexdigest(),
        },
        **changes,
    }
    (folder / "result.json").write_text(json.dumps(content))
    return folder / "result.json"


def test_what_changes_the_scores_of_the_same_weights_is_another_comparison(tmp_path: Path) -> None:
    usual = {"name": "center_crop", "batch_size": 10, "precision": "32-true", "channels_last": True, "compile": False}
    data = {"name": "d", "split": "val", "images": IMAGES, "fingerprint": "f", "decoder": "fast"}
    same: dict[str, Any] = {"weights": {"sha256": "w"}, "data": data}
    write_record(tmp_path / "a", "m", {1}, protocol=usual, **same)
    write_record(tmp_path / "again", "m", {1}, protocol={**usual, "batch_size": 5}, **same)
    write_record(tmp_path / "b", "m", {1, 2}, protocol={**usual, "precision": "bf16-mixed", "compile": True}, **same)
    write_record(tmp_path / "c", "m", {3}, protocol=usual, **{**same, "data": {**data, "decoder": "pil"}})
    comparisons = compare(find_records([str(tmp_path)])[0])
    assert [(comparison.title, len(comparison.rows)) for comparison in comparisons] == [
        ("d val, center_crop", 1),
        ("d val, center_crop bf16-mixed compiled", 1),
        ("d val, center_crop decoder=pil", 1),
    ]


def test_the_published_number_stands_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all seeds together; a network that nobody published has none."""
    mnist = {"name": "mnist", "split": "test", "images": IMAGES, "fingerprint": "f"}
    write_record(tmp_path / "a", "lenet4", {1, 2}, data=mnist)
    write_record(tmp_path / "b", "n", {1}, data=mnist)
    comparisons = compare(find_records([str(tmp_path)])[0])
    text = markdown(comparisons)
    why = "not comparable: this is the error on 40 of 10,000 images"
    assert f"| 5.00 (1.38-16.50) | 0.00 (0.00-8.76) | 1.1/-, {why} [LeCun 1998, Fig. 9: LeNet-4] |" in text
    assert "| 2.50 (0.44-12.88) | 0.00 (0.00-8.76) | - |" in text
    head, first, second = csv.reader(comparison_csv(comparisons).splitlines())
    assert head[-8:-3] == ["top1_published", "top5_published", "verdict", "why", "source"]
    assert first[-8:-3] == [""] * 5 and second[-8:-5] == ["1.1", "", "not comparable"]
    show(comparisons)
    assert "published" in capsys.readouterr().out
    write_record(tmp_path / "other" / "c", "n", {1})
    assert "published" not in markdown(compare(find_records([str(tmp_path / "other")])[0]))


def test_seeds_are_one_row_and_models_are_paired_by_seed(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_record(tmp_path / f"good{seed}", "good", {1, 2 + seed}, seed)
        write_record(tmp_path / f"bad{seed}", "bad", set(range(10, 20 + seed)), seed)
    write_record(tmp_path / "good2", "good", {5, 6, 7, 8}, seed=2)
    records, passed_over = find_records([str(tmp_path)])
    (comparison,) = compare(records)
    assert passed_over == []
    good, bad = comparison.rows
    assert good.model == "good" and good.seeds == (0, 1, 2)
    assert good.top1_error == pytest.approx(100 * (2 + 2 + 4) / 3 / IMAGES)
    assert good.top1_deviation == pytest.approx(100 * (4 / 3) ** 0.5 / IMAGES)
    assert good.top1_interval == pytest.approx(wilson(8 / 3, IMAGES))
    assert bad.seeds == (0, 1) and bad.top1_error == pytest.approx(100 * 10.5 / IMAGES)
    assert [(t.seed, t.only_first, t.only_second) for t in comparison.tests] == [(0, 10, 2), (1, 11, 2)]
    assert [t.p for t in comparison.tests] == pytest.approx([binomtest(2, 12).pvalue, binomtest(2, 13).pvalue])
    assert [t.p_holm for t in comparison.tests] == pytest.approx(holm([t.p for t in comparison.tests]))


def write_fold(root: Path, name: str, fold: int, right: int, **changes: Any) -> None:
    """A record of one of two folds, of so many right answers, whose images are its own."""
    data = {"name": "d", "split": "test", "images": IMAGES, "fingerprint": f"f{fold}", "folds": 2, "fold": fold}
    data |= {"division": "all", "repo": "someone/things", **changes.pop("data", {})}
    counts = {"correct_top1": right, "correct_top5": IMAGES, **changes}
    write_record(root, name, set(range(IMAGES - right)), data=data, **counts)
    path = root / "predictions.csv"
    path.write_text(path.read_text().replace("d/", f"d{fold}/"))
    content = json.loads((root / "result.json").read_text())
    content["predictions"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "result.json").write_text(json.dumps(content))


def test_the_folds_of_a_cross_validation_are_one_row(tmp_path: Path) -> None:
    for name, right in (("good", (36, 30)), ("bad", (20, 25))):
        for fold in (0, 1):
            write_fold(tmp_path / f"{name}{fold}", name, fold, right[fold])
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert comparison.title == "d someone/things 2 folds, whole_image"
    good, bad = comparison.rows
    assert (good.model.split(" ")[0], good.images, bad.images) == ("good", 80, 80)
    assert good.top1_error == pytest.approx(100 * 14 / 80) and bad.top1_error == pytest.approx(100 * 35 / 80)
    assert good.top1_deviation == pytest.approx(100 * 6 / IMAGES / 2**0.5)  # of 10 and 25 percent
    assert good.top1_interval == pytest.approx(wilson(14, 80))
    (test,) = comparison.tests
    assert (test.only_first, test.only_second) == (21, 0)


def test_folds_are_not_pooled_if_one_is_missing_or_there_twice_or_of_another_division(tmp_path: Path) -> None:
    write_fold(tmp_path / "0", "m", 0, 30)
    titles = [comparison.title for comparison in compare(find_records([str(tmp_path)])[0])]
    assert titles == ["d someone/things fold 0 of 2, whole_image"]
    write_fold(tmp_path / "twice", "m", 0, 29)
    assert {row.images for c in compare(find_records([str(tmp_path)])[0]) for row in c.rows} == {40}
    shutil.rmtree(tmp_path / "twice")
    write_fold(tmp_path / "other 1", "m", 1, 31, data={"division": "other"})
    assert len(compare(find_records([str(tmp_path)])[0])) == 2
    write_fold(tmp_path / "1", "m", 1, 32)
    assert sorted(row.images for c in compare(find_records([str(tmp_path)])[0]) for row in c.rows) == [40, 80]
    write_fold(tmp_path / "again 1", "m", 1, 33)
    assert {row.images for c in compare(find_records([str(tmp_path)])[0]) for row in c.rows} == {40}


def test_other_data_splits_protocols_and_pixels_are_other_comparisons(tmp_path: Path) -> None:
    data = {"name": "d", "split": "test", "images": IMAGES, "fingerprint": "f"}
    write_record(tmp_path / "a", "m", {1})
    write_record(tmp_path / "b", "m", {1}, data={**data, "name": "e"})
    write_record(tmp_path / "c", "m", {1}, data={**data, "split": "val"})
    write_record(tmp_path / "d", "m", {1}, data={**data, "fingerprint": "other pixels"})
    write_record(tmp_path / "e", "m", {1}, protocol={"name": "ten_crop", "batch_size": 1, "precision": "32-true"})
    assert len(compare(find_records([str(tmp_path)])[0])) == 5


def test_recipes_options_and_origin_are_other_rows(tmp_path: Path) -> None:
    for number, version in enumerate((3, 2)):
        marked = {} if version == 3 else older(version)
        root = tmp_path / str(version)
        model = {"name": "m", "options": {"hidden": [3]}, "parameters": 9}
        other = {**model, "options": {"hidden": [4, 5]}}
        write_record(root / "a", "m", {1}, model=model, **marked)
        write_record(root / "b", "m", {1}, model=model, **{**marked, "training": trained(epochs=3)})
        write_record(root / "c", "m", {1}, model=other, **marked)
        write_record(root / "d", "m", {1}, model=model, **{**marked, "training_data": {"name": "e"}, "trained_on": "e"})
        write_record(root / "e", "m", {1}, model=model, **{**marked, "training": trained(recipe={"name": "finetune"})})
        (comparison,) = compare(find_records([str(root)])[0])
        mark = ("", " (older record)")[number]
        assert sorted(row.model for row in comparison.rows) == [
            f"m hidden=[3] recipe=finetune data=d{mark}",
            f"m hidden=[3] recipe=sgd_cosine data=d{mark}",
            f"m hidden=[3] recipe=sgd_cosine data=e{mark}",
            f"m hidden=[3] recipe=sgd_cosine max_epochs=3 data=d{mark}",
            f"m hidden=[4,5] recipe=sgd_cosine data=d{mark}",
        ]


def test_a_recipe_that_has_another_name_today_is_the_same_row(tmp_path: Path) -> None:
    write_record(tmp_path / "a", "m", {1}, seed=0)
    write_record(tmp_path / "b", "m", {1}, version=3, training=trained(1, recipe={"name": "modern"}))
    ((row,),) = (comparison.rows for comparison in compare(find_records([str(tmp_path)])[0]))
    assert row.seeds == (0, 1)
    write_record(tmp_path / "c", "m", {1}, training=trained(2, recipe={"name": "modern"}))  # a new one of that name
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert [row.model for row in comparison.rows] == ["m recipe=modern", "m recipe=sgd_cosine"]


def test_a_setting_that_is_newer_than_a_record_had_its_default_there(tmp_path: Path) -> None:
    newer = {"optimizer": "sgd", "norm_weight_decay": None, "warmup_steps": None, "power": 1.0, "plateau_patience": 5}
    write_record(tmp_path / "a", "m", {1})
    write_record(tmp_path / "b", "m", {1, 2}, training=trained(1, recipe=newer))
    tuned = {"backbone_rate": 0.1, "layer_decay": 0.8}
    write_record(tmp_path / "c", "n", {1}, training=trained(recipe=tuned))
    write_record(tmp_path / "d", "n", {1, 2}, training=trained(1, recipe={**tuned, "unfreeze_epoch": None}))
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert [(row.model, row.seeds) for row in comparison.rows] == [("m", (0, 1)), ("n", (0, 1))]
    write_record(tmp_path / "e", "m", {3}, training=trained(2, recipe={**newer, "optimizer": "adamw"}))
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert [row.model for row in comparison.rows if row.model[0] == "m"] == [
        "m optimizer=adamw",
        "m optimizer=sgd",
    ]


ONE = {"training": trained()}
OTHERS: dict[str, dict[str, Any]] = {  # what may differ beside the seed, and how a row with it is called
    "learning_rate=0.01": {"training": trained(recipe={"learning_rate": 0.01})},
    "batch_size=64": {"training": trained(recipe={"batch_size": 64})},
    "class_weights=balanced": {"training": trained(recipe={"class_weights": "balanced"})},
    "patience=3": {"training": trained(recipe={"patience": 3})},
    "max_epochs=2": {"training": trained(epochs=2)},
    "torch=2.14.0": {"training": trained(places=[{**PLACE, "torch": "2.14.0"}])},
    "torch=2.15.0,2.14.0": {"training": trained(places=[PLACE, {**PLACE, "torch": "2.14.0"}])},
    "devices=2": {"training": trained(places=[{**PLACE, "devices": 2}])},
    "device=cuda": {"training": trained(places=[{**PLACE, "device": "cuda"}])},
    "validation=20": {"training_data": {"name": "d", "validation": 20, "mean": [0.5]}},
    "mean=[0.4]": {"training_data": {"name": "d", "validation": 10, "mean": [0.4]}},
    "fingerprint=other": {"training": trained(fingerprint="other")},
    "epoch=best_on_validation": {"weights": {"sha256": "w", "epoch": 4, "step": 80, "file": "best_on_validation.ckpt"}},
    "epoch=3,step=70": {"weights": {"sha256": "w", "epoch": 3, "step": 70, "file": None}},
    "weights=a.pth:12345678": {
        "pretrained": {"name": "a.pth", "sha256": "123456789", "source": "local file", "part": "", "adapted": []}
    },
}


@pytest.mark.parametrize("label", OTHERS)
def test_what_can_move_a_number_is_a_row_of_its_own_and_its_label_says_it(label: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        write_record(tmp_path / f"a{seed}", "m", {1, seed + 2}, seed)
        other = {**OTHERS[label]}
        if "training" in other or seed:
            other["training"] = {**(other.get("training") or trained()), "seed": seed}
        write_record(tmp_path / f"b{seed}", "m", {10, 11, seed + 12}, **other)
    records, passed_over = find_records([str(tmp_path)])
    (comparison,) = compare(records)
    assert not passed_over and not comparison.left_out
    first, second = comparison.rows
    assert first.seeds == second.seeds == (0, 1) and second.model == f"m {label}"
    assert first.model.startswith("m") and first.model != second.model and first.settings != second.settings
    key = label.partition("=")[0]
    assert set(re.findall(r"(\w+)=", first.model)) <= {key}  # nothing else is said
    assert [(test.first, test.second, test.seed) for test in comparison.tests] == [
        (first.model, second.model, 0),
        (first.model, second.model, 1),
    ]


def test_a_label_says_what_differs_among_rows_of_the_same_model_recipe_and_data(tmp_path: Path) -> None:
    slow, other = {"learning_rate": 0.01}, {"name": "he_2015_cifar", "momentum": 0.9, "batch_size": 128}
    rows: list[tuple[str, dict[str, Any]]] = [("m", {}), ("m", slow), ("n", {}), ("n", other)]
    for number, (name, recipe) in enumerate(rows):
        write_record(tmp_path / str(number), name, {number}, training=trained(recipe=recipe))
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert sorted(row.model for row in comparison.rows) == [
        "m recipe=sgd_cosine learning_rate=0.01",
        "m recipe=sgd_cosine learning_rate=0.1",
        "n recipe=he_2015_cifar",
        "n recipe=sgd_cosine learning_rate=0.1",
    ]


def test_equal_records_are_one_and_an_evaluation_is_its_runs(tmp_path: Path) -> None:
    same: dict[str, Any] = {"weights": {"sha256": "w", "epoch": 5, "step": 100, "file": "last.ckpt"}}
    write_record(tmp_path / "run", "m", {1}, **same)
    write_record(tmp_path / "run-eval", "m", {1}, **same)
    write_record(tmp_path / "older-eval", "m", {1}, **{**same, **older(2)})  # by a program that knew less
    records, passed_over = find_records([str(tmp_path)])
    assert not passed_over and [record.path.parent.name for record in records] == ["run"]
    best = {**same["weights"], "file": "best_on_validation.ckpt"}  # which was the last epoch
    write_record(tmp_path / "best-eval", "m", {1}, weights=best)
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert [row.model for row in comparison.rows] == ["m", "m epoch=best_on_validation"]


def test_a_seed_that_is_there_twice_is_told_apart_or_left_out_in_a_line(tmp_path: Path) -> None:
    """Never averaged as two: by its threads, or batches of the evaluation; else the first is taken."""
    write_record(tmp_path / "a", "m", {1})
    write_record(tmp_path / "b", "m", {1, 2}, training=trained(places=[{**PLACE, "threads": 1}]))
    write_record(tmp_path / "c", "m", {1, 2, 3}, seed=1)
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert {row.model: row.seeds for row in comparison.rows} == {"m threads=1": (0,), "m threads=2": (0, 1)}
    (tmp_path / "a" / "result.json").unlink()
    (comparison,) = compare(find_records([str(tmp_path)])[0])  # of different seeds, they are one row
    assert [(row.model, row.seeds) for row in comparison.rows] == [("m", (0, 1))]
    write_record(tmp_path / "d", "m", {5}, training=trained(seed=1))
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    (left_out,) = comparison.left_out
    assert left_out.startswith(
        f"{tmp_path / 'd' / 'result.json'}: its predictions differ from those of {tmp_path / 'c' / 'result.json'}, "
    )
    assert sorted(row.seeds for row in comparison.rows) == [(0,), (1,)]
    assert f"Left out: {left_out}" in markdown([comparison])


def test_older_records_have_rows_of_their_own_that_are_marked(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_record(tmp_path / f"new{seed}", "m", {1, 2 + seed}, seed)
        for version in (1, 2):
            weights = {"sha256": f"{seed}{version}"}
            known = older(version, seed=seed + 2 * version)
            write_record(tmp_path / f"{version} {seed}", "m", {5, 6 + version, 10 + seed}, weights=weights, **known)
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert [(row.model, row.seeds) for row in comparison.rows] == [("m", (0, 1)), ("m (older record)", (2, 3, 4, 5))]


def test_a_picture_and_a_table_of_twenty_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        recipe = {"learning_rate": 0.001 * number, "batch_size": 8 * number, "loss": f"loss_{number}"}
        write_record(tmp_path / str(number), "resnet20", {number}, training=trained(recipe=recipe))
    comparisons = compare(find_records([str(tmp_path)])[0])
    assert len(comparisons[0].tests) == 190
    show(comparisons)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("and 150 more tests")
    labels = [f"resnet20 learning_rate={0.001 * n:g} batch_size={8 * n} loss=loss_{n} " for n in range(20)]
    assert all(any(label in line for line in lines) for label in labels)  # folded nowhere: this is no terminal
    draw_comparisons(tmp_path, comparisons)
    with Image.open(tmp_path / "comparison.png") as picture:
        assert picture.width < 1300 and picture.height < 1300


def test_points_are_means_dots_are_seeds_and_ticks_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mnist = {"name": "mnist", "split": "test", "images": IMAGES, "fingerprint": "f"}
    for seed, wrong in enumerate(({1, 2}, {1, 2, 3, 4})):
        write_record(tmp_path / str(seed), "lenet4", wrong, seed, data=mnist, training=trained(seed))
    write_record(tmp_path / "b", "n", {1}, data=mnist)
    drawn: list[tuple[list[float], list[float], str]] = []
    plot = Axes.plot

    def heard(axes: Axes, x: Any, y: Any, *rest: Any, **look: Any) -> Any:
        drawn.append((*(list(np.atleast_1d(values)) for values in (x, y)), str(look.get("color"))))  # type: ignore[arg-type]
        return plot(axes, x, y, *rest, **look)

    monkeypatch.setattr(Axes, "plot", heard)
    names = draw_comparisons(tmp_path, compare(find_records([str(tmp_path)])[0]))
    assert ([7.5], [1], OURS) in drawn and ([5.0, 10.0], [1, 1], SEED) in drawn and ([1.1], [1], PAPER) in drawn
    assert ([2.5], [0], OURS) in drawn  # the best on top
    assert names == ["comparison.png", "comparison.svg", "comparison_costs.png", "comparison_costs.svg"]
    assert b"<svg" in (tmp_path / "comparison.svg").read_bytes()


def test_costs_are_those_of_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, rate in enumerate((100.0, 300.0, 200.0)):
        model = {"name": "m", "options": {}, "parameters": 1234, "multiply_adds": 5678}
        path = write_record(tmp_path / str(seed), "m", {1}, seed, model=model, training=trained(seed))
        path.with_name("evaluation_timing.json").write_text(json.dumps({"images_per_second": rate}))
    write_record(tmp_path / "n", "n", {1, 2})
    path.with_name("evaluation_timing.json").write_text("[]")  # damaged: passed by
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    drawn: list[tuple[list[str], list[str]]] = []
    save = Figure.savefig

    def heard(figure: Figure, *rest: Any, **how: Any) -> None:
        for axes in figure.axes:
            figure.draw_without_rendering()
            low, high = axes.get_xlim()
            texts = (*axes.get_xticklabels(), *axes.get_xticklabels(minor=True))
            ticks = [text.get_text() for text in texts if text.get_text() and low <= text.get_position()[0] <= high]
            drawn.append(([text.get_text() for text in axes.texts], ticks))
        save(figure, *rest, **how)

    monkeypatch.setattr(Figure, "savefig", heard)
    first, second = comparison.rows
    assert (first.multiply_adds, first.images_per_second) == (5678, 200.0)
    assert (second.multiply_adds, second.images_per_second) == (None, None)
    rows = list(csv.DictReader(comparison_csv([comparison]).splitlines()))
    assert (rows[0]["multiply_adds"], rows[0]["images_per_second"], rows[1]["multiply_adds"]) == ("5678", "200.0", "")
    draw_comparisons(tmp_path, [comparison])
    assert (["m"], ["1k", "2k", "5k", "10k"]) in drawn  # and no labels of minor ticks, which would overlap


def test_device_and_batches_are_shown_where_they_differ(tmp_path: Path) -> None:
    protocol = {"name": "whole_image", "batch_size": 10, "precision": "32-true"}
    write_record(tmp_path / "a", "m", {1}, device="cpu", protocol=protocol)
    write_record(tmp_path / "b", "n", {1, 2}, device="cpu", protocol=protocol)
    assert "evaluated on" not in markdown(compare(find_records([str(tmp_path)])[0]))
    write_record(tmp_path / "c", "o", {1, 2, 3}, device="cuda", protocol={**protocol, "batch_size": 1000})
    text = markdown(compare(find_records([str(tmp_path)])[0]))
    assert (
        "| top-5 error (%) | evaluated on |" in text and text.count("| cpu by 10 |") == 2 and "| cuda by 1000 |" in text
    )


def test_latex_has_the_table_and_no_sign_that_is_a_command(tmp_path: Path) -> None:
    write_record(tmp_path / "a", r"odd_name & 100% \def{x} $y^2$ ~ | <b> #1", {1})
    write_record(tmp_path / "b", "m", {1, 2}, 0)
    write_record(tmp_path / "c", "m", {1, 2, 3, 4}, 1, training=trained(1))
    lines = latex(compare(find_records([str(tmp_path)])[0])).splitlines()
    assert lines[1:3] == [r"\begin{tabular}{lrrrrr}", r"\toprule"] and lines[4] == r"\midrule"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    odd = r"odd\_name \& 100\% \textbackslash{}def\{x\} \$y\textasciicircum{}2\$ \textasciitilde{} \textbar{} "
    assert lines[5].startswith(odd + r"\textless{}b\textgreater{} \#1 & 1,234 & 40 & 1 & 2.50 (0.44-12.88) & ")
    assert r"7.50 $\pm$ 3.54 (" in lines[6] and all(line.endswith(r" \\") for line in (lines[3], *lines[5:7]))


def test_what_is_no_record_is_passed_over_and_named(tmp_path: Path) -> None:
    good = write_record(tmp_path / "good", "m", {1})
    write_record(tmp_path / "same weights again", "m", {1})
    new = '{"schema": "cnn-zoo result", "version": 4}'
    for name, text in {"broken": "{", "foreign": '{"schema": "x", "version": 1}', "new": new}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    smoke = {"seed": 0, "epochs": 5, "max_batches": 4, "recipe": {"name": "sgd_cosine"}}
    write_record(tmp_path / "smoke", "n", {1}, training=smoke)
    write_record(tmp_path / "edited", "o", {1}).with_name("predictions.csv").write_text("edited")
    write_record(tmp_path / "lost", "p", {1}).with_name("predictions.csv").unlink()
    records, passed_over = find_records([str(tmp_path)])
    assert [record.path for record in records] == [good]
    assert {Path(line.split(": ")[0]).parent.name for line in passed_over} == {
        "broken",
        "foreign",
        "new",
        "smoke",
        "edited",
        "lost",
    }


def test_folders_files_and_patterns_choose_runs(tmp_path: Path) -> None:
    for name in ("x1", "x2", "y1"):
        write_record(tmp_path / "runs" / name, name, {1})
    for places, expected in (
        ([tmp_path], {"x1", "x2", "y1"}),
        ([tmp_path / "runs" / "x*"], {"x1", "x2"}),
        ([tmp_path / "runs" / "x1", tmp_path / "runs" / "y1" / "result.json"], {"x1", "y1"}),
        ([tmp_path / "nothing"], set()),
    ):
        records, _ = find_records(map(str, places))
        assert {record.content["model"]["name"] for record in records} == expected


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 6), (10, 2), (7, 7), (400, 350), (3000, 3000)])
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_images_takes_no_time() -> None:
    start = time.perf_counter()
    assert mcnemar(6_400, 6_600) == pytest.approx(binomtest(6_400, 13_000).pvalue, rel=1e-9)
    assert time.perf_counter() - start < 2  # summing the coefficients took 25 s


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no images": lambda path: change(path, seen=0),
    "text for a number": lambda path: change(path, top1_error="2.5"),
    "not a number": lambda path: change(path, top5_error=float("nan")),
    "more than all": lambda path: change(path, top1_error=250.0),
    "a list for a name": lambda path: change(path, model={"name": ["m"], "options": {}, "parameters": 1}),
    "text for a part": lambda path: change(path, training="none"),
    "deep": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "empty": lambda path: path.write_text(""),
    "other columns": lambda path: change_predictions(path, lambda text: text.replace("class_1", "first")),
    "a line that is cut off": lambda path: change_predictions(path, lambda text: text.rpartition(",0.9")[0][:-2]),
    "fewer lines": lambda path: change_predictions(path, lambda text: "\n".join(text.splitlines()[:-1])),
    "predictions elsewhere": lambda path: change(path, predictions={"file": "../predictions.csv", "sha256": ""}),
    "a pipe": lambda path: pipe(path),
    "a pipe of predictions": lambda path: pipe(path.parent / P),
}
P = "predictions.csv"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def pipe(path: Path) -> None:
    """In the place of a file."""
    path.unlink()
    os.mkfifo(path)


def change_predictions(path: Path, change_text: Callable[[str], str]) -> None:
    """Of a record that then has the hash of the changed file."""
    file = path.parent / P
    file.write_text(change_text(file.read_text()))
    change(path, predictions={"file": P, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_does_not_stop_the_others(damage: str, tmp_path: Path) -> None:
    write_record(tmp_path / "a", "first", {1})
    write_record(tmp_path / "b", "second", {2})
    DAMAGE[damage](write_record(tmp_path / "c", "third", {3}))
    records, passed_over = find_records([str(tmp_path)])
    (comparison,) = compare(records)
    assert [row.model for row in comparison.rows] == ["first", "second"] and len(comparison.tests) == 1
    assert damage == "a pipe" or [str(tmp_path / "c" / "result.json") in line for line in passed_over] == [True]


def test_whatever_a_record_says_is_printable_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No escape reaches a terminal, no name ends a cell or begins HTML, and no cell of a CSV is a formula."""
    data = {"name": "=d\x1b]0;t\x07", "split": "te\nst", "images": IMAGES, "fingerprint": "f"}
    write_record(tmp_path / "a", "=1+1\x1b[31m|<script>\n$x", {1}, data=data)
    write_record(tmp_path / "b", "plain", {2}, data=data)
    (tmp_path / "c\x1b[2J").mkdir()
    (tmp_path / "c\x1b[2J" / "result.json").write_text("{")
    assert call("compare.py", f"runs={tmp_path}", f"out={tmp_path / 'out'}") == 0
    said = capsys.readouterr().out
    folder = only(tmp_path / "out")
    texts = [said, *((folder / f"comparison{name}").read_text() for name in (".csv", "_tests.csv", ".md"))]
    assert not [text for text in texts if not text.replace("\n", "").isprintable()]
    assert "passed over: " in said and "\\x1b[2J" in said
    table = texts[3].splitlines()
    assert {line.count("|") - line.count("\\|") for line in table if line.startswith("|")} == {7, 8}
    assert "=1+1\\x1b[31m\\|&lt;script>\\n$x" in texts[3]
    (first, second) = csv.DictReader(texts[1].splitlines())
    assert first["model"].startswith("'=1+1") and second["model"] == "plain" and first["data"].startswith("'=d")


def test_predictions_of_other_images_are_left_out(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_record(tmp_path / name, name, {1})
    change_predictions(write_record(tmp_path / "c", "third", {3}), lambda text: text.replace("d/7,", "d/700,"))
    (comparison,) = compare(find_records([str(tmp_path)])[0])
    assert len(comparison.rows) == 2
    assert comparison.left_out == (
        f"{tmp_path / 'c' / 'result.json'}: its predictions are of other images than those of the other records",
    )


def test_predictions_are_paired_by_image_whatever_their_order(tmp_path: Path) -> None:
    write_record(tmp_path / "a", "first", {1, 2})
    path = write_record(tmp_path / "b", "second", {2, 3, 4})
    change_predictions(path, lambda text: "\n".join([(lines := text.splitlines())[0], *reversed(lines[1:])]))
    (test,) = compare(find_records([str(tmp_path)])[0])[0].tests
    assert (test.only_first, test.only_second) == (2, 1)


def test_folders_with_commas_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x, y", "z", "w1"):
        write_record(tmp_path / name, name, {1})
    runs = f"{tmp_path / 'x, y'},{tmp_path / 'w*'}"
    assert call("compare.py", f"runs={runs}", f"out={tmp_path / 'out'}") == 0
    said = capsys.readouterr().out
    assert "x, y" in said and "w1" in said and " z " not in said


@pytest.mark.slow
def test_a_hundred_networks_on_fifty_thousand_images(tmp_path: Path) -> None:
    """In a minute and a gigabyte."""
    rows = [f"imagenet/val/n{i % 1000:08d}/ILSVRC2012_val_{i:08d}.JPEG,{i % 1000}" for i in range(50_000)]
    for network in range(100):
        folder = write_record(tmp_path / "runs" / str(network), f"m{network}", {1}).parent
        lines = [f"{row},{(i + (i * 7919 % (200 + network) < 50)) % 1000},0.9" + ",," * 4 for i, row in enumerate(rows)]
        wrong = sum(i * 7919 % (200 + network) < 50 for i in range(50_000))
        change_predictions(folder / "result.json", lambda text: "\n".join([text.splitlines()[0], *lines]))  # noqa: B023
        change(folder / "result.json", seen=50_000, top1_error=100 * wrong / 50_000)
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['compare.py', 'runs={tmp_path / 'runs'}', 'out={tmp_path / 'out'}']\n"
        "runpy.run_path('compare.py', run_name='__main__')\n"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 60
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_000_000  # kB
    assert "and 4,910 more tests" in done.stdout
    tests = (only(tmp_path / "out") / "comparison_tests.csv").read_text().splitlines()
    assert len(tests) == 1 + 100 * 99 // 2


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == []


def test_the_script_writes_tables_and_a_picture_and_keeps_the_older_ones(tmp_path: Path) -> None:
    write_record(tmp_path / "runs" / "a", "first model", {1, 2, 3})
    write_record(tmp_path / "runs" / "b", "second", set())
    for number in (1, 2):
        done = run_script("compare.py", f"runs={tmp_path / 'runs'}", f"out={tmp_path / 'out'}")
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "out").iterdir())) == number
    folder = sorted((tmp_path / "out").iterdir())[0]
    assert {path.name for path in folder.iterdir()} == {
        *("comparison.csv", "comparison_tests.csv", "comparison.md", "comparison.tex"),
        *(f"comparison{what}.{ending}" for what in ("", "_costs") for ending in ("png", "svg")),
    }
    (test,) = csv.DictReader((folder / "comparison_tests.csv").read_text().splitlines())
    assert (test["model"], test["only_other_right"], test["p"]) == ("second", "0", "0.25")
    rows = list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))
    assert [float(row["top1_error"]) for row in rows] == [0.0, 7.5]
    assert float(rows[1]["top1_low_95"]) == pytest.approx(wilson(3, IMAGES)[0])
    text = (folder / "comparison.md").read_text()
    assert "| second | 1,234 | 40 | 1 | 0.00 (0.00-8.76) | 0.00 (0.00-8.76) |" in text
    assert "| second | first model | 0 | 3 | 0 | 0.25 | 0.25 |" in text
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert math.isclose(float(rows[1]["top1_high_95"]), wilson(3, IMAGES)[1])


def test_no_record_is_one_line(tmp_path: Path) -> None:
    done = run_script("compare.py", f"runs={tmp_path}", f"out={tmp_path / 'out'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no record found; train.py" in done.stderr
    smoke = {"seed": 0, "epochs": 5, "max_batches": 4, "recipe": {"name": "sgd_cosine"}}
    path = write_record(tmp_path / "smoke", "n", {1}, training=smoke)
    done = run_script("compare.py", f"runs={tmp_path}", f"out={tmp_path / 'out'}")
    why = f"no record found; 1 passed over, such as {path}: a run cut short by trainer.max_batches; train.py"
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and why in done.stderr
    assert not (tmp_path / "out").exists()


def test_comparing_needs_no_torch(tmp_path: Path) -> None:
    write_record(tmp_path / "a", "m", {1})
    program = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('HEAVY', sorted({'torch', 'lightning'} & set(sys.modules))))\n"
        f"sys.argv = ['compare.py', 'runs={tmp_path}', 'out={tmp_path / 'out'}']\n"
        "runpy.run_path('compare.py', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout + done.stderr
