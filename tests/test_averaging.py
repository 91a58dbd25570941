"""Averages of the weights: torch's own are the oracle, and what is validated, kept and reported is the average."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from in_process import call, only
from test_finetune import PROBE, Run, changed, copies, small, tuning
from test_resume_in_process import PLAIN, CutInValidation, WithDropout
from test_training import RECIPE, recipe
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.config.compose import compose
from harness.config.files import CONFIGS
from harness.config.recipe import RecipeConfig
from harness.errors import UserError
from harness.run.checkpoint import BEST, CHECKPOINTS, LAST, checkpoint_of_run, read_checkpoint, read_content
from harness.training.averaging import Reported, first_step, lag
from harness.training.classifier import TRAINED, Classifier

STEPS = 5  # of an epoch, in `Run`
EMA = dataclasses.replace(PLAIN, average_decay=0.7)
SWA = dataclasses.replace(PLAIN, average_last_epochs=3)


class Oracle(L.Callback):
    """Averages as torch's class does; equal numbers, because both use the same function over lists of tensors."""

    def __init__(self, run: RecipeConfig, every: int, ends_of_warmup: int) -> None:
        self.decay, self.every, self.warm = run.average_decay, every, ends_of_warmup
        self.last = run.average_last_epochs
        self.begins = 0 if self.last is None else (run.epochs - self.last) * STEPS + 1
        self.average: AveragedModel | None = None
        self.at: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        network, step = pl_module.network, trainer.global_step
        assert isinstance(network, torch.nn.Module)
        if self.average is None:
            if self.decay is not None:
                function: dict[str, Any] = {"multi_avg_fn": get_ema_multi_avg_fn(self.decay)}  # type: ignore[no-untyped-call]
            else:
                function = {"avg_fn": lambda own, new, count: (own + (new - own) / (int(count) + 1)).to(own.dtype)}
            self.average = AveragedModel(network, use_buffers=True, **function)
        if step % self.every == 0 and step >= self.begins:
            self.average.update_parameters(network)
            if step <= self.warm:
                self.average.n_averaged.fill_(0)  # as torchvision's reference script does
        self.at[step] = copies(self.average.module if self.average.n_averaged else network)


@pytest.mark.parametrize(
    ("changes", "every", "warm"),
    [
        ({"average_decay": 0.7}, 1, 5),
        ({"average_decay": 0.9, "average_every": 3}, 3, 5),
        ({"average_decay": 0.9, "average_every": 5}, 5, 5),
        ({"average_decay": 0.5, "warmup_epochs": 0}, 1, 0),
        ({"average_decay": 0.5, "warmup_epochs": 0, "warmup_steps": 7}, 1, 7),
        ({"average_last_epochs": 3}, STEPS, 0),
        ({"average_last_epochs": 4}, STEPS, 0),
        ({"average_last_epochs": 1}, STEPS, 0),
    ],
    ids=str,
)
def test_an_average_is_torchs(changes: dict[str, Any], every: int, warm: int, tmp_path: Path) -> None:
    """After every step, buffers included; torch truncates a mean of counts, which says nothing."""
    settings = dataclasses.replace(PLAIN, **changes)
    oracle, seen = Oracle(settings, every, warm), dict[int, dict[str, torch.Tensor]]()

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
            step = trainer.global_step
            if step >= pl_module._reported.first:
                seen[step] = copies(pl_module.reported)

    run = Run(tmp_path, settings, network=WithDropout(), callbacks=(oracle, Watch()))
    assert len(seen) == 4 * STEPS - run.classifier._reported.first + 1  # type: ignore[union-attr]
    for step, tensors in seen.items():
        for key, value in tensors.items():
            if "num_batches" not in key:
                torch.testing.assert_close(value, oracle.at[step][key], rtol=0, atol=0 if every != STEPS else 1e-7)
    assert run.network.state_dict().keys() == oracle.at[20].keys()
    counts = [value for key, value in run.network.state_dict().items() if "num_batches" in key]
    assert counts and all(count == 4 * STEPS for count in counts) == (20 % every == 0)


@pytest.mark.parametrize("settings", [EMA, SWA], ids=["exponential", "equal"])
def test_the_average_is_validated_kept_and_reported(settings: RecipeConfig, tmp_path: Path) -> None:
    """And the trained weights are beside it."""
    plain = Run(tmp_path / "plain", PLAIN, network=WithDropout())
    shown, asked = dict[int, dict[str, torch.Tensor]](), list[int]()

    class Watch(L.Callback):
        def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
            shown[trainer.current_epoch + 1] = copies(pl_module.reported)
            asked.append(pl_module.reported.calls)

        def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            asked.append(pl_module.reported.calls)

    run = Run(tmp_path / "averaged", settings, network=WithDropout(), callbacks=(Watch(),))
    assert asked == [0, 2, 2, 4, 4, 6, 6, 8], "the validation of 10 images has two batches of 7"
    best, last = (read_checkpoint(run.folder / CHECKPOINTS / name) for name in (BEST, LAST))
    for checkpoint in (best, last):
        assert all(torch.equal(shown[checkpoint.epoch][key], value) for key, value in checkpoint.state_dict.items())
    assert not changed(shown[4], run.network)  # which is evaluated
    trained = read_content(run.folder / CHECKPOINTS / LAST)[TRAINED]
    assert all(torch.equal(trained[key], value) for key, value in plain.network.state_dict().items())
    assert changed(trained, run.network)
    for mine, theirs in zip(run.classifier.history, plain.classifier.history, strict=True):
        assert (mine.train_loss, mine.train) == (theirs.train_loss, theirs.train)
    assert run.classifier.history[-1].validation_loss != plain.classifier.history[-1].validation_loss
    assert all(tensor.requires_grad for tensor in run.network.parameters())


def test_until_an_average_begins_the_weights_are_reported_as_they_are(tmp_path: Path) -> None:
    """So they are if 32 steps are more than the run has."""
    plain = Run(tmp_path / "plain", PLAIN, network=WithDropout())
    late = dataclasses.replace(EMA, average_every=32)
    run = Run(tmp_path / "late", late, network=WithDropout())
    assert run.classifier.history == plain.classifier.history and not changed(copies(plain.network), run.network)
    swa = Run(tmp_path / "swa", SWA, network=WithDropout())
    assert swa.classifier.history[:2] == plain.classifier.history[:2]
    assert swa.classifier.history[2:] != plain.classifier.history[2:]


@pytest.fixture(scope="module", params=[EMA, SWA], ids=["exponential", "equal"])
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("unbroken"), request.param, network=WithDropout())


def assert_same(broken: Run, unbroken: Run) -> None:
    assert broken.classifier.history == unbroken.classifier.history
    assert not changed(copies(unbroken.network), broken.network)
    for file in (LAST, BEST):
        mine, whole = (read_content(run.folder / CHECKPOINTS / file) for run in (broken, unbroken))
        for part in ("state_dict", TRAINED):
            assert mine[part].keys() == whole[part].keys()
            assert all(torch.equal(mine[part][key], value) for key, value in whole[part].items())


@pytest.mark.parametrize("steps", [(5,), (3, 9, 14, 19)], ids=str)
@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_an_average_goes_on_where_it_was_cut_off(
    steps: tuple[int, ...], checkpoint_every: int, unbroken: Run, tmp_path: Path
) -> None:
    settings = unbroken.recipe
    for step in steps:
        Run(tmp_path, settings, network=WithDropout(), cut_at=step, checkpoint_every=checkpoint_every)
    assert_same(Run(tmp_path, settings, network=WithDropout()), unbroken)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("epoch", [3, 4])
def test_an_average_goes_on_around_a_validation(moment: str, epoch: int, unbroken: Run, tmp_path: Path) -> None:
    cut = (CutInValidation(moment, epoch),)
    Run(tmp_path, unbroken.recipe, network=WithDropout(), cut_at=5 * epoch, callbacks=cut)
    assert_same(Run(tmp_path, unbroken.recipe, network=WithDropout()), unbroken)


def test_a_run_with_nothing_left_to_train_reports_the_average(unbroken: Run, tmp_path: Path) -> None:
    """It was killed after its last checkpoint."""
    first = Run(tmp_path, unbroken.recipe, network=WithDropout())
    again = Run(tmp_path, unbroken.recipe, network=WithDropout())
    assert not changed(copies(first.network), again.network)
    assert_same(again, unbroken)


def test_the_best_epoch_is_reported_with_its_average(tmp_path: Path) -> None:
    settings = dataclasses.replace(EMA, patience=4, learning_rate=0.5)
    run = Run(tmp_path, settings, network=WithDropout())
    best = read_checkpoint(tmp_path / CHECKPOINTS / BEST)
    assert run.recorder.reported == best.epoch and checkpoint_of_run(tmp_path).name in (BEST, LAST)
    assert all(torch.equal(run.network.state_dict()[key], value) for key, value in best.state_dict.items())
    trained = read_content(tmp_path / CHECKPOINTS / BEST)[TRAINED]
    assert any(not torch.equal(trained[key], value) for key, value in best.state_dict.items())


@pytest.mark.parametrize("freeze", [[], ["conv1"]])
def test_fine_tuning_averages_and_leaves_frozen_stages(freeze: list[str], tmp_path: Path) -> None:
    start = small()
    before = copies(start)
    run = Run(tmp_path, tuning(average_decay=0.8, freeze=freeze), network=start)
    assert changed(before, run.network) == {"conv1", "bn1", "conv2_x", "conv3_x", "fc"} - (
        {"conv1", "bn1"} if freeze else set()
    )
    trained = read_content(tmp_path / CHECKPOINTS / LAST)[TRAINED]
    assert "fc" in changed(trained, run.network)


def test_a_linear_probe_averages_its_head_and_keeps_the_whole_network(tmp_path: Path) -> None:
    start, settings = small(), dataclasses.replace(PROBE, average_decay=0.8)
    before = copies(start)
    run = Run(tmp_path, settings, network=start)
    assert changed(before, run.network) == {"fc"}
    content = read_content(tmp_path / CHECKPOINTS / LAST)
    assert content[TRAINED].keys() == {"weight", "bias"}
    kept = read_checkpoint(tmp_path / CHECKPOINTS / LAST).state_dict
    assert kept.keys() == before.keys() and torch.equal(kept["fc.weight"], run.network.get_parameter("fc.weight"))
    assert not torch.equal(kept["fc.weight"], content[TRAINED]["weight"])
    broken = tmp_path / "broken"
    Run(broken, settings, network=small(), cut_at=7)
    assert_same(Run(broken, settings, network=small()), run)


def test_a_command_reports_the_average_and_an_evaluation_repeats_it(tmp_path: Path) -> None:
    words = ("recipe.epochs=2", "recipe.average_decay=0.95", "trainer=cpu", "trainer.threads=1")
    assert call("train.py", *words, f"runs={tmp_path / 'runs'}") == 0
    run = only(tmp_path / "runs" / "lenet5-digits")
    reported, predictions = ((run / name).read_bytes() for name in ("result.json", "predictions.csv"))
    assert call("eval.py", f"run={run}", "trainer.threads=1", f"runs={tmp_path / 'again'}") == 0
    again = only(only(tmp_path / "again"))
    assert ((again / "result.json").read_bytes(), (again / "predictions.csv").read_bytes()) == (reported, predictions)
    sha256 = json.loads(reported)["weights"]["sha256"]
    (run / "result.json").unlink()  # as if it had been killed before
    assert call("train.py", f"resume={run}") == 0
    assert (run / "result.json").read_bytes() == reported and (run / "predictions.csv").read_bytes() == predictions
    assert call("train.py", f"weights={run}", "recipe.epochs=1", "trainer.max_batches=1", f"runs={tmp_path / 'w'}") == 0
    further = json.loads((only(tmp_path / "w" / "lenet5-digits") / "result.json").read_text())
    assert further["pretrained"]["sha256"] and further["weights"]["sha256"] != sha256


def test_torchvisions_second_recipe_averages_as_its_script_works_out() -> None:
    """[torchvision, references/classification/train.py]: 0.99998 every 32 steps, adjusted to batch and epochs."""

    def of(*words: str) -> RecipeConfig:
        return compose("train", ["recipe=torchvision_v2", "data=imagenet", "model=resnet50", *words]).recipe

    alpha = min(1.0, (1.0 - 0.99998) * 8 * 128 * 32 / 600)
    assert of().average_decay == pytest.approx(1 - alpha, abs=1e-6) and of().average_every == 32
    for epochs in (100, 1200, 1):
        assert of(f"recipe.epochs={epochs}").average_decay == pytest.approx(1 - alpha * 600 / epochs, abs=1e-3)
    assert of("recipe.epochs=10", "recipe.average_decay=0.5").average_decay == 0.5
    words = ("recipe.average_decay=null", "recipe.average_every=1", "recipe.average_last_epochs=60")
    assert of(*words).average_last_epochs == 60


def test_the_length_of_an_equal_average_goes_with_the_epochs(tmp_path: Path) -> None:
    text = (CONFIGS / "recipe" / "sgd_cosine.yaml").read_text()
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "own.yaml").write_text(f"{text}average_last_epochs: 6\n")
    recipes = [
        compose("train", ["recipe=own", *words], str(tmp_path)).recipe
        for words in (
            [],
            ["recipe.epochs=10"],
            ["recipe.epochs=1"],
            ["recipe.epochs=10", "recipe.average_last_epochs=7"],
        )
    ]
    assert [own.average_last_epochs for own in recipes] == [6, round(60 / recipes[0].epochs), 1, 7]


def test_every_device_has_the_buffers_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each updates batch norms by its own images, and a checkpoint has rank 0's."""
    sent = list[torch.Tensor]()
    monkeypatch.setattr("torch.distributed.broadcast", lambda tensor, _: sent.append(tensor))
    classifier = Classifier(small(), recipe(average_decay=0.5), STEPS, seed=3)
    classifier._trainer = SimpleNamespace(world_size=2, global_rank=1, global_step=STEPS)  # type: ignore[assignment]
    classifier.on_train_epoch_start()
    monkeypatch.setattr(classifier, "check_losses", lambda done: None)
    for batch_idx in range(STEPS):
        assert not sent
        classifier.on_train_batch_end(None, None, batch_idx)  # type: ignore[arg-type]
    buffers = list(classifier.reported.buffers())
    assert len(buffers) == 9 and [id(buffer) for buffer in buffers] == [id(tensor) for tensor in sent]


def test_an_average_that_lags_behind_the_run_is_warned_of() -> None:
    assert lag(recipe(), 10) is None and lag(recipe(average_decay=0.9), 10) is None
    slow = lag(recipe(average_decay=0.999, average_every=2), 10)
    assert slow is not None and "reaches back some 2,000 steps, and the run has 40" in slow


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"average_every": 2}, "recipe.average_every=2: needs recipe.average_decay"),
        ({"average_decay": 0.9, "average_last_epochs": 2}, "set one of the two to null"),
        ({"average_last_epochs": 5}, "recipe.average_last_epochs=5: must be at most recipe.epochs=4"),
        ({"average_last_epochs": 2, "patience": 3}, "a run that may end early does not know its last epochs"),
        ({"average_decay": 1.0}, "recipe.average_decay=1.0"),
    ],
)
def test_averages_that_cannot_be_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line.replace(".", r"\.")):
        recipe(**changes)


def test_the_first_step_of_an_average() -> None:
    for changes, step in (
        ({"average_decay": 0.9}, 1),
        ({"average_decay": 0.9, "average_every": 4}, 4),
        ({"average_decay": 0.9, "average_every": 4, "warmup_steps": 4}, 8),
        ({"average_decay": 0.9, "warmup_epochs": 0.25}, 4),
        ({"average_last_epochs": 4}, 10),
        ({"average_last_epochs": 1}, 40),
    ):
        assert first_step(recipe(**changes), 10) == step
    shares = [Reported(small(), recipe(average_last_epochs=2), 10).share(step) for step in (20, 29, 30, 35, 40)]
    assert shares == [None, None, 1.0, None, 0.5]
    assert RECIPE.reports_a_copy is False
