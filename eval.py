"""Evaluate a trained network on a test split: `python eval.py --help`."""

from __future__ import annotations

from harness.interruption import listen

if __name__ == "__main__":
    listen("eval.py")  # before the imports below, which take their time

from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from harness import build
from harness.cli import main
from harness.config import DataConfig, EvalConfig, ImageFilesConfig, ProtocolConfig, composed

if TYPE_CHECKING:
    from torch import nn

    from harness.checkpoint import Trained
    from harness.processes import Team


def evaluate_network(config: EvalConfig) -> None:
    """One evaluation, in each of its processes."""
    from harness.processes import gather

    with gather(config.trainer) as team:
        if not team.leads:
            team.follow()
        evaluate_together(config, team)


def evaluate_together(config: EvalConfig, team: Team) -> None:
    """Network and data, folder, evaluation, record."""
    from harness.data.datasets import facts
    from harness.data.sources import load_test, relabelled
    from harness.evaluation.evaluator import evaluate
    from harness.evaluation.meaning import check_labels, check_score, match_classes
    from harness.evaluation.record import write_record
    from harness.interruption import doing
    from harness.progress import ProgressBar
    from harness.run_folder import log, make_run_folder
    from harness.training.own_pictures import check_unseen, warn_of_others

    network, trained, data, epoch, source = (_of_weights if config.weights else _of_checkpoint)(config)
    if config.data is None:
        config.protocol = _protocol_on(data.name)
    build.check_protocol(config.protocol, data, trained.preprocessing)
    classes = match_classes(facts(data).class_names, trained.class_names, data.name, source, config.force)
    split = relabelled(load_test(data), classes)
    if not config.force:
        check_labels(split, f"data={data.name} data.root={data.root}")
        place = Path(str(config.run or config.checkpoint or config.weights)).absolute()
        if place.exists():  # not a name of published weights
            check_unseen(place if place.is_dir() else place.parent.parent, split)

    if team.leads:
        folder = make_run_folder(config.runs, f"{trained.model}-{data.name}", config, suffix="-eval")
        team.call(folder, False, "start the evaluation again")
    with doing("in the evaluation, before its record was written; start it again"):
        log.info(f"{trained.model} of {source} on {data.name}: {len(split):,} images; {team}; {team.folder}")
        warn_of_others(split)
        progress = ProgressBar(config.trainer.progress)
        tester = build.build_trainer(team, team.folder, config.protocol.precision, [progress])
        decoder = data.decoder if isinstance(data, ImageFilesConfig) else None
        how = (trained.preprocessing, config.protocol)
        evaluator = evaluate(tester, network, split, *how, decoder=decoder, workers=config.trainer.workers)
        if not config.force:
            check_score(evaluator)
        if team.leads:
            write_record(team.folder, evaluator, trained, data=data, epoch=epoch)


def _of_checkpoint(config: EvalConfig) -> tuple[nn.Module, Trained, DataConfig, int | None, str]:
    """The network of a checkpoint, what is known of it, the data to evaluate it on, its epoch, and a name for it."""
    from harness.checkpoint import checkpoint_of_run, read_checkpoint

    path = checkpoint_of_run(Path(config.run)) if config.run else Path(str(config.checkpoint))
    checkpoint = read_checkpoint(path)
    trained, data = checkpoint.trained, config.data or checkpoint.trained.data
    assert data is not None, "a checkpoint of a run names its data"
    build.unless_set(data, trained.preprocessing)
    network = build.build_network(trained.model, trained.options, trained.preprocessing, len(trained.class_names))
    network.load_state_dict(checkpoint.state_dict)
    return (
        network,
        trained,
        data,
        checkpoint.epoch,
        f"{path} (epoch {checkpoint.epoch}, trained on {trained.trained_on})",
    )


def _of_weights(config: EvalConfig) -> tuple[nn.Module, Trained, DataConfig, int | None, str]:
    """The same of pretrained weights, which have no epoch."""
    from harness.checkpoint import Trained
    from harness.data.datasets import facts
    from harness.weights.load import KEPT, Weights

    assert config.weights is not None and config.model is not None and config.data is not None
    model, data, weights = config.model, config.data, Weights(config.weights, config.model.name)
    class_names = weights.class_names or facts(data).class_names
    preprocessing = build.preprocessing_for(model.name, data, weights.preprocessing)
    network = build.build_network(model.name, model.options(), preprocessing, len(class_names))
    pretrained = build.load_weights(network, model.name, weights, training=False)
    trained = Trained(model.name, model.options(), class_names, preprocessing, None, None, pretrained)
    return network, trained, data, None, str(pretrained) if weights.class_names else f"{pretrained}; {KEPT}"


def _protocol_on(data: str) -> ProtocolConfig:
    """The protocol that this command line asks for on the data that a checkpoint names: chosen, or the data's own."""
    config = composed("eval", [*HydraConfig.get().overrides.task, f"data={data}"])
    protocol = OmegaConf.to_object(config["protocol"])
    assert isinstance(protocol, ProtocolConfig)
    return protocol


if __name__ == "__main__":
    main("eval", EvalConfig, evaluate_network)
