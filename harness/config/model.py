"""Settings of a network, `model.*`: the options that its family has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.config.fields import Declared, chosen, setting


@dataclass
class ModelConfig(Declared):
    """Settings of a network without options."""

    group: ClassVar[str] = "model"
    name: str = chosen("model")

    def options(self) -> dict[str, Any]:
        """Return the options for `models.build_model`, besides the shape of the data."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "name"}


@dataclass
class MLPConfig(ModelConfig):
    """Options of `mlp`."""

    hidden: list[int] = setting("number of units of each hidden layer", least=1, most=100_000)


@dataclass
class DropoutConfig(ModelConfig):
    """Options of AlexNet and VGG."""

    dropout: float = setting("probability of dropping a unit of a fully connected layer", least=0, below=1)


@dataclass
class ShortcutConfig(ModelConfig):
    """Options of the ResNets."""

    shortcut: str = setting("option of the paper for shortcuts between stages", choices=("A", "B", "C"))


MODEL_SCHEMAS: dict[str, type[ModelConfig]] = {
    "base": ModelConfig,
    "mlp": MLPConfig,
    "alexnet": DropoutConfig,
    "vgg": DropoutConfig,
    "resnet": ShortcutConfig,
}
