"""One training run, from its config to its record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import build
from harness.config.commands import TrainConfig
from harness.config.fit import check_arithmetic, check_device, check_validation, on_device
from harness.data.images.image_files import ImageFiles
from harness.data.sources.table import describe, load
from harness.errors import UserError
from harness.run.checkpoint import ODD_VALUES, Trained
from harness.run.files import RESULT_FILE, read_json
from harness.run.folder import make_run_folder
from harness.run.history import Epoch
from harness.run.interruption import doing
from harness.run.log import begin, log
from harness.run.processes import Team, gather
from harness.run.program import go_on
from harness.run.progress import ProgressBar
from harness.run.resume import continued
from harness.stories.report import report
from harness.training.conditions import under_conditions
from harness.training.gradient_norms import GradientNorms
from harness.training.own_pictures import watch_files
from harness.training.recorder import Recorder, reopened
from harness.training.tracker import Tracker


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        folder: folder of the run.
        result: content of its `result.json`, such as `top1_error` in percent.
        history: results of each epoch.
    """

    folder: Path
    result: dict[str, Any]
    history: tuple[Epoch, ...]


def train(config: TrainConfig) -> Run:
    """Train a network, or resume a run; every process of the run calls this."""
    config, resumed = continued(config) if config.resume is not None else (config, None)
    with gather(config.trainer) as team:
        folder, history = train_together(config, resumed if team.leads else team.follow(), team)
    return Run(folder, read_json(folder / RESULT_FILE), history)


def train_together(config: TrainConfig, resumed: Path | None, team: Team) -> tuple[Path, tuple[Epoch, ...]]:
    """Load data and network, make the run folder, train, evaluate the last or the best epoch, and write the record."""
    given, config = config, on_device(config, team.accelerator)
    model, recipe, protocol, limits = config.model, config.recipe, config.protocol, config.trainer
    check_arithmetic(team.accelerator, recipe=recipe.precision, protocol=protocol.precision)
    check_device(recipe, team.accelerator, team.size, limits.accumulate)
    known = describe(config.data)
    class_names = known.class_names
    checkpoint, before = reopened(resumed, team) if resumed is not None else (None, None)
    network, preprocessing, pretrained = build.start_network(config, known, before)
    splits = build.small_pictures(load(config.data), config)
    images = {name: len(split.labels) for name, split in vars(splits).items()}
    if recipe.patience is not None or recipe.schedule == "plateau":
        check_validation(recipe, images["validation"])
    data, classifier = build.build_training(config, network, splits, preprocessing, len(class_names))
    epochs = min(recipe.epochs, limits.max_epochs or recipe.epochs)

    training = {"seed": config.seed, "epochs": epochs, "max_batches": limits.max_batches, "recipe": vars(recipe)}
    trained = Trained(model.name, model.options(), class_names, preprocessing, config.data, training, pretrained)
    trained = under_conditions(trained, splits.train, protocol, team, limits.accumulate, before)

    name = f"{model.name}-{config.data.name}"
    folder = resumed or make_run_folder(config.runs, name, given) if team.leads else team.folder
    advice = go_on(folder)
    with doing(f"outside of its steps; {advice}"):
        if team.leads:
            team.call(folder, resumed is not None, advice)
        progress = ProgressBar(limits.progress)
        recorder = Recorder(folder, trained, epochs, limits.checkpoint_every, recipe.patience)
        in_files = isinstance(splits.train, ImageFiles)
        watching = watch_files(folder, splits, class_names, recorder.interruption) if in_files else []
        norms = [GradientNorms(folder, limits.gradient_norms)] if limits.gradient_norms else []
        trackers = [Tracker(config, recorder)] if config.track is not None and team.leads else []
        callbacks = [progress, *watching, *norms, recorder, *trackers]
        options = {"max_epochs": epochs, "limit_val_batches": 1.0 if images["validation"] else 0}
        precision, deterministic = recipe.precision, recipe.deterministic
        trainer = build.build_trainer(team, folder, precision, callbacks, deterministic=deterministic, **options)
        sizes = f", trained on at {' to '.join(map(str, recipe.train_size))} pixels" if recipe.train_size else ""
        lines = [
            f"{model.name}: {sum(p.numel() for p in network.parameters()):,} parameters, images of "
            f"{preprocessing.channels} x {preprocessing.size} x {preprocessing.size}{sizes}; "
            f"steps of an epoch: {data.steps_per_epoch:,}",
            f"{config.data.name}: {images['train']:,} images to train on, {images['validation']:,} for "
            f"validation, {images['test']:,} to test; {team}; {folder}",
            *([str(pretrained)] if pretrained else []),
        ]
        begin(config, resumed)
        log.info(lines)
        try:
            trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except ODD_VALUES as error:
            if checkpoint is None or recorder.began:
                raise
            raise UserError(
                f"{checkpoint}: its state of training is damaged ({type(error).__name__}: {error}); move it away, and "
                "the checkpoint before it takes its place"
            ) from error
        report(config, team, trained, network, data, classifier, recorder, progress)
        for tracker in trackers:
            tracker.conclude(read_json(folder / RESULT_FILE))
    return folder, tuple(classifier.history)
