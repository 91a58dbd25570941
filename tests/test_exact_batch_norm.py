"""Statistics of batch norms over one more pass: torch's own loop is the oracle."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from test_finetune import Run, changed, copies, small, tuning
from test_resume_in_process import PLAIN, WithDropout
from test_training import recipe
from torch import nn
from torch.optim.swa_utils import update_bn

from harness.config.fit import check_device
from harness.errors import UserError
from harness.training.averaging import Reported

EXACT = dataclasses.replace(PLAIN, exact_batch_norm=True, crop_padding=1, flip=True)
SIZE = 5  # images of a batch, so that 35 are 7 whole batches


def statistics(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value for key, value in copies(network).items() if "running" in key}


@pytest.mark.parametrize("changes", [{}, {"average_last_epochs": 2}, {"average_decay": 0.8}], ids=str)
def test_statistics_are_those_of_one_more_pass(changes: dict[str, Any], tmp_path: Path) -> None:
    """Of the weights that are reported, on the images of the epoch that would come next; dropout is off."""
    without, settings = (dataclasses.replace(own, batch_size=SIZE, **changes) for own in (PLAIN, EXACT))
    without = dataclasses.replace(without, crop_padding=1, flip=True)
    plain = Run(tmp_path / "plain", without, network=WithDropout())
    run = Run(tmp_path / "exact", settings, network=WithDropout())
    batches = [batch.images for batch in run.data.train_dataloader() if batch.global_size == SIZE]
    assert len(batches) == 7 and run.classifier.global_step == 4 * run.classifier.steps_per_epoch
    oracle = copy.deepcopy(plain.network)
    for layer in oracle.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    update_bn(batches, oracle)
    for key, value in statistics(run.network).items():
        torch.testing.assert_close(value, statistics(oracle)[key], atol=1e-6, rtol=1e-5)
    mine, theirs = copies(run.network), copies(plain.network)
    assert all(torch.equal(mine[key], theirs[key]) for key, _ in plain.network.named_parameters())
    assert run.classifier.history[:-1] == plain.classifier.history[:-1]
    assert run.classifier.history[-1].train == plain.classifier.history[-1].train
    assert run.classifier.history[-1].validation_loss != plain.classifier.history[-1].validation_loss


def test_layers_that_are_frozen_keep_their_statistics(tmp_path: Path) -> None:
    settings = tuning(freeze=["conv1"], exact_batch_norm=True)
    network = small()
    before = statistics(network)
    after = statistics(Run(tmp_path, settings, network=network).network)
    frozen = [key for key in before if key.startswith("bn1")]
    assert frozen and all(torch.equal(before[key], after[key]) for key in frozen)
    assert all(not torch.equal(before[key], after[key]) for key in before if key not in frozen)


def test_a_network_without_batch_norm_is_reported_as_it_is(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    run = Run(tmp_path, EXACT, network=network)
    assert not changed(copies(run.classifier.network), run.classifier.reported)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"trains": "head", "crop_padding": None, "flip": False}, "recipe.trains=head: trains no batch norm"),
        ({"patience": 2}, "recipe.patience=2: a run that may end early"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        recipe(exact_batch_norm=True, **settings)


def test_shared_statistics_are_for_gpus() -> None:
    shared = recipe(sync_batch_norm=True)
    with pytest.raises(UserError, match="works between GPUs, and this run has 2 processes on CPUs"):
        check_device(shared, "cpu", 2, 1)
    check_device(shared, "cpu", 1, 1)
    check_device(shared, "cuda", 2, 1)
    check_device(recipe(), "cpu", 2, 1)


def test_shared_statistics_have_the_same_tensors_and_steps_on_one_device(tmp_path: Path) -> None:
    plain = Run(tmp_path / "plain", PLAIN, network=WithDropout())
    shared = Run(tmp_path / "shared", dataclasses.replace(PLAIN, sync_batch_norm=True), network=WithDropout())
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in shared.network.modules())
    assert not changed(copies(plain.network), shared.network)
    assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in plain.network.modules())
    assert Reported(small(), EXACT, 5).network is not None
