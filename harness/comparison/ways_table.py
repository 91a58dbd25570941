"""Tables of fine-tuning beside training from scratch: a row for each network, data set and number of images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scipy.stats import t

from harness.comparison.tables import markdown_table
from harness.run.files import read_json

WAYS = {"scratch": "from scratch", "linear_probe": "linear probe", "finetune": "fine-tuned"}
COLUMNS = ("task", "images a class", *WAYS.values(), "scratch less fine-tuned")
FLOWERS = {"alexnet": "AlexNet", "resnet18": "ResNet-18"}
FLOWERS_OF_A_CLASS = 60
NOT_MEASURED = "not measured yet"

Errors = Mapping[str, Mapping[int, float]]  # of each way, by seed, in percent


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean of several seeds' values, and half of its 95% interval by Student's t; at least two values."""
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), half


def ways_table(rows: Iterable[tuple[str, int, Errors]]) -> str:
    """Markdown: mean and 95% interval over seeds of each error, and of how far fine-tuning is ahead, seed by seed.

    Args:
        rows: task, number of training images of each class, and errors.
    """
    return markdown_table(COLUMNS, [_row(*row) for row in rows])


def flowers_table(records: Path) -> str:
    """The table of the experiments flowers_scratch, flowers_linear_probe and flowers_finetune.

    Args:
        records: folder that has one with records, `MODEL-seedN.json`, for each experiment.
    """
    return ways_table(
        (
            f"{name} from imagenette to twelve flowers",
            FLOWERS_OF_A_CLASS,
            {way: _errors(records / f"flowers_{way}", model) for way in WAYS},
        )
        for model, name in FLOWERS.items()
    )


def _errors(folder: Path, model: str) -> dict[int, float]:
    found = map(read_json, sorted(folder.glob(f"{model}-seed*.json")))
    return {record["training"]["seed"]: record["top1_error"] for record in found}


def _row(task: str, count: int, errors: Errors) -> tuple[str, ...]:
    both = sorted(errors["scratch"].keys() & errors["finetune"].keys())
    ahead = [errors["scratch"][seed] - errors["finetune"][seed] for seed in both]
    return (task, str(count), *(_cell(list(errors[way].values())) for way in WAYS), _cell(ahead))


def _cell(values: Sequence[float]) -> str:
    if len(values) < 2:
        return NOT_MEASURED
    mean, half = interval(values)
    return f"{mean:.2f} ± {half:.2f}"
