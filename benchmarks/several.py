"""`eval.py` of several networks: one pass that decodes each picture once, against a pass for each; random weights."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.rounds import in_turns, machine, ratio
from harness.config.commands import EvalConfig
from harness.config.compose import as_word, compose
from harness.config.data import ImageFilesConfig
from harness.config.fit import preprocessing_for
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.data.sources.table import describe
from harness.errors import UserError
from harness.run.checkpoint import KEY, Trained
from harness.run.folder import given_back
from harness.stories.evaluate import evaluate_into_folder
from harness.stories.evaluate_several import evaluate_several
from models import build_model


def measure(folder: str, models: Sequence[str], images: int, rounds: int, threads: int) -> dict[str, Any]:
    """Ratios of separate passes to one in seconds, and in seconds of CPUs, which other programs disturb less.

    Both count from the networks' files to their records; no start of Python is among them.
    """
    with TemporaryDirectory() as place:
        root = _pictures(Path(folder), Path(place) / "data", images)
        runs = as_word("runs", str(Path(place) / "runs"))
        words = [runs, "force=true", f"trainer.threads={threads}", "trainer.progress=false", "trainer.accelerator=cpu"]
        configs = [_config(model, root, Path(place), words) for model in models]
        cpu: dict[str, list[float]] = {"together": [], "separate": []}
        together = _timed(lambda: evaluate_several(configs), cpu["together"])
        separate = _timed(lambda: [evaluate_into_folder(config) for config in configs], cpu["separate"])
        seconds = in_turns({"together": together, "separate": separate}, rounds)
    cpu = {name: values[1:] for name, values in cpu.items()}  # the first round is thrown away
    return {
        "benchmark": "several",
        "models": list(models),
        "images": images,
        "rounds": rounds,
        "separate_to_together": ratio(seconds, "separate", "together"),
        "separate_to_together_in_cpu_seconds": ratio(cpu, "separate", "together"),
        "seconds": {name: sorted(values)[len(values) // 2] for name, values in seconds.items()},
        "cpu_seconds": {name: sorted(values)[len(values) // 2] for name, values in cpu.items()},
        "machine": machine(),
    }


def _pictures(source: Path, root: Path, images: int) -> Path:
    """The folder of a validation split with so many of the pictures, as links."""
    paths = list(islice((path for path in sorted(source.rglob("*.JPEG")) if path.parent.name[1:].isdigit()), images))
    if len(paths) < images:
        raise UserError(f"--root {source}: fewer than {images} .JPEG in folders of ImageNet's classes")
    for path in paths:
        link = root / "val" / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())
    return root


def _config(model: str, root: Path, place: Path, words: Sequence[str]) -> EvalConfig:
    """The evaluation of a network with random weights."""
    data = ["data=imagenet", as_word("data.root", str(root))]
    named = compose("eval", [f"model={model}", "weights=DEFAULT", *data])
    assert isinstance(named.data, ImageFilesConfig) and named.model is not None
    preprocessing = preprocessing_for(model, named.data, describe(named.data))
    torch.manual_seed(0)
    options = named.model.options()
    tensors = {f"network.{key}": tensor for key, tensor in build_model(model, **options).state_dict().items()}
    training = {"seed": 0, "epochs": 1, "max_batches": None, "recipe": {"name": "none"}}
    trained = Trained(model, options, IMAGENET_CLASSES, preprocessing, named.data, training)
    file = place / f"{model}.ckpt"
    torch.save({KEY: trained.as_plain(), "state_dict": tensors, "epoch": 0, "global_step": 1}, file)
    return compose("eval", [as_word("checkpoint", str(file)), *data, *words])


def _timed(run: Callable[[], object], cpu: list[float]) -> Callable[[], float]:
    """A function that runs, returns the seconds, and adds those of CPUs to a list, workers among them."""

    def seconds() -> float:
        started, used = time.perf_counter(), sum(os.times()[:4])
        with given_back():
            run()
        cpu.append(sum(os.times()[:4]) - used)
        return time.perf_counter() - started

    return seconds
