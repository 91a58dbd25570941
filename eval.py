"""Evaluate a trained network on a test split: `python eval.py --help`."""

from harness import build
from harness.cli import main
from harness.config import EvalConfig, ImageFilesConfig


def evaluate_checkpoint(config: EvalConfig) -> None:
    """One evaluation: checkpoint, data, network, run folder, evaluation, record."""
    from pathlib import Path

    from harness.checkpoint import checkpoint_of_run, read_checkpoint
    from harness.data.datasets import DATASETS
    from harness.data.sources import load_test
    from harness.evaluation.evaluator import evaluate
    from harness.evaluation.meaning import check_classes, check_labels, check_score
    from harness.evaluation.record import write_record
    from harness.progress import ProgressBar
    from harness.run_folder import log, make_run_folder

    path = checkpoint_of_run(Path(config.run)) if config.run else Path(str(config.checkpoint))
    checkpoint = read_checkpoint(path)
    trained = checkpoint.trained
    data = config.data or trained.data
    build.check_protocol(config.protocol, data)
    class_names = DATASETS[data.name].class_names
    check_classes(class_names, trained.class_names, data.name, f"{path}, trained on {trained.data.name}", config.force)
    split = load_test(data)
    if not config.force:
        check_labels(split, f"data={data.name} data.root={data.root}")
    network = build.build_network(trained.model, trained.options, trained.preprocessing, len(trained.class_names))
    network.load_state_dict(checkpoint.state_dict)
    tester = build.build_trainer(config.trainer, config.protocol.precision, [ProgressBar(config.trainer.progress)])

    folder = make_run_folder(config.runs, f"{trained.model}-{data.name}", config, suffix="-eval")
    log.info(f"{trained.model} of {path} (epoch {checkpoint.epoch}) on {data.name}: {len(split):,} images; {folder}")
    decoder = data.decoder if isinstance(data, ImageFilesConfig) else None
    evaluator = evaluate(
        tester,
        network,
        split,
        trained.preprocessing,
        config.protocol,
        decoder=decoder,
        workers=config.trainer.workers,
    )
    if not config.force and evaluator.predictions is not None:
        check_score(evaluator.counts, evaluator.predictions, len(class_names))
    if tester.is_global_zero:
        write_record(folder, evaluator, trained, data=data, epoch=checkpoint.epoch)


if __name__ == "__main__":
    main("eval", EvalConfig, evaluate_checkpoint)
