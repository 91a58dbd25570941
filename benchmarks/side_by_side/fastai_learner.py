"""fastai: a data block, a learner with its bar and its printed table, torch's SGD in its wrapper.

Retyped from fastai/fastai: nbs/examples/train_imagenette.py (026fb13f5d), whose functions are called as they are
installed. Other than there: network, optimiser and learning rate are ours, and pictures of MNIST and CIFAR come from
memory instead of files. fastai leaves out the last, smaller batch of an epoch.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import GrandparentSplitter, IndexSplitter, Normalize, get_image_files, parent_label
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import accuracy, top_k_accuracy
from fastai.optimizer import OptimWrapper
from fastai.vision.augment import CropPad, FlipItem, RandomCrop, RandomResizedCrop
from fastai.vision.core import PILImage, PILImageBW
from fastai.vision.data import ImageBlock

from benchmarks.side_by_side.work import CLASSES, LEARNING_RATE, MOMENTUM, Work, network, training_images


def _loaders(work: Work, validation: bool, folder: str) -> Any:
    """Loaders of the images to train on, and of those of the folder `val` if they are wanted."""
    splitter = GrandparentSplitter(valid_name="val") if validation else IndexSplitter([])
    if work.images == "folder":
        items, pixels, label = get_image_files(work.root if validation else f"{work.root}/train"), None, parent_label
        classes = sorted({parent_label(item) for item in items})
    else:
        images = training_images(work, None)
        pictures = list(images.data.numpy()) if work.images == "mnist" else list(map(np.asarray, images.pictures))
        labels = images.targets.tolist() if work.images == "mnist" else images.labels
        items, pixels, label = range(len(labels)), lambda item: pictures[item], lambda item: labels[item]
        classes = list(range(CLASSES))
    block = DataBlock(
        blocks=(ImageBlock(PILImageBW if work.channels == 1 else PILImage), CategoryBlock(vocab=classes)),
        get_x=pixels,
        get_y=label,
        splitter=splitter,
        item_tfms=_cuts(work),
        batch_tfms=[Normalize.from_stats(list(work.mean), list(work.std), cuda=False)],
    )
    options = {"bs": work.batch_size, "num_workers": work.workers, "device": torch.device("cpu")}
    return block.dataloaders(items, path=folder, **options)


def _cuts(work: Work) -> list[Any]:
    if work.images == "mnist":
        return [CropPad(work.pixels)]
    if work.images == "parquet":
        return [CropPad(work.pixels + 8), RandomCrop(work.pixels), FlipItem(0.5)]
    return [RandomResizedCrop(work.pixels, min_scale=0.08), FlipItem(0.5)]  # of validation: the middle


def _learner(work: Work, validation: bool, folder: str) -> Any:
    sgd = partial(OptimWrapper, opt=torch.optim.SGD)
    metrics, loss = [accuracy, top_k_accuracy], CrossEntropyLossFlat()
    loaders = _loaders(work, validation, folder)
    options = {"opt_func": sgd, "metrics": metrics, "loss_func": loss, "moms": (MOMENTUM,) * 3}
    return Learner(loaders, network(work), lr=LEARNING_RATE, wd=0.0, path=folder, **options)


def epoch(work: Work) -> float:
    """Seconds of `fit`."""
    with tempfile.TemporaryDirectory() as folder:
        learner = _learner(work, False, folder)
        started = time.perf_counter()
        learner.fit(1)
        return time.perf_counter() - started


def evaluation(work: Work) -> float:
    """Seconds of `validate`."""
    with tempfile.TemporaryDirectory() as folder:
        learner = _learner(work, True, folder)
        started = time.perf_counter()
        learner.validate()
        return time.perf_counter() - started
