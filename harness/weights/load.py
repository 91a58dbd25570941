"""Load weights into a network: every tensor, or an error that says which are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from harness.config.facts import Preprocessing
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.errors import UserError
from harness.run.checkpoint import Provenance
from harness.run.log import log
from harness.run.program import typed
from harness.weights.adapt import adapt
from harness.weights.convert import SHOWN, Difference, Shapes, difference, under_our_keys, without_prefix
from harness.weights.diagnosis import likely_cause, skeleton
from harness.weights.find import Found, find
from harness.weights.key_map import KeyMap, mapped
from harness.weights.read import read_tensors
from harness.weights.values import check_values

KEPT = "the file names no classes: its outputs are taken for those of the data, in order"


class Weights:
    """Weights that were found, verified and read.

    Args:
        weights: a name of torchvision, `timm:<model>.<tag>`, or the path of a file or a run folder.
        model: name of the network in the catalogue.
        weights_map: path of a file that calls the keys of the weights by our names; None: they are known.

    Attributes:
        preprocessing: preprocessing in the publisher's evaluation or in our checkpoint; None if unknown.
        class_names: names of the classes in label order, by our checkpoint or the publisher; None if unknown.

    Raises:
        UserError: the weights do not exist, are damaged, hold code, or belong to another network by name.
    """

    def __init__(self, weights: str, model: str, weights_map: str | None = None) -> None:
        self.found: Found = find(weights, model)
        self.model = model
        content = read_tensors(self.found.file)
        self.part, self.trained = content.part, content.trained
        self.tensors = self._whole = content.tensors
        others: tuple[str, ...] = ()
        self.map = KeyMap.read(Path(weights_map)) if weights_map is not None else None
        if self.map is not None and self.trained is not None:
            raise UserError(
                f"weights_map={weights_map}: {self.found.file} says which network it is of: leave weights_map out"
            )
        if self.trained is None and self.map is None:
            shapes = {key: value.shape for key, value in skeleton(model).state_dict().items()}
            self.tensors, others = without_prefix(model, content.tensors, shapes)
        ignored = (*content.ignored, *others)
        if ignored:
            more = f" and {len(ignored) - SHOWN:,} more" if ignored[SHOWN:] else ""
            log.info(f"weights={weights}: not the network's, and ignored: {', '.join(ignored[:SHOWN])}{more}")
        self.preprocessing: Preprocessing | None = self.found.preprocessing
        on_imagenet = self.found.trained_on == "ImageNet-1K" and not self.found.backbone
        self.class_names: tuple[str, ...] | None = IMAGENET_CLASSES if on_imagenet else None
        if self.trained is not None:
            self.preprocessing, self.class_names = self.trained.preprocessing, self.trained.class_names
            if self.trained.model != model:
                raise UserError(
                    f"weights={weights}: these weights belong to {self.trained.model}: use model={self.trained.model}"
                )

    def classes(self, network: nn.Module) -> int:
        """Return the number of classes; if the weights lack the last layer, the network's number.

        Args:
            network: the same kind of network with any number of classes; it may be on the meta device.
        """
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        tensors, _ = self._under_our_keys(shapes)
        key = _weight_of_head(network)
        return len(tensors.get(key, network.get_parameter(key)))

    def load_into(self, network: nn.Module, *, training: bool, class_names: Sequence[str] | None = None) -> Provenance:
        """Load the weights into a network, and for training adapt them to its classes and channels.

        Args:
            network: our network of the same name in the catalogue.
            training: whether the weights may be adapted.
            class_names: classes of the training images. If the weights are known to have other classes, or the same in
                another order, the classifier is replaced. None: do not compare classes.

        Raises:
            UserError: weights are missing or have no place in the network (the error names the network that they
                probably belong to), an evaluation would have to adapt them, or they are not finite.
        """
        where = f"model={self.model} weights={self.found.name}"
        shapes = {key: value.shape for key, value in network.state_dict().items()}
        tensors, unexpected = self._under_our_keys(shapes)
        other_classes = class_names is not None and self.class_names not in (None, tuple(class_names))
        adapted, lines = adapt(network, tensors, self.found.backbone, other_classes)
        if difference(adapted, unexpected, shapes):
            differs = difference(tensors, unexpected, shapes)  # of the file as it is
            raise UserError(f"{where}: {differs}; {self._cause(differs, network)}")
        if lines and not training:
            raise UserError(
                f"{where}: an evaluation changes no weights, and these do not fit unchanged: {'; '.join(lines)}; "
                f"{typed('train.py')} adapts them"
            )
        check_values(adapted, network.state_dict(), where)
        network.load_state_dict(adapted)
        head = _weight_of_head(network)
        unknown = class_names is not None and self.class_names is None and adapted[head] is tensors.get(head)
        known = (*lines, KEPT) if unknown else lines
        return self._provenance(known if self.map is None else (*known, str(self.map)))

    def _under_our_keys(self, shapes: Shapes) -> tuple[dict[str, torch.Tensor], list[str]]:
        if self.map is None:
            return under_our_keys(self.model, self.tensors, shapes)
        return mapped(self.model, self.map, self.tensors, shapes), []

    def _cause(self, differs: Difference, network: nn.Module) -> str:
        if self.map is not None:
            return f"weights_map={self.map.path} calls them so"
        return likely_cause(self.model, differs, self.tensors, self._whole, network)

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
