"""Evaluation on this machine in batches of different sizes, in turns: microseconds for an image; random weights.

The sizes of `protocol.batch_size=0` and of the protocols' files come from these numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from benchmarks.rounds import in_turns, machine, ratio
from harness.config.protocol import ProtocolConfig
from harness.evaluation.scores import class_scores, prepare
from models import build_model


class Case(NamedTuple):
    """A network, the side of its images in pixels, how many are evaluated, and in batches of which sizes."""

    model: str
    side: int
    images: int
    sizes: Sequence[int]
    channels_last: bool = False


CASES = (  # as protocol=whole_image evaluates them, and as protocol=center_crop does
    Case("lenet5", 32, 2000, (10, 25, 50, 100, 250, 1000)),
    Case("mlp", 32, 2000, (10, 25, 50, 100, 250, 1000)),
    Case("resnet20", 32, 1000, (10, 25, 50, 100, 250, 1000)),
    Case("resnet18", 128, 128, (8, 16, 32, 64, 128), channels_last=True),
    Case("resnet18", 224, 64, (8, 16, 32, 64), channels_last=True),
    Case("alexnet", 224, 128, (8, 16, 32, 64, 128), channels_last=True),
)


def measure(rounds: int, threads: int, accelerator: str) -> dict[str, Any]:
    """Microseconds for an image by network and batch size, and each as a ratio to the largest batch."""
    torch.set_num_threads(threads)
    device = "cuda" if accelerator == "gpu" else "cpu"
    return {
        "benchmark": "batches",
        "device": device,
        "rounds": rounds,
        "networks": {f"{case.model} at {case.side}": _measured(case, rounds, device) for case in CASES},
        "machine": machine(),
    }


def _measured(case: Case, rounds: int, device: str) -> dict[str, Any]:
    torch.manual_seed(0)
    network = build_model(case.model, image_size=case.side).eval().to(device)
    channels = {"lenet5": 1, "mlp": 1}.get(case.model, 3)
    images = torch.randn(case.images, channels, case.side, case.side, device=device)
    runs = {str(size): _run(case, network, images, size) for size in case.sizes}
    prepare(network, _protocol(case, 1))
    measured = in_turns(runs, rounds)
    return {
        "to_largest": {size: ratio(measured, size, str(case.sizes[-1])) for size in list(measured)[:-1]},
        "microseconds": {size: round(sorted(values)[rounds // 2], 1) for size, values in measured.items()},
    }


def _protocol(case: Case, size: int) -> ProtocolConfig:
    return ProtocolConfig("benchmark", size, "32-true", case.channels_last)


def _run(case: Case, network: torch.nn.Module, images: torch.Tensor, size: int) -> Callable[[], float]:
    how = _protocol(case, size)

    def run() -> float:
        started = time.perf_counter()
        with torch.inference_mode():
            for batch in torch.split(images, size):
                class_scores(network, batch, how, size)
        if images.is_cuda:
            torch.cuda.synchronize()
        return 1e6 * (time.perf_counter() - started) / len(images)

    return run
