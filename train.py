"""Train a network and report its error on the test split: `python train.py --help`."""

from harness import build
from harness.cli import main
from harness.config import TrainConfig
from harness.resume import continued


def train(config: TrainConfig) -> None:
    """One training run: data, network, run folder, training, evaluation of the last epoch or the best, record."""
    config, resumed = continued(config)

    from harness.checkpoint import Trained, checkpoint_to_resume
    from harness.data.datasets import facts
    from harness.data.sources import load
    from harness.interruption import go_on, told
    from harness.progress import ProgressBar
    from harness.report import report
    from harness.run_folder import log, make_run_folder, reopen_run_folder
    from harness.training.conditions import under_conditions
    from harness.training.own_pictures import watch_files
    from harness.training.recorder import Recorder

    model, recipe, protocol, limits = config.model, config.recipe, config.protocol, config.trainer
    build.check_arithmetic(limits, recipe=recipe.precision, protocol=protocol.precision)
    class_names = facts(config.data).class_names
    checkpoint = before = None
    if resumed is not None:
        reopen_run_folder(resumed)
        checkpoint, before, line = checkpoint_to_resume(resumed)
        log.info(line)
    network, preprocessing, pretrained = build.start_network(config, class_names, before)
    splits = load(config.data)
    data, classifier = build.build_training(config, network, splits, preprocessing, len(class_names))
    epochs = min(recipe.epochs, limits.max_epochs or recipe.epochs)

    training = {"seed": config.seed, "epochs": epochs, "max_batches": limits.max_batches, "recipe": vars(recipe)}
    trained = Trained(model.name, model.options(), class_names, preprocessing, config.data, training, pretrained)
    progress = ProgressBar(limits.progress)
    recorder = Recorder(trained, epochs, limits.checkpoint_every, recipe.patience)
    watching = watch_files(splits, class_names)
    validated = 1.0 if len(splits.validation) else 0
    callbacks = [progress, *watching, recorder]
    trainer = build.build_trainer(limits, recipe.precision, callbacks, max_epochs=epochs, limit_val_batches=validated)
    recorder.trained = trained = under_conditions(trained, splits.train, protocol, trainer, before)

    recorder.folder = resumed or make_run_folder(config.runs, f"{model.name}-{config.data.name}", config)
    for watcher in watching:
        watcher.folder = recorder.folder
    log.info(
        f"{model.name}: {sum(p.numel() for p in network.parameters()):,} parameters, images of "
        f"{preprocessing.channels} x {preprocessing.size} x {preprocessing.size}; "
        f"recipe={recipe.name}: {epochs} epochs of {data.steps_per_epoch} steps, batch {recipe.batch_size}"
    )
    log.info(
        f"{config.data.name}: {len(splits.train):,} images to train on, {len(splits.validation):,} for validation, "
        f"{len(splits.test):,} to test; {trainer.world_size} x {trainer.strategy.root_device.type}; {recorder.folder}"
    )
    if pretrained:
        log.info(str(pretrained))
    with told(f"outside of its steps; {go_on(recorder.folder)}"):
        trainer.fit(classifier, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    report(config, trained, network, data, classifier, recorder, progress)


if __name__ == "__main__":
    main("train", TrainConfig, train)
