"""Optimisers: equal to torch's and timm's by hand, with decay apart, clipping, and the way back from a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from conftest import run_script
from lightning.pytorch.plugins import MixedPrecision
from test_finetune import Run, Small, small, tuning
from test_training import ALONE, RECIPE, recipe
from timm.optim._param_groups import param_groups_weight_decay
from timm.optim.lamb import Lamb
from torch import nn
from torchvision.ops._utils import split_normalization_params

from harness import build
from harness.config.recipe import RecipeConfig
from harness.errors import UserError
from harness.run.checkpoint import read_checkpoint
from harness.training.classifier import Classifier
from harness.training.fine_tuner import FineTuner
from harness.training.schedules import learning_rate, momentum
from models import build_model

Build = Callable[[list[dict[str, Any]], RecipeConfig], torch.optim.Optimizer]

BY_HAND: dict[str, Build] = {
    "sgd": lambda groups, r: torch.optim.SGD(groups, lr=1.0, momentum=0.9, weight_decay=0.05),
    "adamw": lambda groups, r: torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), weight_decay=0.05),
    "rmsprop": lambda groups, r: torch.optim.RMSprop(groups, lr=1.0, momentum=0.9, weight_decay=0.05),
    "lamb": lambda groups, r: Lamb(
        groups, lr=1.0, betas=(0.9, 0.999), weight_decay=0.05, max_grad_norm=1.0 if r.clip_norm is None else None
    ),
}
RATES = {"sgd": 0.1, "adamw": 0.01, "rmsprop": 0.001, "lamb": 0.02}
APART = {"norm_weight_decay": 0.0, "bias_weight_decay": 0.01}


def of(name: str, **changes: object) -> RecipeConfig:
    return recipe(optimizer=name, learning_rate=RATES[name], weight_decay=0.05, schedule="cosine", **changes)


def groups_by_hand(network: Small, settings: RecipeConfig) -> list[dict[str, Any]]:
    if settings.norm_weight_decay is None:
        return [{"params": list(network.parameters())}]
    norms = [network.bn1, network.conv2_x[1], network.conv3_x[1]]
    others = [network.conv1, network.conv2_x[0], network.conv3_x[0], network.fc]
    return [
        {"params": [layer.weight for layer in others]},
        {"params": [layer.bias for layer in others], "weight_decay": 0.01},
        {"params": [p for layer in norms for p in layer.parameters()], "weight_decay": 0.0},
    ]


def by_hand(run: Run) -> nn.Module:
    """The same steps with the library's optimiser, on the images that the loader gives."""
    network, settings = small(), run.recipe
    optimizer = BY_HAND[settings.optimizer](groups_by_hand(network, settings), settings)
    run.data.trainer = build.build_trainer(ALONE, run.folder, "32-true", [])
    loader = run.data.train_dataloader()
    for step in range(20):
        loader.order.position = lambda step=step: step  # type: ignore[misc]
        batch = next(iter(loader))
        optimizer.zero_grad()
        F.cross_entropy(network(batch.images), batch.labels).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step, 5)
            if settings.lowest_momentum is not None:
                now = momentum(settings, step, 5)
                group.update({"betas": (now, 0.999)} if "betas" in group else {"momentum": now})
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimizer.step()
    return network


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"clip_norm": 0.3},
        APART,
        {"schedule": "one_cycle", "warmup_epochs": 1, "lowest_momentum": 0.5},
    ],
    ids=["plain", "clipped", "apart", "one_cycle"],
)
def test_an_optimiser_is_the_librarys(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    run = Run(tmp_path, dataclasses.replace(of(name), **changes))
    expected, before = by_hand(run).state_dict(), small().state_dict()
    for key, value in run.network.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert not torch.equal(run.network.get_submodule("fc").weight, before["fc.weight"])  # type: ignore[arg-type]


def test_what_is_off_leaves_one_group_of_sgd() -> None:
    network = small()
    optimizer = Classifier(network, RECIPE, 5, seed=0).configure_optimizers()
    expected = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    assert type(optimizer) is torch.optim.SGD and optimizer.state_dict() == expected.state_dict()


# --------------------------------------------------------------------------------------------------------- weight decay


def decays(network: nn.Module, settings: RecipeConfig) -> dict[str, float]:
    names = {parameter: name for name, parameter in network.named_parameters()}
    optimizer = Classifier(network, settings, 5, seed=0).configure_optimizers()
    return {names[p]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("model", ["resnet50", "vgg11_bn", "resnet20"])
def test_decay_is_left_out_as_timm_and_torchvision_leave_it_out(model: str) -> None:
    """timm leaves out norms and biases, as in the recipes of ResNet strikes back; torchvision's V2 only norms."""
    with torch.device("meta"):
        network = build_model(model)
    names = {parameter: name for name, parameter in network.named_parameters()}
    both = decays(network, recipe(weight_decay=0.02, norm_weight_decay=0.0, bias_weight_decay=0.0))
    theirs = param_groups_weight_decay(network, weight_decay=0.02)
    assert both == {names[p]: group["weight_decay"] for group in theirs for p in group["params"]}
    norms, others = split_normalization_params(network)
    alone = decays(network, recipe(weight_decay=0.02, norm_weight_decay=0.0))
    assert alone == {**{names[p]: 0.0 for p in norms}, **{names[p]: 0.02 for p in others}}
    assert alone != both


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4, affine=True)])
def test_every_kind_of_norm_is_one(norm: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(4, 4), norm)
    found = decays(network, recipe(weight_decay=0.02, norm_weight_decay=0.5))
    assert found == {"0.weight": 0.02, "0.bias": 0.02, "1.weight": 0.5, "1.bias": 0.5}


def test_the_stages_of_fine_tuning_keep_their_rates(tmp_path: Path) -> None:
    settings = tuning(norm_weight_decay=0.0, freeze=["conv3_x"])
    tuner = FineTuner(small(), settings, 5, seed=0)
    groups = tuner.configure_optimizers().param_groups
    assert [(g["name"], g["weight_decay"], len(g["params"])) for g in groups] == [
        *(("conv1", 0.01, 2), ("conv1", 0.0, 2), ("conv2_x", 0.01, 2), ("conv2_x", 0.0, 2), ("fc", 0.01, 2)),
    ]
    assert tuner.rate_factors == (0.03125, 0.03125, 0.125, 0.125, 1.0)
    Run(tmp_path, settings)


def test_clipping_leaves_frozen_stages_out(tmp_path: Path) -> None:
    """Their gradients, which several devices compute, would take a part of the norm."""
    tuner = FineTuner(small(), tuning(freeze=["conv1"], unfreeze_epoch=2, clip_norm=1.0), 5, seed=0)
    tuner._trainer = L.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    for parameter in tuner.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    tuner.on_before_optimizer_step(tuner.configure_optimizers())
    left = [p.grad for p in tuner.network.parameters() if p.grad is not None]
    assert len(left) == 10  # all but weight and bias of conv1 and its norm
    assert float(torch.stack([gradient.square().sum() for gradient in left]).sum()) == pytest.approx(1.0, rel=1e-4)


# ------------------------------------------------------------------------------------------------------------- clipping


class Norms(L.Callback):
    """Writes down the norm of the gradients that the optimiser gets."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.seen.append(float(nn.utils.get_total_norm(gradients)))


def test_gradients_of_float16_are_clipped_without_their_scale(tmp_path: Path) -> None:
    """A CPU has the scaler, too, though this program refuses float16 there."""
    norms, settings = Norms(), recipe(clip_norm=0.3, epochs=1)
    run = Run(tmp_path / "plain", settings, callbacks=(norms,))
    assert max(norms.seen) == pytest.approx(0.3, rel=1e-4)
    scaled = Norms()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    trainer = L.Trainer(
        plugins=[MixedPrecision("16-mixed", "cpu", scaler)],
        callbacks=[scaled],
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(small(), settings, 5, seed=3), datamodule=run.data)
    assert scaled.seen == pytest.approx(norms.seen, rel=0.05)


@pytest.mark.slow
def test_two_processes_clip_like_one(tmp_path: Path) -> None:
    weights = {}
    for trainer in ("cpu", "ddp"):
        words = ["model=mlp", "model.hidden=[8]", "recipe.epochs=2", "recipe.batch_size=251", "recipe.clip_norm=0.05"]
        words += ["recipe.optimizer=adamw", "recipe.learning_rate=0.01", "trainer.threads=1"]
        done = run_script("train.py", *words, f"trainer={trainer}", f"runs={tmp_path / trainer}")
        assert done.returncode == 0, done.stderr
        (folder,) = (tmp_path / trainer / "mlp-digits").iterdir()
        assert json.loads((folder / "result.json").read_text())["training"]["recipe"]["clip_norm"] == 0.05
        weights[trainer] = read_checkpoint(folder / "checkpoints" / "last.ckpt").state_dict
    for name, tensor in weights["cpu"].items():
        torch.testing.assert_close(weights["ddp"][name], tensor, atol=1e-5, rtol=1e-4)


# ----------------------------------------------------------------------------------------------------- back and without


@pytest.mark.parametrize("cut_at", [4, 10])
@pytest.mark.parametrize("name", BY_HAND)
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, name: str, cut_at: int) -> None:
    settings = of(name, **APART, clip_norm=0.5)
    unbroken = Run(tmp_path / "unbroken", settings)
    Run(tmp_path / "broken", settings, cut_at=cut_at)
    broken = Run(tmp_path / "broken", settings)
    assert broken.classifier.history == unbroken.classifier.history
    for key, value in unbroken.network.state_dict().items():
        assert torch.equal(value, broken.network.state_dict()[key]), key


def test_without_timm_lamb_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in ("timm.optim", "timm.optim.lamb"):
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"^recipe.optimizer=lamb needs timm: pip install 'cnn-zoo\[timm\]'$"):
        Classifier(small(), of("lamb"), 5, seed=0).configure_optimizers()
    Classifier(small(), of("adamw"), 5, seed=0).configure_optimizers()
