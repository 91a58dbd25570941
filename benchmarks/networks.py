"""What a training step costs: networks in turns, in each arithmetic and memory layout, beside their multiply-adds.

The images are random and lie on the device, so that nothing but the step is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.rounds import in_turns, machine, ratio
from models import build_model
from models.layers import multiply_adds

CLASSES = 10
PRECISIONS = {"32-true": None, "bf16-mixed": torch.bfloat16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def measure(
    models: Sequence[str], rounds: int, accelerator: str, pixels: int, batch_size: int, steps: int, threads: int
) -> dict[str, Any]:
    """Images per second of each variant, and how many times as fast as the first, in 32-bit floats, contiguous."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    trained = {model: _Trained(model, pixels, batch_size, device) for model in models}
    variants: dict[str, Callable[[], float]] = {
        f"{model} {precision} {layout}": partial(trained[model].rate, precision, layout, steps)
        for model, precision, layout in product(models, PRECISIONS, LAYOUTS)
    }
    rates = in_turns(variants, rounds)
    first = next(iter(variants))
    return {
        "benchmark": "networks",
        "pixels": pixels,
        "batch_size": batch_size,
        "steps": steps,
        "rounds": rounds,
        "multiply_adds": {model: _multiply_adds(model, pixels) for model in models},
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "ratio_to_first": {name: ratio(rates, name, first) for name in variants},
        "machine": machine(),
    }


def _multiply_adds(model: str, pixels: int) -> int:
    with torch.device("meta"):
        return multiply_adds(build_model(model, num_classes=CLASSES, image_size=pixels), 3, pixels)


class _Trained:
    """A network, its optimiser and one batch on the device."""

    def __init__(self, model: str, pixels: int, batch_size: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.device = device
        self.network = build_model(model, num_classes=CLASSES, image_size=pixels).to(device)
        self.images = torch.rand(batch_size, 3, pixels, pixels, device=device)
        self.labels = torch.arange(batch_size, device=device) % CLASSES
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=1e-3, momentum=0.9)

    def rate(self, precision: str, layout: str, steps: int) -> float:
        """Images per second of some steps, after one that warms up."""
        self.network.to(memory_format=LAYOUTS[layout])
        images = self.images.contiguous(memory_format=LAYOUTS[layout])
        self._step(images, PRECISIONS[precision])
        started = self._time()
        for _ in range(steps):
            self._step(images, PRECISIONS[precision])
        return len(images) * steps / (self._time() - started)

    def _step(self, images: torch.Tensor, arithmetic: torch.dtype | None) -> None:
        with torch.autocast(self.device.type, arithmetic, enabled=arithmetic is not None):
            loss = F.cross_entropy(self.network(images), self.labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _time(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
