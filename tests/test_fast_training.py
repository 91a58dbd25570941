"""Settings that make training faster: refused where they cannot work, and without effect on what is computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from test_finetune import Run
from test_optimisers import of
from test_training import ALONE, recipe

from harness import build
from harness.config.fit import check_device
from harness.errors import UserError
from harness.evaluation.scores import prepare
from models import build_model


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_fused_optimiser_takes_the_same_steps(tmp_path: Path, name: str) -> None:
    plain = Run(tmp_path / "plain", of(name))
    run = Run(tmp_path / "fused", dataclasses.replace(of(name), fused=True))
    assert run.classifier.optimizers().param_groups[0]["fused"] is True  # type: ignore[union-attr]
    losses, expected = ([epoch.train_loss for epoch in one.classifier.history] for one in (run, plain))
    assert losses == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cuda_graphs": True}, "needs recipe.compile=true"),
        ({"fused": True, "optimizer": "rmsprop"}, "only sgd and adamw can be"),
        ({"fused": True, "optimizer": "lamb"}, "only sgd and adamw can be"),
        ({"fused": True, "precision": "16-mixed"}, "choose bf16-mixed"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipe(**changes)


def test_cuda_graphs_need_a_gpu_and_a_batch_in_one_part() -> None:
    graphs = recipe(compile=True, cuda_graphs=True)
    check_device(graphs, "cuda", 2, 1)
    with pytest.raises(UserError, match="this run is on a CPU"):
        check_device(graphs, "cpu", 1, 1)
    with pytest.raises(UserError, match=r"trainer\.accumulate=2"):
        check_device(graphs, "cuda", 1, 2)


def test_cuda_graphs_are_torchs_mode_of_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    network, modes = build_model("lenet5"), []
    monkeypatch.setattr(network, "compile", lambda mode: modes.append(mode))
    for graphs in (False, True):
        prepare(network, recipe(compile=True, cuda_graphs=graphs), graphs)
    assert modes == [None, "reduce-overhead"]


@pytest.mark.parametrize(("deterministic", "asked"), [(True, ("warn", None)), (False, (False, True))])
def test_a_gpu_is_deterministic_unless_the_recipe_says_otherwise(
    deterministic: bool, asked: tuple[object, bool], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}
    real = lightning.Trainer

    def trainer(**options: Any) -> lightning.Trainer:
        given.update(options)
        return real(**{**options, "deterministic": None, "benchmark": None})

    monkeypatch.setattr(lightning, "Trainer", trainer)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    build.build_trainer(ALONE, tmp_path, "32-true", [], deterministic)
    assert (given["deterministic"], given["benchmark"]) == asked
