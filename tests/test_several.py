"""`eval.py` of several networks: the records of separate evaluations, each picture decoded once, and resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import call, only
from PIL import Image
from test_imagenet import SMALL, save_checkpoint

from harness.data.loading.workers import WindowDecoder
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.errors import StoppedError
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.parts import Part
from harness.stories import evaluate_several
from models import build_model

MODELS = ("resnet18", "resnet34", "resnet20")
PICTURES = 12


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Twelve small pictures, one of them unreadable, and weights of two networks under one name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        folder = tmp_path / "data" / "val" / IMAGENET_CLASSES[400 * (number % 3)]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (40, 44 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.JPEG", quality=90)
    (tmp_path / "data" / "val" / IMAGENET_CLASSES[400] / "04.JPEG").write_bytes(b"text")
    return tmp_path


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    """As if torchvision's weights were here: random ones of resnet18 and resnet34."""
    from harness.weights import load

    torch.manual_seed(0)
    files = {
        name: save_checkpoint(place / f"{name}.ckpt", name, build_model(name).state_dict(), SMALL)
        for name in ("resnet18", "resnet34")
    }
    start = load.Weights.__init__

    def found(self: load.Weights, weights: str, model: str, *others: Any) -> None:
        start(self, str(files[model]) if weights == "IMAGENET1K_V1" else weights, model, *others)

    monkeypatch.setattr(load.Weights, "__init__", found)
    return place


def evaluate(place: Path, runs: str, *words: str) -> int:
    data = ("data=imagenet", f"data.root={place / 'data'}", "weights=IMAGENET1K_V1", "force=true")
    how = ("trainer.workers=0", "trainer.threads=1", "trainer.accelerator=cpu", "protocol.batch_size=4")
    return call("eval.py", *data, *how, f"runs={place / runs}", *words)


def folder_of(place: Path, runs: str, model: str) -> Path:
    return only(place / runs / f"{model}-imagenet")


def test_records_are_those_of_separate_evaluations_and_each_picture_is_decoded_once(
    networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate_several, "PART", 5)
    for model in ("resnet18", "resnet34"):
        assert evaluate(networks, "separate", f"model={model}") == 0
    decoded: list[bytes] = []
    decode = WindowDecoder.__call__

    def counted(self: WindowDecoder, request: Any) -> Any:
        decoded.extend(request.paths)
        return decode(self, request)

    monkeypatch.setattr(WindowDecoder, "__call__", counted)
    capsys.readouterr()
    assert evaluate(networks, "together", "model=[resnet34,resnet18]") == 0
    assert len(decoded) == len(set(decoded)) == PICTURES
    for model in ("resnet18", "resnet34"):
        alone, together = (folder_of(networks, runs, model) for runs in ("separate", "together"))
        for file in ("result.json", "predictions.csv", "predictions_readable.csv", "unreadable.csv"):
            assert (together / file).read_bytes() == (alone / file).read_bytes(), file
        log = (together / "log.txt").read_text()
        assert f"{model} of " in log and "12 images" in log and log.count("test top-1 error") == 1
        assert not (together / "parts").exists()
    said = capsys.readouterr().out
    assert "2 networks see each picture together: model=resnet34, model=resnet18" in said
    assert "record in" in said and said.endswith("2 of 2 networks evaluated\n")
