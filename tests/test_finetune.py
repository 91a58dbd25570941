"""Fine-tuning: a rate for each stage, frozen stages, the linear probe, class weights and early stopping."""

from __future__ import annotations

import dataclasses
import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from in_process import call
from omegaconf import OmegaConf
from PIL import Image
from test_training import PREPROCESSING, PROTOCOL, RECIPE, images
from torch import nn

from harness import build
from harness.config.commands import TrainConfig
from harness.config.compose import compose
from harness.config.data import DataConfig, ImageFilesConfig
from harness.config.facts import Preprocessing
from harness.config.fit import check_recipe
from harness.config.model import ModelConfig
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import FineTuneConfig, RecipeConfig
from harness.config.trainer import TrainerConfig
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.images.image_set import ImageSet
from harness.data.loading import stateless
from harness.data.sources.splits import Split, Splits
from harness.data.sources.table import describe
from harness.errors import UserError
from harness.run.checkpoint import BEST, CHECKPOINTS, LAST, Trained, checkpoint_of_run, read_checkpoint
from harness.run.processes import Team
from harness.run.resume import read_config
from harness.training.class_weights import WeightedCrossEntropy, balanced_weights
from harness.training.classifier import Classifier
from harness.training.features import head_of
from harness.training.fine_tuner import FineTuner
from harness.training.parameter_groups import rate_factors, stages
from harness.training.recorder import Recorder, repair
from harness.training.schedules import learning_rate
from harness.training.unreadable import UnreadableImages
from models import MODELS, build_model

CPU = TrainerConfig("cpu", "cpu", 1, "auto", None, False, None, None, 1000)

DATA = DataConfig("test", "", False, 0, [0.5], [0.5])
PROBE = dataclasses.replace(RECIPE, trains="head", crop_padding=None, flip=False)


def tuning(**changes: object) -> FineTuneConfig:
    plain = {f.name: getattr(RECIPE, f.name) for f in dataclasses.fields(RECIPE)}
    settings = {"backbone_rate": 0.5, "layer_decay": 0.25, "weight_decay": 0.01, "schedule": "cosine", **changes}
    return FineTuneConfig(**{**plain, **settings})


class Small(nn.Module):
    """Three stages with batch norms and a head, on images of 6 x 6 pixels; counts how often it is asked."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2_x = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv3_x = nn.Sequential(nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8))
        self.fc = nn.Linear(8, 3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.conv3_x(self.pool(F.relu(self.conv2_x(x)))))
        logits: torch.Tensor = self.fc(x.flatten(1))
        return logits


def small() -> Small:
    torch.manual_seed(1)
    return Small()


class Cut(L.Callback):
    """Ends a run at the start of a step, as a signal would, but without writing anything."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise InterruptedError


@dataclass
class Run:
    """A run of `build_training` and `Recorder`, as `train.py` puts them together."""

    folder: Path
    recipe: RecipeConfig
    train: Split = field(default_factory=lambda: images(37))
    validation: Split = field(default_factory=lambda: images(10, 1))
    described: DataConfig = field(default_factory=lambda: DATA)
    preprocessing: Preprocessing = PREPROCESSING
    protocol: ProtocolConfig = field(default_factory=lambda: PROTOCOL)
    network: nn.Module = field(default_factory=small)
    epochs: int | None = None
    cut_at: int | None = None
    checkpoint_every: int = 3
    callbacks: tuple[L.Callback, ...] = ()
    accumulate: int = 1

    def __post_init__(self) -> None:
        trainer_config = dataclasses.replace(CPU, accumulate=self.accumulate)
        config = TrainConfig(ModelConfig("test"), self.described, self.recipe, self.protocol, trainer_config, seed=3)
        splits = Splits(self.train, self.validation, images(0))
        self.data, self.classifier = build.build_training(config, self.network, splits, self.preprocessing, 3)
        training = {"seed": 3, "epochs": self.recipe.epochs, "max_batches": None, "recipe": vars(self.recipe)}
        trained = Trained("test", {}, ("a", "b", "c"), self.preprocessing, self.described, training)
        epochs = self.epochs or self.recipe.epochs
        self.recorder = Recorder(self.folder, trained, epochs, self.checkpoint_every, self.recipe.patience)
        self.folder.mkdir(exist_ok=True)
        validate = 1.0 if len(self.validation) else 0
        callbacks = [*self.callbacks, Cut(self.cut_at), self.recorder]
        options: dict[str, Any] = {"max_epochs": epochs, "limit_val_batches": validate}
        trainer = build.build_trainer(Team("cpu", 1), self.folder, "32-true", callbacks, **options)
        last = self.folder / CHECKPOINTS / LAST
        checkpoint = last if last.exists() else None
        if checkpoint is not None:
            repair(self.folder)
        try:
            trainer.fit(self.classifier, datamodule=self.data, ckpt_path=checkpoint, weights_only=True)
        except InterruptedError:
            assert trainer.global_step == self.cut_at
        else:
            assert self.cut_at is None


def copies(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def changed(before: dict[str, torch.Tensor], network: nn.Module) -> set[str]:
    return {key.split(".")[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])}


# --------------------------------------------------------------------------------------------------------------- stages


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("mlp", "fc1 fc2"),
        ("lenet1", "c1 s2 c3 s4 output"),
        ("lenet5", "c1 c3 c5 f6 output"),
        ("lenet5_1998", "c1 s2 c3 s4 c5 f6"),
        ("alexnet", "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc8"),
        ("vgg11_bn", "conv1_1 conv2_1 conv3_1 conv3_2 conv4_1 conv4_2 conv5_1 conv5_2 fc6 fc7 fc8"),
        ("resnet50", "conv1 conv2_x conv3_x conv4_x conv5_x fc"),
        ("preact_resnet110", "conv1 conv2_x conv3_x conv4_x fc"),
    ],
)
def test_stages_are_called_as_in_the_definition_and_hold_every_parameter_once(model: str, names: str) -> None:
    with torch.device("meta"):
        network = build_model(model)
    found = stages(network)
    assert [stage.name for stage in found] == names.split()
    held = [parameter for stage in found for parameter in stage.parameters()]
    assert len(held) == len({id(p) for p in held}) and {id(p) for p in held} == {id(p) for p in network.parameters()}


def test_rates_fall_from_the_head_to_the_images() -> None:
    with torch.device("meta"):
        network = build_model("resnet50")
    factors = rate_factors(network, tuning(backbone_rate=0.1, layer_decay=0.8))
    assert factors == pytest.approx(
        {"conv1": 0.04096, "conv2_x": 0.0512, "conv3_x": 0.064, "conv4_x": 0.08, "conv5_x": 0.1, "fc": 1.0}
    )
    assert list(factors) == [stage.name for stage in stages(network)]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"freeze": ["conv_2x"]}, "recipe.freeze=conv_2x: no such stage; the nearest are: conv3_x, conv2_x"),
        ({"freeze": ["bn1"]}, "recipe.freeze=bn1: no such stage; the nearest are: "),
        (
            {"freeze": ["conv1", "conv2_x", "conv3_x", "fc"]},
            "recipe.freeze: names every stage, so nothing is left to train",
        ),
        ({"unfreeze_epoch": 2}, "recipe.unfreeze_epoch=2: recipe.freeze is empty"),
        (
            {"freeze": ["conv1"], "unfreeze_epoch": 1},
            "recipe.unfreeze_epoch=1: must be at least 2 (epoch, counted from 1, in which the frozen stages start ",
        ),
        ({"freeze": ["conv1"], "unfreeze_epoch": 5}, "recipe.unfreeze_epoch=5: must be from 2 to recipe.epochs=4"),
        ({"backbone_rate": 0.0}, "recipe.backbone_rate=0.0: must be above 0 and at most 1"),
        ({"layer_decay": 1.1}, "recipe.layer_decay=1.1: must be above 0 and at most 1"),
        ({"trains": "head", "flip": False, "crop_padding": None}, "use recipe=linear_probe"),
        ({"trains": "all"}, "recipe.trains=all: no such choice"),
        ({"class_weights": "balance"}, "recipe.class_weights=balance: no such choice; the nearest are: balanced"),
        ({"class_weights": "balanced", "loss": "lecun_map"}, "works only with recipe.loss=cross_entropy"),
        ({"patience": 0}, "recipe.patience=0: must be at least 1"),
    ],
)
def test_mistakes_in_a_recipe(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        FineTuner(Small(), tuning(**settings), 5, 0)
    assert line in str(caught.value) and "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- fine-tuning


def by_hand(run: Run, frozen: set[str], thaws_at: int | None) -> nn.Module:
    """The same steps with torch's own SGD, on the images that the loader gives."""
    network, recipe = small(), run.recipe
    parts: dict[str, list[nn.Module]] = {
        "conv1": [network.conv1, network.bn1],
        "conv2_x": [network.conv2_x],
        "conv3_x": [network.conv3_x],
        "fc": [network.fc],
    }
    factors = {"conv1": 0.03125, "conv2_x": 0.125, "conv3_x": 0.5, "fc": 1.0}
    groups = [
        {"params": [parameter for layer in layers for parameter in layer.parameters()], "name": name}
        for name, layers in parts.items()
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01)
    run.data.trainer = build.build_trainer(Team("cpu", 1), run.folder, "32-true", [])
    loader = run.data.train_dataloader()
    for step in range(20):
        now_frozen = frozen if thaws_at is None or step // 5 + 1 < thaws_at else set()
        for name, layers in parts.items():
            for layer in layers:
                layer.train(name not in now_frozen)
        loader.order.position = lambda step=step: step  # type: ignore[misc]
        batch = next(iter(loader))
        optimizer.zero_grad()
        F.cross_entropy(network(batch.images), batch.labels).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, 5) * factors[group["name"]]
            if group["name"] in now_frozen:
                for parameter in group["params"]:
                    parameter.grad = None
        optimizer.step()
    return network


@pytest.mark.parametrize(
    ("freeze", "unfreeze_epoch"), [((), None), (("conv1", "conv2_x"), None), (("conv1", "conv2_x"), 3), (("fc",), 2)]
)
def test_every_stage_is_stepped_at_its_rate_and_a_frozen_one_not_at_all(
    tmp_path: Path, freeze: tuple[str, ...], unfreeze_epoch: int | None
) -> None:
    run = Run(tmp_path, tuning(freeze=list(freeze), unfreeze_epoch=unfreeze_epoch))
    expected = by_hand(run, set(freeze), unfreeze_epoch).state_dict()
    for key, value in run.network.state_dict().items():
        assert torch.equal(value, expected[key]), key
    assert run.classifier.history[-1].learning_rate == learning_rate(run.recipe, 19, 5)  # the head's


def test_frozen_stages_and_their_batch_norms_stay_bit_for_bit(tmp_path: Path) -> None:
    before = copies(small())
    run = Run(tmp_path, tuning(freeze=["conv1", "conv3_x"]))
    assert changed(before, run.network) == {"conv2_x", "fc"}
    (optimizer,) = torch.load(tmp_path / CHECKPOINTS / LAST, weights_only=True)["optimizer_states"]
    assert [group["name"] for group in optimizer["param_groups"]] == ["conv2_x", "fc"]
    assert not any(p.requires_grad for p in run.network.get_submodule("conv1").parameters())


def test_stages_thaw_at_their_epoch(tmp_path: Path) -> None:
    class Watch(L.Callback):
        def __init__(self) -> None:
            self.seen: list[set[str]] = []

        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            assert isinstance(pl_module, Classifier)
            if trainer.global_step % 5 in (0, 1):
                self.seen.append(changed(before, pl_module.network))

    before, watch = copies(small()), Watch()
    Run(tmp_path, tuning(freeze=["conv1", "conv2_x"], unfreeze_epoch=3), callbacks=(watch,))
    few, all_ = {"conv3_x", "fc"}, {"conv1", "bn1", "conv2_x", "conv3_x", "fc"}
    assert watch.seen == [few] * 4 + [all_] * 4  # the first and last step of four epochs


# --------------------------------------------------------------------------------------------------------- linear probe


def features_by_hand(network: Small, split: ImageSet) -> torch.Tensor:
    network.fc = nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        rows: torch.Tensor = network.eval()((split.images.float() / 255 - 0.5) / 0.5)
    return rows


def test_a_linear_probe_is_sgd_on_the_features_of_the_network(tmp_path: Path) -> None:
    run = Run(tmp_path, dataclasses.replace(PROBE, weight_decay=0.01, nesterov=True, schedule="cosine"))
    rows, labels = features_by_hand(small(), images(37)), images(37).labels
    fc, losses = small().fc, []
    optimizer = torch.optim.SGD(fc.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    for step in range(20):
        epoch, number = divmod(step, 5)
        chosen = stateless.order(3, epoch, 37)[number * 8 : number * 8 + 8]
        loss = F.cross_entropy(fc(rows[chosen]), labels[chosen])
        optimizer.param_groups[0]["lr"] = learning_rate(run.recipe, step, 5)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()) * len(chosen))
    assert isinstance(run.network, Small)
    torch.testing.assert_close(run.network.fc.weight, fc.weight, atol=1e-6, rtol=1e-5)
    history = run.classifier.history
    assert [epoch.train_loss for epoch in history] == pytest.approx(
        [sum(losses[e * 5 : e * 5 + 5]) / 37 for e in range(4)]
    )
    held_out = fc(features_by_hand(small(), images(10, 1)))
    assert history[-1].validation_loss == pytest.approx(float(F.cross_entropy(held_out, images(10, 1).labels).detach()))
    assert changed(copies(small()), run.network) == {"fc"}


def test_a_linear_probe_asks_the_backbone_once_for_each_image(tmp_path: Path) -> None:
    few = Run(tmp_path / "few", dataclasses.replace(PROBE, epochs=1)).network
    many = Run(tmp_path / "many", dataclasses.replace(PROBE, epochs=20)).network
    full = Run(tmp_path / "full", dataclasses.replace(RECIPE, epochs=20)).network
    assert isinstance(many, Small) and isinstance(full, Small)
    assert few.calls == many.calls == 6 + 2  # batches of 7 of the protocol: 37 and 10 images
    assert full.calls == 20 * (5 + 2)
    assert (full.calls / 20) / (many.calls / 20) > 10  # calls of an epoch


def test_the_features_of_a_linear_probe_are_a_mapped_file_that_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped: list[np.memmap[Any, Any]] = []

    def memmap(*arguments: Any, **options: Any) -> Any:
        mapped.append(real(*arguments, **options))
        return mapped[-1]

    real = np.memmap
    monkeypatch.setattr("numpy.memmap", memmap)
    Run(tmp_path, dataclasses.replace(PROBE, epochs=1))
    assert [values.shape[0] for values in mapped] == [37, 10] and all(np.abs(values).sum() > 0 for values in mapped)
    assert all(Path(str(values.filename)).name == "features" for values in mapped)
    assert not list(tmp_path.rglob("features*"))
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("os.posix_fallocate", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(UserError, match=r"no room for 0\.0 GB of features \(No space left on device\)"):
        Run(tmp_path / "full", dataclasses.replace(PROBE, epochs=1))
    assert not list(tmp_path.rglob("features*"))


def test_the_checkpoint_of_a_linear_probe_holds_the_whole_network(tmp_path: Path) -> None:
    run = Run(tmp_path, PROBE)
    checkpoint = read_checkpoint(tmp_path / CHECKPOINTS / LAST)
    assert checkpoint.state_dict.keys() == run.network.state_dict().keys()
    assert all(torch.equal(value, run.network.state_dict()[key]) for key, value in checkpoint.state_dict.items())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    """Twenty pictures in files; the twelfth is cut off."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(20):
        path = tmp_path / "images" / f"class{number % 3}" / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    index = index_folder(tmp_path / "images")
    split = ImageFiles(index, np.arange(20), torch.from_numpy(index.label).long(), "test")
    path = Path(os.fsdecode(split.path(11)))
    path.write_bytes(path.read_bytes()[:300])
    return split


def test_a_linear_probe_skips_and_lists_what_cannot_be_read(
    files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable = UnreadableImages(tmp_path, files, files)
    described = ImageFilesConfig("test", "", False, 0, [0.5] * 3, [0.5] * 3, 16, 20, "bilinear", "fast")
    preprocessing = Preprocessing(3, 16, 20, "bilinear", (0.5,) * 3, (0.5,) * 3)
    torch.manual_seed(1)
    settings: dict[str, Any] = {"described": described, "preprocessing": preprocessing, "network": Small(3)}
    before = copies(settings["network"])
    recipe = dataclasses.replace(PROBE, epochs=2)
    run = Run(tmp_path / "run", recipe, train=files, validation=files, **settings)
    assert [(e.step, e.train.seen, e.validation and e.validation.seen) for e in run.classifier.history] == [
        (3, 19, 19),
        (6, 19, 19),
    ]
    ten_crop = dataclasses.replace(PROTOCOL, name="ten_crop")  # its features are of the central crop as well
    settings["network"] = Small(3)
    settings["network"].load_state_dict(before)
    again = Run(tmp_path / "again", recipe, train=files, validation=files, **settings, protocol=ten_crop)
    for key, value in run.network.state_dict().items():  # larger batches of features move the last bits
        torch.testing.assert_close(again.network.state_dict()[key], value)
    Run(tmp_path / "a few", recipe, train=files, callbacks=(unreadable,), **settings, validation=images(0))
    monkeypatch.setattr("harness.training.unreadable.FEW", 0)
    with pytest.raises(UserError, match=r"1 of 20 training images cannot be read, more than 0: they are listed in"):
        Run(tmp_path / "strict", recipe, train=files, callbacks=(unreadable,), **settings, validation=images(0))
    assert f"{files.id_of(11)}," in (tmp_path / "unreadable_in_training.csv").read_text()


def test_every_network_but_one_has_a_head_to_probe() -> None:
    for name in {"lenet1", "lenet4", *{entry.family: name for name, entry in MODELS.items()}.values()}:
        with torch.device("meta"):
            network = build_model(name)
        assert head_of(network).out_features == MODELS[name].num_classes
    with pytest.raises(UserError, match="the network's last layer, output, is no linear layer with weights to train"):
        head_of(build_model("lenet5_1998"))


def test_a_linear_probe_does_not_augment() -> None:
    for augmented in ({"flip": True}, {"crop_padding": 2}, {"crop_area": [0.5, 1.0], "crop_aspect": [1.0, 1.0]}):
        with pytest.raises(
            UserError, match="computes the features of each image once, without flips and crops: choose "
        ):
            dataclasses.replace(PROBE, **augmented)


# -------------------------------------------------------------------------------------------------------- class weights


def test_class_weights_are_one_over_the_images_of_a_class_with_mean_one() -> None:
    labels = torch.tensor([0] * 6 + [1] * 2 + [3])
    weights = balanced_weights(labels, 5)
    assert weights.tolist() == pytest.approx([9 / (3 * 6), 9 / (3 * 2), 0.0, 9 / 3, 0.0])
    assert float(weights[labels].mean()) == pytest.approx(1.0)


def test_the_weighted_loss_is_a_mean_over_images_and_an_epochs_over_all_of_its(tmp_path: Path) -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 0, 2, 1])
    each = F.cross_entropy(logits, labels, reduction="none")
    loss = WeightedCrossEntropy(torch.tensor([0.5, 1.0, 4.0]))(logits, labels)
    assert float(loss) == pytest.approx(float((each * torch.tensor([0.5, 0.5, 4.0, 1.0])).sum() / 4))
    uneven = ImageSet(images(37).images, (torch.arange(37) > 29).long(), images(37).ids)  # 30 and 7
    recipe = dataclasses.replace(PROBE, epochs=1, learning_rate=0.0, class_weights="balanced")
    run = Run(tmp_path, recipe, train=uneven)
    losses = F.cross_entropy(small().fc(features_by_hand(small(), uneven)), uneven.labels, reduction="none")
    weighted = torch.where(uneven.labels == 0, 37 / 60, 37 / 14) * losses
    assert run.classifier.history[0].train_loss == pytest.approx(float(weighted.detach().mean()), rel=1e-5)
    training = read_checkpoint(tmp_path / CHECKPOINTS / LAST).trained.training
    assert training is not None and training["recipe"]["class_weights"] == "balanced"


# ------------------------------------------------------------------------------------------------------- early stopping

RESTLESS = dataclasses.replace(RECIPE, epochs=14, learning_rate=0.5)


def test_the_config_of_a_run_is_read_again_also_of_one_before_there_was_fine_tuning(
    trained_run: Path, tmp_path: Path
) -> None:
    config = read_config(trained_run / "config.yaml")
    assert type(config.recipe) is RecipeConfig
    plain = OmegaConf.load(trained_run / "config.yaml")
    for key in ("trains", "class_weights", "patience"):
        del plain.recipe[key]
    OmegaConf.save(plain, tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == config
    tuned = dataclasses.replace(config, recipe=tuning(freeze=["c1"], unfreeze_epoch=2))
    OmegaConf.save(OmegaConf.create(dataclasses.asdict(tuned)), tmp_path / "config.yaml")
    assert read_config(tmp_path / "config.yaml") == tuned
    plain.recipe.unheard = 1
    OmegaConf.save(plain, tmp_path / "config.yaml")
    with pytest.raises(UserError, match="damaged, or of another version"):
        read_config(tmp_path / "config.yaml")


def test_training_stops_after_so_many_epochs_without_a_better_one_and_the_best_is_reported(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", RESTLESS).classifier.history
    ranks = [(e.validation.seen - e.validation.correct_top1, e.validation_loss) for e in whole if e.validation]
    ends = next(e for e in range(1, 15) if e - 1 - ranks[:e].index(min(ranks[:e])) >= 3)
    assert 3 < ends < 14, "this test needs a run that stops early"
    run = Run(tmp_path / "early", dataclasses.replace(RESTLESS, patience=3))
    history = run.classifier.history
    assert history == whole[:ends] and run.recorder.reported == ends - 3
    best = read_checkpoint(tmp_path / "early" / CHECKPOINTS / BEST)
    assert best.epoch == ends - 3
    assert all(torch.equal(value, run.network.state_dict()[key]) for key, value in best.state_dict.items())
    assert checkpoint_of_run(tmp_path / "early").name == BEST and checkpoint_of_run(tmp_path / "whole").name == LAST
    assert (tmp_path / "early" / "curves.png").exists()
    again = Run(tmp_path / "early", dataclasses.replace(RESTLESS, patience=3))  # killed before its evaluation
    assert again.classifier.history == history and again.recorder.reported == ends - 3
    assert all(torch.equal(value, again.network.state_dict()[key]) for key, value in best.state_dict.items())


def test_patience_reports_the_best_also_of_a_run_that_ends_by_itself(tmp_path: Path) -> None:
    run = Run(tmp_path, dataclasses.replace(RESTLESS, epochs=4, patience=4))
    assert len(run.classifier.history) == 4
    assert run.recorder.reported == read_checkpoint(tmp_path / CHECKPOINTS / BEST).epoch
    again = Run(tmp_path, dataclasses.replace(RESTLESS, epochs=4, patience=4))  # nothing is left to train
    assert again.recorder.reported == run.recorder.reported and not changed(copies(run.network), again.network)


def test_patience_needs_a_validation_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train.py", "recipe.patience=3", "data.validation=0", f"runs={tmp_path}") == 2
    said = capsys.readouterr().err
    assert said == (
        "train.py: recipe.patience=3: needs a validation split, and there is none; set data.validation above 0\n"
    )
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("cut_at", [4, 10, 14])  # within an epoch, after one, before the fourth
@pytest.mark.parametrize(
    "recipe",
    [
        tuning(freeze=["conv1"], unfreeze_epoch=3, class_weights="balanced"),
        tuning(freeze=["conv1", "conv2_x"]),
        dataclasses.replace(PROBE, class_weights="balanced"),
        dataclasses.replace(RESTLESS, patience=2, epochs=4),
    ],
    ids=["thaws", "frozen", "probe", "patience"],
)
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, recipe: RecipeConfig, cut_at: int) -> None:
    unbroken = Run(tmp_path / "unbroken", recipe)
    assert unbroken.classifier.global_step > cut_at or recipe.patience
    cut = min(cut_at, unbroken.classifier.global_step - 1)
    Run(tmp_path / "broken", recipe, cut_at=cut)
    broken = Run(tmp_path / "broken", recipe)
    assert broken.classifier.history == unbroken.classifier.history
    assert broken.recorder.reported == unbroken.recorder.reported
    assert not changed(copies(unbroken.network), broken.network)
    for file in ("metrics.csv",):
        assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "unbroken" / file).read_bytes()


# ----------------------------------------------------------------------------------------------------------- few images


def test_a_lone_last_image_is_trained_on_with_running_statistics(tmp_path: Path) -> None:
    """Nine images in batches of eight; the last stage's batch norm sees one pixel an image."""
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        small()(torch.zeros(1, 1, 6, 6))
    run = Run(tmp_path, dataclasses.replace(RECIPE, epochs=1), train=images(9))
    assert run.classifier.history[0].train.seen == 9 and run.classifier.global_step == 2
    norm = run.network.get_submodule("conv3_x.1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.num_batches_tracked is not None and norm.training
    assert int(norm.num_batches_tracked) == 1


@pytest.mark.parametrize("recipe", [RECIPE, PROBE, tuning()], ids=["all", "probe", "finetune"])
def test_fewer_images_than_a_batch_are_one_batch(tmp_path: Path, recipe: RecipeConfig) -> None:
    run = Run(tmp_path, dataclasses.replace(recipe, batch_size=64), train=images(5))
    assert [(e.step, e.train.seen) for e in run.classifier.history] == [(1, 5), (2, 5), (3, 5), (4, 5)]


# --------------------------------------------------------------------------------------------------------- shipped YAML


def config_of(*overrides: str) -> TrainConfig:
    return compose("train", overrides)


@pytest.mark.parametrize("recipe", ["finetune", "linear_probe"])
def test_the_recipes_are_for_images_in_memory_and_in_files(recipe: str) -> None:
    for data, model in (("digits", "lenet5"), ("cifar10", "resnet20"), ("imagenet", "resnet50")):
        config = config_of(f"data={data}", f"model={model}", f"recipe={recipe}", "weights=any.ckpt")
        check_recipe(config, describe(config.data).in_files)
        if recipe == "finetune":
            assert config.recipe.flip == (data != "digits")  # a mirrored digit is another sign
        with pytest.raises(UserError, match=f"recipe={recipe}: this recipe needs pretrained weights; name them with"):
            check_recipe(dataclasses.replace(config, weights=None), describe(config.data).in_files)
    assert not config_of("recipe=finetune", "recipe.flip=false", "data=cifar10", "model=resnet20").recipe.flip


def test_a_recipe_for_images_of_one_kind_is_refused_for_the_other() -> None:
    for data, model, recipe in (("digits", "lenet5", "torchvision_v1"), ("imagenet", "resnet50", "sgd_cosine")):
        with pytest.raises(UserError, match=f"recipe={recipe} does not work with data={data}: it is for"):
            config = config_of(f"data={data}", f"model={model}", f"recipe={recipe}")
            check_recipe(config, describe(config.data).in_files)
