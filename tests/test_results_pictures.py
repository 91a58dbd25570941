"""Pictures of results: what errors cost, and depth with and without shortcuts; their numbers are the records'."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from test_results import TABLES, write

from harness.command.results import CURVES, IMAGES, PAGE, README, RECORDS, SPEED, TESTS, results
from harness.comparison import cost_chart, depth_chart
from harness.comparison.results_chart import drawn_in
from harness.comparison.results_page import tests_table as table_of_tests

MODELS = ("alexnet", "plain18", "resnet18")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the records of two experiments, as a run of these words would write them."""
    experiments = ["cifar10_jpeg_depth", "imagenette_zoo"]
    monkeypatch.setattr("harness.command.results.choices", lambda group: experiments)
    (tmp_path / IMAGES).mkdir(parents=True)
    (tmp_path / README).write_text(TABLES)
    for model, wrong in zip(MODELS, ((4000, 4100), (2000, 2100), (1500, 1600)), strict=True):
        write(tmp_path / RECORDS, "imagenette_zoo", wrong, f"model={model}")
    rates = {f"{model} bf16-mixed channels_last": rate for model, rate in zip(MODELS, (0.9, 0.5, 0.45), strict=True)}
    adds = dict(zip(MODELS, (200_000_000, 590_000_000, 600_000_000), strict=True))
    speed = {"multiply_adds": adds, "images_per_second": rates, "machine": {"threads": 2}}
    (tmp_path / SPEED).write_text(json.dumps(speed))
    return tmp_path


def curves(root: Path, model: str, errors: Sequence[float], norms: Sequence[Sequence[float]]) -> None:
    """The tables of a run: training errors by epoch, validation two points above, and three layers' norms."""
    folder = root / CURVES / "cifar10_jpeg_depth" / f"{model}-seed0"
    folder.mkdir(parents=True)
    with (folder / "metrics.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["epoch", "train_top1_error", "validation_top1_error"])
        table.writerows([epoch, error, error + 2] for epoch, error in enumerate(errors, 1))
    with (folder / "gradients.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", "conv1", "conv4_x.2.conv2", "fc"])
        table.writerows([100 * place, *row] for place, row in enumerate(norms))


def test_costs_are_those_of_the_arithmetic_that_trained(root: Path) -> None:
    assert results(root, check=False) == 0 and results(root, check=True) == 0
    rows = {row["network"]: row for row in drawn_in(root / IMAGES / "imagenette.png") or []}
    assert rows["resnet18"]["seconds"] == 9 / 0.45 and rows["resnet18"]["multiply_adds"] == 600_000_000
    assert rows["alexnet"]["error"] == pytest.approx(40.5) and rows["alexnet"]["seeds"] == [40, 41]
    assert rows["plain18"]["low"] < 20.5 < rows["plain18"]["high"]
    page = (root / PAGE).read_text()
    assert "against the seconds that an epoch takes](images/imagenette.png)" in page and "depth.png" not in page
    (row,) = [line for line in (root / README).read_text().splitlines() if line.startswith("| resnet18 |")]
    assert row.startswith("| resnet18 | 15.50 ± 0.71 (") and row.endswith("), 2 of 3 seeds |")
    for path in (PAGE, README):
        kept = (root / path).read_text()
        (root / path).write_text(kept.replace("15.50", "15.05"))
        assert results(root, check=True) == 1
        (root / path).write_text(kept)
    assert results(root, check=True) == 0
    (root / SPEED).write_text((root / SPEED).read_text().replace("0.45", "0.4"))
    assert results(root, check=True) == 1


def test_paired_tests_stand_below_their_table(root: Path) -> None:
    (root / TESTS).mkdir(parents=True)
    columns = "data,split,protocol,model,other_model,seed,only_model_right,only_other_right,p,p_holm"
    lines = ["x,val,y,alexnet,resnet18,0,10,300,1e-30,3e-30", "x,val,y,plain18,resnet18,0,50,60,0.1,0.25"]
    text = "\n".join([columns, *lines]) + "\n"
    (root / TESTS / "imagenette_zoo.csv").write_text(text)
    assert results(root, check=False) == 0
    page = (root / PAGE).read_text()
    assert "| alexnet | resnet18 | 0 | 10 | 300 | below 0.0001 |\n| plain18 | resnet18 | 0 | 50 | 60 | 0.2500 |" in page
    assert table_of_tests(text) in page and "with Holm's correction" in page


def test_depth_says_what_the_curves_show(root: Path) -> None:
    for model, wrong in (("plain20", 2000), ("resnet20", 1800), ("plain56", 3500), ("resnet56", 1700)):
        write(root / RECORDS, "cifar10_jpeg_depth", [wrong], f"model={model}")
    curves(root, "plain20", (60, 19), ((3, 1, 1), (2, 1, 1)))
    curves(root, "resnet20", (50, 15), ((1, 1, 1), (1, 2, 1)))
    curves(root, "plain56", (80, 33), ((1000, 1, 1), (1, 4, 1)))
    curves(root, "resnet56", (55, 15.5), ((2, 1, 1), (1, 1, 1)))
    assert results(root, check=False) == 0 and results(root, check=True) == 0
    page = (root / PAGE).read_text()
    assert "plain56 ends with 35.00% on the test split and 33.00% in training, plain20 with 20.00% on the " in page
    assert "19.00% in training: with more layers both are larger." in page
    assert "15.00% in training: with more layers the training error is larger, the test error smaller." in page
    assert "plain20 3 and 2, resnet20 1 and 0.5, plain56 1e+03 and 0.25, resnet56 2 and 1." in page
    rows = drawn_in(root / IMAGES / "depth.png") or []
    assert [row["network"] for row in rows] == ["plain20", "resnet20", "plain56", "resnet56"]
    assert rows[2]["validation"] == [82, 35] and rows[2]["steps"] == [0, 100]
    with Image.open(root / IMAGES / "depth.png") as picture:
        assert picture.width > 1000


def test_nothing_is_said_without_curves(tmp_path: Path) -> None:
    assert depth_chart.said([]) == ""
    depth_chart.draw(tmp_path / "none.png", [], "nothing")
    cost_chart.draw(tmp_path / "none2.png", [], "nothing")
