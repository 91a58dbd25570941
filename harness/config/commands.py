"""Settings of the commands: everything that one training run, one evaluation or one comparison needs to know."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.data import DATA_SCHEMAS, DataConfig
from harness.config.fields import Declaration, Declared, declarations, setting
from harness.config.model import MODEL_SCHEMAS, ModelConfig
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import RECIPE_SCHEMAS, RecipeConfig
from harness.config.trainer import TrainerConfig
from harness.errors import UserError

WEIGHTS_MAP = (
    "file of YAML that calls the tensors or modules of the file weights= by our names, theirs: ours; null leaves them "
    "as they are"
)

TRACKERS = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "mlflow": "MLflow"}  # packages, and their names


@dataclass
class TrainConfig(Declared):
    """Settings of one training run.

    Attributes:
        overrides: the user's words, from which the settings were composed.
    """

    model: ModelConfig
    data: DataConfig
    recipe: RecipeConfig
    protocol: ProtocolConfig
    trainer: TrainerConfig
    seed: int = setting(
        "seed of the initialisation, the order of images, augmentation and dropout",
        0,
        least=0,
        most=2**63 - 1,
        aliases=("random_seed", "manual_seed"),
    )
    runs: str = setting("folder in which the run's own folder is made", "runs", path=True, aliases=("output_dir",))
    resume: str | None = setting(
        "folder of an unfinished run to go on with; auto finds the newest one with the same settings", None, path=True
    )
    weights: str | None = setting(
        "weights that the network begins with: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT (torchvision's), "
        "timm:<model>.<tag>, a file, or a run folder; null draws them at random",
        None,
        path=True,
        aliases=("pretrained", "ckpt", "ckpt_path"),
    )
    weights_map: str | None = setting(WEIGHTS_MAP, None, path=True, aliases=("key_map", "keymap"))
    track: str | None = setting(
        "program that shows the run while it trains, beside the tables in its folder; null: none",
        None,
        choices=tuple(TRACKERS),
        aliases=("logger", "tracker", "report_to"),
    )
    overrides: list[str] = field(default_factory=list, compare=False)


@dataclass
class EvalConfig(Declared):
    """Settings of one evaluation of a run, of a checkpoint, or of weights.

    Attributes:
        model: network that `weights` belong to; None for the one that the checkpoint names.
        data: data to evaluate on; None for the data that the checkpoint was trained on.
        recipe: default recipe of the data; an evaluation does not use it.
        overrides: the user's words, from which the settings were composed.
    """

    protocol: ProtocolConfig
    trainer: TrainerConfig
    model: ModelConfig | None = None
    data: DataConfig | None = None
    recipe: RecipeConfig | None = None
    run: str | None = setting("folder of a run; its reported checkpoint is evaluated", None, path=True)
    checkpoint: str | None = setting("checkpoint file to evaluate", None, path=True, aliases=("ckpt", "ckpt_path"))
    weights: str | None = setting(
        "pretrained weights, with model= and data=: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT (torchvision's), "
        "timm:<model>.<tag>, a file, or a run folder",
        None,
        path=True,
        aliases=("pretrained",),
    )
    weights_map: str | None = setting(WEIGHTS_MAP, None, path=True, aliases=("key_map", "keymap"))
    verify: str | None = setting(
        "all: evaluate every released file of weights whose data are there, and compare it with its record; data= and "
        "model= choose some",
        None,
        choices=("all",),
    )
    resume: str | None = setting(
        "auto: go on with an evaluation that was interrupted, after its last whole part", None, choices=("auto",)
    )
    force: bool = setting("whether to record a score even if it means nothing", False)
    runs: str = setting("folder in which the evaluation's own folder is made", "runs", path=True)
    overrides: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(given is not None for given in (self.run, self.checkpoint, self.weights, self.verify)) != 1:
            raise UserError(
                "say what to evaluate: run=FOLDER, checkpoint=FILE, model=NAME weights=... data=NAME, or verify=all"
            )
        if self.verify is not None and self.resume is not None:
            raise UserError(f"resume={self.resume}: does not work with verify=; leave it out")
        if self.weights is not None and (self.model is None or self.data is None):
            raise UserError(
                f"weights={self.weights}: say which network they belong to and which data to evaluate on: "
                "model=NAME data=NAME"
            )
        if self.weights is None and self.verify is None and self.model is not None:
            raise UserError(
                f"model={self.model.name}: works only with weights=; a run or checkpoint names its own network: "
                "leave model= out"
            )


@dataclass
class CompareConfig(Declared):
    """Settings of one comparison."""

    runs: str = setting("folders to search for records, or patterns of folders, separated by commas", "runs", path=True)
    out: str = setting("folder in which the comparison's own folder is made", "comparisons", path=True)
    why: str | None = setting(
        "two folders of runs or evaluations, separated by a comma: in what they differ, instead of a comparison",
        None,
        path=True,
    )
    overrides: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        self.runs = ",".join(str(Path(place).expanduser()) for place in self.runs.split(","))
        super().__post_init__()


@dataclass
class SweepConfig(Declared):
    """Settings of a sweep, `-m`; its jobs do not get these words."""

    jobs: int = setting(
        "number of jobs of a sweep (-m) that run at once on this machine, each with an equal share of its cores",
        1,
        least=1,
        most=1024,
        aliases=("n_jobs",),
    )
    choose: str | None = setting(
        "validation: the last line of a sweep (-m) is the folder of the run that it chooses: of the row with the "
        "lowest mean validation error, the run with the smallest seed",
        None,
        choices=("validation",),
    )
    show: str | None = setting(
        "all: the table of a sweep (-m) shows the test error of every row, not of the chosen one alone",
        None,
        choices=("all",),
    )


COMMANDS: dict[str, type[TrainConfig] | type[EvalConfig] | type[CompareConfig]] = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "compare": CompareConfig,
}
GROUPS = {
    "model": "the network",
    "data": "the images; each data set names the recipe that suits it",
    "recipe": "how it is trained: epochs, batch size, learning rate, augmentation",
    "protocol": "how it is evaluated",
    "trainer": "where it runs: device, processes, threads",
}
SWEEP = declarations(SweepConfig)
EXPERIMENT = "experiment"  # a group whose files choose from the others and set their keys
CHOICES = (*GROUPS, EXPERIMENT)  # words that name a file of `configs/`
SCHEMAS: dict[str, dict[str, type[Any]]] = {  # the dataclasses of each group, by the names that `configs/` uses
    "model": {f"model/{name}": schema for name, schema in MODEL_SCHEMAS.items()},
    "data": {**DATA_SCHEMAS},
    "recipe": {**RECIPE_SCHEMAS},
    "protocol": {"protocol": ProtocolConfig},
    "trainer": {"trainer": TrainerConfig},
}


def keys_of(command: str) -> dict[str, Declaration]:
    """Return every key of a command, whatever is chosen, with its declaration: `seed`, `recipe.epochs`."""
    schema = COMMANDS[command]
    keys = {**declarations(schema)}
    own = {f.name for f in dataclasses.fields(schema)}
    for group in [group for group in GROUPS if group in own]:
        for options in SCHEMAS[group].values():
            keys |= {f"{group}.{name}": known for name, known in declarations(options).items()}
    return keys
