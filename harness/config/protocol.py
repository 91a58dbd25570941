"""Settings of an evaluation, `protocol.*`: batch size, arithmetic and memory layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.config.fields import Declared, chosen, setting

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
MOST_IMAGES = 1_000_000  # the largest batch
BATCHES = {  # images at once on a CPU, by benchmarks/results/batches-cpu.json, and on a GPU, not measured yet
    "whole_image": (100, 1000),
    "center_crop": (16, 64),
    "ten_crop": (2, 16),  # of ten views each
}


@dataclass
class ProtocolConfig(Declared):
    """How a network is evaluated."""

    group: ClassVar[str] = "protocol"
    name: str = chosen("protocol")
    batch_size: int = setting(
        "number of images at once on each device; 0: as many as are fast on it", 0, least=0, most=MOST_IMAGES
    )
    precision: str = setting("arithmetic, by Lightning's name", choices=PRECISIONS)
    channels_last: bool = setting("whether images and weights lie in memory with their channels last", False)
    compile: bool = setting("whether torch compiles the network", False)
