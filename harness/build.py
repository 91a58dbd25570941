"""Typed config to objects: the only place that imports the networks.

What is imported here at once needs no torch, so that `check` answers before torch is loaded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.config import (
    CompareConfig,
    DataConfig,
    EvalConfig,
    ImageFilesConfig,
    ProtocolConfig,
    TrainConfig,
    TrainerConfig,
)
from harness.data.datasets import DATASETS, DataSet
from harness.data.preprocessing import Preprocessing
from harness.errors import UserError
from models import MODELS, Entry, build_model

if TYPE_CHECKING:
    import lightning
    from torch import nn


def check(config: TrainConfig | EvalConfig | CompareConfig) -> None:
    """Raise `UserError` if the network cannot take the images of the data set; needs neither torch nor a file."""
    if isinstance(config, TrainConfig):
        preprocessing_for(config.model.name, config.data)
        check_protocol(config.protocol, config.data)
        if bool(config.recipe.crop_area) != DATASETS[config.data.name].in_files:
            fitting = "torchvision_v1" if DATASETS[config.data.name].in_files else "modern or he_2015_cifar"
            raise UserError(
                f"recipe={config.recipe.name} data={config.data.name}: this recipe is for images of another kind; "
                f"choose recipe={fitting}"
            )
    if isinstance(config, EvalConfig) and config.data is not None:
        check_protocol(config.protocol, config.data)


def check_protocol(protocol: ProtocolConfig, data: DataConfig) -> None:
    """Raise `UserError` if the protocol is for images of another kind."""
    if DATASETS[data.name].in_files == (protocol.name == "whole_image"):
        fitting = "center_crop or protocol=ten_crop" if DATASETS[data.name].in_files else "whole_image"
        raise UserError(
            f"protocol={protocol.name} data={data.name}: this protocol is for images of another kind; "
            f"choose protocol={fitting}"
        )


def preprocessing_for(model: str, data: DataConfig) -> Preprocessing:
    """What a data set's images go through before this network: whole, and padded where it takes no smaller ones.

    Raises:
        UserError: a network that takes neither size, or statistics of another number of channels.
    """
    facts = DATASETS[data.name]
    if len(data.mean) != facts.channels:
        raise UserError(f"data.mean={data.mean}: data={data.name} has {facts.channels} channels; give one value each")
    entry, classes = Entry.named(model), len(facts.class_names)
    if entry.fixed_classes and entry.num_classes != classes:
        raise UserError(
            f"model={model} data={data.name}: {model} tells {entry.num_classes} classes apart, the data has {classes}"
        )
    if isinstance(data, ImageFilesConfig):
        try:
            entry.check_input(data.image_size)
        except ValueError as error:
            raise UserError(f"model={model} data={data.name}: {error}; data.image_size sets it") from error
        statistics = tuple(data.mean), tuple(data.std)
        return Preprocessing(facts.channels, data.image_size, data.resize, data.interpolation, *statistics)
    size = _input_size(entry, data.name, facts)
    return Preprocessing(facts.channels, size, None, None, tuple(data.mean), tuple(data.std))


def _input_size(entry: Entry, data: str, facts: DataSet) -> int:
    reason = ""
    for size in (facts.image_size, facts.padded_size):
        if size is not None:
            try:
                entry.check_input(size)
            except ValueError as error:
                reason = str(error)
            else:
                return size
    largest = facts.padded_size or facts.image_size or 0
    fitting = [name for name, other in MODELS.items() if other.min_size <= largest]
    raise UserError(f"model={entry.name} data={data}: {reason}; networks that fit: {', '.join(fitting)}")


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


def build_trainer(
    config: TrainerConfig, precision: str, callbacks: Sequence[lightning.Callback], **options: Any
) -> lightning.Trainer:
    """Lightning's trainer without what this project does itself: logging, progress, sampling, advertising.

    Args:
        config: where it runs.
        precision: Lightning's name of the arithmetic.
        callbacks: that see every hook.
        **options: of `lightning.Trainer`, such as `max_epochs`.

    Raises:
        UserError: a device that this machine lacks.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no tips and no list of idle accelerators
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)

    import lightning
    import torch
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from harness.checkpoint import AtomicCheckpointIO

    warnings.filterwarnings("ignore", module="lightning", message=".*LeafSpec.*")  # inside Lightning
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    try:
        return lightning.Trainer(
            accelerator=config.accelerator,
            devices=config.devices or "auto",
            strategy=config.strategy,
            precision=precision,  # type: ignore[arg-type]  # checked by the schema
            callbacks=list(callbacks),
            plugins=[AtomicCheckpointIO()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            deterministic="warn" if torch.cuda.is_available() else None,
            **options,
        )
    except MisconfigurationException as error:
        raise UserError(
            f"trainer.accelerator={config.accelerator} trainer.devices={config.devices}: "
            f"{' '.join(str(error).split())}; trainer=cpu runs everywhere"
        ) from error
