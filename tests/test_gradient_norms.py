"""`gradients.csv`: norms of the gradients before clipping, by layer, the same after any interruption."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import lightning as L
import pytest
import torch
from in_process import call, only
from PIL import Image
from test_finetune import Run, small
from test_resume_in_process import PLAIN
from torch import nn

from harness.training.gradient_norms import PICTURE_FILE, TABLE_FILE, GradientNorms, draw_norms


class Watch(L.Callback):
    """Keeps copies of the gradients of every step, as they come out of the backward pass."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor | None]] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: object) -> None:
        found = pl_module.named_parameters()
        self.gradients.append({name: None if p.grad is None else p.grad.clone() for name, p in found})


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / TABLE_FILE).open(newline="") as file:
        return list(csv.DictReader(file))


def test_norms_are_those_of_each_layers_weight_before_clipping(tmp_path: Path) -> None:
    watch = Watch()
    clipped = dataclasses.replace(PLAIN, clip_norm=1e-3)
    assert clipped.clip_norm is not None
    run = Run(tmp_path, clipped, callbacks=(watch, GradientNorms(tmp_path, 3)))
    found = rows(tmp_path)
    steps = range(0, len(watch.gradients), 3)
    assert [int(row["step"]) for row in found] == list(steps) and len(found) > 3
    layers = [name for name, layer in run.network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert list(found[0]) == ["step", *layers] == ["step", "conv1", "conv2_x.0", "conv3_x.0", "fc"]
    for row, step in zip(found, steps, strict=True):
        for layer in layers:
            gradient = watch.gradients[step][f"network.{layer}.weight"]
            assert gradient is not None and float(row[layer]) == pytest.approx(gradient.norm().item())
            assert float(row[layer]) > clipped.clip_norm or layer != "fc"
    with Image.open(tmp_path / PICTURE_FILE) as picture:
        assert picture.width > 500


@pytest.mark.parametrize("cut_at", [2, 5, 13])
def test_an_interruption_changes_no_row(cut_at: int, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Run(whole, PLAIN, callbacks=(GradientNorms(whole, 2),))
    Run(broken, PLAIN, callbacks=(GradientNorms(broken, 2),), cut_at=cut_at, network=small())
    Run(broken, PLAIN, callbacks=(GradientNorms(broken, 2),))
    assert (broken / TABLE_FILE).read_bytes() == (whole / TABLE_FILE).read_bytes()
    for name in (TABLE_FILE, PICTURE_FILE):
        (broken / name).unlink()
    Run(broken, PLAIN, callbacks=(GradientNorms(broken, 2),))  # nothing is left to train
    assert (broken / TABLE_FILE).read_bytes() == (whole / TABLE_FILE).read_bytes() and (broken / PICTURE_FILE).exists()


def test_a_layer_that_is_not_trained_has_no_norm(tmp_path: Path) -> None:
    network = small()
    network.conv1.weight.requires_grad_(False)
    Run(tmp_path, PLAIN, network=network, callbacks=(GradientNorms(tmp_path, 4),))
    assert {row["conv1"] for row in rows(tmp_path)} == {""} and all(float(row["fc"]) for row in rows(tmp_path))


def test_one_row_is_drawn(tmp_path: Path) -> None:
    draw_norms(tmp_path / "one.png", [[0, 1.0, None, 2.0]])
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_the_setting_writes_them_and_moves_no_number(tmp_path: Path) -> None:
    words = ("model=mlp", "data=digits", "trainer=smoke", "trainer.accelerator=cpu")
    for name, more in (("plain", ()), ("norms", ("trainer.gradient_norms=5",))):
        assert call("train.py", *words, *more, f"runs={tmp_path / name}") == 0
    plain, norms = (only(only(tmp_path / name)) for name in ("plain", "norms"))
    assert not (plain / TABLE_FILE).exists() and rows(norms)[0]["step"] == "0"
    records = [json.loads((run / "result.json").read_text()) for run in (plain, norms)]
    assert records[0]["weights"]["sha256"] == records[1]["weights"]["sha256"]
