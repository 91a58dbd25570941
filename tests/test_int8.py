"""Networks in 8-bit integers: the test split says what they lose; too much, and too little proof, are refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.optimize import minimize_scalar
from test_export import need_onnx

from harness.command import export as command
from harness.data.images.image_set import ImageSet
from harness.data.sources.table import load, load_test
from harness.evaluation.intervals import paired_difference
from harness.export import int8
from harness.export.formats import FORMATS, Format
from harness.export.int8 import WorseError, export_int8
from harness.prediction.network import Loaded, load_weights
from harness.prediction.own_data import batches_of, own_data


def likeliest_score(more: int, fewer: int, images: int, difference: float) -> float:
    """The score at a difference, with the likeliest probabilities found by search instead of by Tango's formula."""

    def loss(fewer_probability: float) -> float:
        ps = (fewer_probability + difference, fewer_probability, 1 - difference - 2 * fewer_probability)
        counts = (more, fewer, images - more - fewer)
        return -sum(n * math.log(max(p, 1e-300)) for n, p in zip(counts, ps, strict=True) if n)

    lowest, highest = max(0.0, -difference), (1 - difference) / 2
    q = minimize_scalar(loss, bounds=(lowest, highest), method="bounded", options={"xatol": 1e-12}).x
    return (more - fewer - images * difference) / math.sqrt(images * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize(("more", "fewer", "images"), [(12, 2, 50), (1, 5, 10_000), (30, 10, 360), (3, 3, 100)])
def test_the_ends_of_the_interval_are_as_far_as_95_percent_allow(more: int, fewer: int, images: int) -> None:
    low, high = paired_difference(more, fewer, images)
    assert low < 100 * (more - fewer) / images < high
    for end, deviations in ((low, 1.959964), (high, -1.959964)):
        assert likeliest_score(more, fewer, images, end / 100) == pytest.approx(deviations, abs=1e-3)
    assert paired_difference(fewer, more, images) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("images", [10, 360, 50_000])
def test_equal_answers_leave_as_much_open_as_their_number_does(images: int) -> None:
    z = 1.959964**2
    assert paired_difference(0, 0, images) == pytest.approx((-100 * z / (images + z), 100 * z / (images + z)), rel=1e-4)


@pytest.fixture(scope="module")
def lenet() -> Loaded:
    need_onnx("onnx")
    return load_weights("DIGITS", "lenet5", ())


@pytest.fixture(autouse=True)
def once(lenet: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network in floats is written once."""
    if not CONTENT:
        CONTENT.append(FORMATS["onnx"].write(lenet))
    monkeypatch.setitem(FORMATS, "onnx", Format(lambda loaded: CONTENT[0], FORMATS["onnx"].run, 0.0))


CONTENT: list[bytes] = []


def test_too_few_images_to_say_are_refused_and_force_writes(lenet: Loaded, tmp_path: Path) -> None:
    data, out = own_data(lenet), tmp_path / "lenet5.onnx"
    assert data is not None
    with pytest.raises(WorseError, match=r"for which 360 images are too few; force=true writes it anyway$"):
        export_int8(lenet, data, out, force=False)
    assert list(tmp_path.iterdir()) == []
    measured = export_int8(lenet, data, out, force=True)
    record = json.loads((tmp_path / "lenet5.json").read_text())
    assert record["forced"] and tuple(record["loss_interval_95"]) == measured.loss_interval_95
    assert measured.loss_interval_95[1] > 0.5
    assert record["calibration_images"] == 256 and record["file_bytes"] == out.stat().st_size < len(CONTENT[0]) / 2
    run = FORMATS["onnx"].run(out, lenet)
    images = torch.stack([lenet.preprocess(np.zeros((8, 8), np.uint8) + grey) for grey in (0, 100, 200)])
    assert not torch.equal(run(images), lenet.network(images)) and run(images[:1]).shape == (1, 10)


def test_scales_come_from_training_images_and_the_loss_from_the_test_split(
    lenet: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def noted(loaded: Loaded, split: Any, data: Any, batch_size: int) -> Any:
        seen.append(split.images)
        return batches_of(loaded, split, data, batch_size)

    monkeypatch.setattr(int8, "batches_of", noted)
    data = own_data(lenet)
    assert data is not None
    measured = export_int8(lenet, data, tmp_path / "x.onnx", force=True)
    training, test = load(data).train, load_test(data)
    assert isinstance(training, ImageSet) and isinstance(test, ImageSet)
    assert len(seen) == 2 and torch.equal(seen[1], test.images)
    rows = {image.numpy().tobytes() for image in training.images}
    assert len(seen[0]) == 256 and all(image.numpy().tobytes() in rows for image in seen[0])
    predicted = [lenet.network(batch.images).argmax(1) == batch.labels for batch in batches_of(lenet, test, data, 100)]
    wrong = 1 - torch.cat(predicted).double().mean().item()
    assert measured.float_top1_error == pytest.approx(100 * wrong)


def test_a_network_that_answers_worse_is_refused_with_what_it_loses(
    lenet: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FORMATS["onnx"].run

    def worse(path: Path, loaded: Loaded) -> Any:
        right = run(path, loaded)
        return right if path.name == "float32.onnx" else lambda images: right(images).roll(1, dims=1)

    monkeypatch.setitem(FORMATS, "onnx", Format(FORMATS["onnx"].write, worse, 0.0))
    data = own_data(lenet)
    assert data is not None
    with pytest.raises(WorseError, match=r"lost, \d+ gained, \+9\d\.\d\d points .* below 0\.5 points; force=true"):
        export_int8(lenet, data, tmp_path / "x.onnx", force=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["format=safetensors", "quantize=int8", "out=x.safetensors"], "goes with format=onnx"),
        (["format=onnx", "force=true", "out=x.onnx"], "belongs with quantize=int8"),
        (["format=onnx", "quantize=int8", "out=x.onnx", "--images", "a.png"], "the test split is what is compared on"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["export.py", "--model", "lenet5", "--weights", "DIGITS", *words])
    assert command.main() == 2
    line = capsys.readouterr().err
    assert said in line and line.count("\n") == 1 and list(tmp_path.iterdir()) == []


def table() -> str:
    """The records of `benchmarks/results/int8`, each the NAME.json that an export wrote."""
    head = "| network | test images | error in float32 | in int8 | loss, 95% interval (points) | size | speed |"
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for path in sorted((ROOT / "benchmarks" / "results" / "int8").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        (low, high), (middle, slowest, fastest) = record["loss_interval_95"], record["speed_ratio"]
        size = record["file_bytes"] / record["float_file_bytes"]
        lines.append(
            f"| {path.stem} | {record['test_images']:,} | {record['float_top1_error']:.2f}% | "
            f"{record['top1_error']:.2f}% | {low:+.2f} to {high:+.2f} | "
            f"{size:.2f}x | {middle:.2f}x ({slowest:.2f} to {fastest:.2f}) |"
        )
    return "\n".join(lines)


def test_the_manual_has_the_records() -> None:
    text = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- int8 -->\n(.*?)\n<!-- /int8 -->", text, re.DOTALL)
    assert shown is not None and shown[1] == table() and shown[1].count("\n") > 2
