"""Into a network: every number, or an error that says which are missing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from harness.config.facts import Preprocessing
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.errors import UserError
from harness.run.checkpoint import Provenance, Trained
from harness.run.program import typed
from harness.weights.adapt import adapt
from harness.weights.convert import difference, under_our_keys
from harness.weights.diagnosis import likely_cause
from harness.weights.find import Found, find
from harness.weights.read import read_tensors

KEPT = "the file names no classes: its outputs are taken for those of the data, in order"


class Weights:
    """Weights that were found, verified and read.

    Args:
        weights: a name of torchvision's, `timm:<model>.<tag>`, or the path of a file or a run folder.
        model: name in the catalogue that they are for.

    Attributes:
        preprocessing: that their publisher evaluates them with; None if unknown.
        class_names: in label order, as a checkpoint of ours or the publisher says; None if unknown.

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
        on_imagenet = self.found.trained_on == "ImageNet-1K" and not self.found.backbone
        self.class_names: tuple[str, ...] | None = IMAGENET_CLASSES if on_imagenet else None
        if self.trained is not None:
            self.preprocessing, self.class_names = self.trained.preprocessing, self.trained.class_names
            if self.trained.model != model:
                raise UserError(f"weights={weights}: these are of {self.trained.model}: use model={self.trained.model}")

    def classes(self, network: nn.Module) -> int:
        """How many classes they tell apart; as many as the network if they lack its last layer.

        Args:
            network: of their kind, with any number of classes; it may be on the meta device.
        """
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        tensors, _ = under_our_keys(self.model, self.tensors, shapes)
        key = _weight_of_head(network)
        return len(tensors.get(key, network.get_parameter(key)))

    def load_into(self, network: nn.Module, *, training: bool, class_names: Sequence[str] | None = None) -> Provenance:
        """Put the weights into a network of ours, adapted to its classes and channels if it is to be trained.

        Args:
            network: of the same name in the catalogue.
            training: whether they may be adapted.
            class_names: of the images that it will be trained on; weights that are known to name others, or the same
                in another order, does not give its classifier. None if they are not to be compared.

        Raises:
            UserError: weights that the network has no place for, or too few of them, with the network that they are
                likely of; in evaluation, weights that would have to be adapted; numbers that are not finite.
        """
        where = f"model={self.model} weights={self.found.name}"
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        tensors, unexpected = under_our_keys(self.model, self.tensors, shapes)
        other_classes = class_names is not None and self.class_names not in (None, tuple(class_names))
        adapted, lines = adapt(network, tensors, self.found.backbone, other_classes)
        differs = difference(adapted, unexpected, shapes)
        if differs:
            raise UserError(f"{where}: {differs}; {likely_cause(self.model, differs, self.tensors)}")
        if lines and not training:
            raise UserError(
                f"{where}: an evaluation changes no weights, and these would have to be changed: {'; '.join(lines)}; "
                f"{typed('train.py')} adapts them"
            )
        broken = [key for key, value in adapted.items() if value.is_floating_point() and not value.isfinite().all()]
        if broken:
            raise UserError(f"{where}: numbers that are not finite in {', '.join(broken[:3])}: the file is of no use")
        network.load_state_dict(adapted)
        head = _weight_of_head(network)
        unknown = class_names is not None and self.class_names is None and adapted[head] is tensors.get(head)
        return self._provenance((*lines, KEPT) if unknown else lines)

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


def _weight_of_head(network: nn.Module) -> str:
    last = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)][-1]
    return f"{last}.weight"
