"""The table of faults that `plant_faults.py` plants: each is a mistake that a person could make, and a test catches."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """What is wrong, where, and the tests that say so.

    Attributes:
        what: a line for a person.
        file: relative to the repository.
        old: text that stands in it exactly once.
        new: what comes in its place.
        tests: names for pytest, relative to `tests/`, divided by spaces.
    """

    what: str
    file: str
    old: str
    new: str
    tests: str


LOADER, FILE_LOADER, MODULE = "harness/data/loader.py", "harness/data/file_loader.py", "harness/data/module.py"
PIXELS, GEOMETRY, FEATURES = "harness/data/pixels.py", "harness/data/geometry.py", "harness/training/features.py"
CLASSIFIER, SCHEDULES, HISTORY = (f"harness/training/{name}.py" for name in ("classifier", "schedules", "history"))
COUNTS, EVALUATOR, SCORES = (f"harness/evaluation/{name}.py" for name in ("counts", "evaluator", "scores"))
PARQUET, RECORDER, COMPARE = "harness/data/parquet.py", "harness/training/recorder.py", "harness/evaluation/compare.py"

LOADING = [
    Fault(
        "the order of images in memory is the same in every epoch",
        LOADER,
        "order = stateless.order(self.seed, epoch,",
        "order = stateless.order(self.seed, 0,",
        "test_loader.py::test_epochs_differ_in_order_and_pixels",
    ),
    Fault(
        "the order of images in files is the same in every epoch",
        FILE_LOADER,
        "order = stateless.order(self.seed, epoch,",
        "order = stateless.order(self.seed, 0,",
        "test_file_loader.py::test_training_does_not_depend_on_workers_devices_or_position",
    ),
    Fault(
        "the order of features is the same in every epoch",
        FEATURES,
        "order = stateless.order(self.seed, epoch,",
        "order = stateless.order(self.seed, 0,",
        "test_finetune.py::test_a_linear_probe_is_sgd_on_the_features_of_the_network",
    ),
    Fault(
        "the order does not depend on the seed",
        LOADER,
        "order = stateless.order(self.seed, epoch,",
        "order = stateless.order(0, epoch,",
        "test_loader.py::test_an_epoch_is_a_function_of_its_number_and_the_seed",
    ),
    Fault(
        "the last, smaller batch is dropped in training from memory",
        LOADER,
        "batches = -(-len(split) // batch_size)",
        "batches = len(split) // batch_size",
        "test_loader.py::test_order_and_pixels_do_not_depend_on_batch_size",
    ),
    Fault(
        "the last, smaller batch is dropped in training from files",
        FILE_LOADER,
        "batches = -(-len(split) // recipe.batch_size)",
        "batches = len(split) // recipe.batch_size",
        "test_file_loader.py::test_training_does_not_depend_on_workers_devices_or_position",
    ),
    Fault(
        "the last, smaller batch is no step of an epoch",
        MODULE,
        "batches = -(-len(self.splits.train) // self.recipe.batch_size)",
        "batches = len(self.splits.train) // self.recipe.batch_size",
        "test_training.py::test_history_counts_every_image",
    ),
    Fault(
        "the last, smaller batch is dropped in evaluation from memory",
        LOADER,
        "self.batches = -(-len(split) // (devices * batch_size))",
        "self.batches = len(split) // (devices * batch_size)",
        "test_loader.py::test_evaluation_sees_every_image_once",
    ),
    Fault(
        "the last, smaller batch is dropped in evaluation from files",
        FILE_LOADER,
        "self.batches = -(-len(split) // (devices * batch_size))",
        "self.batches = len(split) // (devices * batch_size)",
        "test_file_loader.py::test_evaluation_sees_every_image_once",
    ),
    Fault(
        "every device trains on the whole batch",
        LOADER,
        "chosen = whole[self.rank :: self.devices]",
        "chosen = whole",
        "test_loader.py::test_devices_share_the_same_batches",
    ),
    Fault(
        "every device trains on the same share of a batch from files",
        FILE_LOADER,
        "[self.rank :: self.devices]",
        "[:: self.devices]",
        "test_file_loader.py::test_training_does_not_depend_on_workers_devices_or_position",
    ),
    Fault(
        "every device evaluates the same share",
        LOADER,
        "self.share = torch.arange(len(split), device=device)[rank::devices]",
        "self.share = torch.arange(len(split), device=device)[::devices]",
        "test_loader.py::test_evaluation_sees_every_image_once",
    ),
    Fault(
        "shares of an evaluation are filled up with the first images",
        LOADER,
        "self.share = torch.arange(len(split), device=device)[rank::devices]",
        "self.share = (torch.arange(-(-len(split) // devices) * devices) % len(split))[rank::devices]",
        "test_loader.py::test_evaluation_sees_every_image_once",
    ),
    Fault(
        "labels are not shuffled with their images",
        LOADER,
        "self.labels[chosen], chosen, len(whole)",
        "self.labels[: len(chosen)], chosen, len(whole)",
        "test_loader.py::test_devices_share_the_same_batches",
    ),
    Fault(
        "labels of a batch from files are in the order of the split",
        FILE_LOADER,
        "labels = self.split.labels[indices].to(self.device, non_blocking=True)\n            whole",
        "labels = self.split.labels[indices.sort().values].to(self.device, non_blocking=True)\n            whole",
        "test_file_loader.py::test_training_does_not_depend_on_workers_devices_or_position",
    ),
    Fault(
        "the size of a batch counts only the images that could be read",
        FILE_LOADER,
        "seen = len(indices) + len(decoded.unreadable)",
        "seen = len(indices)",
        "test_file_loader.py::test_what_cannot_be_read_is_named_and_changes_no_other",
    ),
]

PICTURES = [
    Fault(
        "no image in memory is mirrored",
        PIXELS,
        "torch.where(mirrored[:, None, None, None], images.flip(-1), images)",
        "images",
        "test_loader.py::test_pixels_equal_a_slow_reference",
    ),
    Fault(
        "every image in memory is mirrored",
        PIXELS,
        "torch.where(mirrored[:, None, None, None], images.flip(-1), images)",
        "images.flip(-1)",
        "test_loader.py::test_pixels_equal_a_slow_reference",
    ),
    Fault(
        "images are mirrored top to bottom",
        PIXELS,
        "images.flip(-1), images)",
        "images.flip(-2), images)",
        "test_loader.py::test_pixels_equal_a_slow_reference",
    ),
    Fault(
        "every image in files is mirrored",
        FILE_LOADER,
        "images[mirrored] = images[mirrored].flip(-1)",
        "images = images.flip(-1)",
        "test_file_loader.py::test_half_of_the_training_images_are_mirrored",
    ),
    Fault(
        "an image is mirrored in all epochs or in none",
        FILE_LOADER,
        "stateless.integers(2, self.seed, epoch, Stream.FLIP, indices)",
        "stateless.integers(2, self.seed, 0, Stream.FLIP, indices)",
        "test_file_loader.py::test_half_of_the_training_images_are_mirrored",
    ),
    Fault(
        "the crop out of padded images is one row too low",
        PIXELS,
        "windows[indices, y, x]",
        "windows[indices, (y + 1).clamp(max=height - size), x]",
        "test_loader.py::test_crop_reads_each_window_and_flip_mirrors",
    ),
    Fault(
        "the crop out of padded images never reaches the last row and column",
        LOADER,
        "self._draw(2 * self.crop_padding + 1, epoch, stream)",
        "self._draw(2 * self.crop_padding, epoch, stream)",
        "test_loader.py::test_pixels_equal_a_slow_reference",
    ),
    Fault(
        "row and column of the crop out of padded images are the same draw",
        LOADER,
        "for stream in (Stream.CROP_Y, Stream.CROP_X)",
        "for stream in (Stream.CROP_Y, Stream.CROP_Y)",
        "test_loader.py::test_pixels_equal_a_slow_reference",
    ),
    Fault(
        "images are padded to the right and below alone",
        PIXELS,
        "(width // 2, width - width // 2, height // 2, height - height // 2)",
        "(0, width, 0, height)",
        "test_loader.py::test_padding_is_black_and_centred",
    ),
    Fault(
        "the aspect of a random crop is drawn linearly",
        GEOMETRY,
        "aspect = math.exp(lowest + (highest - lowest) * ratio_draw)",
        "aspect = ratio[0] + (ratio[1] - ratio[0]) * ratio_draw",
        "test_geometry.py::test_random_windows_are_spread_like_torchvisions",
    ),
    Fault(
        "the side of a random crop is drawn instead of its area",
        GEOMETRY,
        "(scale[0] + (scale[1] - scale[0]) * area_draw)",
        "(scale[0] ** 0.5 + (scale[1] ** 0.5 - scale[0] ** 0.5) * area_draw) ** 2",
        "test_geometry.py::test_random_windows_are_spread_like_torchvisions",
    ),
    Fault(
        "a random crop never reaches the last row and column",
        GEOMETRY,
        "int(y * (height - h + 1)), int(x * (width - w + 1))",
        "int(y * (height - h)), int(x * (width - w))",
        "test_geometry.py::test_a_random_window_reaches_every_place "
        "test_geometry.py::test_random_windows_are_spread_like_torchvisions",
    ),
    Fault(
        "a random crop never reaches the first row and column",
        GEOMETRY,
        "int(y * (height - h + 1)), int(x * (width - w + 1))",
        "math.ceil(y * (height - h)), math.ceil(x * (width - w))",
        "test_geometry.py::test_a_random_window_reaches_every_place",
    ),
    Fault(
        "row and column of a random crop are the same draw",
        GEOMETRY,
        "int(x * (width - w + 1))",
        "int(y * (width - w + 1))",
        "test_geometry.py::test_random_windows_are_spread_like_torchvisions "
        "test_geometry.py::test_the_draws_of_a_window_are_independent",
    ),
    Fault(
        "width and height of a random crop are exchanged",
        GEOMETRY,
        "round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))",
        "round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))",
        "test_geometry.py::test_random_windows_are_spread_like_torchvisions",
    ),
    Fault(
        "a random crop has one attempt",
        GEOMETRY,
        "in draws.reshape(ATTEMPTS, 4).tolist()",
        "in draws.reshape(ATTEMPTS, 4)[:1].tolist()",
        "test_geometry.py::test_random_windows_are_spread_like_torchvisions",
    ),
    Fault(
        "the windows of an image are the same in every epoch",
        FILE_LOADER,
        "stateless.uniform(DRAWS, self.seed, epoch, Stream.WINDOW, chosen)",
        "stateless.uniform(DRAWS, self.seed, 0, Stream.WINDOW, chosen)",
        "test_file_loader.py::test_half_of_the_training_images_are_mirrored",
    ),
    Fault(
        "the central crop is half a pixel off",
        GEOMETRY,
        "return round((height - size) / 2), round((width - size) / 2)",
        "return (height - size + 1) // 2, (width - size + 1) // 2",
        "test_geometry.py::test_the_central_crop_is_torchvisions",
    ),
    Fault(
        "the longer edge is resized instead of the shorter",
        GEOMETRY,
        "short, long = min(height, width), max(height, width)",
        "short, long = max(height, width), min(height, width)",
        "test_geometry.py::test_the_central_crop_is_torchvisions",
    ),
    Fault(
        "the mirrored views of ten are not mirrored",
        FILE_LOADER,
        "windows[:, [1, 0, 3, 2, 5]].flip(-1)",
        "windows[:, [1, 0, 3, 2, 5]]",
        "test_geometry.py::test_the_ten_views_are_torchvisions",
    ),
    Fault(
        "mean and deviation are exchanged",
        PIXELS,
        "std = torch.tensor(preprocessing.std, device=device).view(1, -1, 1, 1)\n"
        "        mean = torch.tensor(preprocessing.mean, device=device).view(1, -1, 1, 1)",
        "std = torch.tensor(preprocessing.mean, device=device).view(1, -1, 1, 1)\n"
        "        mean = torch.tensor(preprocessing.std, device=device).view(1, -1, 1, 1)",
        "test_loader.py::test_pixels_equal_a_slow_reference",
    ),
    Fault(
        "the mean is not subtracted",
        PIXELS,
        ".mul_(self.scale).sub_(self.shift)",
        ".mul_(self.scale)",
        "test_file_loader.py::test_evaluation_gives_torchvisions_input",
    ),
    Fault(
        "the deviation is not divided by",
        PIXELS,
        "self.scale = 1 / (255 * std)",
        "self.scale = torch.full_like(std, 1 / 255)",
        "test_file_loader.py::test_evaluation_gives_torchvisions_input",
    ),
    Fault(
        "red and blue are exchanged",
        "harness/data/decode.py",
        'simplejpeg.decode_jpeg(content, "RGB", strict=True)',
        'simplejpeg.decode_jpeg(content, "BGR", strict=True)',
        "test_decode.py",
    ),
    Fault(
        "labels of a parquet file are not matched to those of the first",
        PARQUET,
        "yield Row(where, image, classes[label])",
        "yield Row(where, image, label)",
        "test_parquet.py::test_labels_are_matched_by_name_to_those_of_training",
    ),
    Fault(
        "rows and columns of parquet's images are exchanged",
        PARQUET,
        ".transpose(0, 3, 1, 2)",
        ".transpose(0, 3, 2, 1)",
        "test_parquet.py::test_pixels_labels_and_names",
    ),
    Fault(
        "images for validation are trained on, too",
        "harness/data/sources.py",
        "Splits(train.subset(chosen), train.subset(held_out), test)",
        "Splits(train, train.subset(held_out), test)",
        "test_sources.py::test_digits_splits_are_those_written_down",
    ),
]

TRAINING = [
    Fault(
        "the warm-up is a step late",
        SCHEDULES,
        "recipe.learning_rate * (step + 1) /",
        "recipe.learning_rate * step /",
        "test_training.py::test_warmup_rises_linearly_to_the_full_rate",
    ),
    Fault(
        "a cosine after a warm-up ends above nothing",
        SCHEDULES,
        "(recipe.epochs - recipe.warmup_epochs)",
        "recipe.epochs",
        "test_training.py::test_a_cosine_is_half_a_wave_from_the_warmups_end_to_nothing",
    ),
    Fault(
        "a cosine forgets the warm-up",
        SCHEDULES,
        "done = (epoch - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)",
        "done = epoch / recipe.epochs",
        "test_training.py::test_a_cosine_is_half_a_wave_from_the_warmups_end_to_nothing",
    ),
    Fault(
        "a cosine rises",
        SCHEDULES,
        "(1 + math.cos(",
        "(1 - math.cos(",
        "test_training.py::test_constant_step_and_cosine_schedules",
    ),
    Fault(
        "a milestone comes a step late",
        SCHEDULES,
        "epoch >= milestone",
        "epoch > milestone",
        "test_training.py::test_constant_step_and_cosine_schedules",
    ),
    Fault(
        "a milestone comes an epoch late",
        SCHEDULES,
        "epoch >= milestone",
        "epoch - 1 >= milestone",
        "test_training.py::test_constant_step_and_cosine_schedules",
    ),
    Fault(
        "no momentum",
        CLASSIFIER,
        "momentum=recipe.momentum",
        "momentum=0.5 * recipe.momentum",
        "test_training.py::test_the_optimiser_is_torchs_sgd_with_the_scheduled_rate",
    ),
    Fault(
        "no weight decay",
        CLASSIFIER,
        "weight_decay=recipe.weight_decay",
        "weight_decay=0.0",
        "test_training.py::test_the_optimiser_is_torchs_sgd_with_the_scheduled_rate",
    ),
    Fault(
        "no Nesterov",
        CLASSIFIER,
        "nesterov=recipe.nesterov",
        "nesterov=False",
        "test_training.py::test_the_optimiser_is_torchs_sgd_with_the_scheduled_rate",
    ),
    Fault(
        "gradients add up over steps",
        CLASSIFIER,
        "        optimizer.zero_grad()\n",
        "",
        "test_training.py::test_the_optimiser_is_torchs_sgd_with_the_scheduled_rate",
    ),
    Fault(
        "the rate is a step late",
        CLASSIFIER,
        "learning_rate(self.recipe, step, self.steps_per_epoch)",
        "learning_rate(self.recipe, max(step - 1, 0), self.steps_per_epoch)",
        "test_training.py::test_the_optimiser_is_torchs_sgd_with_the_scheduled_rate",
    ),
    Fault(
        "a stage's own rate is forgotten",
        CLASSIFIER,
        'group["lr"] = self.current_rate * factor',
        'group["lr"] = self.current_rate',
        "test_finetune.py::test_every_stage_is_stepped_at_its_rate_and_a_frozen_one_not_at_all",
    ),
    Fault(
        "a stage thaws an epoch late",
        "harness/training/fine_tuner.py",
        "epoch < self.thaws_at",
        "epoch <= self.thaws_at",
        "test_finetune.py::test_stages_thaw_at_their_epoch",
    ),
    Fault(
        "dropout is the same in every step",
        CLASSIFIER,
        "step * self.trainer.world_size + self.global_rank",
        "self.global_rank",
        "test_training.py::test_dropout_is_a_function_of_the_step_alone",
    ),
    Fault(
        "dropout is the same on every device",
        CLASSIFIER,
        "step * self.trainer.world_size + self.global_rank",
        "step",
        "test_training.py::test_random_layers_draw_otherwise_in_each_step_and_on_each_device",
    ),
    Fault(
        "dropout depends on what was drawn before",
        CLASSIFIER,
        "        self._seed_random_layers(step)\n",
        "",
        "test_training.py::test_dropout_is_a_function_of_the_step_alone",
    ),
    Fault(
        "every device's share of the loss weighs alike",
        CLASSIFIER,
        "loss * (images * self.trainer.world_size / batch.global_size)",
        "loss",
        "test_training.py::test_the_mean_of_the_devices_losses_is_that_over_the_batch",
    ),
    Fault(
        "the training loss is not weighted by the size of a batch",
        CLASSIFIER,
        "torch.stack(losses) * images",
        "torch.stack(losses) * images.max()",
        "test_training.py::test_the_optimiser_is_torchs_sgd_with_the_scheduled_rate",
    ),
    Fault(
        "the validation loss is not weighted by the size of a batch",
        CLASSIFIER,
        "loss += self.loss(logits, batch.labels) * len(batch.labels)",
        "loss += self.loss(logits, batch.labels) * self.trainer.datamodule.protocol.batch_size",
        "test_training.py::test_the_validation_loss_is_the_mean_over_images_whatever_the_last_batch_holds",
    ),
    Fault(
        "the validation loss is the sum over images",
        CLASSIFIER,
        "float(total) / counts.seen",
        "float(total)",
        "test_training.py::test_the_validation_loss_is_the_mean_over_images_whatever_the_last_batch_holds",
    ),
    Fault(
        "classes weigh as they have images",
        "harness/training/class_weights.py",
        "len(labels) / (present.sum() * images.clamp(min=1))",
        "images * present.sum() / len(labels)",
        "test_finetune.py::test_class_weights_are_one_over_the_images_of_a_class_with_mean_one",
    ),
    Fault(
        "the weighted loss is divided by the weights of the batch",
        "harness/training/class_weights.py",
        "losses / len(labels)",
        'losses / self.get_buffer("weights")[labels].sum()',
        "test_finetune.py::test_the_weighted_loss_is_a_mean_over_images_and_an_epochs_over_all_of_its",
    ),
    Fault(
        "a lone image changes the running statistics",
        "harness/training/batch_norm.py",
        "        layer.eval()\n",
        "        layer.train()\n",
        "test_finetune.py::test_a_lone_last_image_is_trained_on_with_running_statistics",
    ),
    Fault(
        "the features of a probe are those of training mode",
        FEATURES,
        "        network.eval()\n",
        "",
        "test_finetune.py::test_a_linear_probe_is_sgd_on_the_features_of_the_network",
    ),
    Fault(
        "of equally many errors the largest loss is best",
        HISTORY,
        "e.validation_loss or 0.0",
        "-(e.validation_loss or 0.0)",
        "test_training.py::test_the_best_epoch_has_the_fewest_errors_then_the_smallest_loss_and_comes_first",
    ),
    Fault(
        "the epoch with the most errors is best",
        HISTORY,
        "e.validation.seen - e.validation.correct_top1",
        "e.validation.correct_top1",
        "test_training.py::test_the_best_epoch_has_the_fewest_errors_then_the_smallest_loss_and_comes_first",
    ),
    Fault(
        "training stops an epoch late",
        "harness/training/early_stopping.py",
        ">= patience",
        "> patience",
        "test_training.py::test_patience_is_the_epochs_in_a_row_without_a_better_one",
    ),
    Fault(
        "weights of a recipe do not lie channels last",
        SCORES,
        "network.to(memory_format=torch.channels_last if how.channels_last else torch.contiguous_format)",
        "network.to(memory_format=torch.contiguous_format)",
        "test_memory_format.py",
    ),
    Fault(
        "the layout of training stays in an evaluation",
        SCORES,
        "    network.to(memory_format=torch.channels_last if how.channels_last else torch.contiguous_format)",
        "    if how.channels_last:\n        network.to(memory_format=torch.channels_last)",
        "test_memory_format.py",
    ),
    Fault(
        "images of an evaluation do not lie channels last",
        SCORES,
        "network(laid_out(flat, how))",
        "network(flat)",
        "test_memory_format.py",
    ),
    Fault(
        "images of training do not lie channels last",
        CLASSIFIER,
        "pixels = laid_out(batch.images, self.recipe)",
        "pixels = batch.images",
        "test_memory_format.py",
    ),
]

RESUMING = [
    Fault(
        "an epoch that goes on repeats its first steps",
        LOADER,
        "for number in range(first, self.batches):",
        "for number in range(0, self.batches - first):",
        "test_loader.py::test_an_epoch_resumes_in_its_middle",
    ),
    Fault(
        "an epoch of files that goes on repeats its first steps",
        FILE_LOADER,
        "for number in range(first, self.batches):",
        "for number in range(0, self.batches - first):",
        "test_file_loader.py::test_training_does_not_depend_on_workers_devices_or_position",
    ),
    Fault(
        "an epoch that goes on skips a step",
        LOADER,
        "for number in range(first, self.batches):",
        "for number in range(first + (first > 0), self.batches):",
        "test_loader.py::test_an_epoch_resumes_in_its_middle",
    ),
    Fault(
        "a run that goes on begins its order anew",
        MODULE,
        "mirror=self.recipe.flip,\n            seed=self.seed,\n            position=lambda: trainer.global_step,",
        "mirror=self.recipe.flip,\n            seed=self.seed,\n            position=lambda: 0,",
        "test_finetune.py::test_a_run_goes_on_bit_for_bit",
    ),
    Fault(
        "an epoch that goes on loses its losses",
        CLASSIFIER,
        'progress["losses"] if mine else',
        'torch.zeros_like(progress["losses"]) if mine else',
        "test_finetune.py::test_a_run_goes_on_bit_for_bit",
    ),
    Fault(
        "an epoch that goes on loses its counts",
        CLASSIFIER,
        'progress["right"] if mine else',
        'torch.zeros_like(progress["right"]) if mine else',
        "test_finetune.py::test_a_run_goes_on_bit_for_bit",
    ),
    Fault(
        "every device goes on with the counters of all",
        CLASSIFIER,
        "mine = self.global_rank == 0",
        "mine = True",
        "test_training.py::test_the_counters_of_a_checkpoint_go_on_in_one_device_alone",
    ),
    Fault(
        "a run that goes on forgets its history",
        CLASSIFIER,
        'for epoch in progress["history"]]',
        'for epoch in progress["history"][1:]]',
        "test_finetune.py::test_a_run_goes_on_bit_for_bit",
    ),
    Fault(
        "a run that stopped early is trained further",
        RECORDER,
        "trainer.should_stop = is_over(pl_module.history, self.patience)",
        "trainer.should_stop = False",
        "test_finetune.py::test_training_stops_after_so_many_epochs_without_a_better_one_and_the_best_is_reported",
    ),
    Fault(
        "with patience the last epoch is reported",
        RECORDER,
        "self.reported = best.epoch",
        "self.reported = self.epochs",
        "test_finetune.py::test_training_stops_after_so_many_epochs_without_a_better_one_and_the_best_is_reported",
    ),
    Fault(
        "the draws of another version of the hash",
        "harness/data/stateless.py",
        "_SHIFTS = (30, 27, 31)",
        "_SHIFTS = (30, 27, 32)",
        "test_stateless.py",
    ),
]

EVALUATION = [
    Fault(
        "right at 5 is right at 4",
        COUNTS,
        "min(5, scores.shape[1])",
        "min(4, scores.shape[1])",
        "test_counts.py::test_ranks_and_counts_equal_brute_force",
    ),
    Fault(
        "ties go to the higher class",
        COUNTS,
        "< labels[:, None]",
        "> labels[:, None]",
        "test_counts.py::test_ranks_and_counts_equal_brute_force",
    ),
    Fault(
        "ties go to the true class",
        COUNTS,
        "odd = higher + lower != classes - 1",
        "odd = scores.isnan().any(1)",
        "test_counts.py::test_ranks_and_counts_equal_brute_force",
    ),
    Fault(
        "ties of predictions go anywhere",
        COUNTS,
        "scores.sort(dim=1, descending=True, stable=True)",
        "(lambda found: (found.values.flip(1), found.indices.flip(1)))(scores.sort(dim=1, stable=True))",
        "test_counts.py::test_predictions_agree_with_counts",
    ),
    Fault(
        "a row with NaN may be right",
        COUNTS,
        "torch.where(scores.isnan().any(1), scores.shape[1], rank)",
        "rank",
        "test_counts.py::test_a_constant_or_nan_network_is_not_perfect",
    ),
    Fault(
        "an error rate is that of the right answers",
        COUNTS,
        "100 * (self.seen - self.correct_top1) / self.seen",
        "100 * self.correct_top1 / self.seen",
        "test_counts.py::test_errors_are_percent",
    ),
    Fault(
        "what fills a batch up is scored instead of its images",
        SCORES,
        "[: len(images) * views]",
        "[-len(images) * views :]",
        "test_exact_evaluation.py::test_the_score_of_several_views_is_the_logarithm_of_their_mean_probability",
    ),
    Fault(
        "logits of views are averaged instead of probabilities",
        SCORES,
        "logits.log_softmax(1).view(len(images), views, -1).logsumexp(1) - math.log(views)",
        "logits.view(len(images), views, -1).mean(1).log_softmax(1)",
        "test_exact_evaluation.py::test_the_score_of_several_views_is_the_logarithm_of_their_mean_probability",
    ),
    Fault(
        "views of different images are averaged",
        SCORES,
        ".view(len(images), views, -1).logsumexp(1)",
        ".view(views, len(images), -1).logsumexp(0)",
        "test_exact_evaluation.py::test_the_score_of_several_views_is_the_logarithm_of_their_mean_probability",
    ),
    Fault(
        "images that could not be read are left out of the counts",
        EVALUATOR,
        "        self._right[2] += len(self._unreadable)\n",
        "",
        "test_exact_evaluation.py::test_an_evaluation_of_files_is_the_one_by_hand",
    ),
    Fault(
        "images that could not be read are left out, and nobody asks whether all were seen",
        EVALUATOR,
        "        self._right[2] += len(self._unreadable)\n        right",
        "        self.split = self.split.subset(torch.arange(int(self._right[2])))\n        right",
        "test_exact_evaluation.py::test_an_evaluation_of_files_is_the_one_by_hand",
    ),
    Fault(
        "predictions stand in the order in which they were made",
        EVALUATOR,
        "return Predictions(labels[at], classes[at], probabilities[at])",
        "return Predictions(labels, classes, probabilities)",
        "test_exact_evaluation.py::test_an_evaluation_of_files_is_the_one_by_hand",
    ),
    Fault(
        "probabilities are not divided by their sum",
        EVALUATOR,
        "(best - scores.logsumexp(1, keepdim=True)).exp()",
        "best.exp()",
        "test_exact_evaluation.py::test_an_evaluation_in_memory_is_the_one_by_hand",
    ),
    Fault(
        "an image that is counted twice is accepted",
        EVALUATOR,
        "if self.counts.seen != images:",
        "if self.counts.seen < images:",
        "test_asserts.py::test_checks_of_numbers_stand_without_asserts",
    ),
    Fault(
        "one image for another is accepted",
        EVALUATOR,
        "if not torch.equal(indices[at], torch.arange(len(self.split))):",
        "if len(indices) != len(self.split):",
        "test_asserts.py::test_checks_of_numbers_stand_without_asserts",
    ),
    Fault(
        "classes are matched by position",
        "harness/evaluation/meaning.py",
        "return tuple(map(theirs.index, ours))",
        "return tuple(range(len(ours)))",
        "test_meaning.py::test_classes_are_matched_by_name_in_any_order_and_number",
    ),
]

STATISTICS = [
    Fault(
        "Wilson's interval has the z of 90%",
        "harness/evaluation/intervals.py",
        "(1 + confidence) / 2",
        "confidence",
        "test_counts.py::test_wilson_equals_scipy",
    ),
    Fault(
        "the interval is the normal approximation's",
        "harness/evaluation/intervals.py",
        "centre = (rate + z * z / (2 * images)) / (1 + z * z / images)",
        "centre = rate",
        "test_counts.py::test_wilson_equals_scipy",
    ),
    Fault(
        "Holm without the running maximum",
        COMPARE,
        "highest = max(highest, ",
        "highest = max(0.0, ",
        "test_compare.py::test_holm_by_hand",
    ),
    Fault(
        "Bonferroni instead of Holm",
        COMPARE,
        "(len(ps) - rank) *",
        "len(ps) *",
        "test_compare.py::test_holm_by_hand",
    ),
    Fault(
        "McNemar's test is one-sided",
        COMPARE,
        "2 * tail / 2**tosses",
        "tail / 2**tosses",
        "test_compare.py::test_mcnemar_is_the_exact_binomial_test",
    ),
    Fault(
        "the deviation over seeds is divided by n instead of n - 1",
        COMPARE,
        "statistics.stdev(",
        "statistics.pstdev(",
        "test_compare.py::test_seeds_are_one_row_and_models_are_paired_by_seed",
    ),
]

FAULTS = [*LOADING, *PICTURES, *TRAINING, *RESUMING, *EVALUATION, *STATISTICS]
