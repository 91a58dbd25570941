"""Images per second of training and evaluation: from JPEG files, and from one batch that already lies on the device.

In turns, in one run; the pictures are repeated until there are enough. bfloat16, channels last, and compiled if asked.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.input import AREA, ASPECT, PREPROCESSING
from benchmarks.rounds import in_turns, machine, ratio
from benchmarks.training import RECIPE
from harness.config.protocol import ProtocolConfig
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.loading.file_loader import EvalFileLoader, TrainFileLoader
from harness.data.loading.loader import Batch
from harness.data.loading.workers import workers_at_hand
from harness.evaluation.scores import class_scores, prepare
from harness.run.machine import available_cores, shared_memory
from models import build_model

NEARLY = 0.9  # of the synthetic rate: the input keeps up
UNMEASURED = 4  # batches at the beginning of each measurement


def measure(
    folder: str, rounds: int, accelerator: str, model: str, batch_size: int, batches: int, compile: bool
) -> dict[str, Any]:
    """Images per second, and the share of the synthetic rate that files reach."""
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    index = index_folder(Path(folder))
    chosen = np.resize(np.arange(len(index)), batch_size * (batches + UNMEASURED))
    split = ImageFiles(index, chosen, torch.from_numpy(index.label[chosen]).long(), "images")
    batch_bytes = 3 * PREPROCESSING.size**2 * batch_size
    workers = workers_at_hand(available_cores(), 1, device.type == "cpu", batch_bytes, shared_memory())
    how = ProtocolConfig("benchmark", batch_size, "bf16-mixed", channels_last=True, compile=compile)
    recipe = dataclasses.replace(RECIPE, batch_size=batch_size, flip=True, crop_area=[*AREA], crop_aspect=[*ASPECT])

    def train_files() -> Iterable[Batch]:
        return TrainFileLoader(
            split, PREPROCESSING, recipe, decoder="fast", workers=workers, seed=0, position=lambda: 0, device=device
        )

    def evaluation_files() -> Iterable[Batch]:
        return EvalFileLoader(
            split,
            PREPROCESSING,
            batch_size=batch_size,
            ten_crop=False,
            decoder="fast",
            workers=workers,
            device=device,
        )

    one = next(iter(train_files()))
    train, evaluate = _train_step(_network(model, how, device)), _eval_step(_network(model, how, device), how)
    rate = in_turns(
        {
            "train": lambda: _rate(train_files(), train, device),
            "train_synthetic": lambda: _rate(repeat(one, batches + UNMEASURED), train, device),
            "evaluation": lambda: _rate(evaluation_files(), evaluate, device),
            "evaluation_synthetic": lambda: _rate(repeat(one, batches + UNMEASURED), evaluate, device),
        },
        rounds,
    )
    train_ratio = ratio(rate, "train", "train_synthetic")
    evaluation_ratio = ratio(rate, "evaluation", "evaluation_synthetic")
    return {
        "benchmark": "throughput",
        "model": model,
        "batch_size": batch_size,
        "batches": batches,
        "precision": how.precision,
        "compiled": compile,
        "workers": workers,
        "rounds": rounds,
        "train_to_synthetic": train_ratio,
        "evaluation_to_synthetic": evaluation_ratio,
        "bound_by": {"train": _bound_by(train_ratio), "evaluation": _bound_by(evaluation_ratio)},
        "images_per_second": {name: sorted(values)[len(values) // 2] for name, values in rate.items()},
        "machine": machine(),
    }


def _bound_by(to_synthetic: Mapping[str, float]) -> str:
    """What to make faster: decoding, where the device would take more images than the workers give."""
    return "the network" if to_synthetic["median"] >= NEARLY else "the input"


def _network(model: str, how: ProtocolConfig, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    network = build_model(model).to(device)
    prepare(network, how)
    return network


def _train_step(network: nn.Module) -> Callable[[Batch], None]:
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def step(batch: Batch) -> None:
        images = batch.images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16):
            loss = F.cross_entropy(network(images), batch.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _eval_step(network: nn.Module, how: ProtocolConfig) -> Callable[[Batch], None]:
    network.eval()

    def step(batch: Batch) -> None:
        with torch.inference_mode(), torch.autocast(batch.images.device.type, torch.bfloat16):
            class_scores(network, batch.images, how, how.batch_size)

    return step


def _rate(loader: Iterable[Batch], step: Callable[[Batch], None], device: torch.device) -> float:
    """Images per second of the batches that are measured."""
    images, started = 0, 0.0
    for number, batch in enumerate(loader):
        if number == UNMEASURED:
            _wait(device)
            started = time.perf_counter()
        step(batch)
        images += len(batch.labels) if number >= UNMEASURED else 0
    _wait(device)
    return images / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
