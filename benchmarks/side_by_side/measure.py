"""The same work by this program and by what users would run instead, in turns, each in a process of its own.

- `lenet5-mnist`: an epoch of LeNet-5 on MNIST, and the least that trains beside it;
- `resnet20-cifar10`: an epoch of ResNet-20 on pictures of CIFAR-10, with crops and flips;
- `resnet18-imagenette`: an epoch of ResNet-18 on photographs at 128 pixels, and what settings of our recipes are worth;
- `first-step`: from the start of a script to its first optimiser step;
- `resnet50-evaluation`: an evaluation of ResNet-50 on photographs at 224 pixels.

A part's record is written as soon as it ends, and a part that has one is not measured again.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.rounds import in_turns, machine, ratio
from benchmarks.side_by_side.ours import training_words
from benchmarks.side_by_side.processes import Worker, seconds_to_first_step
from benchmarks.side_by_side.work import Work
from benchmarks.startup import seconds_to_milestones
from harness.errors import UserError
from harness.run.files import write_json

PARTS = ("lenet5-mnist", "resnet20-cifar10", "resnet18-imagenette", "first-step", "resnet50-evaluation")
PEERS = {  # modules of this package, and the package that each needs
    "reference_loop": "torchvision",
    "timm_scripts": "timm",
    "lightning_template": "torchmetrics",
    "fastai_learner": "fastai",
}
BARE = "bare"
FAST = ("recipe.precision=bf16-mixed", "data.cache=146")
FASTER = {"ours_bf16": FAST[:1], "ours_bf16_cache": FAST}  # settings of our recipes for photographs
MNIST = ((0.1307,), (0.3081,))
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Sizes:
    """How much is measured: the defaults take about 45 minutes of two cores.

    Attributes:
        mnist: images of MNIST; None for all 60,000.
        small: pictures of CIFAR-10.
        photographs: of imagenette, that are trained on.
        evaluated: of imagenette, that are evaluated.
        batch_size: of training.
        batch_of_photographs: of training.
        rounds: of each part, by its name.
        threads: of the CPU.
    """

    mnist: int | None = None
    small: int = 3840
    photographs: int = 640
    evaluated: int = 1000
    batch_size: int = 128
    batch_of_photographs: int = 64
    rounds: Mapping[str, int] = dataclasses.field(
        default_factory=lambda: dict(zip(PARTS, (5, 5, 3, 5, 3), strict=True))
    )
    threads: int = 2


def measure(folder: Path, root: Path, sizes: Sizes, peers: Mapping[str, str] = PEERS) -> list[str]:
    """Measure the parts that have no record in a folder yet, and write theirs.

    Args:
        folder: of the records, `PART.json`.
        root: folder that holds `mnist`, `cifar10-jpeg` and `imagenette224`.
        sizes: how much is measured.
        peers: what is measured beside this program, and the package that each needs.

    Returns:
        A line for each part: where its record is.

    Raises:
        UserError: a package or a data set is missing.
    """
    missing = [package for package in peers.values() if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"side_by_side: pip install {' '.join(missing)}; what is compared has to be there")
    for data in ("mnist", "cifar10-jpeg", "imagenette224"):
        if not (root / data).is_dir():
            raise UserError(f"--root {root}: it holds no folder {data}")
    lines = []
    for part in PARTS:
        record, began = folder / f"{part}.json", time.monotonic()
        if record.exists():
            lines.append(f"{part}: measured before; {record}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            measured = _part(part, root.absolute(), Path(scratch), sizes, list(peers))
        folder.mkdir(parents=True, exist_ok=True)
        versions = {package: metadata.version(package) for package in peers.values()}
        rounds = sizes.rounds[part]
        write_json(
            record,
            {
                "benchmark": f"side_by_side {part}",
                "rounds": rounds,
                **measured,
                "versions": versions,
                "machine": machine(),
            },
        )
        lines.append(f"{part}: {time.monotonic() - began:.0f} seconds; {record}")
    return lines


def _part(part: str, root: Path, scratch: Path, sizes: Sizes, peers: list[str]) -> dict[str, Any]:
    batch, photographs, rounds = sizes.batch_size, sizes.batch_of_photographs, sizes.rounds[part]
    mnist = Work("lenet5", "mnist", str(root / "mnist"), *MNIST, 32, batch, threads=sizes.threads, most=sizes.mnist)
    everyone = {"ours": "ours", **{peer: peer for peer in peers}}
    if part == "lenet5-mnist":
        images = sizes.mnist or 60_000
        return _in_turns(
            {name: (who, mnist) for name, who in {**everyone, BARE: BARE}.items()}, "epoch", images, rounds
        )
    if part == "resnet20-cifar10":
        _few_small(root / "cifar10-jpeg", scratch, sizes.small)
        small = Work("resnet20", "parquet", str(scratch), *CIFAR10, 32, batch, threads=sizes.threads)
        return _in_turns({name: (who, small) for name, who in everyone.items()}, "epoch", sizes.small, rounds)
    if part == "resnet18-imagenette":
        _few_photographs(root / "imagenette224", scratch, {"train": sizes.photographs, "val": 10})
        shape = (128, photographs, 146)
        large = Work("resnet18", "folder", str(scratch), *IMAGENET, *shape, threads=sizes.threads)
        runs = {name: (who, large) for name, who in everyone.items()}
        faster = {name: ("ours", dataclasses.replace(large, words=words)) for name, words in FASTER.items()}
        return _in_turns({**runs, **faster}, "epoch", sizes.photographs, rounds)
    if part == "first-step":
        return _first_step(mnist, peers, rounds)
    _few_photographs(root / "imagenette224", scratch, {"train": 10, "val": sizes.evaluated})
    tested = Work("resnet50", "folder", str(scratch), *IMAGENET, 224, 16, threads=sizes.threads)
    return _in_turns({name: (who, tested) for name, who in everyone.items()}, "evaluation", sizes.evaluated, rounds)


def _in_turns(runs: Mapping[str, tuple[str, Work]], what: str, images: int, rounds: int) -> dict[str, Any]:
    """Seconds and memory of everyone."""
    with tempfile.TemporaryDirectory() as cache:
        workers = {name: Worker(who, what, work, Path(cache)) for name, (who, work) in runs.items()}
        try:
            seconds = in_turns(workers, rounds)
        finally:
            for worker in workers.values():
                worker.end()
    peaks = {name: worker.peak for name, worker in workers.items()}
    return {**_said(runs["ours"][1]), "images": images, **_compared(seconds), "peak_mebibytes": peaks}


def _first_step(work: Work, peers: list[str], rounds: int) -> dict[str, Any]:
    words = [word for word in training_words(work) if not word.startswith(("trainer=", "recipe.epochs"))]
    ours = [*words, "trainer.accelerator=cpu", f"trainer.threads={work.threads}"]
    starts = {peer: partial(seconds_to_first_step, peer, work) for peer in peers}
    seconds = in_turns({"ours": lambda: seconds_to_milestones("trainer=smoke", *ours)["first step"], **starts}, rounds)
    return {**_said(work), **_compared(seconds)}


def _compared(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    return {
        "to_ours": {name: ratio(seconds, name, "ours") for name in seconds if name != "ours"},
        "seconds": {name: median(times) for name, times in seconds.items()},
    }


def _said(work: Work) -> dict[str, Any]:
    """What everyone did, without the places of files."""
    return {key: getattr(work, key) for key in ("model", "pixels", "batch_size", "threads", "workers")}


def _few_small(source: Path, folder: Path, count: int) -> None:
    """Files of the first so many pictures; ten to test are enough."""
    import pyarrow.parquet as pq

    for split, most in (("train", count), ("test", 10)):
        (file,) = source.glob(f"{split}*.parquet")
        pq.write_table(pq.read_table(file).slice(0, most), folder / f"{split}.parquet")


def _few_photographs(source: Path, folder: Path, counts: Mapping[str, int]) -> None:
    """Folders of classes with links to so many photographs, as many of each class as of any other but for one."""
    for split, count in counts.items():
        classes = sorted(path for path in (source / split).iterdir() if path.is_dir())
        for number, found in enumerate(classes):
            own = folder / split / found.name
            own.mkdir(parents=True)
            most = count // len(classes) + (number < count % len(classes))
            for path in sorted(found.iterdir())[:most]:
                (own / path.name).symlink_to(path)
