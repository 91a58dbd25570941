"""Typed config to objects: the only place that imports the networks.

What is imported here at once needs no torch, so that `check` answers before torch is loaded.
"""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig

from harness.config import (
    CompareConfig,
    DataConfig,
    EvalConfig,
    FineTuneConfig,
    ImageFilesConfig,
    ProtocolConfig,
    RecipeConfig,
    TrainConfig,
)
from harness.data.images.preprocessing import Preprocessing
from harness.data.sources.datasets import DataSet, facts
from harness.errors import UserError
from harness.weights.names import check_name
from models import MODELS, Entry, build_model

if TYPE_CHECKING:
    import lightning
    import torch
    from torch import nn

    from harness.data.loading.module import TrainData
    from harness.data.sources.tables import Splits
    from harness.run.checkpoint import Provenance, Trained
    from harness.run.processes import Team
    from harness.training.classifier import Classifier
    from harness.weights.load import MismatchError, Weights


def check(config: TrainConfig | EvalConfig | CompareConfig) -> None:
    """Raise `UserError` if network, weights, protocol or recipe do not fit the images; needs no torch."""
    if isinstance(config, CompareConfig) or config.data is None:
        return
    if config.model is not None:
        preprocessing_for(config.model.name, config.data)
        if config.weights is not None:
            check_name(config.weights, config.model.name)
    check_protocol(config.protocol, config.data)
    if isinstance(config, TrainConfig):
        check_recipe(config)


def check_recipe(config: TrainConfig) -> None:
    """Raise `UserError` if the recipe is for images of another kind, or goes on from weights and there are none."""
    recipe, data, in_files = config.recipe, config.data, facts(config.data).in_files
    if recipe.trains == "network" and not (recipe.crop_area if in_files else recipe.crop_padding is not None):
        raise UserError(
            f"recipe={recipe.name} data={data.name}: this recipe is for images of another kind; "
            f"choose recipe={'torchvision_v1' if in_files else 'modern or he_2015_cifar'}, or recipe=finetune"
        )
    if config.weights is None and needs_weights(recipe):
        raise UserError(
            f"recipe={recipe.name}: trains a pretrained network further; name it with weights=, or choose "
            f"recipe={'torchvision_v1' if in_files else 'modern'} to train one from scratch"
        )
    if recipe.trains == "head" and recipe.compile:
        raise UserError(
            "recipe.compile=true: recipe.trains=head sees each image once and compiles nothing; leave it out"
        )


def needs_weights(recipe: RecipeConfig) -> bool:
    """Whether it trains a network further, in part or at several rates, instead of all of one at one rate."""
    return isinstance(recipe, FineTuneConfig) or recipe.trains == "head"


def check_protocol(protocol: ProtocolConfig, data: DataConfig, network: Preprocessing | None = None) -> None:
    """Raise `UserError` if the protocol, or what the network's own images go through, is for images of another kind."""
    in_files = facts(data).in_files
    if not in_files and network is not None and network.resize is not None:
        raise UserError(
            f"data={data.name}: its images are taken whole, but this network's are resized to {network.resize} and "
            f"cropped to {network.size}: evaluate it on files, with data=folder"
        )
    if in_files == (protocol.name == "whole_image"):
        raise UserError(
            f"protocol={protocol.name} data={data.name}: this protocol is for images of another kind; "
            f"choose protocol={'center_crop or protocol=ten_crop' if in_files else 'whole_image'}"
        )


def check_arithmetic(team: Team, **precisions: str) -> None:
    """Raise `UserError` if a group's precision is float16 on a CPU, where Lightning computes in bfloat16 instead."""
    for group, precision in precisions.items():
        if team.accelerator == "cpu" and precision == "16-mixed":
            raise UserError(
                f"{group}.precision=16-mixed: a CPU does not compute in float16; choose {group}.precision=bf16-mixed "
                f"or {group}.precision=32-true"
            )


def preprocessing_for(model: str, data: DataConfig, weights: Preprocessing | None = None) -> Preprocessing:
    """What a data set's images go through before this network: whole, and padded where it takes no smaller ones.

    Args:
        model: name in the catalogue.
        data: the data set.
        weights: what the publisher of the network's weights evaluates them with; it comes before the data's. Images
            that are never resized keep their size and take mean and std from it, if it has as many channels.

    Raises:
        UserError: a network that takes neither size, statistics of another number of channels, or values set on the
            command line that are not those of the weights.
    """
    known = facts(data)
    if len(data.mean) != known.channels:
        raise UserError(f"data.mean={data.mean}: data={data.name} has {known.channels} channels; give one value each")
    entry, classes = Entry.named(model), len(known.class_names)
    if entry.fixed_classes and entry.num_classes != classes:
        raise UserError(
            f"model={model} data={data.name}: {model} tells {entry.num_classes} classes apart, the data has {classes}"
        )
    if isinstance(data, ImageFilesConfig):
        own = _of_files(entry, data, weights)
    else:
        size = _input_size(entry, data.name, known)
        own = Preprocessing(known.channels, size, None, None, tuple(data.mean), tuple(data.std))
    if weights is None or weights.channels != own.channels:
        return own
    partly = own.resize is None or weights.resize is None
    return unless_set(data, dataclasses.replace(own, mean=weights.mean, std=weights.std) if partly else weights)


def unless_set(data: DataConfig, network: Preprocessing) -> Preprocessing:
    """What a pretrained network's images go through; `UserError` if the command line sets another value."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    given = {override.partition("=")[0] for override in overrides}
    for name, own in network.as_plain().items():
        key = "image_size" if name == "size" else name
        if f"data.{key}" in given and getattr(data, key) != own:
            raise UserError(f"data.{key}={getattr(data, key)}: the network brings its own, {own}: leave it out")
    return network


def _of_files(entry: Entry, data: ImageFilesConfig, weights: Preprocessing | None) -> Preprocessing:
    size = data.image_size if weights is None or weights.resize is None else weights.size
    try:
        entry.check_input(size)
    except ValueError as error:
        raise UserError(f"model={entry.name} data={data.name}: {error}; data.image_size sets it") from error
    return Preprocessing(len(data.mean), size, data.resize, data.interpolation, tuple(data.mean), tuple(data.std))


def _input_size(entry: Entry, data: str, known: DataSet) -> int:
    reason = ""
    for size in (known.image_size, known.padded_size):
        if size is not None:
            try:
                entry.check_input(size)
            except ValueError as error:
                reason = str(error)
            else:
                return size
    raise _too_small(entry, data, known, reason)


def _too_small(entry: Entry, data: str, known: DataSet, reason: str) -> UserError:
    largest = known.padded_size or known.image_size or 0
    fitting = [name for name, other in MODELS.items() if other.min_size <= largest]
    return UserError(f"model={entry.name} data={data}: {reason}; networks that fit: {', '.join(fitting)}")


def build_network(model: str, options: dict[str, Any], preprocessing: Preprocessing, num_classes: int) -> nn.Module:
    """A network for these images and classes, its weights drawn from torch's global generator.

    Raises:
        UserError: options that the network cannot have.
    """
    try:
        return build_model(
            model,
            num_classes=num_classes,
            in_channels=preprocessing.channels,
            image_size=preprocessing.size,
            **options,
        )
    except ValueError as error:
        raise UserError(f"model={model}: {error}") from error


def rebuilt(trained: Trained, state_dict: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network that a checkpoint describes, with these numbers, and with nothing else of how it was trained."""
    network = build_network(trained.model, trained.options, trained.preprocessing, len(trained.class_names))
    network.load_state_dict(state_dict)
    return network


def start_network(
    config: TrainConfig, class_names: Sequence[str], before: Trained | None
) -> tuple[nn.Module, Preprocessing, Provenance | None]:
    """The network that a run begins with, drawn from its seed or pretrained, and what its images go through.

    Args:
        config: of the run.
        class_names: of its data.
        before: what the checkpoint says that the run goes on from, whose weights are loaded later; None for none.

    Raises:
        UserError: weights that cannot be had, or are not of this network.
    """
    import torch

    weights = None
    if config.weights is not None and before is None:
        from harness.weights.load import Weights

        weights = Weights(config.weights, config.model.name)
    known = before or weights
    preprocessing = preprocessing_for(config.model.name, config.data, known.preprocessing if known else None)
    torch.manual_seed(config.seed)
    network = build_network(config.model.name, config.model.options(), preprocessing, len(class_names))
    pretrained = before.pretrained if before else None
    if weights is not None:
        pretrained = load_weights(network, config.model.name, weights, training=True, class_names=class_names)
    return network, preprocessing, pretrained


def build_training(
    config: TrainConfig, network: nn.Module, splits: Splits, preprocessing: Preprocessing, num_classes: int
) -> tuple[TrainData, Classifier]:
    """The images of a run and what trains the network on them, as its recipe says.

    Raises:
        UserError: a recipe that this network or these images cannot have.
    """
    from harness.data.loading.module import TrainData
    from harness.training.classifier import Classifier

    recipe, protocol, limits = config.recipe, config.protocol, config.trainer
    _check_patience(recipe.patience, splits)
    kinds = _other_kinds(recipe) if needs_weights(recipe) else (TrainData, Classifier)
    decoder = config.data.decoder if isinstance(config.data, ImageFilesConfig) else None
    data = kinds[0](splits, preprocessing, recipe, protocol, config.seed, limits.max_batches, decoder, limits.workers)
    classifier = kinds[1](network, recipe, data.steps_per_epoch, config.seed)
    if recipe.class_weights is not None:
        classifier.loss = _balanced_loss(splits, num_classes)
    return data, classifier


def _check_patience(patience: int | None, splits: Splits) -> None:
    if patience is not None and not len(splits.validation):
        raise UserError(
            f"recipe.patience={patience}: there is no validation split to look at; set data.validation above 0"
        )


def _balanced_loss(splits: Splits, num_classes: int) -> nn.Module:
    from harness.training.class_weights import WeightedCrossEntropy, balanced_weights

    return WeightedCrossEntropy(balanced_weights(splits.train.labels, num_classes))


def _other_kinds(recipe: RecipeConfig) -> tuple[type[TrainData], type[Classifier]]:
    """What feeds and what trains a network that is trained in another way than all of it at one rate."""
    from harness.data.loading.module import TrainData
    from harness.training.features import FeatureData
    from harness.training.fine_tuner import FineTuner
    from harness.training.linear_probe import LinearProbe

    return (TrainData, FineTuner) if isinstance(recipe, FineTuneConfig) else (FeatureData, LinearProbe)


def load_weights(
    network: nn.Module, model: str, weights: Weights, *, training: bool, class_names: Sequence[str] | None = None
) -> Provenance:
    """Put weights into a network, adapted to its classes and channels if it is to be trained.

    Raises:
        UserError: weights of another network, with its name; in evaluation, weights that would have to be adapted.
    """
    from harness.weights.load import MismatchError

    try:
        return weights.load_into(network, training=training, class_names=class_names)
    except MismatchError as error:
        raise UserError(f"{error}; {_likely_cause(model, error)}") from error


def skeleton(model: str) -> nn.Module:
    """The network as the paper has it, without numbers: on the meta device."""
    import torch

    with torch.device("meta"):
        return build_model(model)


def _likely_cause(model: str, mismatch: MismatchError) -> str:
    """The networks that the weights do fit, or the one that they are most like."""
    from harness.weights.load import likeness

    likenesses = {name: likeness(name, skeleton(name), mismatch.tensors) for name in MODELS}
    found = [name for name, (fitting, tensors) in likenesses.items() if fitting == tensors]
    if model in found:
        return f"they are of {model} with the options of configs/model/{model}.yaml"
    if found:
        return f"they are of {' or '.join(found)}: use model={found[0]}"
    if not mismatch.difference.missing and not mismatch.difference.unexpected:
        return f"the layers of {model}, in other sizes: set the options of configs/model/{model}.yaml as theirs were"
    nearest = max(MODELS, key=lambda name: (likenesses[name][0] / likenesses[name][1], name == model))
    fitting, tensors = likenesses[nearest]
    if 2 * fitting < tensors:
        return "they are of no network of this zoo"
    return (
        f"they are most like {nearest}, {fitting:,} of {tensors:,} tensors: a variant, other options, or a part of it"
    )


def build_trainer(
    team: Team, folder: Path, precision: str, callbacks: Sequence[lightning.Callback], **options: Any
) -> lightning.Trainer:
    """Lightning's trainer, which does nothing but what is said here.

    Args:
        team: of the run.
        folder: of the run.
        precision: Lightning's name of the arithmetic.
        callbacks: that see every hook.
        **options: of `lightning.Trainer`, such as `max_epochs`.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # no tips and no list of idle accelerators

    import lightning
    import torch
    from lightning.pytorch.callbacks import Checkpoint

    from harness.run.checkpoint import AtomicCheckpointIO
    from harness.run.processes import TeamEnvironment

    warnings.filterwarnings("ignore", module="lightning", message=".*LeafSpec.*")  # inside Lightning
    trainer = lightning.Trainer(
        accelerator=team.accelerator,
        devices=team.size if team.size > 1 or team.accelerator == "cpu" else [team.device],
        strategy="ddp" if team.distributed else "auto",
        precision=precision,  # type: ignore[arg-type]  # checked by the schema
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO(), TeamEnvironment(team)],
        default_root_dir=folder,  # where Lightning, under SLURM, looks for a checkpoint to load; there is none
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic="warn" if torch.cuda.is_available() else None,
        **options,
    )
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]  # they are heard
    return trainer
