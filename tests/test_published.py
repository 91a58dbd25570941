"""Which published number stands beside a result, and what is said of the two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_process import call, only

from harness.evaluation.intervals import wilson
from harness.evaluation.published import line_about, published_beside


def record(model: str, data: str, wrong: int, **changes: Any) -> dict[str, Any]:
    """What a record says that matters here, of a run that ended."""
    seen = {"mnist": 10_000, "cifar10": 10_000, "imagenet": 50_000}.get(data, 360)
    recipe = changes.pop("recipe", {})
    protocol = {"name": changes.pop("protocol", "center_crop" if data == "imagenet" else "whole_image")}
    content = {
        "model": {"name": model, "options": changes.pop("options", {})},
        "data": {"name": data},
        "protocol": protocol,
        "preprocessing": {"size": 224, "resize": 256},
        "seen": seen,
        "top1_error_interval_95": wilson(wrong, seen),
        "top5_error_interval_95": wilson(wrong / 4, seen),
        "training": {"recipe": recipe, "max_batches": None},
        "pretrained": None,
    }
    return {**content, **changes}


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        (95, "inside the interval"),
        (79, "inside the interval"),
        (113, "inside the interval"),
        (60, "better"),
        (130, "worse"),
    ],
)
def test_a_result_is_inside_or_better_or_worse(wrong: int, verdict: str) -> None:
    found = published_beside(record("lenet5_1998", "mnist", wrong))
    assert found is not None and (found["top1_error"], found["verdict"], found["why"]) == (0.95, verdict, None)
    assert found["source"] == "LeCun 1998, Fig. 9: LeNet-5" and found["top5_error"] is None
    assert line_about(found) == f"published 0.95% top-1 [LeCun 1998, Fig. 9: LeNet-5]: {verdict}"


@pytest.mark.parametrize(
    ("model", "data", "changes", "top1", "source"),
    [
        ("lenet5_1998", "mnist", {"recipe": {"distortion": [2, 0.1, 0.1, 0.1]}}, 0.8, "[dist] LeNet-5"),
        ("mlp", "mnist", {"options": {"hidden": [300]}}, 4.7, "28x28-300-10"),
        ("mlp", "mnist", {"options": {"hidden": [500, 150]}}, 2.95, "28x28-500-150-10"),
        (
            "mlp",
            "mnist",
            {"options": {"hidden": [1000]}, "recipe": {"distortion": [1, 0, 0, 0]}},
            3.8,
            "[dist] 28x28-1000",
        ),
        ("resnet110", "cifar10", {"options": {"shortcut": "A"}}, 6.43, "He 2015, Table 6: best of five"),
        ("resnet34", "imagenet", {"options": {"shortcut": "A"}, "protocol": "ten_crop"}, 25.03, "Table 3, option A"),
        ("resnet34", "imagenet", {"options": {"shortcut": "B"}, "protocol": "ten_crop"}, 24.52, "Table 3, option B"),
        ("resnet34", "imagenet", {"options": {"shortcut": "B"}}, 26.73, "fb.resnet.torch"),
        ("resnet50_2015", "imagenet", {}, 24.7, "KaimingHe/deep-residual-networks"),
        ("alexnet_2012", "imagenet", {"protocol": "ten_crop"}, 40.7, "Krizhevsky 2012, Table 2"),
        ("vgg16", "imagenet", {}, 28.408, "torchvision IMAGENET1K_V1"),
        ("resnet50", "imagenet", {"recipe": {"name": "torchvision_v1"}}, 23.87, "torchvision IMAGENET1K_V1"),
        ("resnet50", "imagenet", {"recipe": {"name": "modern"}}, 24.01, "fb.resnet.torch"),
        *(
            (
                "resnet50",
                "imagenet",
                {"recipe": {"name": f"strikes_back_{name}"}, "preprocessing": {"size": 224, "resize": 235}},
                error,
                f"resnet50.{name}_in1k",
            )
            for name, error in (("a1", 19.618), ("a2", 20.172), ("a3", 21.948))
        ),
    ],
)
def test_the_row_of_the_same_network_data_and_protocol(
    model: str, data: str, changes: dict[str, Any], top1: float, source: str
) -> None:
    found = published_beside(record(model, data, 100, **changes))
    assert found is not None and found["why"] is None
    assert found["top1_error"] == top1 and source in found["source"]


@pytest.mark.parametrize(
    ("model", "data", "changes", "why"),
    [
        ("lenet5", "mnist", {}, "it is the paper's network"),
        ("lenet1", "mnist", {}, "its digits were reduced to 16x16"),
        ("mlp", "mnist", {"options": {"hidden": [16, 16]}}, "its network has other hidden"),
        ("lenet4", "mnist", {"recipe": {"distortion": [1, 0, 0, 0]}}, "it was trained without distorted images"),
        ("lenet5_1998", "mnist", {"seen": 500}, "this is the error on 500 of 10,000 images"),
        ("lenet5_1998", "mnist", {"pretrained": {"name": "x"}}, "this training began with the weights of another one"),
        (
            "lenet5_1998",
            "mnist",
            {"training": {"recipe": {}, "max_batches": 3}},
            "this training was cut short by trainer.max_batches",
        ),
        ("vgg16_c", "imagenet", {}, "it was measured by another protocol: dense with flips, scale 256"),
        ("alexnet_2012", "imagenet", {}, "it was measured by another protocol: 10-crop"),
        (
            "vgg16",
            "imagenet",
            {"recipe": {"name": "modern"}},
            "it was trained by another recipe: torchvision_v1",
        ),
        (
            "resnet50",
            "imagenet",
            {"preprocessing": {"size": 160, "resize": 183}},
            "it was measured by another protocol: 1-crop",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(model: str, data: str, changes: dict[str, Any], why: str) -> None:
    found = published_beside(record(model, data, 100, **changes))
    assert found is not None and found["verdict"] == "not comparable" and found["why"].startswith(why)


@pytest.mark.parametrize(("model", "data"), [("lenet5", "digits"), ("resnet20", "parquet"), ("plain20", "cifar10")])
def test_where_nothing_was_published_nothing_is_said(model: str, data: str) -> None:
    assert published_beside(record(model, data, 10)) is None
    assert published_beside(record("a network of one's own", "mnist", 10)) is None


def test_evaluated_weights_stand_beside_their_publishers_number() -> None:
    errors = {"top1_error": 19.142, "top5_error": 4.566}
    weights = {"name": "IMAGENET1K_V2", "published": {"ImageNet-1K": errors}}
    changes: dict[str, Any] = {"training": None, "pretrained": weights, "preprocessing": {"size": 224, "resize": 232}}
    found = published_beside(record("resnet50", "imagenet", 9571, **changes))
    assert found is not None and errors.items() <= found.items()
    assert (found["source"], found["verdict"]) == ("the publisher of IMAGENET1K_V2", "inside the interval")


def test_a_run_writes_and_says_it(mnist_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("trainer.max_batches=2", "recipe.epochs=1", "trainer.threads=1")
    words = ("model=lenet5_1998", "data=mnist", f"data.root={mnist_root}", *quick)
    assert call("train.py", *words, f"runs={tmp_path}") == 0
    found = json.loads((only(only(tmp_path)) / "result.json").read_text())["published"]
    assert (found["top1_error"], found["verdict"]) == (0.95, "not comparable")
    assert "published 0.95% top-1 [LeCun 1998, Fig. 9: LeNet-5]: not comparable: " in capsys.readouterr().out
