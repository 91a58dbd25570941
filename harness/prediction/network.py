"""Load a network to predict with or to export: from a run folder, a checkpoint, an exported file, or weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from harness import build
from harness.config.compose import compose_groups
from harness.config.data import DECODERS, DataConfig, ImageFilesConfig
from harness.config.facts import Preprocessing
from harness.config.files import choices
from harness.config.fit import preprocessing_for
from harness.config.model import ModelConfig
from harness.data.sources.table import describe
from harness.errors import UserError
from harness.prediction.in_memory import Picture, likeliest, preprocess
from harness.run.checkpoint import Trained, checkpoint_of_run
from harness.weights.diagnosis import skeleton
from harness.weights.load import Weights
from harness.weights.read import read_tensors


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, on the CPU.

    Attributes:
        network: maps images (N, C, H, W) to logits (N, K).
        trained: its model, classes, preprocessing and origin. Classes whose names are not known are called by number.
        source: where its weights came from, in words.
        named: whether the names of its classes are known.
    """

    network: nn.Module
    trained: Trained
    source: str
    named: bool = True

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        return self.trained.class_names

    def preprocess(self, picture: Picture) -> torch.Tensor:
        """A picture as it goes into the network, float32 (C, size, size): a path, an image of Pillow's, or an array.

        Raises:
            UserError: a file that cannot be read, or an array that is not uint8 (H, W, 3) or (H, W).
        """
        data = self.trained.data
        decoder = data.decoder if isinstance(data, ImageFilesConfig) else DECODERS[0]
        return preprocess(picture, self.trained.preprocessing, decoder)

    def predict(self, pictures: Sequence[Picture], top: int = 5) -> list[dict[str, float]]:
        """The likeliest classes of each picture with their probabilities, best first: `[{"cat": 0.9, ...}, ...]`.

        Raises:
            UserError: a picture that cannot be read.
        """
        if not len(pictures):
            return []
        device = next(self.network.parameters()).device
        images = torch.stack([self.preprocess(picture) for picture in pictures])
        return likeliest(self.network, images.to(device), self.class_names, top)

    def fresh(self) -> nn.Module:
        """Build another network of the same kind, in evaluation mode, with fresh weights."""
        return _built(self.trained)


def load(
    place: Path | None, weights: str | None, model: str | None, data: Sequence[str], weights_map: str | None = None
) -> Loaded:
    """Load the network that the options of `harness.command.arguments` name.

    Args:
        place: a run folder or a file; None for pretrained weights.
        weights: as `load_weights` takes them; None with `place`.
        model: as `load_weights` takes it; None with `place`.
        data: as `load_weights` takes it.
        weights_map: as `load_weights` takes it.

    Raises:
        UserError: as `load_file` and `load_weights` do.
    """
    if place is not None:
        return load_file(place)
    assert weights is not None and model is not None, "checked with the arguments"
    return load_weights(weights, model, data, weights_map)


def _built(trained: Trained) -> nn.Module:
    classes = len(trained.class_names)
    return build.build_network(trained.model, trained.options, trained.preprocessing, classes).eval()


def load_file(place: Path) -> Loaded:
    """Load the network of a run folder's reported checkpoint, of a checkpoint, or of an exported file.

    Raises:
        UserError: there is no checkpoint, it is damaged, or the file does not say which network it is of.
    """
    path = checkpoint_of_run(place) if place.is_dir() else place
    content = read_tensors(path)
    if content.trained is None:
        raise UserError(f"{path}: does not say which network it is of; say it: --model NAME --weights {path}")
    network = build.network_of(content.trained, content.tensors, path).eval()
    return Loaded(network, content.trained, str(path))


def load_weights(weights: str, model: str, data: Sequence[str], weights_map: str | None = None) -> Loaded:
    """Load a network with pretrained weights.

    Its classes have ImageNet's wnids as names if the publisher trained the weights on ImageNet, else the names of the
    data set's classes. If the data set has another number of classes, they are called by number.

    Args:
        weights: a name of torchvision's, `timm:<model>.<tag>`, or the path of a file.
        model: name in the catalogue.
        data: the data set that the weights were trained on: its name, and settings such as `data.mean=[0.5]`; empty if
            it is not known. It gives mean and deviation if the weights do not.
        weights_map: path of a file that calls the keys of the weights by our names; None: they are known.

    Raises:
        UserError: the weights cannot be found, are not of this network, or nothing gives mean and deviation.
    """
    model_config, data_config = _composed(model, data)
    found = Weights(weights, model, weights_map)
    if found.trained is not None:
        return load_file(found.found.file)
    preprocessing = _preprocessing(model, weights, data_config, found)
    classes = found.classes(skeleton(model))
    known = found.class_names or (describe(data_config).class_names if data_config else ())
    named = len(known) == classes
    names = known if named else tuple(map(str, range(classes)))
    network = build.build_network(model, model_config.options(), preprocessing, classes).eval()
    provenance = found.load_into(network, training=False)
    trained = Trained(model, model_config.options(), names, preprocessing, None, None, provenance)
    return Loaded(network, trained, str(provenance), named)


def _preprocessing(model: str, weights: str, data: DataConfig | None, found: Weights) -> Preprocessing:
    if found.preprocessing is not None:
        return found.preprocessing
    if data is None:
        raise UserError(
            f"weights={weights}: the file does not say what its images went through; name the data set that it was "
            f"trained on: --data NAME, one of {', '.join(choices('data'))}"
        )
    return preprocessing_for(model, data, describe(data))


def _composed(model: str, data: Sequence[str]) -> tuple[ModelConfig, DataConfig | None]:
    """Compose the configs of a network and a data set, as on the command line; raises `UserError` for a wrong name."""
    words = [f"model={model}", *(word if "=" in word else f"data={word}" for word in data)]
    model_config, data_config = compose_groups("eval", words, "model", "data")
    return model_config, data_config
