"""The LightningModule of training: it makes one optimiser step of each batch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.config.recipe import RecipeConfig
from harness.data.loading import stateless
from harness.data.loading.loader import Batch
from harness.data.loading.stateless import Stream
from harness.errors import UserError
from harness.evaluation.scores import class_scores, laid_out, prepare
from harness.run.history import PROGRESS, Epoch, history_of
from harness.run.log import log
from harness.training.averaging import Reported, lag
from harness.training.batch_norm import forward_one, measure, norms_that_train
from harness.training.epoch_counters import EpochCounters
from harness.training.losses import Loss, loss_of
from harness.training.mixing import Mixed, draw, mix
from harness.training.optimisers import build_optimizer, set_momentum
from harness.training.parameter_groups import Group, split_by_decay
from harness.training.schedules import learning_rate, momentum
from harness.training.stochastic_depth import StochasticDepth

CHECK_EVERY = 50  # steps between two checks that the losses are finite
PREFIX = "network."  # begins the keys of tensors in a checkpoint
TRAINED = "cnn_zoo_trained"  # key of a checkpoint: the trained tensors, where the network's are others


class Classifier(L.LightningModule):
    """Trains a network on batches of a training loader.

    Args:
        network: maps images (N, C, H, W) to logits (N, K).
        recipe: loss, optimiser and schedule.
        steps_per_epoch: number of batches of an epoch.
        seed: seed of dropout and other random layers, combined with step and rank.
        loss: loss to use instead of the recipe's; None for the recipe's.
        accumulate: number of parts in which a device computes its share of a batch.

    Raises:
        UserError: the warm-up is longer than the run.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: RecipeConfig,
        steps_per_epoch: int,
        seed: int,
        loss: Loss | None = None,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        steps = recipe.epochs * steps_per_epoch
        if recipe.warmup_steps is not None and recipe.warmup_steps >= steps:
            raise UserError(f"recipe.warmup_steps={recipe.warmup_steps}: the run has only {steps:,} steps")
        self.network = network
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.loss = loss or loss_of(recipe)
        self.accumulate = accumulate
        if recipe.sync_batch_norm:
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]  # torch's
        self._set_groups([{"params": list(network.parameters())}], (1.0,))
        rate = recipe.stochastic_depth
        self.depth = StochasticDepth(network, rate, seed) if rate else None
        prepare(network, recipe, recipe.cuda_graphs)
        self.mixes = recipe.mixes
        self._reported = Reported(network, recipe, steps_per_epoch) if recipe.reports_a_copy else None
        self.history: list[Epoch] = []
        self.counters = EpochCounters(steps_per_epoch)
        self.automatic_optimization = False  # training_step calls the optimiser itself

    @property
    def prefix(self) -> str:
        """What begins the keys of the trained network's tensors in a checkpoint."""
        return PREFIX

    @property
    def reported(self) -> nn.Module:
        """The network that is validated and reported: the trained one, or a copy with other tensors."""
        return self._reported.network if self._reported else self.network

    def _set_groups(self, groups: list[Group], factors: Iterable[float]) -> None:
        """Set the groups of parameters, and their learning rates as multiples of the scheduled one."""
        recipe = self.recipe
        self.groups, self.rate_factors = groups, tuple(factors)
        if recipe.norm_weight_decay is not None or recipe.bias_weight_decay is not None:
            self.groups, self.rate_factors = split_by_decay(groups, self.rate_factors, self.network, recipe)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the recipe's optimiser; `training_step` sets its learning rate before every step."""
        return build_optimizer(self.groups, self.recipe)

    def on_train_epoch_start(self) -> None:
        """Start new counters; Lightning does not call this for a run that is resumed within an epoch."""
        self.counters = EpochCounters(self.steps_per_epoch, self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Make one optimiser step; learning rate and random layers depend only on seed, step and rank."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        recipe, rate = self.recipe, self._rate(self.global_step)
        for group, factor in zip(optimizer.param_groups, self.rate_factors, strict=True):
            group["lr"] = rate * factor
        if recipe.lowest_momentum is not None:
            set_momentum(optimizer.param_groups, momentum(recipe, self.global_step, self.steps_per_epoch))
        self._seed_random_layers(self.global_step)
        optimizer.zero_grad()
        self._add_gradients(batch, batch_idx)
        optimizer.step()
        if self._reported:
            self._reported.add(self.network, self.global_step)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients, which are those of all devices together by now, and without the scale of float16."""
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)

    def _rate(self, step: int) -> float:
        return learning_rate(self.recipe, step, self.steps_per_epoch, self.history)

    def _seed_random_layers(self, step: int) -> None:
        seed = stateless.state(self.seed, step * self.trainer.world_size + self.global_rank, Stream.STEP)
        # torch.manual_seed is slow: it formats a stack trace for each idle backend
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)

    def _add_gradients(self, batch: Batch, batch_idx: int) -> None:
        """Add the gradients of this device's share of a batch, one part after the other.

        They are scaled so that their mean over devices is the gradient of the mean loss over the batch. An image that
        could not be read counts with a loss of zero. Devices exchange gradients in the last part alone.
        """
        mixed = self._mixed(batch) if self.mixes and len(batch.labels) else None
        images, labels = (mixed.images, mixed.main) if mixed else (batch.images, batch.labels)
        parts = self._parts(batch)
        for part in parts:
            size = part.stop - part.start
            with self._exchanging(part is parts[-1]):
                if size == 0:
                    self.manual_backward(self._nothing(batch))
                    continue
                logits = self._logits(laid_out(images[part], self.recipe), batch, part)
                targets = mixed.targets(logits.shape[1]) if mixed else labels
                loss = self.loss(logits, targets[part])
                self.counters.add(batch_idx, loss, logits, labels[part])
                self.manual_backward(loss * (size * self.trainer.world_size / batch.global_size))

    def _parts(self, batch: Batch) -> list[slice]:
        """The rows of each part; all devices have as many parts, of two images or more unless the batch has fewer."""
        images, least = len(batch.labels), batch.global_size // self.trainer.world_size
        parts = min(self.accumulate, max(least // 2, 1))
        return [slice(images * part // parts, images * (part + 1) // parts) for part in range(parts)]

    def _exchanging(self, last: bool) -> AbstractContextManager[None]:
        """Let a backward pass here exchange gradients with other devices if it is the batch's last."""
        if last or not isinstance(self.trainer.strategy, DDPStrategy):
            return nullcontext()
        return self.trainer.strategy.block_backward_sync()

    def _nothing(self, batch: Batch) -> torch.Tensor:
        """A loss whose gradients are zero, of a part without images: the batch has fewer than devices."""
        if self.recipe.sync_batch_norm and batch.global_size > 1:  # the other devices wait for this one's statistics
            nothing: torch.Tensor = self.network(laid_out(batch.images[:0], self.recipe))
            return nothing.sum() * 0.0
        return torch.stack([parameter.sum() for parameter in self.network.parameters()]).sum() * 0.0

    def _logits(self, images: torch.Tensor, batch: Batch, part: slice) -> torch.Tensor:
        """Logits (n, K) of a part; an image that is alone in the last, smaller batch has no batch statistics."""
        shared = self.recipe.sync_batch_norm and batch.global_size > 1
        lone = len(images) == 1 and self.recipe.batch_size > self.trainer.world_size and not shared
        with self._skipping(batch, part):
            logits: torch.Tensor = forward_one(self.network, images) if lone else self.network(images)
        return logits

    def _skipping(self, batch: Batch, part: slice) -> AbstractContextManager[None]:
        """Let images skip layers of residual blocks here if the recipe wants it."""
        if self.depth is None:
            return nullcontext()
        keys = (batch.indices if batch.keys is None else batch.keys)[part]
        return self.depth.skipping(self.global_step // self.steps_per_epoch, keys.to(self.device, non_blocking=True))

    def _mixed(self, batch: Batch) -> Mixed:
        """Mix the images of a batch; what is drawn depends only on seed, epoch and step."""
        epoch, step = divmod(self.global_step, self.steps_per_epoch)
        height, width = batch.images.shape[-2:]
        return mix(batch, draw(self.recipe, self.seed, epoch, step, (height, width)))

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Check the losses every `CHECK_EVERY` steps and at the end of the epoch; then make what is validated."""
        ends_epoch = batch_idx + 1 == self.steps_per_epoch
        if (batch_idx + 1) % CHECK_EVERY == 0 or ends_epoch:
            self.check_losses(batch_idx + 1)
        if ends_epoch and self._reported:
            self._make_reported(self._reported)
            if self.recipe.exact_batch_norm and len(self.history) + 1 == self.trainer.max_epochs:
                self._measure_batch_norms(self._reported.network)

    def _make_reported(self, reported: Reported) -> None:
        """Make the network that is validated and reported, with the batch norms of rank 0, as a checkpoint has them."""
        reported.make(self.network, self.global_step)
        if self.trainer.world_size > 1:
            for buffer in reported.network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _measure_batch_norms(self, network: nn.Module) -> None:
        """Give a copy of the network batch norms with exact statistics, over one more epoch of training images."""
        layers = norms_that_train(self.network)
        if not layers:
            return
        log.info("batch norms: statistics over one more pass of the training images")
        with self.trainer.precision_plugin.forward_context():
            measure(
                [cast(_BatchNorm, network.get_submodule(name)) for name in layers],
                lambda images: network(laid_out(images, self.recipe)),
                self.trainer.datamodule.train_dataloader(),  # type: ignore[attr-defined]
                self._reduced,
            )

    def check_losses(self, done: int) -> None:
        """Stop on all devices if a loss of the epoch's first `done` batches was not finite.

        Raises:
            UserError: a loss was not finite; the error names the step and what to try.
        """
        bad = self.counters.first_bad(done, self._reduced)
        if bad is not None:
            raise self._divergence(self.global_step - done + bad + 1, "the loss is not a finite number")

    def check_weights(self) -> None:
        """Stop if a weight is not finite.

        Raises:
            UserError: a weight is not finite; the error names the step and what to try.
        """
        tensors = [*self.network.state_dict().values(), *self.reported.state_dict().values()]
        if not torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).all():
            raise self._divergence(self.global_step, "a weight is not a finite number")

    def _divergence(self, step: int, what: str) -> UserError:
        recipe = self.recipe
        key = "warmup_epochs" if recipe.warmup_steps is None else "warmup_steps"
        return UserError(
            f"{what} at step {step:,} (epoch {(step - 1) // self.steps_per_epoch + 1}): try a smaller "
            f"recipe.learning_rate (now {recipe.learning_rate:g}) or a longer recipe.{key} (now "
            f"{getattr(recipe, key):g}); earlier checkpoints are kept"
        )

    def summary(self, done: int) -> str:
        """Return this device's mean loss over the first `done` batches, and the rate, as text; waits for the device."""
        return f"loss {self.counters.mean_loss(done):.4f}  lr {self._rate(self.global_step - 1):.2g}  "

    def on_validation_epoch_start(self) -> None:
        """Set the validation counters to zero."""
        self.counters.start_validation()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch of the validation split."""
        if len(batch.labels):
            images = batch.pictures or batch.images
            logits = class_scores(self.reported, images, self.recipe, len(batch.labels))
            self.counters.add_validation(self.loss(logits, batch.labels), logits, batch.labels)

    def on_train_epoch_end(self) -> None:
        """Sum the counters over devices and add the epoch to the history; Lightning has validated before this."""
        train, validation = self.counters.train(self._reduced), self.counters.validation(self._reduced)
        epoch, step = len(self.history) + 1, self.global_step
        self.history.append(Epoch(epoch, step, self._rate(step - 1), *train, *validation))

    def _reduced(self, value: torch.Tensor, by: str) -> torch.Tensor:
        """Reduce a value over the processes of the run."""
        return cast(torch.Tensor, self.trainer.strategy.reduce(value, reduce_op=by))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the history and the epoch's counters, summed over devices, to the checkpoint.

        The network in a checkpoint is the one that would be reported now; the trained one is beside it if it differs.
        """
        history = [epoch.as_plain() for epoch in self.history]
        checkpoint[PROGRESS] = {"history": history, **self.counters.saved(self._reduced)}
        if self._reported:
            self._reported.make(self.network, self.global_step)
            checkpoint[TRAINED] = self.network.state_dict()
            own = {f"{self.prefix}{key}": value for key, value in self.reported.state_dict().items()}
            checkpoint["state_dict"] = {**checkpoint["state_dict"], **own}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore history and counters (rank 0 continues the sums over devices), and what is reported."""
        self.history = history_of(checkpoint)
        self.counters = EpochCounters.restored(checkpoint[PROGRESS], self.global_rank == 0)
        if self._reported:
            tensors, trained = checkpoint["state_dict"], checkpoint[TRAINED]
            self.reported.load_state_dict({key: tensors[f"{self.prefix}{key}"] for key in trained})
            tensors.update({f"{self.prefix}{key}": value for key, value in trained.items()})

    def on_train_start(self) -> None:
        """Move to the device what came from a checkpoint, or is no part of this module."""
        if self.global_step:
            self.counters.move_to(self.device)
        if self._reported:
            self._reported.network.to(self.device)
            warning = lag(self.recipe, self.steps_per_epoch)
            if warning:
                log.info(warning)

    def take_reported(self) -> None:
        """Give the trained network the weights that are reported, after the last step."""
        if self._reported:
            self.network.load_state_dict(self.reported.state_dict())
