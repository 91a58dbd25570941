"""Evaluate a trained network on a test split: `python eval.py --help`."""

from harness import build
from harness.cli import main
from harness.config import EvalConfig


def evaluate_checkpoint(config: EvalConfig) -> None:
    """One evaluation: checkpoint, data, network, run folder, evaluation, record."""
    from pathlib import Path

    from harness.checkpoint import checkpoint_of_run, read_checkpoint
    from harness.data.datasets import facts
    from harness.data.sources import load_test
    from harness.errors import UserError
    from harness.evaluation.evaluator import evaluate
    from harness.evaluation.record import write_record
    from harness.progress import ProgressBar
    from harness.run_folder import log, make_run_folder

    path = checkpoint_of_run(Path(config.run)) if config.run else Path(str(config.checkpoint))
    checkpoint = read_checkpoint(path)
    trained = checkpoint.trained
    data = config.data or trained.data
    if facts(data).class_names != trained.class_names:
        raise UserError(f"data={data.name}: its classes are not those of {path}, trained on {trained.data.name}")
    split = load_test(data)
    network = build.build_network(trained.model, trained.options, trained.preprocessing, len(trained.class_names))
    network.load_state_dict(checkpoint.state_dict)
    tester = build.build_trainer(config.trainer, config.protocol.precision, [ProgressBar(config.trainer.progress)])

    folder = make_run_folder(config.runs, f"{trained.model}-{data.name}", config, suffix="-eval")
    log.info(f"{trained.model} of {path} (epoch {checkpoint.epoch}) on {data.name}: {len(split):,} images; {folder}")
    evaluator = evaluate(tester, network, split, trained.preprocessing, config.protocol)
    if tester.is_global_zero:
        write_record(folder, evaluator, split, trained, data=data, protocol=config.protocol, epoch=checkpoint.epoch)


if __name__ == "__main__":
    main("eval", EvalConfig, evaluate_checkpoint)
