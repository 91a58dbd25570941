"""Measure speed as ratios within one run: `python tools/benchmark.py training --help`.

Every measurement runs its variants in turns, several rounds, and reports medians; no absolute time is a result.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from harness.run.interruption import listen

if __name__ == "__main__":
    listen("benchmark.py")  # before the imports below, which take their time

from harness.errors import EXIT_CODE, UserError
from harness.run.files import write_json


def training(arguments: argparse.Namespace) -> dict[str, Any]:
    """The shipped training path against a bare loop and against the usual Lightning template."""
    from benchmarks.training import measure

    return measure(arguments.data, arguments.root, arguments.rounds, arguments.threads, arguments.accelerator)


def startup(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds from `python train.py` to the first optimiser step, and where they go."""
    from benchmarks.startup import measure

    return measure(arguments.rounds)


def input(arguments: argparse.Namespace) -> dict[str, Any]:
    """JPEG files to network input, against torchvision's presets and against the bare decoder."""
    from benchmarks.input import measure

    return measure(arguments.root, arguments.rounds)


def evaluation(arguments: argparse.Namespace) -> dict[str, Any]:
    """ResNet-50 on the CPU: channels last, bfloat16 and compiled, against float32."""
    from benchmarks.evaluation import measure

    return measure(arguments.root, arguments.rounds, arguments.threads, arguments.batch_size)


def throughput(arguments: argparse.Namespace) -> dict[str, Any]:
    """Training and evaluation in images per second: from JPEG files, and from a batch that lies on the device."""
    from benchmarks.throughput import measure

    shape = (arguments.model, arguments.batch_size, arguments.batches, arguments.compile)
    return measure(arguments.root, arguments.rounds, arguments.accelerator, *shape)


def gpu(arguments: argparse.Namespace) -> dict[str, Any]:
    """Training and evaluation on a GPU against what a person would write instead, the most telling part first."""
    from benchmarks.gpu import Sizes, measure

    folder, minutes = arguments.records, arguments.minutes
    lines = measure(folder, minutes, arguments.accelerator, arguments.root, Sizes(), arguments.rounds)
    return {"benchmark": "gpu", "parts": lines}


def side_by_side(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same work by this program, torchvision's reference loop, timm, the Lightning template and fastai."""
    from benchmarks.side_by_side.measure import Sizes, measure

    return {"benchmark": "side_by_side", "parts": measure(arguments.records, arguments.root, Sizes())}


def networks(arguments: argparse.Namespace) -> dict[str, Any]:
    """Training steps of several networks, in 32-bit floats and bfloat16, contiguous and channels last."""
    from benchmarks.networks import measure

    shape = (arguments.pixels, arguments.batch_size, arguments.steps, arguments.threads)
    return measure(arguments.models, arguments.rounds, arguments.accelerator, *shape)


def batches(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluation in batches of different sizes: time for an image, against that in the largest batch."""
    from benchmarks.batches import measure

    return measure(arguments.rounds, arguments.threads, arguments.accelerator)


def several(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluation of several networks on the CPU: one pass that decodes each picture once, against one for each."""
    from benchmarks.several import measure

    return measure(arguments.root, arguments.models, arguments.images, arguments.rounds, arguments.threads)


def index(arguments: argparse.Namespace) -> dict[str, Any]:
    """Starting on a folder of many images, against torchvision's ImageFolder: time, memory, growth of workers."""
    from benchmarks.index import measure

    return measure(arguments.images, arguments.rounds)


def audit(arguments: argparse.Namespace) -> dict[str, Any]:
    """Flipped labels and planted copies that the audit finds: precision and recall, with --rounds seeds."""
    from benchmarks.audit import Experiment

    return Experiment(arguments.folder, arguments.root, arguments.weights).measure(arguments.rounds)


def shards(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bytes of pictures in random order: tars through an index against files, and against webdataset if it is there."""
    from benchmarks.shards import measure

    return measure(arguments.root, arguments.rounds)


def cache(arguments: argparse.Namespace) -> dict[str, Any]:
    """Random crops from the cache of small pictures, against torchvision's preset and the shipped path from files."""
    from benchmarks.cache import measure

    return measure(arguments.root, arguments.edge, arguments.pixels, arguments.rounds)


def main() -> int:
    """Run one benchmark, print its result, and write it where `out` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    speed = (training, startup, input, evaluation, throughput, gpu, batches, networks)
    for command in (*speed, several, index, audit, shards, cache, side_by_side):
        sub = commands.add_parser(command.__name__, help=command.__doc__, description=command.__doc__)
        sub.set_defaults(run=command)
        if command is not side_by_side:  # whose parts have rounds of their own
            sub.add_argument("--rounds", type=int, default=5, help="of all variants in turns (default 5)")
        sub.add_argument("--out", type=Path, help="a new JSON file for the record")
        if command is training:
            sub.add_argument("--data", default="mnist", choices=("mnist", "cifar10"), help="default mnist")
            sub.add_argument("--root", default="data", help="folder of torchvision's files (default data)")
            sub.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
        if command in (input, evaluation, throughput, several):
            sub.add_argument("--root", required=True, help="folder of classes with ImageNet's pictures (.JPEG)")
        if command in (evaluation, batches, several):
            sub.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
        if command is evaluation:
            sub.add_argument("--batch-size", type=int, default=16, help="default 16")
        if command is throughput:
            sub.add_argument("--model", default="resnet50", help="default resnet50")
            sub.add_argument("--batch-size", type=int, default=256, help="default 256")
            sub.add_argument("--batches", type=int, default=16, help="measured in each round (default 16)")
            sub.add_argument("--compile", action="store_true", help="by torch.compile")
        if command is gpu:
            sub.add_argument("--minutes", type=float, default=8, help="after which no other part starts (default 8)")
            sub.add_argument("--root", help="folder of classes with ImageNet's pictures (.JPEG), for the part files")
            said = "folder; parts with a record there are skipped (default benchmarks/results/gpu)"
            sub.add_argument("--records", type=Path, default=Path("benchmarks/results/gpu"), help=said)
            sub.add_argument("--accelerator", default="gpu", choices=("cpu", "gpu"), help="default gpu")
        if command is side_by_side:
            said = "folder that holds mnist, cifar10-jpeg and imagenette224 (default ../shared/data)"
            sub.add_argument("--root", type=Path, default=Path("../shared/data"), help=said)
            said = "folder; parts with a record there are skipped (default benchmarks/results/side-by-side)"
            sub.add_argument("--records", type=Path, default=Path("benchmarks/results/side-by-side"), help=said)
        if command is networks:
            sub.add_argument("models", nargs="+", metavar="MODEL", help="names of the catalogue, of colour images")
            sub.add_argument("--pixels", type=int, default=224, help="side of the images (default 224)")
            sub.add_argument("--batch-size", type=int, default=64, help="default 64")
            sub.add_argument("--steps", type=int, default=4, help="measured in each round (default 4)")
            sub.add_argument("--threads", type=int, default=2, help="of the CPU (default 2)")
        if command in (training, throughput, batches, networks):
            sub.add_argument("--accelerator", default="cpu", choices=("cpu", "gpu"), help="default cpu")
        if command is several:
            sub.add_argument("models", nargs="+", metavar="MODEL", help="names of networks with torchvision's weights")
            sub.add_argument("--images", type=int, default=100, help="of those below --root (default 100)")
        if command is audit:
            sub.add_argument("--root", type=Path, required=True, help="folder of the flowers, with train/ and test/")
            sub.add_argument("--weights", type=Path, required=True, help="run of a resnet18 on other photographs")
            sub.add_argument("--folder", type=Path, required=True, help="for the pictures and the runs; goes on there")
        if command in (shards, cache):
            sub.add_argument("--root", required=True, help="folder of classes with pictures")
        if command is cache:
            sub.add_argument("--edge", type=int, default=256, help="shorter edge of the cached pictures (default 256)")
            sub.add_argument("--pixels", type=int, default=224, help="side of the crops (default 224)")
        if command is index:
            sub.add_argument("--images", type=int, default=100_000, help="empty files to make (default 100000)")
    arguments = parser.parse_args()
    run: Callable[[argparse.Namespace], dict[str, Any]] = arguments.run
    try:
        if arguments.out is not None and arguments.out.exists():
            raise UserError(f"--out {arguments.out}: this file exists; name a new one")
        result = run(arguments)
    except UserError as error:
        print(f"benchmark.py: {error}", file=sys.stderr)
        return EXIT_CODE
    print(json.dumps(result, indent=2))
    if arguments.out is not None:
        write_json(arguments.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
