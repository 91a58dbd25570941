"""One evaluation of several networks: each picture is decoded once for all that share data, preprocessing and protocol.

Every network gets the folder and the record that an evaluation of its own would write. The split is seen in parts of
`PART` images; what the networks answered on a part is on the disk before the next begins. So `resume=auto` goes on
after the last whole part, with any of the networks, wherever the evaluation was interrupted.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from harness import build
from harness.config.commands import EvalConfig
from harness.config.data import DataConfig
from harness.data.loading.module import EvalData
from harness.data.sources.splits import Split
from harness.data.sources.table import load_test
from harness.errors import UserError, file_error
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.parts import Part, join
from harness.evaluation.plausibility import check_score
from harness.evaluation.record import PACKAGES
from harness.evaluation.schema import telling
from harness.evaluation.several import SeveralEvaluators
from harness.run.checkpoint import weights_sha256
from harness.run.console import show_table
from harness.run.files import RESULT_FILE, read_json, write_json
from harness.run.folder import make_run_folder, reopen_run_folder
from harness.run.interruption import doing
from harness.run.log import log, stop_writing, write_to
from harness.run.printable import say
from harness.run.processes import Team, gather
from harness.run.progress import ProgressBar
from harness.stories.evaluate import Subject, prepared, record, tell_of

PART = 10_000  # images of a part of a split; counts do not depend on it
SETTINGS_FILE = "several.json"  # what the answers in a folder depend on: by it `resume=auto` knows them again
PARTS = "parts"  # folder of the answers on each part, until the record is written
GO_ON = "the same command with resume=auto goes on after the last whole part"

Value = TypeVar("Value")


@dataclass(eq=False)
class One:
    """One of the networks, and how far its evaluation is.

    Attributes:
        name: what the user's words call it.
        subject: network and images.
        folder: of its evaluation.
        batch_size: images that the network sees at once, which is less than the protocol says once memory was full.
        done: numbers of the parts that are on the disk.
        finished: whether its record is written.
    """

    name: str
    subject: Subject
    folder: Path
    batch_size: int
    done: set[int] = field(default_factory=set)
    finished: bool = False

    def part(self, number: int) -> Path:
        """Where the answers on a part of the split are."""
        return self.folder / PARTS / f"{number}.pt"

    def same_pass(self, other: One) -> bool:
        """Return whether both networks can see the same batches."""
        mine, theirs = self.subject, other.subject
        return (
            mine.data == theirs.data
            and mine.trained.preprocessing == theirs.trained.preprocessing
            and mine.protocol == theirs.protocol
            and mine.classes == theirs.classes
        )


def evaluate_several(configs: Sequence[EvalConfig]) -> int:
    """Evaluate each of these networks; every process of the evaluation calls this.

    Args:
        configs: settings of each, with the same `trainer` and `runs`.

    Returns:
        The exit code: 1 if a network failed, otherwise 0.
    """
    with gather(configs[0].trainer) as team:
        if not team.leads:
            team.follow()
        several = Several(configs, team)
        with doing(f"in the evaluation; {GO_ON}"):
            several.evaluate()
        if team.leads:
            several.conclude()
    return 1 if several.failed and team.leads else 0


class Several:
    """The evaluation of several networks.

    Args:
        configs: settings of each.
        team: processes of the evaluation.

    Attributes:
        failed: why a network failed, by its name.
        ones: those whose weights and data could be loaded.
    """

    def __init__(self, configs: Sequence[EvalConfig], team: Team) -> None:
        self.team = team
        self.trainer, self.runs = configs[0].trainer, Path(configs[0].runs)
        self.failed: dict[str, str] = {}
        self.ones: list[One] = []
        subjects = self._loaded(configs)
        if team.leads:
            team.call(self.runs, False, GO_ON)
        self.failed = _of_rank_0(self.failed, team)
        for name, subject in subjects.items():
            if name not in self.failed:
                self.ones.append(self._begun(name, subject))

    def _loaded(self, configs: Sequence[EvalConfig]) -> dict[str, Subject]:
        """Load networks and data; images that several networks are evaluated on only once."""
        splits: list[tuple[DataConfig, Split]] = []

        def load(data: DataConfig) -> Split:
            known = [split for other, split in splits if other == data]
            if not known:
                splits.append((data, load_test(data)))
            return known[0] if known else splits[-1][1]

        subjects = {}
        for config in configs:
            name = f"run={config.run}" if config.run else f"checkpoint={config.checkpoint}"
            if config.model is not None:
                name = f"model={config.model.name}"
            with self._failing(name):
                subjects[name] = prepared(config, self.team.accelerator, load)
        return subjects

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """Note a user's mistake that has to do with one network, and go on with the others."""
        try:
            yield
        except UserError as error:
            self._fail(name, str(error))
        except OSError as error:
            self._fail(name, file_error(error))

    def _fail(self, name: str, line: str) -> None:
        self.failed[name] = line
        if self.team.leads:
            log.error(f"{name}: {line}; the others go on")

    def _begun(self, name: str, subject: Subject) -> One:
        """Make the folder of an evaluation, or open one that `resume=auto` goes on with."""
        one = One(name, subject, Path(), subject.protocol.batch_size)
        if self.team.leads:
            settings = settings_of(subject, self.team.accelerator)
            before = self._before(subject, settings) if subject.config.resume else None
            if before is None:
                one.folder = make_run_folder(str(self.runs), subject.folder_name(), subject.config, suffix="-eval")
                _write_settings(one, settings)
            else:
                one.folder, one.batch_size = before
                one.finished = (one.folder / RESULT_FILE).exists()
                if not one.finished:
                    reopen_run_folder(one.folder)
                    starts = enumerate(parts_of(len(subject.split)))
                    one.done = {number for number, part in starts if Part.read(one.part(number), len(part))}
            stop_writing()  # each log.txt is to hold what has to do with its own network
        one.folder, one.batch_size, one.done, one.finished = _of_rank_0(
            (one.folder, one.batch_size, one.done, one.finished), self.team
        )
        return one

    def _before(self, subject: Subject, settings: dict[str, Any]) -> tuple[Path, int] | None:
        """Return the newest folder of an evaluation with these settings, and the batch size of its answers."""
        for file in sorted((self.runs / subject.folder_name()).glob(f"*/{SETTINGS_FILE}"), reverse=True):
            try:
                found = read_json(file)
            except UserError:
                continue
            if found.get("settings") == settings:
                return file.parent, int(found["batch_size"])
        return None

    def evaluate(self) -> None:
        """Evaluate all networks, those together that can see the same batches."""
        for one in self.ones:
            if one.finished:
                log.info(f"{one.name}: its record is there: {one.folder / RESULT_FILE}")
        waiting = [one for one in self.ones if not one.finished]
        while waiting:
            group = [one for one in waiting if one.same_pass(waiting[0])]
            waiting = [one for one in waiting if one not in group]
            waiting += self._together(group)

    def _together(self, group: list[One]) -> list[One]:
        """Evaluate networks that see the same batches; return those that have to begin again with smaller ones."""
        subject = group[0].subject
        if len(group) > 1:
            log.info(f"{len(group)} networks see each picture together: {', '.join(one.name for one in group)}")
        evaluators = {one.name: _evaluator(one) for one in group}
        for one in group:
            with self._logged(one):
                tell_of(one.subject, self.team, one.folder)
        progress = ProgressBar(self.trainer.progress)
        tester = build.build_trainer(self.team, self.runs, subject.protocol.precision, [progress])
        again: list[One] = []
        for number, images in enumerate(parts_of(len(subject.split))):
            going = [one for one in group if number not in one.done and one.name not in self.failed]
            going = [one for one in going if one not in again]
            if not going:
                continue
            part = subject.split.subset(images)
            for one in going:
                evaluators[one.name].split = part
            module = SeveralEvaluators({one.name: evaluators[one.name] for one in going})
            how = (subject.trained.preprocessing, subject.protocol, subject.decoder, self.trainer.workers)
            tester.test(module, datamodule=EvalData(part, *how), verbose=False)
            for one in going:
                if one.name in module.failed:
                    self._fail(one.name, module.failed[one.name])
                elif not self._kept(one, number, module):
                    again.append(one)
        for one in group:
            evaluators[one.name].trainer = tester  # which it lacks if all its parts were on the disk
            if self.team.leads and one not in again and one.name not in self.failed:
                self._finish(one, evaluators[one.name])
        return again

    def _kept(self, one: One, number: int, module: SeveralEvaluators) -> bool:
        """Keep the answers on a part; return False if others had another batch size, for which no record stands."""
        smallest = min(module.sizes[one.name])
        begins = not one.done or one.batch_size == smallest
        if one.batch_size != smallest:
            one.batch_size = smallest
            if self.team.leads:
                shutil.rmtree(one.folder / PARTS, ignore_errors=True)
                _write_settings(one, settings_of(one.subject, self.team.accelerator))
        if not begins or len(module.sizes[one.name]) > 1:
            one.done = set()
            log.info(f"{one.name}: begins again with protocol.batch_size={smallest}, so that its record has only one")
            return False
        one.done.add(number)
        if self.team.leads:
            one.part(number).parent.mkdir(exist_ok=True)
            Part.of(module.by_name[one.name]).write(one.part(number))
        return True

    def _finish(self, one: One, evaluator: Evaluator) -> None:
        """Write the record of a network that has answered on every part."""
        split = one.subject.split
        read = [Part.read(one.part(number), len(part)) for number, part in enumerate(parts_of(len(split)))]
        parts = [part for part in read if part is not None]
        evaluator.split = split
        with self._failing(one.name), self._logged(one):
            join(evaluator, parts)
            log.info(f"{one.name}:")
            if not one.subject.config.force:
                check_score(evaluator)
            record(one.subject, evaluator, one.folder)
            one.finished = True
            shutil.rmtree(one.folder / PARTS)

    @contextmanager
    def _logged(self, one: One) -> Iterator[None]:
        """Write log lines also to the `log.txt` of a network."""
        if self.team.leads:
            write_to(one.folder)
        try:
            yield
        finally:
            stop_writing()

    def conclude(self) -> None:
        """Show the errors of all networks, the best first, and say which failed."""
        finished = [one for one in self.ones if one.finished]
        results = {one.name: read_json(one.folder / RESULT_FILE) for one in finished}
        ks = sorted({k for result in results.values() for k in telling(len(result["class_names"]))})
        heads = [f"top-{k} error (%)" for k in ks]
        rows = [
            [one.name, *(f"{results[one.name][f'top{k}_error']:.2f}" for k in ks), str(one.folder)]
            for one in sorted(finished, key=lambda one: float(results[one.name]["top1_error"]))
        ]
        if rows:
            show_table(None, ["network", *heads, "record in"], rows, right=heads)
        for name, line in self.failed.items():
            say(f"failed: {name}: {line}", sys.stderr)
        log.info(f"evaluated: {len(finished)} of {len(finished) + len(self.failed)}")


def parts_of(images: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the positions of the images of each part of a split."""
    return [np.arange(start, min(start + PART, images)) for start in range(0, images, PART)]


def settings_of(subject: Subject, accelerator: str) -> dict[str, Any]:
    """Return all that the answers of a network depend on, and what its record says of it; fit for JSON."""
    settings = {
        "network": subject.trained.as_plain(),
        "weights": weights_sha256(subject.network.state_dict()),
        "moment": subject.moment and dict(vars(subject.moment)),
        "best_on_validation": subject.best,
        "data": {"name": subject.data.name, "fingerprint": subject.split.fingerprint(), "decoder": subject.decoder},
        "among": subject.among and list(subject.among),
        "protocol": dict(vars(subject.protocol)),
        "device": accelerator,
        "images_of_a_part": PART,
        "versions": {package: metadata.version(package) for package in PACKAGES},
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    return plain


def _write_settings(one: One, settings: dict[str, Any]) -> None:
    write_json(one.folder / SETTINGS_FILE, {"settings": settings, "batch_size": one.batch_size})


def _evaluator(one: One) -> Evaluator:
    subject = one.subject
    protocol = replace(subject.protocol, batch_size=one.batch_size)
    return Evaluator(subject.network, subject.split, protocol, subject.among)


def _of_rank_0(value: Value, team: Team) -> Value:
    """Return the value that rank 0 has."""
    if not team.distributed:
        return value
    said = [value]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]
