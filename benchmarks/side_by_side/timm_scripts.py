"""timm's scripts: its data sets, loaders that collate uint8 and normalise whole batches, meters, and checkpoints.

Retyped from huggingface/pytorch-image-models: train.py (004fb5f8c4) and validate.py (0041cb7ba4), whose functions are
called as they are installed. Other than there: the network is ours; MNIST is resized to the input instead of padded, as
timm does without augmentation; CIFAR is cropped by torchvision's transforms, because timm has none with padding. timm
leaves out the last, smaller batch of an epoch.
"""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import timm.data
import timm.utils
import torch
from timm.data.transforms import ToNumpy
from torch import nn
from torchvision import transforms

from benchmarks.side_by_side.work import Work, cuts, first, network, optimizer, training_images

data: Any = timm.data  # partly annotated
utils: Any = timm.utils
LOG_EVERY = {"train": 50, "validate": 10}  # batches
log = logging.getLogger("timm_scripts")


def train_one_epoch(model: nn.Module, batches: Any, descent: torch.optim.Optimizer, criterion: nn.Module) -> float:
    """Their loop; returns the mean loss."""
    batch_time, data_time, losses = utils.AverageMeter(), utils.AverageMeter(), utils.AverageMeter()
    model.train()
    end, last = time.time(), len(batches) - 1
    for number, (images, labels) in enumerate(batches):
        data_time.update(time.time() - end)
        loss = criterion(model(images), labels)
        losses.update(loss.item(), images.size(0))
        descent.zero_grad()
        loss.backward()
        descent.step()
        batch_time.update(time.time() - end)
        if number == last or number % LOG_EVERY["train"] == 0:
            rate = sum(group["lr"] for group in descent.param_groups) / len(descent.param_groups)
            log.info(
                f"Train: 0 [{number:>4d}/{len(batches)} ({100 * number / max(last, 1):>3.0f}%)]  "
                f"Loss: {losses.val:#.4g} ({losses.avg:#.3g})  "
                f"Time: {batch_time.val:.3f}s, {images.size(0) / batch_time.val:>7.2f}/s  ({batch_time.avg:.3f}s)  "
                f"LR: {rate:.3e}  Data: {data_time.val:.3f} ({data_time.avg:.3f})"
            )
        end = time.time()
    return float(losses.avg)


def validate(model: nn.Module, batches: Any, criterion: nn.Module, work: Work) -> None:
    """Their evaluation, its warm-up among it."""
    batch_time, losses, top1, top5 = (utils.AverageMeter() for _ in range(4))
    model.eval()
    with torch.inference_mode():
        model(torch.randn(work.batch_size, work.channels, work.pixels, work.pixels))
        end = time.time()
        for number, (images, labels) in enumerate(batches):
            output = model(images)
            loss = criterion(output, labels)
            right1, right5 = utils.accuracy(output.detach(), labels, topk=(1, 5))
            losses.update(loss.item(), len(images))
            top1.update(right1.item(), len(images))
            top5.update(right5.item(), len(images))
            batch_time.update(time.time() - end)
            end = time.time()
            if number % LOG_EVERY["validate"] == 0:
                log.info(
                    f"Test: [{number:>4d}/{len(batches)}]  Time: {batch_time.val:.3f}s ({batch_time.avg:.3f}s)  "
                    f"Loss: {losses.val:>7.4f} ({losses.avg:>6.4f})  Acc@1: {top1.val:>7.3f} ({top1.avg:>7.3f})  "
                    f"Acc@5: {top5.val:>7.3f} ({top5.avg:>7.3f})"
                )


def _loader(work: Work, images: Any, training: bool, **options: Any) -> Any:
    size = (work.channels, work.pixels, work.pixels)
    statistics = {"mean": work.mean, "std": work.std, "device": torch.device("cpu")}
    options |= {"is_training": training, "num_workers": work.workers, "interpolation": "bilinear"}
    return data.create_loader(images, size, work.batch_size, **statistics, **options)


def _training_batches(work: Work) -> Any:
    if work.images == "mnist":
        images = first(data.create_dataset("torch/mnist", root=work.root, split="train", is_training=True), work.most)
        return _loader(work, images, True, no_aug=True)
    if work.images == "parquet":
        images = training_images(work, None)
        batches = _loader(work, images, True)
        images.transform = transforms.Compose([*cuts(work), ToNumpy()])
        return batches
    images = data.create_dataset("", root=work.root, split="train", is_training=True)
    return _loader(work, images, True, color_jitter=0.0)


def epoch(work: Work) -> float:
    """Seconds of an epoch, of its line in a table, and of its checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    batches, model, criterion = _training_batches(work), network(work), nn.CrossEntropyLoss()
    descent = optimizer(model)
    with tempfile.TemporaryDirectory() as folder:
        saver = utils.CheckpointSaver(
            model, descent, args=SimpleNamespace(model=work.model), checkpoint_dir=folder, recovery_dir=folder
        )
        started = time.perf_counter()
        loss = train_one_epoch(model, batches, descent, criterion)
        utils.update_summary(0, {"loss": loss}, {"loss": loss}, str(Path(folder) / "summary.csv"), write_header=True)
        saver.save_checkpoint(0, metric=loss)
        return time.perf_counter() - started


def evaluation(work: Work) -> float:
    """Seconds of an evaluation."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    images = data.create_dataset("", root=work.root, split="val")
    batches, model = _loader(work, images, False, crop_pct=work.pixels / work.resize), network(work)
    started = time.perf_counter()
    validate(model, batches, nn.CrossEntropyLoss(), work)
    return time.perf_counter() - started
