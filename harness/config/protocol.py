"""Settings of an evaluation, `protocol.*`: batch size, arithmetic, memory layout, and the scales of the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.config.facts import Preprocessing
from harness.config.fields import Declared, chosen, setting

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
MOST_IMAGES = 1_000_000  # the largest batch
BATCHES = {  # images at once on a CPU, by benchmarks/results/batches-cpu.json, and on a GPU, not measured yet
    "whole_image": (100, 1000),
    "center_crop": (16, 64),
    "ten_crop": (2, 16),  # of ten views each
}
MULTI_CROP = "multi_crop"
DENSE = ("dense", "multi_scale_dense")  # protocols under which a network sees whole images


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
    scales: list[int] = setting(
        "shorter edges in pixels at which multi_crop, dense and multi_scale_dense see each image; empty for the one "
        "that the network's preprocessing has",
        [],
        least=1,
        most=10_000,
        rising=True,
    )

    def scales_for(self, network: Preprocessing) -> list[int]:
        """Return the shorter edges, in pixels, at which a network with this preprocessing sees each image."""
        return self.scales or [network.resize or network.size]
