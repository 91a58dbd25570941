"""Settings of where the work runs, `trainer.*`: none can change an error rate, but for the limits of a smoke run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.config.fields import Declared, chosen, setting

ACCELERATORS = ("auto", "cpu", "gpu")
STRATEGIES = ("auto", "ddp")


@dataclass
class TrainerConfig(Declared):
    """Where the work runs."""

    group: ClassVar[str] = "trainer"
    name: str = chosen("trainer")
    accelerator: str = setting("auto takes a GPU where there is one", "auto", choices=ACCELERATORS, aliases=("device",))
    devices: int = setting(
        "how many; 0 takes all GPUs, or one CPU",
        1,
        least=0,
        most=1024,
        aliases=("gpus", "num_gpus", "ngpus", "gpu", "nproc_per_node"),
    )
    strategy: str = setting(
        "auto, or ddp for one process a device", "auto", choices=STRATEGIES, aliases=("ddp", "distributed")
    )
    threads: int | None = setting(  # libgomp aborts beyond some 2,000
        "of the CPU, of each process; null leaves torch's choice, or shares the cores",
        None,
        least=1,
        most=1024,
        aliases=("num_threads",),
    )
    progress: bool = setting("whether a bar is drawn on a terminal", True)
    max_epochs: int | None = setting("stop after so many epochs; null for the recipe's", None, least=1)
    max_batches: int | None = setting(
        "of an epoch; null for all", None, least=1, aliases=("limit_train_batches", "max_steps", "fast_dev_run")
    )
    checkpoint_every: int = setting(
        "steps between two checkpoints within an epoch; one follows each epoch in any case", 1000, least=1
    )
    workers: int | None = setting(
        "processes that decode images for each device; null chooses from the cores, 0 uses none",
        None,
        least=0,
        most=256,
        aliases=("num_workers", "n_workers"),
    )
