"""The typed schema of every config.

Hydra composes the YAML values of `configs/` over these dataclasses; `typed_config` turns the result into plain
objects at once, and nothing behind it sees a DictConfig. What can change an error rate stands in `recipe`, `data` and
`protocol`; what cannot stands in `trainer`. Nothing here imports torch: a mistake is told before that takes its time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from harness.errors import UserError, nearest

LOSSES = ("cross_entropy", "lecun_mle", "lecun_map")
SCHEDULES = ("constant", "step", "cosine")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu")
STRATEGIES = ("auto", "ddp")
MOST = {"devices": 1024, "threads": 1024, "workers": 256}  # libgomp aborts beyond some 2,000 threads
DECODERS = ("fast", "pil")
INTERPOLATIONS = ("bilinear", "bicubic")


def _chosen(group: str) -> Any:
    """A field that holds the name of the file chosen from a config group; users choose it with `group=NAME`."""
    return field(default=f"${{hydra:runtime.choices.{group}}}")


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{key}={value}: no such choice; the nearest are: {nearest(value, choices)}")


def _at_least(key: str, value: float, least: float, most: float = float("inf")) -> None:
    if not least <= value <= most:
        raise UserError(f"{key}={value}: must be at " + (f"most {most}" if value > most else f"least {least}"))


def _range(key: str, value: list[float], most: float) -> None:
    if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
        raise UserError(f"{key}={value}: must be two numbers above 0, the least and the greatest, up to {most:g}")


@dataclass
class ModelConfig:
    """A network without options of its own."""

    name: str = _chosen("model")

    def options(self) -> dict[str, Any]:
        """The options that `models.build_model` takes beside the shape of the data."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "name"}


@dataclass
class MLPConfig(ModelConfig):
    """Options of `mlp`."""

    hidden: list[int] = MISSING

    def __post_init__(self) -> None:
        for units in self.hidden:
            _at_least("model.hidden", units, 1)


@dataclass
class DropoutConfig(ModelConfig):
    """Options of AlexNet and VGG: the probability of dropping a unit."""

    dropout: float = MISSING

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise UserError(f"model.dropout={self.dropout}: must be at least 0 and below 1")


@dataclass
class ShortcutConfig(ModelConfig):
    """Options of the ResNets: the paper's option A, B or C for shortcuts between stages."""

    shortcut: str = MISSING

    def __post_init__(self) -> None:
        _one_of("model.shortcut", self.shortcut, ("A", "B", "C"))


@dataclass
class DataConfig:
    """A data set: where it lies, and how its training images are split and normalised.

    Attributes:
        root: folder that holds, or will hold, torchvision's files.
        download: whether missing files may be downloaded.
        validation: images taken out of the training split for model selection; 0 trains on all of them.
        mean: of each channel, on the scale 0 to 1.
        std: of each channel, on the same scale.
    """

    name: str = _chosen("data")
    root: str = MISSING
    download: bool = MISSING
    validation: int = MISSING
    mean: list[float] = MISSING
    std: list[float] = MISSING

    def __post_init__(self) -> None:
        self.root = str(Path(self.root).expanduser())
        _at_least("data.validation", self.validation, 0)
        if len(self.mean) != len(self.std):
            raise UserError(f"data.mean has {len(self.mean)} channels and data.std {len(self.std)}: give one each")
        if not all(deviation > 0 for deviation in self.std):
            raise UserError(f"data.std={self.std}: a standard deviation must be positive")


@dataclass
class ImageFilesConfig(DataConfig):
    """A data set whose images are files of any size, decoded when they are used.

    Attributes:
        image_size: side in pixels of the square that a network trained here sees.
        resize: side in pixels that the shorter edge is resized to before the crops of an evaluation.
        interpolation: of every resizing; always antialiased.
        decoder: `fast`, or `pil`, which gives torchvision's pixels bit for bit.
    """

    image_size: int = MISSING
    resize: int = MISSING
    interpolation: str = MISSING
    decoder: str = MISSING
    downloadable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of("data.interpolation", self.interpolation, INTERPOLATIONS)
        _one_of("data.decoder", self.decoder, DECODERS)
        _at_least("data.image_size", self.image_size, 1)
        _at_least("data.resize", self.resize, self.image_size)
        if self.download and not self.downloadable:
            raise UserError(f"data.download=true: {self.name} cannot be downloaded; see data.root")


@dataclass
class FolderConfig(ImageFilesConfig):
    """A user's own pictures, `root/train/<class>/` and `root/val/<class>/`, or `root/<class>/`, which is divided.

    Attributes:
        validation: percent of every class's training images that are taken out for model selection.
        test: percent of every class of an undivided folder that are reported on; 100 evaluates on all of it.
        split_seed: of the division.
        folds: of a cross-validation over an undivided folder, in place of `test`; null for none.
        fold: the one that is reported on, from 0.
    """

    test: int = MISSING
    split_seed: int = MISSING
    folds: int | None = MISSING
    fold: int = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.mean) not in (1, 3):
            raise UserError(f"data.mean={self.mean}: three values for pictures in colour, one makes them grey")
        for key, least, most in (("validation", 0, 99), ("test", 1, 100)):
            if not least <= getattr(self, key) <= most:
                given = f"data.{key}={getattr(self, key)}"
                raise UserError(f"{given}: of data={self.name}, percent from {least} to {most}")
        _at_least("data.split_seed", self.split_seed, 0)
        if self.folds is not None:
            _at_least("data.folds", self.folds, 2)
        if not 0 <= self.fold < (self.folds or 1):
            has = "there are no folds; set data.folds" if self.folds is None else f"from 0 to {self.folds - 1}"
            raise UserError(f"data.fold={self.fold}: {has}")


@dataclass
class HubSource:
    """Which data set of the Hugging Face hub.

    Attributes:
        repo: its name, such as `uoft-cs/cifar10`.
        revision: a commit, which pins it, a branch or a tag; what the cache holds of it comes before the hub's newest.
        subset: the folder of its files, where it has several; null for the only one.
    """

    repo: str = MISSING
    revision: str = MISSING
    subset: str | None = MISSING


@dataclass
class HubConfig(DataConfig, HubSource):
    """A data set of the hub whose pictures have one size: read like `parquet`; `root` is not used."""


@dataclass
class HubPhotosConfig(FolderConfig, HubSource):
    """A data set of the hub whose pictures have any size: unpacked once under `root`, and read like `folder`."""

    downloadable: ClassVar[bool] = True


@dataclass
class RecipeConfig:
    """How a network is trained: everything that can change its error rate, apart from the data.

    Attributes:
        epochs: passes over the training split.
        batch_size: images of one optimiser step, over all devices together.
        loss: a name of the table of losses.
        learning_rate: at its highest.
        momentum: of SGD; the learning rate multiplies the velocity, as torch does it.
        nesterov: Nesterov's momentum.
        weight_decay: L2 penalty on every parameter.
        schedule: `constant`, `step` (times `gamma` at each of `milestones`) or `cosine` (down to 0 at the end).
        milestones: in epochs.
        gamma: factor at a milestone.
        warmup_epochs: the learning rate rises linearly over them.
        crop_padding: pixels of background on each side of an image in memory from which a crop is drawn; 0 crops
            nothing; null: this recipe is not for images in memory.
        flip: whether half of the images are mirrored.
        precision: Lightning's name of the arithmetic.
        crop_area: least and greatest share of its area that a crop of random size of an image in a file has; empty:
            this recipe is not for images in files.
        crop_aspect: least and greatest width over height of such a crop.
        learning_rates: of the networks that need another than the rest; `learning_rate` looks here by itself.
        channels_last: whether images and weights lie in memory with their channels last.
        compile: whether the network is compiled by torch.
        trains: `network`, or `head`: the last linear layer alone, on features computed once, without augmentation.
        class_weights: `balanced` weighs an image's loss by one over its class's share of the training split, with
            mean 1 over its images; null weighs all alike.
        patience: epochs without a better one on the validation split after which training stops; the best one is
            reported then. null trains to the end and reports the last.
    """

    name: str = _chosen("recipe")
    epochs: int = MISSING
    batch_size: int = MISSING
    loss: str = MISSING
    learning_rate: float = MISSING
    momentum: float = MISSING
    nesterov: bool = MISSING
    weight_decay: float = MISSING
    schedule: str = MISSING
    milestones: list[float] = MISSING
    gamma: float = MISSING
    warmup_epochs: float = MISSING
    crop_padding: int | None = MISSING
    flip: bool = MISSING
    precision: str = MISSING
    crop_area: list[float] = field(default_factory=list)
    crop_aspect: list[float] = field(default_factory=list)
    learning_rates: dict[str, float] = field(default_factory=dict)
    channels_last: bool = False
    compile: bool = False
    trains: str = "network"
    class_weights: str | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        _one_of("recipe.loss", self.loss, LOSSES)
        _one_of("recipe.schedule", self.schedule, SCHEDULES)
        _one_of("recipe.precision", self.precision, PRECISIONS)
        for key, least in (("epochs", 1), ("batch_size", 1), ("warmup_epochs", 0)):
            _at_least(f"recipe.{key}", getattr(self, key), least)
        self._check_what_has_a_default()
        for key in ("learning_rate", "momentum", "weight_decay", "gamma"):
            _at_least(f"recipe.{key}", getattr(self, key), 0)
        if self.nesterov and self.momentum == 0:
            raise UserError("recipe.nesterov=true needs recipe.momentum above 0")
        if self.milestones != sorted(self.milestones):
            raise UserError(f"recipe.milestones={self.milestones}: must rise")
        if self.schedule == "step" and not self.milestones:
            raise UserError("recipe.schedule=step needs recipe.milestones, such as [82,123]")
        if self.warmup_epochs >= self.epochs:
            raise UserError(
                f"recipe.warmup_epochs={self.warmup_epochs:g}: must be less than recipe.epochs={self.epochs}"
            )

    def _check_what_has_a_default(self) -> None:
        for key, least in (("crop_padding", 0), ("patience", 1)):
            if getattr(self, key) is not None:
                _at_least(f"recipe.{key}", getattr(self, key), least)
        _one_of("recipe.trains", self.trains, ("network", "head"))
        if self.crop_area:
            _range("recipe.crop_area", self.crop_area, 1.0)
            _range("recipe.crop_aspect", self.crop_aspect, float("inf"))
        _one_of("recipe.class_weights", self.class_weights or "balanced", ("balanced",))
        if self.trains == "head" and (self.flip or self.crop_padding or self.crop_area):
            raise UserError("recipe.trains=head computes features once, of images as they are: without flip and crop")
        if self.class_weights is not None and self.loss != "cross_entropy":
            raise UserError(f"recipe.class_weights={self.class_weights}: goes with recipe.loss=cross_entropy alone")


@dataclass
class FineTuneConfig(RecipeConfig):
    """How a pretrained network is trained further: every stage at a rate of its own, or not at all.

    The learning rate is that of the head, the last stage with parameters. The last stage of the backbone learns at
    `backbone_rate` times it, and each stage before at `layer_decay` times the one behind.

    Attributes:
        backbone_rate: of the backbone's last stage, over the head's.
        layer_decay: of a stage, over that of the stage behind it.
        freeze: stages that stay as they are, their batch norms in evaluation mode; named as in the definition.
        unfreeze_epoch: the epoch, counted from 1, that starts to train them; null never does.
        flips: of the data whose images are mirrored otherwise than the rest; `flip` looks here by itself.
    """

    backbone_rate: float = MISSING
    layer_decay: float = MISSING
    freeze: list[str] = field(default_factory=list)
    unfreeze_epoch: int | None = None
    flips: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("backbone_rate", "layer_decay"):
            if not 0 < getattr(self, key) <= 1:
                raise UserError(f"recipe.{key}={getattr(self, key)}: must be above 0 and at most 1")
        if self.trains == "head":
            raise UserError(f"recipe={self.name} recipe.trains=head: use recipe=linear_probe")
        if self.unfreeze_epoch is None:
            return
        if not self.freeze:
            raise UserError(f"recipe.unfreeze_epoch={self.unfreeze_epoch}: belongs with recipe.freeze, which is empty")
        if not 2 <= self.unfreeze_epoch <= self.epochs:
            raise UserError(
                f"recipe.unfreeze_epoch={self.unfreeze_epoch}: must be from 2 to recipe.epochs={self.epochs}, counted "
                "from 1; null never unfreezes"
            )


@dataclass
class ProtocolConfig:
    """How a network is evaluated.

    Attributes:
        batch_size: images at once on each device.
        precision: Lightning's name of the arithmetic.
        channels_last: whether images and weights lie in memory with their channels last.
        compile: whether the network is compiled by torch.
    """

    name: str = _chosen("protocol")
    batch_size: int = MISSING
    precision: str = MISSING
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        _at_least("protocol.batch_size", self.batch_size, 1)
        _one_of("protocol.precision", self.precision, PRECISIONS)


@dataclass
class TrainerConfig:
    """Where the work runs: nothing here can change an error rate, except the limits of a smoke run.

    Attributes:
        accelerator: `auto`, `cpu` or `gpu`.
        devices: how many; 0 takes all GPUs, or one CPU.
        strategy: `auto`, or `ddp` for one process a device.
        threads: of the CPU, of each process, at most 1024; null leaves torch's choice, or shares the cores.
        progress: whether a bar is drawn; on a terminal alone.
        max_epochs: stop after so many, null for the recipe's.
        max_batches: of an epoch, null for all.
        checkpoint_every: steps between two checkpoints within an epoch; one follows each epoch in any case.
        workers: processes that decode images for each device, at most 256; null chooses from the cores at hand, 0
            uses none.
    """

    name: str = _chosen("trainer")
    accelerator: str = MISSING
    devices: int = MISSING
    strategy: str = MISSING
    threads: int | None = MISSING
    progress: bool = MISSING
    max_epochs: int | None = MISSING
    max_batches: int | None = MISSING
    checkpoint_every: int = MISSING
    workers: int | None = None

    def __post_init__(self) -> None:
        _one_of("trainer.accelerator", self.accelerator, ACCELERATORS)
        _one_of("trainer.strategy", self.strategy, STRATEGIES)
        numbers = {"devices": 0, "workers": 0, "checkpoint_every": 1, "threads": 1, "max_epochs": 1, "max_batches": 1}
        for key, least in numbers.items():
            if getattr(self, key) is not None:
                _at_least(f"trainer.{key}", getattr(self, key), least, MOST.get(key, float("inf")))


@dataclass
class TrainConfig:
    """One training run.

    Attributes:
        seed: of the initialisation, the order of images, augmentation and dropout.
        runs: folder in which the run's own folder is made.
        resume: a run folder that goes on, or `auto` for the newest unfinished one of the same config.
        weights: that the network begins with: a name, a file, or a run folder; null draws them at random.
    """

    model: ModelConfig
    data: DataConfig
    recipe: RecipeConfig
    protocol: ProtocolConfig
    trainer: TrainerConfig
    seed: int = 0
    runs: str = "runs"
    resume: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
        self.weights = self.weights and str(Path(self.weights).expanduser())
        self.runs = str(Path(self.runs).expanduser())
        self.resume = self.resume and str(Path(self.resume).expanduser())


@dataclass
class EvalConfig:
    """One evaluation of a run, of a checkpoint, or of weights.

    Attributes:
        run: a run folder; the checkpoint that the run reports is evaluated.
        checkpoint: a checkpoint file.
        weights: pretrained ones; `model` and `data` belong with them.
        model: null for the one that the checkpoint names.
        data: null for the data that the checkpoint was trained on.
        recipe: the data's default, which an evaluation does not use.
        force: record a score even if it means nothing.
        runs: folder in which the evaluation's own folder is made.
    """

    protocol: ProtocolConfig
    trainer: TrainerConfig
    model: ModelConfig | None = None
    data: DataConfig | None = None
    recipe: RecipeConfig | None = None
    run: str | None = None
    checkpoint: str | None = None
    weights: str | None = None
    force: bool = False
    runs: str = "runs"

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.run, self.checkpoint, self.weights)) != 1:
            raise UserError("say what to evaluate: run=FOLDER, checkpoint=FILE, or model=NAME weights=... data=NAME")
        if self.weights is not None and (self.model is None or self.data is None):
            raise UserError(f"weights={self.weights}: say of which model, and on which data: model=NAME data=NAME")
        if self.weights is None and self.model is not None:
            raise UserError(f"model={self.model.name}: belongs with weights=; a run or checkpoint names its own")
        for key in ("run", "checkpoint", "weights", "runs"):
            value = getattr(self, key)
            setattr(self, key, value and str(Path(value).expanduser()))


@dataclass
class CompareConfig:
    """One comparison.

    Attributes:
        runs: folders that are searched for records, or patterns of them, with commas between.
        out: folder in which the comparison's own folder is made.
    """

    runs: str = "runs"
    out: str = "comparisons"

    def __post_init__(self) -> None:
        self.runs = ",".join(str(Path(place).expanduser()) for place in self.runs.split(","))
        self.out = str(Path(self.out).expanduser())


Schema = TypeVar("Schema", bound="ModelConfig | DataConfig | RecipeConfig")

PATH_KEYS = ("runs", "run", "checkpoint", "weights", "resume", "out", "data.root")

MODEL_SCHEMAS: dict[str, type[ModelConfig]] = {
    "base": ModelConfig,
    "mlp": MLPConfig,
    "alexnet": DropoutConfig,
    "vgg": DropoutConfig,
    "resnet": ShortcutConfig,
}
DATA_SCHEMAS: dict[str, type[DataConfig]] = {
    "data": DataConfig,
    "image_files": ImageFilesConfig,
    "folder": FolderConfig,
    "hub": HubConfig,
    "hub_photos": HubPhotosConfig,
}
RECIPE_SCHEMAS: dict[str, type[RecipeConfig]] = {"recipe": RecipeConfig, "finetune": FineTuneConfig}


def schema_of(keys: Iterable[str], schemas: Iterable[type[Schema]]) -> type[Schema]:
    """The schema that has all of these keys, and no other key without a default: older files lack newer keys.

    Raises:
        LookupError: none has.
    """
    for schema in schemas:
        known = {f.name: f.default for f in dataclasses.fields(schema)}
        if {name for name, default in known.items() if default == MISSING} <= set(keys) <= known.keys():
            return schema
    raise LookupError(f"no schema has the keys {sorted(keys)}")


def register_schemas() -> None:
    """Make the schemas known to Hydra, in the group `schema`, which users never choose from."""
    store = ConfigStore.instance()
    for name, node in (("train", TrainConfig), ("eval", EvalConfig), ("compare", CompareConfig)):
        store.store(group="schema", name=name, node=node, package="_global_")
    for name, schema in MODEL_SCHEMAS.items():
        store.store(group="schema/model", name=name, node=schema)
    others: dict[str, type] = {"protocol": ProtocolConfig, "trainer": TrainerConfig}
    for name, group in (DATA_SCHEMAS | RECIPE_SCHEMAS | others).items():
        store.store(group="schema", name=name, node=group)


def composed(name: str, overrides: Sequence[str]) -> DictConfig:
    """What Hydra, once it is initialised, composes of a primary config; from here on its choices are the runtime's."""
    config = compose(name, [*overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


Config = TypeVar("Config", bound="TrainConfig | EvalConfig | CompareConfig")


def typed_config(composed: DictConfig, schema: type[Config]) -> Config:
    """The plain dataclass of a composed config; needs Hydra's runtime choices to be set.

    Raises:
        UserError: a value that the schema's own checks refuse, or a name that was set instead of chosen.
    """
    for group in ("model", "data", "recipe", "protocol", "trainer"):
        node = composed.get(group)
        if node is not None and node["name"] != HydraConfig.get().runtime.choices[group]:
            raise UserError(f"{group}.name cannot be set; choose with {group}={node['name']}")
    config = OmegaConf.to_object(composed)
    assert isinstance(config, schema)
    return config
