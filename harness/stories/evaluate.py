"""One evaluation, from its config to its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from harness import build
from harness.config.commands import EvalConfig
from harness.config.compose import compose_groups
from harness.config.data import DataConfig, ImageFilesConfig
from harness.config.files import CONFIG_FILE
from harness.config.fit import (
    check_arithmetic,
    check_protocol,
    check_unset,
    check_views,
    keys_given,
    on_device,
    preprocessing_for,
)
from harness.config.protocol import ProtocolConfig
from harness.data.sources.splits import Split, relabelled
from harness.data.sources.table import describe, load_test
from harness.errors import UserError
from harness.evaluation.evaluator import Evaluator, evaluate
from harness.evaluation.plausibility import check_labels, check_score, match_classes
from harness.evaluation.record import Moment, write_record
from harness.run.checkpoint import CHECKPOINTS, Trained, checkpoint_of_run, read_checkpoint
from harness.run.files import RESULT_FILE, read_json
from harness.run.folder import make_run_folder
from harness.run.interruption import doing
from harness.run.log import log
from harness.run.processes import Team, gather
from harness.run.progress import ProgressBar
from harness.run.resume import read_config
from harness.stories.ending import tell_why
from harness.training.early_stopping import describe_best
from harness.training.own_pictures import check_unseen, warn_of_others
from harness.weights.load import KEPT, Weights


def evaluate_network(config: EvalConfig) -> dict[str, Any]:
    """Evaluate a network (every process of the evaluation calls this) and return the content of `result.json`."""
    return read_json(evaluate_into_folder(config) / RESULT_FILE)


def evaluate_into_folder(config: EvalConfig) -> Path:
    """Evaluate a network and return the evaluation's folder, which holds its record."""
    if config.resume is not None:
        raise UserError(f"resume={config.resume}: is for the command line; leave it out in a program of your own")
    with gather(config.trainer) as team:
        if not team.leads:
            team.follow()
        evaluate_together(config, team)
    return team.folder


@dataclass(frozen=True)
class Subject:
    """A network, and the images that it is evaluated on: both are loaded and checked.

    Attributes:
        config: settings of the evaluation.
        protocol: how the network is evaluated, with the number of images that the device evaluates at once.
        network: with its weights.
        trained: its description.
        data: settings of the data.
        split: images with the network's own numbers of classes.
        classes: these numbers.
        among: classes that the network chooses among; None for all that it knows.
        source: where the weights come from, for the log.
        moment: moment of training from which they come; None for pretrained weights.
        best: the best epoch on the validation split until then; None for pretrained weights.
    """

    config: EvalConfig
    protocol: ProtocolConfig
    network: nn.Module
    trained: Trained
    data: DataConfig
    split: Split
    classes: tuple[int, ...]
    among: tuple[int, ...] | None
    source: str
    moment: Moment | None
    best: dict[str, Any] | None

    @property
    def decoder(self) -> str | None:
        """Decoder of images in files; None for images in memory."""
        return self.data.decoder if isinstance(self.data, ImageFilesConfig) else None

    def folder_name(self) -> str:
        """Name of the folder that holds the folders of such evaluations."""
        return f"{self.trained.model}-{self.data.name}"


def evaluate_together(config: EvalConfig, team: Team) -> None:
    """Load network and data, make the folder, evaluate, and write the record."""
    subject = prepared(config, team.accelerator, load_test)
    split, protocol = subject.split, subject.protocol
    if team.leads:
        folder = make_run_folder(config.runs, subject.folder_name(), subject.config, suffix="-eval")
        team.call(folder, False, "start the evaluation again")
    with doing("in the evaluation, before its record was written; start it again"):
        tell_of(subject, team, team.folder)
        progress = ProgressBar(config.trainer.progress)
        tester = build.build_trainer(team, team.folder, protocol.precision, [progress])
        how = (subject.trained.preprocessing, protocol)
        workers, among = config.trainer.workers, subject.among
        evaluator = evaluate(
            tester, subject.network, split, *how, decoder=subject.decoder, workers=workers, among=among
        )
        if not config.force:
            check_score(evaluator)
        if team.leads:
            record(subject, evaluator, team.folder)


def prepared(config: EvalConfig, accelerator: str, load: Callable[[DataConfig], Split]) -> Subject:
    """Load a network and its data, and check that they work together.

    Args:
        config: settings of the evaluation.
        accelerator: Lightning's name of it.
        load: reads the test split of a data set.

    Raises:
        UserError: weights or data cannot be read, do not fit, or mean nothing together.
    """
    # a missing folder of pictures is told before weights are downloaded
    early = load(config.data) if config.weights and isinstance(config.data, ImageFilesConfig) else None
    network, trained, data, source, moment, best = (_of_weights if config.weights else _of_checkpoint)(config)
    config = replace(config, protocol=_protocol(config, trained, data))
    known = describe(data)
    check_protocol(config.protocol, data, known.in_files, trained.preprocessing)
    check_views(config.protocol, trained.model, trained.preprocessing)
    check_arithmetic(accelerator, protocol=config.protocol.precision)
    classes = match_classes(known.class_names, trained.class_names, data.name, source, config.force)
    split = relabelled(load(data) if early is None else early, classes)
    if not config.force:
        check_labels(split, f"data={data.name} data.root={data.root}")
        place = _place(config)
        if place.exists():  # otherwise it is the name of published weights
            check_unseen(place if place.is_dir() else place.parent.parent, split)
    among = classes if known.restricted else None
    protocol = on_device(config, accelerator).protocol
    return Subject(config, protocol, network, trained, data, split, classes, among, source, moment, best)


def tell_of(subject: Subject, team: Team, folder: Path) -> None:
    """Log what is evaluated on what."""
    trained, data, split = subject.trained, subject.data, subject.split
    log.info(f"{trained.model} of {subject.source} on {data.name}: {len(split):,} images; {team}; {folder}")
    warn_of_others(split)


def record(subject: Subject, evaluator: Evaluator, folder: Path) -> None:
    """Write the record of an evaluation that has ended."""
    cost = build.cost(subject.network, subject.trained.preprocessing)
    data, moment, best = subject.data, subject.moment, subject.best
    write_record(folder, evaluator, subject.trained, data=data, moment=moment, multiply_adds=cost, best=best)
    tell_why(folder)


def _place(config: EvalConfig) -> Path:
    """Return the path of the evaluated run folder or file; no such path exists for published weights."""
    return Path(str(config.run or config.checkpoint or config.weights)).absolute()


Found = tuple[nn.Module, Trained, DataConfig, str, Moment | None, dict[str, Any] | None]


def _of_checkpoint(config: EvalConfig) -> Found:
    """Load the network of a checkpoint.

    Returns:
        The network, its description, the data to evaluate it on, its name for the log, the moment of its training, and
        the best epoch on the validation split until then.
    """
    path = checkpoint_of_run(Path(config.run)) if config.run else Path(str(config.checkpoint))
    checkpoint = read_checkpoint(path)
    trained, data = checkpoint.trained, config.data or checkpoint.trained.data
    assert data is not None, "a checkpoint of a run names its data"
    check_unset(data, trained.preprocessing, config.overrides)
    network = build.network_of(trained, checkpoint.state_dict, path)
    source = f"{path} (epoch {checkpoint.epoch}, trained on {trained.trained_on})"
    best = describe_best(checkpoint.history)
    return network, trained, data, source, Moment.of(checkpoint, path), best


def _of_weights(config: EvalConfig) -> Found:
    """Load a network with pretrained weights; return what `_of_checkpoint` does, without a moment and a best epoch."""
    assert config.weights is not None and config.model is not None and config.data is not None
    model, data, weights = config.model, config.data, Weights(config.weights, config.model.name, config.weights_map)
    known = describe(data)
    class_names = weights.class_names or known.class_names
    preprocessing = preprocessing_for(model.name, data, known, weights.preprocessing, config.overrides)
    network = build.build_network(model.name, model.options(), preprocessing, len(class_names))
    pretrained = weights.load_into(network, training=False)
    trained = Trained(model.name, model.options(), class_names, preprocessing, None, None, pretrained)
    source = str(pretrained) if weights.class_names else f"{pretrained}; {KEPT}"
    return network, trained, data, source, None, None


def _protocol(config: EvalConfig, trained: Trained, data: DataConfig) -> ProtocolConfig:
    """Return the protocol: the command line's, otherwise the run's own, or on other data the default of that data."""
    given = keys_given(config.overrides)
    same = config.weights is None and trained.data is not None and trained.data.name == data.name
    place = _place(config)
    file = (place.parent.parent if config.checkpoint and place.parent.name == CHECKPOINTS else place) / CONFIG_FILE
    if "protocol" not in given and same and file.exists():
        keys = [key.removeprefix("protocol.") for key in given if key.startswith("protocol.")]
        return replace(read_config(file).protocol, **{key: getattr(config.protocol, key) for key in keys})
    if config.data is not None:
        return config.protocol
    (protocol,) = compose_groups("eval", [*config.overrides, f"data={data.name}"], "protocol")
    assert isinstance(protocol, ProtocolConfig)
    return protocol
