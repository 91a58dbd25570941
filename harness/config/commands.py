"""Settings of the commands: what one training run, one evaluation or one comparison is told."""

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


@dataclass
class TrainConfig(Declared):
    """One training run.

    Attributes:
        overrides: the user's words that it was composed of.
    """

    model: ModelConfig
    data: DataConfig
    recipe: RecipeConfig
    protocol: ProtocolConfig
    trainer: TrainerConfig
    seed: int = setting(
        "of the initialisation, the order of images, augmentation and dropout",
        0,
        least=0,
        most=2**63 - 1,
        aliases=("random_seed", "manual_seed"),
    )
    runs: str = setting("folder in which the run's own folder is made", "runs", path=True, aliases=("output_dir",))
    resume: str | None = setting(
        "a run folder that goes on, or auto: the newest unfinished one of the same settings", None, path=True
    )
    weights: str | None = setting(
        "that the network begins with: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT (torchvision's), timm:<model>.<tag>, a "
        "file, or a run folder; null draws them at random",
        None,
        path=True,
        aliases=("pretrained", "ckpt", "ckpt_path"),
    )
    overrides: list[str] = field(default_factory=list, compare=False)


@dataclass
class EvalConfig(Declared):
    """One evaluation of a run, of a checkpoint, or of weights.

    Attributes:
        model: of `weights`; None for the one that the checkpoint names.
        data: None for the data that the checkpoint was trained on.
        recipe: the data's default, which an evaluation does not use.
        overrides: the user's words that it was composed of.
    """

    protocol: ProtocolConfig
    trainer: TrainerConfig
    model: ModelConfig | None = None
    data: DataConfig | None = None
    recipe: RecipeConfig | None = None
    run: str | None = setting("a run folder; the checkpoint that the run reports is evaluated", None, path=True)
    checkpoint: str | None = setting("a checkpoint file", None, path=True, aliases=("ckpt", "ckpt_path"))
    weights: str | None = setting(
        "pretrained ones, with model= and data=: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT (torchvision's), "
        "timm:<model>.<tag>, a file, or a run folder",
        None,
        path=True,
        aliases=("pretrained",),
    )
    force: bool = setting("whether a score is recorded even if it means nothing", False)
    runs: str = setting("folder in which the evaluation's own folder is made", "runs", path=True)
    overrides: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(given is not None for given in (self.run, self.checkpoint, self.weights)) != 1:
            raise UserError("say what to evaluate: run=FOLDER, checkpoint=FILE, or model=NAME weights=... data=NAME")
        if self.weights is not None and (self.model is None or self.data is None):
            raise UserError(f"weights={self.weights}: say of which model, and on which data: model=NAME data=NAME")
        if self.weights is None and self.model is not None:
            raise UserError(f"model={self.model.name}: belongs with weights=; a run or checkpoint names its own")


@dataclass
class CompareConfig(Declared):
    """One comparison."""

    runs: str = setting(
        "folders that are searched for records, or patterns of them, with commas between", "runs", path=True
    )
    out: str = setting("folder in which the comparison's own folder is made", "comparisons", path=True)
    overrides: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        self.runs = ",".join(str(Path(place).expanduser()) for place in self.runs.split(","))
        super().__post_init__()


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
SCHEMAS: dict[str, dict[str, type[Any]]] = {  # of each group, by the name that files in `configs/` give them
    "model": {f"model/{name}": schema for name, schema in MODEL_SCHEMAS.items()},
    "data": {**DATA_SCHEMAS},
    "recipe": {**RECIPE_SCHEMAS},
    "protocol": {"protocol": ProtocolConfig},
    "trainer": {"trainer": TrainerConfig},
}


def keys_of(command: str) -> dict[str, Declaration]:
    """Every key that a command has, whatever is chosen, with its declaration: `seed`, `recipe.epochs`."""
    schema = COMMANDS[command]
    keys = {**declarations(schema)}
    own = {f.name for f in dataclasses.fields(schema)}
    for group in [group for group in GROUPS if group in own]:
        for options in SCHEMAS[group].values():
            keys |= {f"{group}.{name}": known for name, known in declarations(options).items()}
    return keys
