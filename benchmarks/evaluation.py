"""ResNet-50 on the CPU: float32, channels last, bfloat16 and compiled, in turns, on real pictures; random weights."""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.input import PREPROCESSING
from benchmarks.rounds import in_turns, machine, ratio
from harness.config.protocol import ProtocolConfig
from harness.data.images.decode import decode, read
from harness.data.images.geometry import centre_crop
from harness.data.images.pixels import Normalise
from harness.errors import UserError
from harness.evaluation.counts import first_classes
from harness.evaluation.scores import class_scores, prepare
from models import build_model

VARIANTS = {  # channels last, compiled, bfloat16
    "float32": (False, False, False),
    "channels_last": (True, False, False),
    "bfloat16": (True, False, True),
    "bfloat16_compiled": (True, True, True),
}


def measure(folder: str, rounds: int, threads: int, batch_size: int, model: str = "resnet50") -> dict[str, Any]:
    """Ratios of images per second to float32 in torch's default memory format, and the change in top-5 lists."""
    torch.set_num_threads(threads)
    files = [os.fsencode(path) for path in sorted(Path(folder).rglob("*.JPEG"))][: max(64, batch_size)]
    if len(files) < batch_size:
        raise UserError(f"--root {folder}: fewer than {batch_size} .JPEG in it")
    pixels = np.concatenate([centre_crop(decode(read(path), "fast"), PREPROCESSING, "fast") for path in files])
    images = Normalise(PREPROCESSING, "cpu")(torch.from_numpy(pixels).movedim(-1, -3)).contiguous()
    torch.manual_seed(0)
    network = build_model(model).eval()
    _settle(network, images)
    runs = {name: _run(copy.deepcopy(network), images, batch_size, *how) for name, how in VARIANTS.items()}
    seconds = in_turns({name: lambda run=run: run()[0] for name, run in runs.items()}, rounds)  # type: ignore[misc]
    rate = {name: [batch_size / s for s in values] for name, values in seconds.items()}
    lists = {name: run(every=True)[1] for name, run in runs.items()}
    return {
        "benchmark": "evaluation",
        "model": model,
        "batch_size": batch_size,
        "rounds": rounds,
        "to_float32": {name: ratio(rate, name, "float32") for name in VARIANTS if name != "float32"},
        "images": len(files),
        "images_with_another_first_class": _changed(lists, 1),
        "images_with_other_five_classes": _changed(lists, 5),
        "weights": "random, batch statistics of these pictures",
        "images_per_second": {name: sorted(values)[len(values) // 2] for name, values in rate.items()},
        "machine": machine(),
    }


def _settle(network: nn.Module, images: torch.Tensor) -> None:
    """Give batch norm the statistics of these pictures, so that random weights tell them apart."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    network.train()
    with torch.inference_mode():
        network(images[:32])
    network.eval()


def _run(
    network: nn.Module, images: torch.Tensor, batch_size: int, channels_last: bool, compiled: bool, half: bool
) -> Any:
    how = ProtocolConfig("benchmark", batch_size, "32-true", channels_last, compiled)
    prepare(network, how)

    def run(every: bool = False) -> tuple[float, torch.Tensor]:
        batches = torch.split(images, batch_size) if every else (images[:batch_size],)
        started = time.perf_counter()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            scores = [class_scores(network, batch, how, batch_size) for batch in batches]
        return time.perf_counter() - started, first_classes(torch.cat(scores), 5)[0]

    return run


def _changed(lists: dict[str, torch.Tensor], k: int) -> dict[str, int]:
    """Images whose first k classes, as a set, are not those of float32."""
    sets = {name: classes[:, :k].sort(1).values for name, classes in lists.items()}
    return {name: int((sets[name] != sets["float32"]).any(1).sum()) for name in lists if name != "float32"}
