"""The LightningModule: one batch to one optimiser step, and exact counts of an epoch."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn

from harness.config.recipe import RecipeConfig
from harness.data.loading import stateless
from harness.data.loading.loader import Batch
from harness.data.loading.stateless import Stream
from harness.errors import UserError
from harness.evaluation.counts import count_correct
from harness.evaluation.scores import class_scores, laid_out, prepare
from harness.run.history import PROGRESS, Counts, Epoch, history_of
from harness.training.batch_norm import forward_one
from harness.training.losses import LOSSES
from harness.training.schedules import learning_rate

FLUSH_EVERY = 50  # steps between two looks at losses and logits: counting them together costs little more than one


class Classifier(L.LightningModule):
    """Trains a network by SGD on batches of a `TrainLoader`.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        recipe: loss, optimiser and schedule.
        steps_per_epoch: batches of an epoch.
        seed: of dropout and the like, together with step and rank.
    """

    def __init__(self, network: nn.Module, recipe: RecipeConfig, steps_per_epoch: int, seed: int) -> None:
        super().__init__()
        self.network = network
        prepare(network, recipe)
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.loss = LOSSES[recipe.loss]
        self.groups: list[dict[str, Any]] = [{"params": list(network.parameters())}]
        self.rate_factors: tuple[float, ...] = (1.0,)  # of the groups' learning rates, over the scheduled one
        self.history: list[Epoch] = []
        self.automatic_optimization = False  # training_step calls the optimiser itself

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning notes the hook it is in thirty times a step, a tenth of its time in a step."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD; the rate is set anew before every step."""
        recipe = self.recipe
        return torch.optim.SGD(
            self.groups,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )

    def on_train_epoch_start(self) -> None:
        """Start the epoch's counters, on the device."""
        self._losses = torch.zeros(self.steps_per_epoch, device=self.device)  # sum over the images of each batch
        self._right = torch.zeros(3, dtype=torch.int64, device=self.device)
        self._pending: list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]] = []  # number, loss, logits, labels
        self._checked = 0
        self._validation: tuple[torch.Tensor, torch.Tensor] | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One step of the optimiser; its rate and the random layers are pure functions of the step."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        step = self.global_step
        self.current_rate = learning_rate(self.recipe, step, self.steps_per_epoch)
        for group, factor in zip(optimizer.param_groups, self.rate_factors, strict=True):
            group["lr"] = self.current_rate * factor
        self._seed_random_layers(step)
        optimizer.zero_grad()
        self.manual_backward(self._share_of_loss(batch, batch_idx))
        optimizer.step()

    def _seed_random_layers(self, step: int) -> None:
        seed = stateless.state(self.seed, step * self.trainer.world_size + self.global_rank, Stream.STEP)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would format a stack trace for each idle backend
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _share_of_loss(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of this device's share, weighted so that the mean over devices is the mean over the batch.

        An image that could not be read counts as one without loss.
        """
        images = len(batch.labels)
        if images == 0:  # fewer images in the last batch than devices: zero gradients, no batch statistics
            return torch.stack([parameter.sum() for parameter in self.network.parameters()]).sum() * 0.0
        lone = images == 1 and self.recipe.batch_size > self.trainer.world_size  # of the last, smaller batch
        pixels = laid_out(batch.images, self.recipe)
        logits = forward_one(self.network, pixels) if lone else self.network(pixels)
        loss: torch.Tensor = self.loss(logits, batch.labels)
        self._pending.append((batch_idx, loss.detach(), logits.detach(), batch.labels))
        return loss * (images * self.trainer.world_size / batch.global_size)

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Look at the losses every so many steps."""
        if (batch_idx + 1) % FLUSH_EVERY == 0 or batch_idx + 1 == self.steps_per_epoch:
            self.check(batch_idx + 1)

    def _flush(self) -> None:
        """Count what is pending."""
        if not self._pending:
            return
        numbers, losses, logits, labels = zip(*self._pending, strict=True)
        images = torch.tensor([len(batch) for batch in labels], device=self.device)
        self._losses[list(numbers)] = torch.stack(losses) * images  # a batch of none but unreadable images has none
        self._right += count_correct(torch.cat(logits), torch.cat(labels))
        self._pending.clear()

    def check(self, done: int) -> None:
        """Stop if a loss of the first `done` batches was not finite, on all devices at once.

        Raises:
            UserError: naming the step, and what to try.
        """
        if done == self._checked:
            return
        self._flush()
        finite = self._losses[self._checked : done].isfinite()
        first_bad = torch.where(finite, done, torch.arange(self._checked, done, device=self.device)).min()
        first = int(cast(torch.Tensor, self.trainer.strategy.reduce(-first_bad, reduce_op="max")).neg())
        self._checked = done
        if first < done:
            self._diverged(self.global_step - done + first + 1, "the loss is not a finite number")

    def _diverged(self, step: int, what: str) -> None:
        raise UserError(
            f"{what} at step {step:,} (epoch {(step - 1) // self.steps_per_epoch + 1}): try a smaller "
            f"recipe.learning_rate (now {self.recipe.learning_rate:g}) or a longer recipe.warmup_epochs (now "
            f"{self.recipe.warmup_epochs:g}); checkpoints before it are kept"
        )

    def summary(self, done: int) -> str:
        """Mean loss of this device's images in the first `done` batches, and the rate; waits for the device."""
        self._flush()
        return f"loss {float(self._losses[:done].sum() / self._right[2]):.4f}  lr {self.current_rate:.2g}  "

    def on_validation_epoch_start(self) -> None:
        """Nothing is counted yet."""
        self._validation = (torch.zeros((), device=self.device), torch.zeros_like(self._right))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch of the validation split."""
        assert self._validation is not None
        if not len(batch.labels):
            return
        logits = class_scores(self.network, batch.images, self.recipe, len(batch.labels))
        loss, right = self._validation
        loss += self.loss(logits, batch.labels) * len(batch.labels)
        right += count_correct(logits, batch.labels)

    def on_train_epoch_end(self) -> None:
        """Sum the epoch's counters over devices and add it to the history; Lightning has validated before."""
        loss, train = self._total(self._losses.sum(), self._right)
        validation_loss, validation = self._total(*self._validation) if self._validation else (None, None)
        self.history.append(
            Epoch(len(self.history) + 1, self.global_step, self.current_rate, loss, train, validation_loss, validation)
        )

    def _total(self, loss: torch.Tensor, right: torch.Tensor) -> tuple[float, Counts]:
        strategy = self.trainer.strategy
        total = cast(torch.Tensor, strategy.reduce(loss, reduce_op="sum"))
        counts = Counts(*cast(torch.Tensor, strategy.reduce(right, reduce_op="sum")).tolist())
        return float(total) / counts.seen, counts

    def check_weights(self) -> None:
        """Stop if a weight is not finite.

        Raises:
            UserError: naming the step, and what to try.
        """
        tensors = self.network.state_dict().values()
        if not torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all():
            self._diverged(self.global_step, "a weight is not a finite number")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history and the epoch's counters, summed over devices."""
        self._flush()
        reduce = self.trainer.strategy.reduce
        checkpoint[PROGRESS] = {
            "history": [epoch.as_plain() for epoch in self.history],
            "losses": cast(torch.Tensor, reduce(self._losses.clone(), reduce_op="sum")).cpu(),
            "right": cast(torch.Tensor, reduce(self._right.clone(), reduce_op="sum")).cpu(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them back; the sums over devices go on in rank 0."""
        progress = checkpoint[PROGRESS]
        self.history = history_of(checkpoint)
        mine = self.global_rank == 0
        self._losses = progress["losses"] if mine else torch.zeros_like(progress["losses"])
        self._right = progress["right"] if mine else torch.zeros_like(progress["right"])
        self._pending = []
        self._checked = 0
        self._validation = None

    def on_train_start(self) -> None:
        """Counters that came from a checkpoint go to the device; Lightning starts no new epoch in the middle of one."""
        if self.history or self.global_step:
            self._losses, self._right = self._losses.to(self.device), self._right.to(self.device)
