"""Evaluators of several networks on the same batches: each is decoded and moved to the device once."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightning as L
import torch

from harness.data.loading.loader import Batch
from harness.errors import memory_error
from harness.evaluation.evaluator import Evaluator
from harness.run.log import log


class SeveralEvaluators(L.LightningModule):
    """Hands every batch of `Trainer.test` to the evaluator of each network.

    A network that is out of memory sees the batch again in parts of half the size, and so all later ones. One that
    fails sees no more. After the test, every evaluator holds its result whose network is neither in `failed` nor was
    scored in batches of more than one size.

    Args:
        evaluators: by the names of their networks.

    Attributes:
        sizes: batch sizes in which each network was scored, on all devices.
        failed: why a network failed, on any device.
    """

    def __init__(self, evaluators: Mapping[str, Evaluator]) -> None:
        super().__init__()
        self.by_name = dict(evaluators)
        self.sizes: dict[str, set[int]] = {name: set() for name in evaluators}
        self.failed: dict[str, str] = {}
        for number, evaluator in enumerate(evaluators.values()):
            self.add_module(str(number), evaluator)  # a child of Lightning's kind gets the trainer

    def on_test_start(self) -> None:
        """Set all counters to zero."""
        for evaluator in self.by_name.values():
            evaluator.on_test_start()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score one batch with each network."""
        for name, evaluator in self.by_name.items():
            while name not in self.failed and not self._scored(name, evaluator, batch, batch_idx):
                self._halve(name, evaluator, batch)

    def _scored(self, name: str, evaluator: Evaluator, batch: Batch, batch_idx: int) -> bool:
        """Score a batch with a network; return False if memory was full."""
        try:
            evaluator.test_step(batch, batch_idx)
        except Exception as error:
            if isinstance(error, RuntimeError) and memory_error(error) is not None:
                return False
            self.failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
            log.error([f"{name}: failed, and is left out:", *traceback.format_exc().splitlines()])
            return True
        self.sizes[name].add(evaluator.protocol.batch_size)
        return True

    def _halve(self, name: str, evaluator: Evaluator, batch: Batch) -> None:
        """Let a network see half as many images at once; it fails if that is not possible."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        size = evaluator.protocol.batch_size // 2
        if size == 0 or batch.pictures is not None:
            self.failed[name] = "the memory of the device is full, even with one image at a time"
            log.error(f"{name}: {self.failed[name]}; it is left out")
            return
        evaluator.protocol = replace(evaluator.protocol, batch_size=size)
        log.info(f"{name}: the memory of the device is full; half the batch: protocol.batch_size={size}")

    def on_test_end(self) -> None:
        """Agree with the other devices which networks are done, and combine the results of these."""
        for failed, sizes in self._from_all((self.failed, self.sizes)):
            self.failed = {**failed, **self.failed}
            self.sizes = {name: self.sizes[name] | sizes[name] for name in self.sizes}
        for name, evaluator in self.by_name.items():
            if name not in self.failed and len(self.sizes[name]) == 1:
                evaluator.on_test_end()

    def _from_all(self, mine: Any) -> list[Any]:
        shares = [mine]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares = [mine] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, mine)
        return shares
