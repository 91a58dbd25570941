"""This program: all that `train.py` and `eval.py` do with their words; the clock is around Lightning's loop."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import torch

from benchmarks.side_by_side.work import LEARNING_RATE, MOMENTUM, Work, network
from harness.config.compose import compose
from harness.run.folder import given_back
from harness.run.log import spoken
from harness.stories.evaluate import evaluate_into_folder
from harness.stories.train import train

AUGMENTATION = {
    "mnist": ("recipe.crop_padding=0",),
    "parquet": ("recipe.crop_padding=4", "recipe.flip=true"),
    "folder": (
        *("recipe.crop_padding=null", "recipe.crop_area=[0.08,1.0]", "recipe.crop_aspect=[0.75,1.3333333333333333]"),
        *("recipe.flip=true", "recipe.channels_last=true"),  # as all recipes for photographs that are shipped
    ),
}
RECIPE = (
    *("recipe=sgd_cosine", "recipe.epochs=1", "recipe.warmup_epochs=0", "recipe.weight_decay=0"),
    *(f"recipe.learning_rate={LEARNING_RATE}", f"recipe.momentum={MOMENTUM}"),
)


def epoch(work: Work) -> float:
    """Seconds of Lightning's `fit` within `train.py`."""
    with tempfile.TemporaryDirectory() as runs:
        words = [*training_words(work), f"runs={runs}", f"trainer.threads={work.threads}"]
        with spoken(True), given_back(), _clocked("fit") as seconds:
            train(compose("train", words))
    return seconds[0]


def evaluation(work: Work) -> float:
    """Seconds of Lightning's `test` within `eval.py`; `force`, because random weights are no better than guessing."""
    with tempfile.TemporaryDirectory() as runs:
        weights = Path(runs) / "weights.pth"
        torch.save(network(work).state_dict(), weights)
        words = [f"model={work.model}", *_folder(work), f"weights={weights}", "force=true", "trainer=cpu"]
        words += [f"runs={runs}", f"trainer.threads={work.threads}"]
        with spoken(True), given_back(), _clocked("test") as seconds:
            evaluate_into_folder(compose("eval", words))
    return seconds[0]


def training_words(work: Work) -> list[str]:
    """The command line of `train.py`, but for where it writes and how many threads it takes."""
    words = [f"model={work.model}", *RECIPE, *AUGMENTATION[work.images], f"recipe.batch_size={work.batch_size}"]
    if work.images == "folder":
        return [*words, *_folder(work), "data.validation=0", "trainer=cpu", *work.words]
    statistics = [f"data.{key}={list(getattr(work, key))}" for key in ("mean", "std")]
    data = [f"data={work.images}", f"data.root={work.root}", "data.validation=0", *statistics]
    few = [] if work.most is None else [f"trainer.max_batches={-(-work.most // work.batch_size)}"]
    return [*words, *data, "trainer=cpu", *few, *work.words]


def _folder(work: Work) -> list[str]:
    size = [f"data.image_size={work.pixels}", f"data.resize={work.resize}"]
    return ["data=folder", f"data.root={work.root}", *size]


@contextmanager
def _clocked(method: str) -> Iterator[list[float]]:
    """Note the seconds of the first call of a method of Lightning's trainer."""
    plain, seconds = getattr(L.Trainer, method), []

    def clocked(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = plain(*arguments, **options)
        seconds.append(time.perf_counter() - started)
        return result

    with patch.object(L.Trainer, method, clocked):
        yield seconds
