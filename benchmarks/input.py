"""JPEG files to network input: the shipped path and torchvision's preset, in turns, on the same pictures.

- alone: one process, one thread, image by image. The preset ends in normalised floats, ours in uint8.
- batches: the same process, up to the batches that go to the device: floats of the preset, uint8 of ours.
- loader: the same by two workers.
- normalised: the same with flip and normalisation, which are the device's work, done by the main process on a CPU.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets.folder import default_loader

from benchmarks.rounds import in_turns, machine, ratio
from harness.config.facts import Preprocessing
from harness.data.images.decode import decode, read
from harness.data.images.folder import index_folder
from harness.data.images.geometry import DRAWS, centre_crop, random_resized_crop
from harness.data.images.image_files import ImageFiles
from harness.data.images.opening import MAX_PIXELS
from harness.data.images.pixels import Normalise
from harness.data.loading.file_loader import EvalFileLoader, TrainFileLoader
from harness.errors import UserError

PREPROCESSING = Preprocessing(3, 224, 256, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
AREA, ASPECT = (0.08, 1.0), (0.75, 4 / 3)
BATCH, BATCHES = 64, 14  # of a loader; both even, so that two workers begin and end a measurement together
UNMEASURED = 4  # batches at its beginning: what was prefetched while the workers started
FINISH = (
    transforms.PILToTensor(),
    transforms.ConvertImageDtype(torch.float),
    transforms.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
)
TRAIN_PRESET = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *FINISH])
EVAL_PRESET = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *FINISH])
LARGEST = """
import resource, sys
sys.path.insert(0, {root!r})
from benchmarks.input import largest_image
print(largest_image())
"""


def measure(folder: str, rounds: int) -> dict[str, Any]:
    """Ratios of images per second to torchvision's preset, and memory of the largest image that is read."""
    torch.set_num_threads(1)
    files = [os.fsencode(path) for path in sorted(Path(folder).rglob("*.JPEG"))]
    if not files:
        raise UserError(f"--root {folder}: no .JPEG in it")
    seconds = {**in_turns(_alone(files), 3 * rounds), **in_turns(_loaders(Path(folder), files), rounds)}
    rate = {name: [len(files) / s for s in values] for name, values in seconds.items()}
    batch = torch.zeros(BATCH, 3, 224, 224, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    normalise = Normalise(PREPROCESSING, "cpu")
    normalising = in_turns({"normalise": lambda: _seconds(lambda: normalise(batch))}, rounds)["normalise"]
    return {
        "benchmark": "input",
        "images": len(files),
        "mean_bytes": sum(len(read(path)) for path in files) / len(files),
        "rounds": rounds,
        "loader_batch_size": BATCH,
        "train_to_preset": ratio(rate, "train", "train_preset"),
        "train_to_bare_decoder": ratio(rate, "train", "bare_decoder"),
        "evaluation_to_preset": ratio(rate, "evaluation", "evaluation_preset"),
        "evaluation_pil_to_preset": ratio(rate, "evaluation_pil", "evaluation_preset"),
        "train_batches_to_preset": ratio(rate, "train_batches", "train_preset_batches"),
        "evaluation_batches_to_preset": ratio(rate, "evaluation_batches", "evaluation_preset_batches"),
        "train_two_workers_to_preset": ratio(rate, "train_loader", "train_preset_loader"),
        "evaluation_two_workers_to_preset": ratio(rate, "evaluation_loader", "evaluation_preset_loader"),
        "train_two_workers_normalised_to_preset": ratio(rate, "train_normalised", "train_preset_loader"),
        "evaluation_two_workers_normalised_to_preset": ratio(rate, "evaluation_normalised", "evaluation_preset_loader"),
        "largest_pixel_difference": _largest_difference(files),
        "normalise_images_per_second": BATCH / sorted(normalising)[len(normalising) // 2],
        "peak_mebibytes_of_largest_image": _peak(),
        "images_per_second": {name: sorted(values)[len(values) // 2] for name, values in rate.items()},
        "machine": machine(),
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _alone(files: list[bytes]) -> dict[str, Callable[[], float]]:
    draws = np.random.default_rng(0).random((len(files), DRAWS))

    def over(work: Callable[[int], object]) -> Callable[[], float]:
        return lambda: _seconds(lambda: deque(map(work, range(len(files))), maxlen=0))  # none is kept

    def train(number: int) -> object:
        return random_resized_crop(
            decode(read(files[number]), "fast"), draws[number], PREPROCESSING, AREA, ASPECT, "fast"
        )

    return {
        "bare_decoder": over(lambda i: decode(read(files[i]), "fast")),
        "train_preset": over(lambda i: TRAIN_PRESET(default_loader(os.fsdecode(files[i])))),
        "train": over(train),
        "evaluation_preset": over(lambda i: EVAL_PRESET(default_loader(os.fsdecode(files[i])))),
        "evaluation": over(lambda i: centre_crop(decode(read(files[i]), "fast"), PREPROCESSING, "fast")),
        "evaluation_pil": over(lambda i: centre_crop(decode(read(files[i]), "pil"), PREPROCESSING, "pil")),
    }


class _Preset(torch.utils.data.Dataset[torch.Tensor]):
    """What a user of torchvision writes."""

    def __init__(self, files: list[bytes], preset: transforms.Compose) -> None:
        self.files = files
        self.preset = preset

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One picture."""
        image: torch.Tensor = self.preset(default_loader(os.fsdecode(self.files[index])))
        return image


def _loaders(folder: Path, files: list[bytes]) -> dict[str, Callable[[], float]]:
    """Over the pictures again and again; starting and ending the workers is in none of the times."""
    from benchmarks.training import RECIPE

    index = index_folder(folder)
    chosen = np.resize(np.arange(len(files)), BATCH * BATCHES)
    split = ImageFiles.labelled(index, chosen, index.label[chosen].astype(np.int64), "images")
    recipe = type(RECIPE)(
        **{**vars(RECIPE), "batch_size": BATCH, "flip": True, "crop_area": AREA, "crop_aspect": ASPECT}
    )

    def steady(loader: Any) -> float:
        moments = []
        for _ in loader:
            moments.append(time.perf_counter())
        if len(moments) != BATCHES:
            raise RuntimeError(f"the loader gave {len(moments)} batches instead of {BATCHES}")
        return (moments[-1] - moments[UNMEASURED - 1]) * len(files) / ((BATCHES - UNMEASURED) * BATCH)

    def preset(made: transforms.Compose, workers: int) -> float:
        return steady(DataLoader(_Preset([files[i] for i in chosen], made), batch_size=BATCH, num_workers=workers))

    def train(workers: int) -> TrainFileLoader:
        return TrainFileLoader(
            split, PREPROCESSING, recipe, decoder="fast", workers=workers, seed=0, position=lambda: 0
        )

    def evaluation(workers: int) -> EvalFileLoader:
        return EvalFileLoader(split, PREPROCESSING, batch_size=BATCH, ten_crop=False, decoder="fast", workers=workers)

    return {
        "train_preset_batches": lambda: preset(TRAIN_PRESET, 0),
        "train_batches": lambda: steady(train(0).decoded),
        "train_preset_loader": lambda: preset(TRAIN_PRESET, 2),
        "train_loader": lambda: steady(train(2).decoded),
        "train_normalised": lambda: steady(train(2)),
        "evaluation_preset_batches": lambda: preset(EVAL_PRESET, 0),
        "evaluation_batches": lambda: steady(evaluation(0).decoded),
        "evaluation_preset_loader": lambda: preset(EVAL_PRESET, 2),
        "evaluation_loader": lambda: steady(evaluation(2).decoded),
        "evaluation_normalised": lambda: steady(evaluation(2)),
    }


def _largest_difference(files: list[bytes]) -> int:
    """In levels, between the fast decoder and torchvision's transforms, over the central crops of all files."""
    preset = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    furthest = 0
    for path in files:
        expected = np.asarray(preset(default_loader(os.fsdecode(path)))).astype(int)
        found = centre_crop(decode(read(path), "fast"), PREPROCESSING, "fast")[0]
        furthest = max(furthest, int(np.abs(found - expected).max()))
    return furthest


def _peak() -> int:
    """Memory of a process that reads the largest image that is read at all, in MiB above what it needs without."""
    code = LARGEST.format(root=str(Path(__file__).parent.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def largest_image() -> int:
    """Decode and crop an image of as many pixels as are allowed, by both decoders; the peak in MiB."""
    side = int(MAX_PIXELS**0.5)
    file = BytesIO()
    Image.new("RGB", (side, side)).save(file, "JPEG")
    before = _resident()
    child = os.fork()
    if child == 0:
        for decoder in ("fast", "pil"):
            centre_crop(decode(file.getvalue(), decoder), PREPROCESSING, decoder)
        os._exit(0)
    os.waitpid(child, 0)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024 - before


def _resident() -> int:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20
