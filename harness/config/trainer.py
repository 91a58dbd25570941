"""Settings of where the work runs, `trainer.*`: only the limits of a smoke run can change an error rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.config.fields import Declared, chosen, setting

ACCELERATORS = ("auto", "cpu", "gpu", "mps")
STRATEGIES = ("auto", "ddp")


@dataclass
class TrainerConfig(Declared):
    """Settings of where the work runs."""

    group: ClassVar[str] = "trainer"
    name: str = chosen("trainer")
    accelerator: str = setting(
        "device; auto takes a GPU if there is one; mps is the GPU of a Mac",
        "auto",
        choices=ACCELERATORS,
        aliases=("device",),
    )
    devices: int = setting(
        "number of devices of each machine; 0 takes all GPUs, or one CPU",
        1,
        least=0,
        most=1024,
        aliases=("gpus", "num_gpus", "ngpus", "gpu", "nproc_per_node"),
    )
    strategy: str = setting(
        "strategy of Lightning; ddp starts one process for each device",
        "auto",
        choices=STRATEGIES,
        aliases=("ddp", "distributed"),
    )
    threads: int | None = setting(  # libgomp aborts beyond some 2,000
        "number of CPU threads of each process; null: torch's choice, or an equal share of the cores",
        None,
        least=1,
        most=1024,
        aliases=("num_threads",),
    )
    progress: bool = setting("whether to draw a progress bar on a terminal", True)
    max_epochs: int | None = setting("number of epochs after which to stop; null: the recipe's", None, least=1)
    max_batches: int | None = setting(
        "number of batches in each epoch; null: all",
        None,
        least=1,
        aliases=("limit_train_batches", "max_steps", "fast_dev_run"),
    )
    accumulate: int = setting(
        "number of parts, one after the other, in which each device computes its share of a batch: they need less "
        "memory; recipe.batch_size stays, but batch norms see the images of a part, two at least",
        1,
        least=1,
        most=65536,
        aliases=("accumulate_grad_batches", "grad_accum", "gradient_accumulation_steps", "accum_steps"),
    )
    checkpoint_every: int = setting(
        "number of steps between two checkpoints within an epoch; each epoch also ends with one", 1000, least=1
    )
    workers: int | None = setting(
        "number of processes that decode images for each device; null chooses by the cores, 0 uses none",
        None,
        least=0,
        most=256,
        aliases=("num_workers", "n_workers"),
    )
    gradient_norms: int | None = setting(
        "number of steps from one row of gradients.csv to the next: the norm of each layer's gradient; null: no table",
        None,
        least=1,
    )
    nodes: int = setting(
        "number of machines that train together; torchrun or srun starts the processes on all of them",
        1,
        least=1,
        most=4096,
        aliases=("num_nodes", "nnodes"),
    )
