"""Networks carried over to new classes, against the same networks from scratch, on few images of each class.

Two tasks on real data: a LeNet-5 from MNIST's 60,000 digits to scikit-learn's, of other writers and in other pixels;
a ResNet-20 from the first five classes of CIFAR-10 to its last five. Each seed draws training images of its own from
every class, ten of them among its fifty, fifty among its hundred; all runs of a task are tested on the same images.
Every run is one of `train.py`, and what is told of it comes from its `result.json`. The
pretrained ways are the recipes as they are; from scratch a network has the learning rate that `tune` found best, and
the same schedule, batch, augmentation and number of steps as fine-tuning.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.pictures import Pictures
from harness.errors import UserError
from harness.run.files import RESULT_FILE

IMAGES_PER_CLASS = (10, 50, 100)
TUNING_SEED = 1_000  # of the runs by which learning rates were chosen; none of them is told of
ROOT = Path(__file__).parent.parent
KEPT = ("top1_error", "seen", "correct_top1")


@dataclass(frozen=True)
class Task:
    """A network that knows some classes, and others that it is to learn.

    Attributes:
        title: for a reader.
        model: name in the catalogue.
        source: overrides of `train.py` that train it on the classes that it knows.
        target: those of all runs on the others.
        augmentation: settings of the recipe, from scratch and in fine-tuning.
        rate: learning rate from scratch, the best that `tune` found.
    """

    title: str
    model: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    augmentation: tuple[str, ...]
    rate: float


TASKS = {
    "digits": Task(
        "LeNet-5 from MNIST to digits",
        "lenet5",
        ("data=mnist", "recipe.epochs=12", "recipe.warmup_epochs=1"),
        ("data.mean=[0.1716]", "data.std=[0.2905]"),
        ("recipe.crop_padding=2", "recipe.flip=false"),
        0.1,
    ),
    "cifar": Task(
        "ResNet-20 from CIFAR-10's first five classes to its last five",
        "resnet20",
        (
            *("data=parquet", "data.validation=0", "recipe=he_2015_cifar", "recipe.schedule=cosine"),
            *("recipe.milestones=[]", "recipe.warmup_epochs=1", "recipe.epochs=20", "recipe.channels_last=true"),
        ),
        (),
        ("recipe.crop_padding=4", "recipe.flip=true", "recipe.channels_last=true"),
        0.01,
    ),
}
STEPS, BATCH = 300, 32
WAYS = {  # the recipe of each way to learn the new classes; `sgd_cosine` with the settings that `finetune` has
    "scratch": ("recipe=sgd_cosine", "recipe.batch_size=32"),
    "finetune": ("recipe=finetune",),
    "linear_probe": ("recipe=linear_probe",),
}


@dataclass(frozen=True)
class Experiment:
    """The runs of the comparison under one folder; what is done already is not done again.

    Attributes:
        folder: of data files and runs.
        mnist: folder of torchvision's MNIST files.
        cifar10: folder of CIFAR-10 in parquet files.
    """

    folder: Path
    mnist: Path
    cifar10: Path

    def measure(self, seeds: int) -> dict[str, Any]:
        """All runs; a record of each, in plain values."""
        runs = []
        for task in TASKS:
            train, test = self._target(task)
            for seed in range(seeds):
                for count in IMAGES_PER_CLASS:
                    few, _ = train.few(count, seed)
                    root = self._data(f"{task}-{count}-seed{seed}", few, test)
                    for way in WAYS:
                        result = self._learn(task, way, root, len(few.labels), seed, TASKS[task].rate)
                        kept = {key: result[key] for key in KEPT}
                        runs.append({"task": task, "way": way, "images_per_class": count, "seed": seed, **kept})
        return {"tasks": {name: task.title for name, task in TASKS.items()}, "runs": runs}

    def tune(self, rates: Sequence[float]) -> dict[str, Any]:
        """The error from scratch at each learning rate, on training images that no run of `measure` is tested on."""
        errors = {}
        for task in TASKS:
            train, _ = self._target(task)
            few, others = train.few(50, TUNING_SEED)
            root = self._data(f"{task}-tuning", few, others.few(400, TUNING_SEED)[0])
            results = [self._learn(task, "scratch", root, len(few.labels), TUNING_SEED, rate) for rate in rates]
            errors[task] = {str(rate): result["top1_error"] for rate, result in zip(rates, results, strict=True)}
        return errors

    def _target(self, task: str) -> tuple[Pictures, Pictures]:
        if task == "digits":
            return pictures.digits()
        train, test = pictures.parquet(self.cifar10)
        return train.classes(5, 10), test.classes(5, 10)

    def _data(self, name: str, train: Pictures, test: Pictures) -> Path:
        root = self.folder / "data" / name
        for split, part in (("train", train), ("test", test)):
            if not (root / f"{split}.parquet").exists():
                part.write(root / f"{split}.parquet")
        return root

    def _source(self, task: str) -> Path:
        """The run on the classes that are known."""
        root = self.mnist
        if task == "cifar":
            train, test = pictures.parquet(self.cifar10)
            root = self._data("cifar-source", train.classes(0, 5), test.classes(0, 5))
        return self._train(f"{task}-source", [f"model={TASKS[task].model}", *TASKS[task].source, f"data.root={root}"])

    def _learn(self, task: str, way: str, root: Path, images: int, seed: int, rate: float) -> dict[str, Any]:
        """One run on a few images of the other classes; its record. The rate is that from scratch."""
        what = TASKS[task]
        settings = [f"model={what.model}", "data=parquet", f"data.root={root}", "data.validation=0", *what.target]
        settings += [*WAYS[way], f"seed={seed}"]
        if way != "linear_probe":  # which sees every image once, and learns by its own schedule
            epochs = -(-STEPS // -(-images // BATCH))
            settings += [f"recipe.epochs={epochs}", "recipe.warmup_epochs=1", *what.augmentation]
        settings += [f"recipe.learning_rate={rate}"] if way == "scratch" else [f"weights={self._source(task)}"]
        run = self._train(f"{root.name}-{way}" + (f"-{rate:g}" if way == "scratch" else ""), settings)
        result: dict[str, Any] = json.loads((run / RESULT_FILE).read_text(encoding="utf-8"))
        return result

    def _train(self, name: str, overrides: Sequence[str]) -> Path:
        """The folder of a run that is done."""
        runs = self.folder / "runs" / name
        done = sorted(runs.glob(f"*/*/{RESULT_FILE}"))
        if not done:
            print(f"{name}: train.py {' '.join(overrides)}", file=sys.stderr, flush=True)
            command = [sys.executable, "train.py", *overrides, f"runs={runs}", "trainer=cpu", "trainer.threads=1"]
            code = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode
            if code:
                raise UserError(f"{name}: train.py ended with exit code {code}; started again, this tool goes on here")
            done = sorted(runs.glob(f"*/*/{RESULT_FILE}"))
        return done[0].parent
