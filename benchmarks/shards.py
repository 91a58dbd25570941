"""Bytes of pictures in random order: files of their own, tars through an index, and webdataset if it is installed.

CPU time of one process; nothing is decoded, and the files are in the kernel's cache. webdataset reads its tars from
front to end.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.rounds import in_turns, machine, ratio
from harness.config.compose import compose_groups
from harness.data.images.decode import read
from harness.data.images.image_files import ImageFiles
from harness.data.sources.packing import pack
from harness.data.sources.table import load_test


def measure(folder: str, rounds: int) -> dict[str, Any]:
    """Ratios of pictures a second to that of files, for pictures in folders of classes."""
    with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ, XDG_CACHE_HOME=f"{place}/cache"):
        tars = Path(place, "tars")
        pack(_config("folder", folder), tars, 2**28)
        splits = {"files": _all("folder", folder), "tars": _all("shards", str(tars))}
        order = np.random.default_rng(0).permutation(len(splits["files"])).tolist()
        variants = {name: _reading(split, order) for name, split in splits.items()}
        if find_spec("webdataset") is not None:
            variants["webdataset"] = _webdataset(sorted(map(str, tars.glob("*.tar"))), len(order))
        seconds = in_turns(variants, rounds)
        mean_bytes = sum(splits["files"].size_of(index) for index in order) / len(order)
    rate = {name: [len(order) / value for value in values] for name, values in seconds.items()}
    return {
        "benchmark": "shards",
        "images": len(order),
        "mean_bytes": mean_bytes,
        "rounds": rounds,
        **{f"{name}_to_files": ratio(rate, name, "files") for name in rate if name != "files"},
        "images_per_second": {name: sorted(values)[len(values) // 2] for name, values in rate.items()},
        "webdataset": metadata.version("webdataset") if "webdataset" in rate else None,
        "machine": machine(),
    }


def _config(name: str, root: str) -> Any:
    (config,) = compose_groups("eval", [f"data={name}", f"data.root={root}", "data.test=100"], "data")
    return config


def _all(name: str, root: str) -> ImageFiles:
    split = load_test(_config(name, root))
    if not isinstance(split, ImageFiles):
        raise TypeError("pictures in files were expected")
    return split


def _reading(split: ImageFiles, order: list[int]) -> Callable[[], float]:
    def seconds() -> float:
        begun = time.process_time()
        for index in order:
            read(split.place(index))
        return time.process_time() - begun

    return seconds


def _webdataset(urls: list[str], images: int) -> Callable[[], float]:
    import webdataset  # type: ignore[import-not-found]

    def seconds() -> float:
        begun = time.process_time()
        seen = sum(1 for _ in webdataset.WebDataset(urls, shardshuffle=False))
        if seen != images:
            raise RuntimeError(f"webdataset gave {seen} samples instead of {images}")
        return time.process_time() - begun

    return seconds
