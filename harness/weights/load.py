"""Into a network: every number, or an error that says which are missing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from harness.checkpoint import Provenance, Trained
from harness.data.preprocessing import Preprocessing
from harness.errors import UserError
from harness.weights.adapt import adapt
from harness.weights.convert import difference, under_our_keys
from harness.weights.find import Found, find
from harness.weights.read import read_tensors


class MismatchError(UserError):
    """Weights that are not of the network that they were meant for; `tensors` is what the file holds."""

    def __init__(self, message: str, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__(message)
        self.tensors = tensors


class Weights:
    """Weights that were found, verified and read.

    Args:
        weights: a name of torchvision's, `timm:<model>.<tag>`, or the path of a file.
        model: name in the catalogue that they are for.

    Attributes:
        preprocessing: that their publisher evaluates them with; None if unknown.
        class_names: of a checkpoint of ours, in label order; None if unknown.

    Raises:
        UserError: weights that do not exist, are damaged, hold code, or are of another network by name.
    """

    def __init__(self, weights: str, model: str) -> None:
        self.found: Found = find(weights, model)
        self.model = model
        content = read_tensors(self.found.file)
        self.tensors, self.part = content.tensors, content.part
        self.trained: Trained | None = content.trained
        self.preprocessing: Preprocessing | None = self.found.preprocessing
        self.class_names: tuple[str, ...] | None = None
        if self.trained is not None:
            self.preprocessing, self.class_names = self.trained.preprocessing, self.trained.class_names
            if self.trained.model != model:
                raise UserError(f"weights={weights}: these are of {self.trained.model}: use model={self.trained.model}")

    def load_into(self, network: nn.Module, *, training: bool) -> Provenance:
        """Put the weights into a network of ours, adapted to its classes and channels if it is to be trained.

        Raises:
            MismatchError: weights that the network has no place for, or too few of them.
            UserError: in evaluation, weights that would have to be adapted; numbers that are not finite.
        """
        where = f"model={self.model} weights={self.found.name}"
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        tensors, unexpected = under_our_keys(self.model, self.tensors, shapes)
        adapted, lines = adapt(network, tensors, self.found.backbone)
        differs = difference(adapted, unexpected, shapes)
        if differs:
            raise MismatchError(f"{where}: {differs}", self.tensors)
        if lines and not training:
            raise UserError(
                f"{where}: an evaluation changes no weights, and these would have to be changed: {'; '.join(lines)}; "
                "train.py adapts them"
            )
        broken = [key for key, value in adapted.items() if value.is_floating_point() and not value.isfinite().all()]
        if broken:
            raise UserError(f"{where}: numbers that are not finite in {', '.join(broken[:3])}: the file is of no use")
        network.load_state_dict(adapted)
        return self._provenance(lines)

    def _provenance(self, adapted: tuple[str, ...]) -> Provenance:
        found, recipe, data = self.found, self.found.recipe, self.found.trained_on
        if self.trained is not None:
            data = self.trained.trained_on
            recipe = self.trained.training["recipe"]["name"] if self.trained.training else None
        return Provenance(
            found.name,
            found.file.name,
            found.sha256,
            found.source,
            recipe,
            found.published,
            data,
            self.part,
            adapted,
        )


def fits(model: str, network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether weights are of this network, other classes and channels apart; the network may be on the meta device."""
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    translated, unexpected = under_our_keys(model, tensors, shapes)
    return not unexpected and not difference(adapt(network, translated, False)[0], unexpected, shapes)
