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
    variants: dict[str, Callable[[], float]] = {
        f"{model} {precision} {layout}": partial(
            _rate, _step(model, precision, layout, pixels, batch_size, device), batch_size, steps, device
        )
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


def _step(
    model: str, precision: str, layout: str, pixels: int, batch_size: int, device: torch.device
) -> Callable[[], None]:
    torch.manual_seed(0)
    memory_format = LAYOUTS[layout]
    network = build_model(model, num_classes=CLASSES, image_size=pixels).to(device)
    network.to(memory_format=memory_format)
    images = torch.rand(batch_size, 3, pixels, pixels, device=device).contiguous(memory_format=memory_format)
    labels = torch.arange(batch_size, device=device) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    arithmetic = PRECISIONS[precision]

    def step() -> None:
        with torch.autocast(device.type, arithmetic, enabled=arithmetic is not None):
            loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _rate(step: Callable[[], None], batch_size: int, steps: int, device: torch.device) -> float:
    """Images per second of some steps, after one that warms up."""
    step()
    _wait(device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    _wait(device)
    return batch_size * steps / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
