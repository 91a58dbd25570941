"""Starting on a folder of many images: the kept index and torchvision's ImageFolder, in turns, on empty files.

Each measurement is made in a forked process of its own, with the folders in the kernel's cache:

- seconds until every image's name and label are at hand;
- memory: what became this process's own by that (its unique set);
- growth: what becomes a forked worker's own while it asks once for every name, which copies whatever it writes to, the
  reference counts of Python's objects too.
"""

from __future__ import annotations

import gc
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np
from torchvision.datasets import ImageFolder

from benchmarks.rounds import machine, ratio
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles

CLASSES = 1000
MEBIBYTE = 2**20
Result = TypeVar("Result")
Start = Callable[[Path], tuple[Any, Callable[[Any], None]]]  # a data set, and what asks it for every name


def measure(images: int, rounds: int) -> dict[str, Any]:
    """Ratios of seconds and memory, and growth in MiB, for so many images in a thousand classes."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, XDG_CACHE_HOME=f"{folder}/cache"):
        root = _make(Path(folder, "images"), images)
        first = _forked(lambda: _seconds(lambda: index_folder(root)))  # so that this process keeps no index
        measured: dict[str, list[tuple[float, float, float]]] = {"image_folder": [], "index": []}
        for number in range(rounds + 1):
            for name, start in (("image_folder", _image_folder), ("index", _index)):
                found = _in_a_process_of_its_own(start, root)
                measured[name] += [found] if number else []  # not the first: it warms the caches
    seconds, memory, growth = (
        {name: [found[which] for found in values] for name, values in measured.items()} for which in range(3)
    )
    return {
        "benchmark": "index",
        "images": images,
        "classes": CLASSES,
        "rounds": rounds,
        "restart_to_image_folder": ratio(seconds, "image_folder", "index"),
        "memory_to_image_folder": ratio(memory, "index", "image_folder"),
        "worker_growth_mebibytes": {name: sorted(values)[len(values) // 2] for name, values in growth.items()},
        "memory_mebibytes": {name: sorted(values)[len(values) // 2] for name, values in memory.items()},
        "seconds": {**{name: sorted(values)[len(values) // 2] for name, values in seconds.items()}, "first": first},
        "machine": machine(),
    }


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _make(root: Path, images: int) -> Path:
    """Empty files with names as long as ImageNet's, in folders that seem to be old."""
    for label in range(CLASSES):
        folder = root / f"n{label:08d}"
        folder.mkdir(parents=True)
        for number in range(label, images, CLASSES):
            (folder / f"{folder.name}_{number}.JPEG").touch()
        os.utime(folder, (1e9, 1e9))
    os.utime(root, (1e9, 1e9))
    return root


def _image_folder(root: Path) -> tuple[Any, Callable[[Any], None]]:
    def ask(data: ImageFolder) -> None:
        for number in range(len(data)):
            data.samples[number]

    return ImageFolder(str(root)), ask


def _index(root: Path) -> tuple[Any, Callable[[Any], None]]:
    def ask(split: ImageFiles) -> None:
        for number in range(len(split)):
            split.path(number)

    index = index_folder(root)
    positions = np.arange(len(index), dtype=np.int32)
    return ImageFiles.labelled(index, positions, index.label.astype(np.int64), "images"), ask


def _in_a_process_of_its_own(start: Start, root: Path) -> tuple[float, float, float]:
    """Seconds, MiB, and MiB that a worker of it grows by."""

    def started() -> tuple[float, float, float]:
        gc.collect()
        before, begun = _unique(), time.perf_counter()
        data, ask = start(root)
        seconds, memory = time.perf_counter() - begun, _unique() - before

        def worker() -> float:
            before = _unique()
            ask(data)
            return _unique() - before

        return seconds, memory, _forked(worker)

    return _forked(started)


def _forked(work: Callable[[], Result]) -> Result:
    """What a child process returns."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        content = file.read()
    os.waitpid(child, 0)
    result: Result = pickle.loads(content)  # our own child's
    return result


def _unique() -> float:
    """MiB that no other process shares."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / MEBIBYTE
