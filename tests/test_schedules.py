"""Schedules: equal to torch's own, shortened in proportion to the epochs, and refused where they cannot work."""

from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import run_script
from in_process import call
from test_finetune import Run
from test_training import Network, fit, past, recipe
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from harness.config.compose import compose
from harness.config.files import choices
from harness.config.recipe import RecipeConfig
from harness.errors import UserError
from harness.training.classifier import Classifier
from harness.training.schedules import learning_rate, momentum, plateaus

STEPS = 7  # of an epoch


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.95)


def torchs(scheduler: LRScheduler, count: int) -> tuple[list[float], list[float]]:
    """Rates and momenta of the steps of a scheduler of torch."""
    rates, momenta = [], []
    for _ in range(count):
        (group,) = scheduler.optimizer.param_groups
        rates.append(group["lr"])
        momenta.append(group["momentum"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates, momenta


def ours(settings: RecipeConfig) -> list[float]:
    return [learning_rate(settings, step, STEPS) for step in range(settings.epochs * STEPS)]


@pytest.mark.parametrize(("epochs", "warm"), [(10, 3), (30, 9), (4, 1), (20, 4.6)])
def test_a_one_cycle_is_torchs_in_rate_and_momentum(epochs: int, warm: float) -> None:
    settings = recipe(schedule="one_cycle", epochs=epochs, warmup_epochs=warm, momentum=0.95, lowest_momentum=0.85)
    total = epochs * STEPS
    rates, momenta = torchs(
        lr_scheduler.OneCycleLR(optimizer(), 0.1, total_steps=total, pct_start=warm / epochs), total - 1
    )
    assert ours(settings)[:-1] == pytest.approx(rates, rel=1e-9)
    assert [momentum(settings, step, STEPS) for step in range(total - 1)] == pytest.approx(momenta, rel=1e-9)
    first, *_, last = ours(settings)
    assert (first, last) == pytest.approx((0.1 / 25, 0.1 / 25e4)) and max(ours(settings)) <= 0.1
    assert momentum(recipe(), 3, STEPS) == 0.9


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("warm", [0, 2])
def test_a_polynomial_is_torchs_behind_a_linear_warmup(power: float, warm: int) -> None:
    settings = recipe(schedule="polynomial", power=power, epochs=8, warmup_epochs=warm)
    with_torch = optimizer()
    decay = lr_scheduler.PolynomialLR(with_torch, total_iters=(8 - warm) * STEPS, power=power)
    assert ours(settings) == pytest.approx(behind_a_warmup(with_torch, decay, warm * STEPS, 8 * STEPS), rel=1e-9)


@pytest.mark.parametrize("warm", [0, 2])
def test_a_cosine_is_torchs_behind_a_linear_warmup(warm: int) -> None:
    settings = recipe(schedule="cosine", epochs=8, warmup_epochs=warm)
    with_torch = optimizer()
    decay = lr_scheduler.CosineAnnealingLR(with_torch, T_max=(8 - warm) * STEPS)
    assert ours(settings) == pytest.approx(behind_a_warmup(with_torch, decay, warm * STEPS, 8 * STEPS), rel=1e-9)


def behind_a_warmup(with_torch: torch.optim.SGD, decay: LRScheduler, warm: int, total: int) -> list[float]:
    """Rates as torchvision's reference puts a schedule together, with a warm-up that begins at one step's share."""
    if not warm:
        return torchs(decay, total)[0]
    for group in with_torch.param_groups:
        group["lr"] = group["initial_lr"]
    rise = lr_scheduler.LinearLR(with_torch, start_factor=1 / warm, total_iters=warm - 1)
    return torchs(lr_scheduler.SequentialLR(with_torch, [rise, decay], milestones=[warm]), total)[0]


def test_steps_are_torchs() -> None:
    settings = recipe(schedule="step", epochs=8, milestones=[2, 5], gamma=0.2)
    steps = [2 * STEPS, 5 * STEPS]
    assert ours(settings) == pytest.approx(
        torchs(lr_scheduler.MultiStepLR(optimizer(), steps, gamma=0.2), 8 * STEPS)[0]
    )


@pytest.mark.parametrize("patience", [1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_plateaus_are_torchs(patience: int, seed: int) -> None:
    """Torch counts how many epochs without progress it bears; here patience counts those up to the drop."""
    draw = random.Random(seed)
    history = past(*((min(10, epoch // 4 + draw.randint(0, 4)), draw.random()) for epoch in range(40)))
    settings = recipe(schedule="plateau", epochs=41, plateau_patience=patience, gamma=0.5)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer(), factor=0.5, patience=patience - 1, threshold=0, eps=0)
    for epoch in range(41):
        (group,) = scheduler.optimizer.param_groups
        for step in (epoch * STEPS, (epoch + 1) * STEPS - 1):  # what later epochs bring does not matter
            assert learning_rate(settings, step, STEPS, history) == pytest.approx(group["lr"], rel=1e-12)
        if epoch < 40:
            validation = history[epoch].validation
            assert validation is not None
            scheduler.step(validation.top1_error)
    assert plateaus(history, patience) > 0


def test_he_2016_warms_up_for_400_iterations_at_a_tenth() -> None:
    """[He 2016, appendix]: 0.01 for the first 400 iterations, then 0.1."""
    settings = recipe(
        schedule="step", epochs=164, milestones=[82, 123], warmup_steps=400, warmup_rate=0.01, learning_rate=0.1
    )
    rates = [learning_rate(settings, step, 391) for step in (0, 399, 400, 82 * 391 - 1, 82 * 391, 123 * 391)]
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01, 0.001])


def test_a_warmup_by_steps_is_one_by_epochs() -> None:
    by_epochs = recipe(schedule="cosine", epochs=8, warmup_epochs=2)
    by_steps = dataclasses.replace(by_epochs, warmup_epochs=0, warmup_steps=2 * STEPS)
    assert ours(by_steps) == pytest.approx(ours(by_epochs), rel=1e-12)


@pytest.mark.parametrize("warm", [0.05, 0.1, 0.4, 1.3])
def test_a_warmup_that_ends_within_a_step_does_not_overshoot(warm: float) -> None:
    rates = ours(recipe(warmup_epochs=warm))
    assert max(rates) == pytest.approx(0.1) and rates == sorted(rates)


# ----------------------------------------------------------------------------------------------------------- proportion


def composed(*words: str) -> RecipeConfig:
    return compose("train", words).recipe


def test_a_schedule_is_shortened_and_lengthened_with_its_epochs() -> None:
    short = composed("recipe=lecun_1998", "recipe.epochs=10")
    assert (short.epochs, short.milestones) == (10, [2.0, 4.0, 6.0, 8.0])
    assert composed("recipe=he_2015_cifar", "recipe.epochs=1").milestone_steps == [195, 293]
    assert composed("recipe=he_2015_cifar", "recipe.epochs=328").milestone_steps == [64_000, 96_000]
    assert composed("recipe=he_2015_cifar").milestone_steps == [32_000, 48_000]
    assert composed("recipe.epochs=3").warmup_epochs == pytest.approx(0.1)  # of 1 of 30
    assert composed("recipe.epochs=30") == composed()


def test_what_the_user_sets_stays_as_it_is() -> None:
    words = ("recipe=lecun_1998", "recipe.epochs=10")
    assert composed(*words, "recipe.milestones=[2,5,7,9]").milestones == [2, 5, 7, 9]
    assert composed("recipe.epochs=10", "recipe.warmup_epochs=2").warmup_epochs == 2
    config = compose("train", words)
    assert config.overrides == [*words]  # the user's words alone


def test_a_warmup_by_steps_is_shortened_too() -> None:
    def steps(epochs: int) -> int | None:
        return composed(
            "model=resnet110", "recipe=he_2015_cifar", "data=cifar10", f"recipe.epochs={epochs}"
        ).warmup_steps

    assert [steps(epochs) for epochs in (164, 41, 1)] == [400, 100, 2]


@pytest.mark.parametrize("name", choices("recipe"))
def test_every_recipe_can_be_one_epoch(name: str) -> None:
    """It goes through its whole schedule: the same rates at the same share of the run."""
    words = (f"recipe={name}", "data=cifar10", "model=resnet20", "weights=a.pth")
    whole, short = composed(*words), composed(*words, "recipe.epochs=1")
    assert short.epochs == 1
    steps = 1_000_000  # so that one of them is nothing beside a warm-up
    for share in (0.0, 0.3, 0.55, 0.8, 0.999):
        of_whole = learning_rate(whole, round(share * whole.epochs * steps), steps)
        assert learning_rate(short, round(share * steps), steps) == pytest.approx(of_whole, rel=0.05, abs=2e-3), share


def test_hydras_own_page_shows_the_shortened_schedule() -> None:
    page = run_script("train.py", "recipe=lecun_1998", "recipe.epochs=10", "--cfg", "job").stdout
    assert "milestones:\n  - 2.0\n  - 4.0\n  - 6.0\n  - 8.0\n" in page


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"warmup_steps": 5, "warmup_epochs": 1}, "recipe.warmup_steps=5 recipe.warmup_epochs=1: give one of them"),
        ({"schedule": "one_cycle"}, "recipe.schedule=one_cycle rises in the warm-up: set recipe.warmup_epochs"),
        ({"schedule": "step"}, "recipe.schedule=step needs recipe.milestones"),
        (
            {"schedule": "step", "milestones": [1], "milestone_steps": [9]},
            "recipe.milestones=[1] recipe.milestone_steps=[9]: give one of them",
        ),
        (
            {"schedule": "step", "milestones": [1, 2], "milestone_factors": [0.1]},
            "recipe.milestone_factors=[0.1]: needs recipe.schedule=step and one factor for each milestone, of which "
            "there are 2",
        ),
        ({"warmup_rate": 0.1}, "recipe.warmup_rate=0.1: needs recipe.warmup_epochs or recipe.warmup_steps"),
        (
            {"warmup_rate": 0.1, "warmup_epochs": 1, "schedule": "one_cycle"},
            "recipe.warmup_rate=0.1: recipe.schedule=one_cycle rises in the warm-up: leave it out",
        ),
        ({"lowest_momentum": 0.5}, "recipe.lowest_momentum=0.5: needs recipe.schedule=one_cycle"),
        (
            {"lowest_momentum": 0.95, "schedule": "one_cycle", "warmup_epochs": 1},
            "recipe.lowest_momentum=0.95: must be at most recipe.momentum=0.9",
        ),
        ({"nesterov": True, "optimizer": "adamw"}, "recipe.nesterov=true recipe.optimizer=adamw: Nesterov's"),
    ],
)
def test_settings_that_do_not_work_together_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=re.escape(line)):
        recipe(**changes)


def test_a_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UserError, match=r"recipe.warmup_steps=20: the run has only 20 steps"):
        Classifier(Network(), recipe(warmup_steps=20), 5, seed=0)
    Classifier(Network(), recipe(warmup_steps=19), 5, seed=0)


def test_a_plateau_needs_a_validation_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train.py", "recipe.schedule=plateau", "data.validation=0", f"runs={tmp_path}") == 2
    assert capsys.readouterr().err == (
        "train.py: recipe.schedule=plateau: needs a validation split, and there is none; set data.validation above 0\n"
    )
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------- in a run

PLATEAU = recipe(schedule="plateau", plateau_patience=1, gamma=0.5, epochs=6, learning_rate=0.5)
CYCLE = recipe(schedule="one_cycle", warmup_epochs=1.2, lowest_momentum=0.5)


@pytest.mark.parametrize("cut_at", [4, 10, 17])
@pytest.mark.parametrize("settings", [PLATEAU, CYCLE], ids=["plateau", "one_cycle"])
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, settings: RecipeConfig, cut_at: int) -> None:
    unbroken = Run(tmp_path / "unbroken", settings)
    Run(tmp_path / "broken", settings, cut_at=cut_at)
    broken = Run(tmp_path / "broken", settings)
    assert broken.classifier.history == unbroken.classifier.history
    for key, value in unbroken.network.state_dict().items():
        assert torch.equal(value, broken.network.state_dict()[key]), key


def test_the_rate_of_a_plateau_follows_the_runs_own_history(tmp_path: Path) -> None:
    history = fit(Network(), tmp_path, PLATEAU).history
    rates = [0.5 * 0.5 ** plateaus(history[:epoch], 1) for epoch in range(6)]
    assert [epoch.learning_rate for epoch in history] == rates and rates[-1] < 0.5
