"""Check that network, weights, images, protocol and recipe work together, before torch is loaded.

The caller passes the facts of a data set, or a function that returns them: `config` knows no source of images.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.config.commands import TRACKERS, CompareConfig, EvalConfig, TrainConfig
from harness.config.data import DataConfig, ImageFilesConfig
from harness.config.facts import DataSet, Preprocessing
from harness.config.fields import written
from harness.config.model import ShortcutConfig
from harness.config.protocol import BATCHES, DENSE, MULTI_CROP, ProtocolConfig
from harness.config.recipe import FineTuneConfig, RecipeConfig
from harness.errors import UserError
from models.catalogue import MODELS, Entry

Describe = Callable[[DataConfig], DataSet]
Command = TypeVar("Command", TrainConfig, EvalConfig)


def check(config: TrainConfig | EvalConfig | CompareConfig, describe: Describe) -> None:
    """Raise `UserError` if network, protocol or recipe do not work with the images.

    Args:
        config: settings of the command.
        describe: function that returns the facts of a data set.
    """
    if isinstance(config, CompareConfig) or config.data is None:
        return
    known = describe(config.data)
    if config.model is not None:
        preprocessing = preprocessing_for(config.model.name, config.data, known)
    in_files = known.in_files
    check_protocol(config.protocol, config.data, in_files)
    if config.model is not None and not (in_files and config.weights):  # weights can bring other sizes
        check_views(config.protocol, config.model.name, preprocessing)
    if isinstance(config, TrainConfig):
        check_recipe(config, in_files)
        if config.track is not None:
            check_tracker(config.track)


def check_tracker(package: str) -> None:
    """Raise `UserError` if a tracker is not installed; a folder of its name, which it may have left, is no package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"track={package} needs {TRACKERS[package]}: pip install 'cnn-zoo[{package}]'")


def check_recipe(config: TrainConfig, in_files: bool) -> None:
    """Raise `UserError` if the recipe does not work with these images, or needs weights and the user gave none.

    Args:
        config: settings of the run.
        in_files: whether the images are decoded from files when they are used.
    """
    recipe, data = config.recipe, config.data
    for_these = recipe.crop_area or recipe.resize_range if in_files else recipe.crop_padding is not None
    if recipe.trains == "network" and not for_these:
        if in_files:
            why = (
                "it is for images in memory (recipe.crop_area and recipe.resize_range are empty), and these are "
                "decoded from files"
            )
            other = "modern"
        else:
            why = "it is for images in files (recipe.crop_padding is null), and these are in memory"
            other = "sgd_cosine, recipe=he_2015_cifar"
        raise UserError(
            f"recipe={recipe.name} does not work with data={data.name}: {why}; choose recipe={other} or recipe=finetune"
        )
    check_augmentation(recipe, data, in_files)
    if not in_files and recipe.train_size:
        raise UserError(
            f"recipe.train_size={written(recipe.train_size)}: is for images in files, and those of data={data.name} "
            "are in memory; set recipe.train_size=[] recipe.size_ramp=[]"
        )
    if isinstance(data, ImageFilesConfig) and data.cache is not None:
        check_cache(recipe, data.cache)
    if isinstance(data, ImageFilesConfig) and config.weights is None:  # weights can bring another size
        check_sizes(recipe, config.model.name, data.image_size)
    if config.weights is None and (recipe.trains == "head" or isinstance(recipe, FineTuneConfig)):
        other = "modern or, for a few hundred images, recipe=scratch_small" if in_files else "sgd_cosine"
        raise UserError(
            f"recipe={recipe.name}: this recipe needs pretrained weights; name them with weights=, or choose "
            f"recipe={other} to train from scratch"
        )
    if recipe.stochastic_depth and not isinstance(config.model, ShortcutConfig):
        raise UserError(
            f"recipe.stochastic_depth={recipe.stochastic_depth:g}: {config.model.name} has no residual blocks to skip; "
            "leave it out, or set it to 0"
        )
    if recipe.trains == "head" and recipe.compile:
        raise UserError(
            "recipe.compile=true: does not work with recipe.trains=head, which computes features once; leave it out"
        )


def check_cache(recipe: RecipeConfig, size: int) -> None:
    """Raise `UserError` if a cache of pictures with this shorter edge is too small for a recipe, or of no use."""
    if recipe.trains == "head":
        raise UserError(
            f"data.cache={size}: recipe.trains=head reads each picture once, so no cache helps; leave it out"
        )
    largest = max([*recipe.resize_range, *recipe.train_size], default=0)
    if size < largest:
        raise UserError(
            f"data.cache={size}: the recipe needs a shorter edge of {largest} pixels; set data.cache={largest}"
        )


def check_augmentation(recipe: RecipeConfig, data: DataConfig, in_files: bool) -> None:
    """Raise `UserError` if the recipe changes pixels in a way that does not work with these images."""
    if in_files and recipe.distortion:
        raise UserError(
            f"recipe.distortion={written(recipe.distortion)}: is for images in memory, and those of data={data.name} "
            "are decoded from files; leave it out"
        )
    if recipe.lighting and len(data.mean) != 3:
        raise UserError(
            f"recipe.lighting={recipe.lighting:g}: changes the colours of RGB images, and data={data.name} has "
            f"{len(data.mean)} channel; leave it out"
        )


def check_sizes(recipe: RecipeConfig, model: str, size: int) -> None:
    """Check the sides of random crops of images in files.

    Args:
        recipe: says how large they are.
        model: name of the network in the catalogue.
        size: side of the network's input in pixels, at which it is evaluated.

    Raises:
        UserError: the network takes no images of such a side, they are larger than its input, or the recipe resizes a
            shorter edge to less than such a side.
    """
    largest = recipe.train_size[-1] if recipe.train_size else size
    if recipe.resize_range and recipe.resize_range[0] < largest:
        crop = "the random crop" if recipe.train_size else "the network's input"
        raise UserError(
            f"recipe.resize_range={written(recipe.resize_range)}: a shorter edge of {recipe.resize_range[0]} pixels is "
            f"too short for {crop} of {largest}"
        )
    said, instead = f"recipe.train_size={written(recipe.train_size)}", f"recipe.train_size=[] trains at {size}"
    if largest > size:
        raise UserError(f"{said}: larger than the network's input of {size} pixels; {instead}")
    entry = MODELS[model]
    for side in {*recipe.train_size} - {size}:
        if entry.family == "mlp":
            raise UserError(f"{said}: {model} has weights for {size} x {size} pixels, and takes no others; {instead}")
        try:
            entry.check_input(side)
        except ValueError as error:
            raise UserError(f"{said}: {error}; {instead}") from error


def check_protocol(
    protocol: ProtocolConfig, data: DataConfig, in_files: bool, network: Preprocessing | None = None
) -> None:
    """Raise `UserError` if the protocol or the network's own preprocessing does not work with these images."""
    if not in_files and network is not None and network.resize is not None:
        raise UserError(
            f"data={data.name}: its images are never resized, but this network needs images resized to "
            f"{network.resize} and cropped to {network.size}: evaluate it on files, with data=folder"
        )
    if in_files == (protocol.name == "whole_image"):
        why = f"it {'resizes' if protocol.name in DENSE else 'crops'}, and these are taken whole"
        if in_files:
            why = "it resizes nothing, and these files have any size"
        raise UserError(
            f"protocol={protocol.name} does not work with data={data.name}: {why}; "
            f"choose protocol={'center_crop or protocol=ten_crop' if in_files else 'whole_image'}"
        )


def on_device(config: Command, accelerator: str) -> Command:
    """Return a copy of a config that says how many images the device evaluates at once, where it leaves that open."""
    settled = copy.copy(config)  # no `replace`: every setting was checked before
    if not config.protocol.batch_size:
        settled.protocol = copy.copy(config.protocol)
        settled.protocol.batch_size = BATCHES.get(config.protocol.name, BATCHES["center_crop"])[accelerator != "cpu"]
    return settled


def check_views(protocol: ProtocolConfig, model: str, network: Preprocessing) -> None:
    """Check what a protocol makes of each image.

    Args:
        protocol: says at which scales the images are seen.
        model: name of the network in the catalogue.
        network: its preprocessing.

    Raises:
        UserError: the protocol has more or fewer scales than it can use, one that is smaller than the network's input,
            or sees whole images, which not every network takes.
    """
    name = protocol.name
    if protocol.scales:
        said = f"protocol.scales={written(protocol.scales)}"
        if name not in (MULTI_CROP, *DENSE):
            raise UserError(
                f"{said}: protocol={name} has no scales; leave it out, or choose protocol=multi_scale_dense"
            )
        if name == "dense" and len(protocol.scales) > 1:
            raise UserError(f"{said}: protocol=dense sees images at one scale; choose protocol=multi_scale_dense")
        if protocol.scales[0] < network.size:
            raise UserError(
                f"{said}: a shorter edge of {protocol.scales[0]} pixels is too short for the network's input of "
                f"{network.size}"
            )
    if name not in DENSE:
        return
    if MODELS[model].family in ("mlp", "lenet"):
        raise UserError(
            f"protocol={name}: {model} takes images of one size, and this protocol sees them whole; the networks of "
            "AlexNet, VGG and ResNet take it: choose protocol=center_crop, protocol=ten_crop or protocol=multi_crop"
        )
    if protocol.compile:
        raise UserError(
            f"protocol.compile=true: protocol={name} sees images of many sizes, and each would be compiled anew; leave "
            "it out"
        )


def check_arithmetic(accelerator: str, **precisions: str) -> None:
    """Raise `UserError` if a group's precision is float16 on a CPU, where Lightning computes in bfloat16 instead."""
    for group, precision in precisions.items():
        if accelerator == "cpu" and precision == "16-mixed":
            raise UserError(
                f"{group}.precision=16-mixed: a CPU does not compute in float16; choose {group}.precision=bf16-mixed "
                f"or {group}.precision=32-true"
            )


def check_device(recipe: RecipeConfig, accelerator: str, devices: int, accumulate: int) -> None:
    """Raise `UserError` if the recipe needs GPUs and has none, or replays a network whose batches come in parts.

    Processes on CPUs cannot share the statistics of batch norms; a CUDA graph writes over the gradients of a part.
    """
    if recipe.cuda_graphs and (accelerator == "cpu" or accumulate > 1):
        here = "this run is on a CPU" if accelerator == "cpu" else f"this run has trainer.accumulate={accumulate}"
        raise UserError(f"recipe.cuda_graphs=true: works on a GPU, with a batch in one part, and {here}; leave it out")
    if recipe.sync_batch_norm and accelerator == "cpu" and devices > 1:
        raise UserError(
            f"recipe.sync_batch_norm=true: works between GPUs, and this run has {devices} processes on CPUs; leave it "
            "out, or set trainer.devices=1"
        )


def check_validation(recipe: RecipeConfig, validation: int) -> None:
    """Raise `UserError` if the recipe waits for the validation error and there is no validation split."""
    if not validation:
        key = "schedule=plateau" if recipe.patience is None else f"patience={recipe.patience}"
        raise UserError(f"recipe.{key}: needs a validation split, and there is none; set data.validation above 0")


def preprocessing_for(
    model: str,
    data: DataConfig,
    known: DataSet,
    weights: Preprocessing | None = None,
    overrides: Sequence[str] = (),
) -> Preprocessing:
    """Return how a data set's images are prepared for this network; small ones are padded if the network needs it.

    Args:
        model: name in the catalogue.
        data: the data set.
        known: its facts.
        weights: preprocessing by the publisher of the network's weights; it takes precedence over the data's. Images
            that are never resized keep their size and take mean and std from it if it has as many channels.
        overrides: the user's words, which may not contradict the preprocessing of the weights.

    Raises:
        UserError: the network takes neither size, mean and std have another number of channels, or the user's words
            contradict the weights.
    """
    if len(data.mean) != known.channels:
        raise UserError(f"data.mean={data.mean}: data={data.name} has {known.channels} channels; give one value each")
    entry, classes = MODELS[model], len(known.class_names)
    if entry.fixed_classes and entry.num_classes != classes:
        raise UserError(
            f"model={model} data={data.name}: {model} always has {entry.num_classes} classes, the data has {classes}"
        )
    if isinstance(data, ImageFilesConfig):
        own = _of_files(entry, data, weights)
    else:
        size = _input_size(entry, data.name, known)
        own = Preprocessing(known.channels, size, None, None, tuple(data.mean), tuple(data.std))
    if weights is None or weights.channels != own.channels:
        return own
    partly = own.resize is None or weights.resize is None
    network = dataclasses.replace(own, mean=weights.mean, std=weights.std) if partly else weights
    check_unset(data, network, overrides)
    return network


def check_unset(data: DataConfig, network: Preprocessing, overrides: Sequence[str]) -> None:
    """Raise `UserError` if the user's words contradict the preprocessing that a pretrained network brings."""
    given = keys_given(overrides)
    for name, own in network.as_plain().items():
        key = "image_size" if name == "size" else name
        if f"data.{key}" in given and getattr(data, key) != own:
            raise UserError(
                f"data.{key}={getattr(data, key)}: the network's own preprocessing has {own}: leave data.{key} out"
            )


def keys_given(overrides: Sequence[str]) -> set[str]:
    """Return the keys and groups that the user's words set."""
    return {word.partition("=")[0] for word in overrides}


def _of_files(entry: Entry, data: ImageFilesConfig, weights: Preprocessing | None) -> Preprocessing:
    size = data.image_size if weights is None or weights.resize is None else weights.size
    try:
        entry.check_input(size)
    except ValueError as error:
        raise UserError(f"model={entry.name} data={data.name}: {error}; data.image_size sets it") from error
    return Preprocessing(len(data.mean), size, data.resize, data.interpolation, tuple(data.mean), tuple(data.std))


def _input_size(entry: Entry, data: str, known: DataSet) -> int:
    """The side of the network's input: the images' own, that after padding, or that without their margin."""
    sizes = [size for size in (known.image_size, known.padded_size, known.cropped_size) if size is not None]
    reasons: dict[int, str] = {}
    for size in sizes:
        try:
            entry.check_input(size)
        except ValueError as error:
            reasons[size] = str(error)
        else:
            return size
    fitting = ", ".join(name for name, other in MODELS.items() if any(other.takes(size) for size in sizes))
    raise UserError(f"model={entry.name} data={data}: {reasons[max(sizes)]}; networks that fit: {fitting}")
