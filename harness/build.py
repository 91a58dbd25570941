"""Build objects from a typed config: the network, its training data and LightningModule, and Lightning's trainer."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn

from harness.config.commands import TrainConfig
from harness.config.data import ImageFilesConfig
from harness.config.facts import DataSet, Preprocessing
from harness.config.fit import check_sizes, check_views, preprocessing_for
from harness.config.recipe import FineTuneConfig, RecipeConfig
from harness.data.images.image_files import ImageFiles
from harness.data.loading.module import TrainData
from harness.data.loading.small_pictures import make_small
from harness.data.sources.splits import Splits
from harness.errors import UserError
from harness.run.checkpoint import AtomicCheckpointIO, Provenance, Trained, check_network
from harness.run.processes import Team, TeamEnvironment
from harness.training.class_weights import WeightedCrossEntropy, balanced_weights
from harness.training.classifier import Classifier
from harness.training.features import FeatureData
from harness.training.fine_tuner import FineTuner
from harness.training.linear_probe import LinearProbe
from harness.weights.convert import difference, under_our_keys
from harness.weights.load import Weights
from harness.weights.values import check_values
from models import build_model
from models.layers import multiply_adds


class Unwatched(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without the generator that it makes 23 times in a step."""

    profile = nullcontext  # type: ignore[assignment]  # called with the name of an action, it does nothing


def build_network(model: str, options: dict[str, Any], preprocessing: Preprocessing, num_classes: int) -> nn.Module:
    """Build a network for these images and classes; torch's global generator draws its weights.

    Raises:
        UserError: the network does not take these options.
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
    """Build the network that a checkpoint describes and load these tensors, without any state from training."""
    network = build_network(trained.model, trained.options, trained.preprocessing, len(trained.class_names))
    network.load_state_dict(state_dict)
    return network


def cost(network: nn.Module, preprocessing: Preprocessing) -> int:
    """The multiply-adds of a network for one image of this size."""
    return multiply_adds(network, preprocessing.channels, preprocessing.size)


def network_of(trained: Trained, tensors: Mapping[str, torch.Tensor], path: Path) -> nn.Module:
    """Build the network that a file describes, with the tensors in the file.

    Raises:
        UserError: there is no such network, or the tensors are not its, or not finite.
    """
    check_network(trained, path)
    with torch.device("meta"):  # a network of any size takes no memory there
        network = build_network(trained.model, trained.options, trained.preprocessing, len(trained.class_names))
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    ours, unexpected = under_our_keys(trained.model, tensors, shapes)
    differs = difference(ours, unexpected, shapes)
    if differs:
        raise UserError(f"{path}: says that it is of {trained.model}, but its tensors are not: {differs}")
    network = build_network(trained.model, trained.options, trained.preprocessing, len(trained.class_names))
    check_values(ours, network.state_dict(), str(path))
    network.load_state_dict(ours)
    return network


def start_network(
    config: TrainConfig, known: DataSet, before: Trained | None
) -> tuple[nn.Module, Preprocessing, Provenance | None]:
    """Build the network that a run begins with, with random or pretrained weights.

    Args:
        config: settings of the run.
        known: facts of its data.
        before: description in the checkpoint that the run is resumed from, whose weights are loaded later; None for a
            new run.

    Returns:
        The network, its preprocessing, and where its pretrained weights came from (None for random ones).

    Raises:
        UserError: the weights cannot be found or downloaded, belong to another network, or bring a size that does not
            suit recipe or protocol.
    """
    model = config.model
    given = config.weights if before is None else None
    weights = Weights(given, model.name, config.weights_map) if given is not None else None
    source = before or weights
    theirs = source.preprocessing if source else None
    preprocessing = preprocessing_for(model.name, config.data, known, theirs, config.overrides)
    if known.in_files:
        check_sizes(config.recipe, model.name, preprocessing.size)
        check_views(config.protocol, model.name, preprocessing)
    torch.manual_seed(config.seed)
    network = build_network(model.name, model.options(), preprocessing, len(known.class_names))
    pretrained = before.pretrained if before else None
    if weights is not None:
        pretrained = weights.load_into(network, training=True, class_names=known.class_names)
    return network, preprocessing, pretrained


def small_pictures(splits: Splits, config: TrainConfig) -> Splits:
    """The same splits; those to train on are read from the cache that `data.cache` asks for, which is made if need be.

    Raises:
        UserError: there is too little room for it, or no place that can be written.
    """
    data, train = config.data, splits.train
    if not isinstance(data, ImageFilesConfig) or data.cache is None or not isinstance(train, ImageFiles):
        return splits
    how = (data.cache, data.decoder, data.interpolation, config.trainer.workers)
    return dataclasses.replace(splits, train=make_small(train, *how))


def build_training(
    config: TrainConfig, network: nn.Module, splits: Splits, preprocessing: Preprocessing, num_classes: int
) -> tuple[TrainData, Classifier]:
    """Build the data module and the LightningModule of a run by its recipe.

    Raises:
        UserError: the recipe does not work with this network.
    """
    recipe, protocol, limits = config.recipe, config.protocol, config.trainer
    data_kind, classifier_kind = _kinds(recipe)
    decoder = config.data.decoder if isinstance(config.data, ImageFilesConfig) else None
    data = data_kind(splits, preprocessing, recipe, protocol, config.seed, limits.max_batches, decoder, limits.workers)
    weighted = recipe.class_weights is not None
    loss = WeightedCrossEntropy(balanced_weights(splits.train.labels, num_classes)) if weighted else None
    return data, classifier_kind(network, recipe, data.steps_per_epoch, config.seed, loss, limits.accumulate)


def _kinds(recipe: RecipeConfig) -> tuple[type[TrainData], type[Classifier]]:
    """Return the classes that feed and train a network: all of it, at one learning rate or several, or its head."""
    if recipe.trains == "head":
        return FeatureData, LinearProbe
    return TrainData, FineTuner if isinstance(recipe, FineTuneConfig) else Classifier


def build_trainer(
    team: Team,
    folder: Path,
    precision: str,
    callbacks: Sequence[lightning.Callback],
    deterministic: bool = True,
    **options: Any,
) -> lightning.Trainer:
    """Build Lightning's trainer with everything switched off that is not given here.

    Args:
        team: processes of the run.
        folder: folder of the run.
        precision: arithmetic, by Lightning's name.
        callbacks: callbacks of the trainer.
        deterministic: whether a GPU uses the same algorithms in every run; otherwise it tries which are fastest.
        **options: further options of `lightning.Trainer`, such as `max_epochs`.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # no tips and no list of idle accelerators
    warnings.filterwarnings("ignore", module="lightning", message=".*LeafSpec.*")  # inside Lightning
    trainer = lightning.Trainer(
        accelerator=team.accelerator,
        devices=team.on_each_node if team.size > 1 or team.accelerator == "cpu" else [team.device],
        num_nodes=team.nodes,
        strategy="ddp" if team.distributed else "auto",
        precision=precision,  # type: ignore[arg-type]  # checked by the schema
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO(), TeamEnvironment(team)],
        profiler=Unwatched(),
        default_root_dir=folder,  # under SLURM Lightning would load a checkpoint from here; there is none
        logger=False,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic=("warn" if torch.cuda.is_available() else None) if deterministic else False,
        benchmark=None if deterministic else True,
        **options,
    )
    trainer.callbacks = [  # type: ignore[attr-defined]  # none that another package registers
        own
        for own in trainer.callbacks  # type: ignore[attr-defined]
        if own in callbacks
    ]
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]  # we handle signals
    return trainer
