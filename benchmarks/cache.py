"""Random crops for training: torchvision's preset, the shipped path from files, and from the cache of small pictures.

CPU time of one process with one thread, picture by picture; the preset ends in normalised floats, ours in uint8 crops.
`batched` are the crops that a GPU makes of pictures in its memory, here with the CPU as the device.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from benchmarks.input import AREA, ASPECT, FINISH, PREPROCESSING
from benchmarks.rounds import in_turns, machine, ratio
from harness.data.images.batched_crops import resized_windows
from harness.data.images.decode import decode, pixels_of, read
from harness.data.images.folder import index_folder
from harness.data.images.geometry import DRAWS, random_box, random_resized_crop
from harness.data.images.image_files import ImageFiles
from harness.data.loading.small_pictures import SmallFiles, make_small
from harness.errors import UserError

MOST = 256  # pictures of a round


def measure(folder: str, edge: int, pixels: int, rounds: int) -> dict[str, Any]:
    """Ratios of crops a second to torchvision's preset, and to the shipped path from files."""
    torch.set_num_threads(1)
    index = index_folder(Path(folder))
    chosen = np.linspace(0, len(index) - 1, min(MOST, len(index))).astype(np.int64)
    split = ImageFiles.labelled(index, chosen, index.label[chosen].astype(np.int64), "images")
    if not index.classes:
        raise UserError(f"--root {folder}: no folders of classes in it")
    with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ, XDG_CACHE_HOME=place):
        begun = time.process_time()
        small = make_small(split, edge, "fast", "bilinear", 0)
        building = time.process_time() - begun
        variants = _variants(split, small, pixels)
        seconds = in_turns(variants, rounds)
        difference = _difference(small, np.random.default_rng(0).random((len(split), DRAWS)), pixels)
    rate = {name: [len(split) / value for value in values] for name, values in seconds.items()}
    return {
        "benchmark": "cache",
        "images": len(split),
        "mean_bytes": sum(split.size_of(number) for number in range(len(split))) / len(split),
        "mean_shape": np.mean(
            [pixels_of(split.place(i), "fast", False).shape[:2] for i in range(len(split))], 0
        ).tolist(),
        "cached_shorter_edge": edge,
        "crop": pixels,
        "rounds": rounds,
        "cache_to_preset": ratio(rate, "cache", "preset"),
        "files_to_preset": ratio(rate, "files", "preset"),
        "cache_to_files": ratio(rate, "cache", "files"),
        "batched_on_the_cpu_to_preset": ratio(rate, "batched", "preset"),
        "pixels_that_differ_from_pillow": difference,
        "building_seconds_an_image": building / len(split),
        "images_per_second": {name: sorted(values)[len(values) // 2] for name, values in rate.items()},
        "gpu": "not measured yet",
        "machine": machine(),
    }


def _variants(split: ImageFiles, small: SmallFiles, pixels: int) -> dict[str, Callable[[], float]]:
    draws = np.random.default_rng(0).random((len(split), DRAWS))
    flip, preset_crop = transforms.RandomHorizontalFlip(), transforms.RandomResizedCrop(pixels, AREA, ASPECT)
    preset = transforms.Compose([preset_crop, flip, *FINISH])
    preprocessing = type(PREPROCESSING)(**{**vars(PREPROCESSING), "size": pixels})
    paths = [os.fsdecode(split.path(number)) for number in range(len(split))]

    def over(work: Callable[[int], object]) -> Callable[[], float]:
        def seconds() -> float:
            begun = time.process_time()
            deque(map(work, range(len(split))), maxlen=0)  # none is kept
            return time.process_time() - begun

        return seconds

    def crop(images: ImageFiles) -> Callable[[int], object]:
        return lambda number: random_resized_crop(
            pixels_of(images.place(number), "fast", False), draws[number], preprocessing, AREA, ASPECT, "fast"
        )

    def batched() -> float:
        begun = time.process_time()
        for first in range(0, len(small), 64):
            _batch(small, draws, list(range(first, min(first + 64, len(small)))), pixels)
        return time.process_time() - begun

    return {
        "preset": over(lambda number: preset(default_loader(paths[number]))),
        "files": over(crop(split)),
        "cache": over(crop(small)),
        "decoding": over(lambda number: decode(read(split.place(number)), "fast")),
        "batched": batched,
    }


def _boxes(small: SmallFiles, draws: Any, numbers: list[int]) -> list[tuple[int, int, int, int]]:
    sizes = small.sizes[numbers].tolist()
    return [
        random_box(height, width, draws[number], AREA, ASPECT)
        for number, (height, width) in zip(numbers, sizes, strict=True)
    ]


def _batch(small: SmallFiles, draws: Any, numbers: list[int], pixels: int) -> torch.Tensor:
    whole = torch.from_numpy(np.memmap(os.fsdecode(small.pixels), mode="c", dtype=np.uint8))
    starts, widths = (
        torch.from_numpy(small.starts)[numbers],
        torch.from_numpy(small.sizes[:, 1].astype(np.int64))[numbers],
    )
    return resized_windows(whole, starts, widths, torch.tensor(_boxes(small, draws, numbers)), pixels)


def _difference(small: SmallFiles, draws: Any, pixels: int) -> dict[str, float]:
    """Of the batched crops from Pillow's of the same windows."""
    numbers = list(range(min(64, len(small))))
    made = _batch(small, draws, numbers, pixels).permute(0, 2, 3, 1).numpy().astype(int)
    furthest, differing = 0, []
    for number, (top, left, height, width), image in zip(numbers, _boxes(small, draws, numbers), made, strict=True):
        window = Image.fromarray(pixels_of(small.place(number), "fast", False)[top : top + height, left : left + width])
        distance = np.abs(np.asarray(window.resize((pixels, pixels), Image.Resampling.BILINEAR)) - image)
        furthest = max(furthest, int(distance.max()))
        differing.append(float((distance > 0).mean()))
    return {"levels_at_most": furthest, "share": float(np.mean(differing))}
