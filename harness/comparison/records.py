"""Compare models by the records of their runs: rows, intervals and paired tests. No torch, no logs.

Each (data, split, protocol) is a comparison of its own, because errors of different ones cannot be compared. Within a
comparison, runs that differ only in the seed are one row: their mean, with the standard deviation over seeds; see
`harness.comparison.settings`. The interval is Wilson's for the number of images, so it describes the size of the test
split, not the seeds. All folds of a cross-validation together count as one run over all images; if there is only one
seed, the deviation is over the folds.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.comparison.paired import Paired, paired_tests, read_right
from harness.comparison.settings import Settings, labels, settings_of
from harness.config.data import DECODERS
from harness.config.fields import written
from harness.config.protocol import PRECISIONS
from harness.errors import UserError
from harness.evaluation.intervals import wilson
from harness.evaluation.published import published_beside
from harness.evaluation.schema import READABLE_RESULTS, RESULT_SCHEMA, TIMING_FILE, telling
from harness.run.files import RESULT_FILE, read_json, sha256_of_file


@dataclass(frozen=True)
class Record:
    """The content of a `result.json`, and the path of the file."""

    path: Path
    content: dict[str, Any]

    @property
    def seed(self) -> int | None:
        """Seed of the training run; None for pretrained weights."""
        training = self.content["training"]
        return int(training["seed"]) if training else None

    @cached_property
    def settings(self) -> Settings:
        """Everything except the seed that can change the error."""
        return settings_of(self.content)

    @property
    def question(self) -> tuple[str, ...]:
        """What must be equal for two error rates to be comparable."""
        data = self.content["data"]
        split = data["split"] if self.fold is None else f"fold {self.fold[0]} of {self.fold[1]}"
        name = " ".join(filter(None, (data["name"], data.get("repo"))))
        return name, split, data["fingerprint"], self.protocol

    @property
    def protocol(self) -> str:
        """Name of the protocol, with its scales, and settings that change the scores slightly: precision, decoder."""
        protocol, decoder = self.content["protocol"], self.content["data"].get("decoder", DECODERS[0])
        unusual = {
            protocol["precision"]: protocol["precision"] != PRECISIONS[0],
            "compiled": protocol.get("compile", False),
            f"decoder={decoder}": decoder != DECODERS[0],
            f"scales={written(protocol.get('scales'))}": bool(protocol.get("scales")),
        }
        return " ".join([protocol["name"], *(word for word, said in unusual.items() if said)])

    @property
    def fold(self) -> tuple[int, int] | None:
        """Number of the test fold, from 0, and number of folds; None without a cross-validation."""
        data = self.content["data"]
        return (data["fold"], data["folds"]) if "folds" in data else None

    @property
    def predictions(self) -> Path:
        """Path of the file with the predictions."""
        return self.path.with_name(self.content["predictions"]["file"])

    @property
    def evaluated(self) -> str:
        """Device, and images at once, of the evaluation: they move the last bits of a probability and no count."""
        device, batch = self.content.get("device", "device not recorded"), self.content["protocol"].get("batch_size")
        return f"{device} by {batch}"

    @property
    def images_per_second(self) -> float | None:
        """How fast the evaluation was, by the file beside the record; None if it is not there or damaged."""
        try:
            rate = read_json(self.path.with_name(TIMING_FILE))["images_per_second"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return float(rate) if type(rate) in (int, float) and 0 < rate < math.inf else None

    @cached_property
    def right(self) -> tuple[str, npt.NDArray[np.bool_]]:
        """What `read_right` returns of the predictions."""
        return read_right(self.predictions)


@dataclass(frozen=True)
class Folds(Record):
    """All folds of a cross-validation as one record over all images."""

    folds: tuple[Record, ...] = ()

    @cached_property
    def settings(self) -> Settings:
        """Settings that the folds have in common."""
        return self.folds[0].settings

    @cached_property
    def right(self) -> tuple[str, npt.NDArray[np.bool_]]:
        """The same of all folds, one behind the other."""
        ids, right = zip(*(fold.right for fold in self.folds), strict=True)
        return " ".join(ids), np.concatenate(right)


@dataclass(frozen=True)
class Row:
    """Runs that differ only in the seed; errors, intervals and deviations over seeds (None for one) in percent.

    `model` is the label of the row: the model, and the settings in which the rows of the comparison differ. `settings`
    is a SHA-256 of everything that can change the error. `published` is what `published_beside` says of the mean.
    `classes` is their number; None if the records do not say it. `top1_seeds` and `top5_seeds` are the errors of the
    runs, or of the folds of the only one. `multiply_adds`, of one image, and `images_per_second`, the median of the
    evaluations, are None where they are not known. `evaluated` says on which devices and in which batches. `runs` are
    the records themselves, those of folds one by one.
    """

    model: str
    settings: str
    parameters: int
    images: int
    seeds: tuple[int, ...]
    top1_error: float
    top1_interval: tuple[float, float]
    top1_deviation: float | None
    top5_error: float
    top5_interval: tuple[float, float]
    top5_deviation: float | None
    published: dict[str, Any] | None
    classes: int | None
    top1_seeds: tuple[float, ...]
    top5_seeds: tuple[float, ...]
    multiply_adds: int | None
    images_per_second: float | None
    evaluated: str
    runs: tuple[Record, ...]


@dataclass(frozen=True)
class Comparison:
    """All models that were evaluated on the same images by the same protocol, and a line for each record left out."""

    data: str
    split: str
    protocol: str
    rows: tuple[Row, ...]
    tests: tuple[Paired, ...]
    left_out: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name of the comparison: data, split and protocol."""
        return f"{self.data} {self.split}, {self.protocol}"

    @property
    def evaluated_alike(self) -> bool:
        """Whether all rows were evaluated on the same device in batches of the same size."""
        return len({row.evaluated for row in self.rows}) == 1

    @property
    def ks(self) -> tuple[int, ...]:
        """The k of the top-k errors that say something of these data."""
        return max(telling(row.classes) for row in self.rows)


def find_records(places: Iterable[str]) -> tuple[list[Record], list[str]]:
    """Search folders or glob patterns for records; return them, and a line for each file that was passed over."""
    found: dict[tuple[object, ...], list[Record]] = {}
    passed_over = []
    for path in sorted(path for place in places for path in _record_files(place)):
        try:
            record = Record(path, json.loads(path.read_text(encoding="utf-8")))
            if record.content["schema"] != RESULT_SCHEMA or record.content["version"] not in READABLE_RESULTS:
                passed_over.append(f"{path}: not a record of version {' or '.join(map(str, READABLE_RESULTS))}")
            elif record.content["training"] and record.content["training"]["max_batches"] is not None:
                passed_over.append(f"{path}: a run cut short by trainer.max_batches")
            elif not record.predictions.is_file():  # a pipe of this name would be waited for
                passed_over.append(f"{path}: its file of predictions is missing")
            elif sha256_of_file(record.predictions) != record.content["predictions"]["sha256"]:
                passed_over.append(f"{path}: its file of predictions has changed since the record was written")
            else:
                _check(record)
                if len(record.right[1]) != record.content["seen"]:
                    raise ValueError(f"{len(record.right[1])} predictions for {record.content['seen']} images")
                same = found.setdefault((record.question, record.seed, *_outcome(record)), [])
                if all(other.settings.key != record.settings.key for other in same):
                    same.append(record)  # an evaluation of a run repeats the run's own record
        except Exception as error:  # a damaged file can fail in any way while it is read
            passed_over.append(f"{path}: damaged ({type(error).__name__}: {error})")
    return [record for same in found.values() for record in _that_know_most(same)], passed_over


def _outcome(record: Record) -> tuple[str, str, float]:
    """The weights and their answers: an evaluation on another device, or in other batches, may repeat them."""
    answers = hashlib.sha256(record.right[1].tobytes()).hexdigest()
    return record.content["weights"]["sha256"], answers, record.content["top5_error"]


def read_record(path: Path) -> Record:
    """Read a `result.json` alone; its predictions need not be there.

    Raises:
        UserError: the file is damaged, or of another version.
    """
    record = Record(path, read_json(path))
    try:
        if record.content["schema"] != RESULT_SCHEMA or record.content["version"] not in READABLE_RESULTS:
            raise ValueError(f"its schema is not {RESULT_SCHEMA} {' or '.join(map(str, READABLE_RESULTS))}")
        _check(record)
    except Exception as error:  # a damaged file can fail in any way while it is read
        raise UserError(f"{path}: not a record that can be used ({type(error).__name__}: {error})") from error
    return record


def _check(record: Record) -> None:
    """Raise any exception if a comparison could not use the record."""
    content = record.content
    errors = [content["top1_error"], content["top5_error"]]
    counts = [content["seen"], content["model"]["parameters"]]
    if not all(type(number) in (int, float) and 0 <= number <= 100 for number in errors):
        raise ValueError(f"errors of {errors} percent")
    if not all(type(number) is int and number > 0 for number in counts):
        raise ValueError(f"{counts} images and parameters")
    if type(content["model"].get("multiply_adds", 1)) is not int:
        raise ValueError(f"{content['model']['multiply_adds']} multiply-adds")
    names = [content["model"]["name"], *record.question]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"names of {names}")
    mean_row("", [record])


def _that_know_most(same: Sequence[Record]) -> Sequence[Record]:
    """Drop records of older versions if a newer record of the same result has more settings."""
    return [record for record in same if not record.settings.older] or same


def _record_files(place: str) -> Iterable[Path]:
    for root in [place] if Path(place).exists() else glob(place):  # noqa: PTH207  # Path.glob takes no absolute pattern
        files = [Path(root)] if Path(root).is_file() else Path(root).rglob(RESULT_FILE)
        yield from (file for file in files if file.is_file())


def _pooled(records: Sequence[Record]) -> list[Record]:
    """Join the folds of each complete cross-validation to one record; keep single folds if one is missing or double."""
    validations: dict[tuple[int, tuple[object, ...]], list[Record]] = {}
    pooled = [record for record in records if record.fold is None]
    for record in records:
        if record.fold is not None:
            _, folds = record.fold
            same = (record.content["data"]["division"], record.question[3:], record.settings.key, record.seed)
            validations.setdefault((folds, same), []).append(record)
    for (folds, _), parts in validations.items():
        parts.sort(key=lambda part: part.fold or (0, 0))
        each_once = [part.fold for part in parts] == [(fold, folds) for fold in range(len(parts))]
        pooled += [_whole(parts)] if each_once and len(parts) == folds else parts
    return pooled


def _whole(parts: Sequence[Record]) -> Folds:
    """Join all folds of the same settings and seed, in order; the fingerprint is that of the division into folds."""
    first = parts[0].content
    sums = {key: sum(part.content[key] for part in parts) for key in ("seen", "correct_top1", "correct_top5")}
    errors = {f"top{k}_error": 100 * (1 - sums[f"correct_top{k}"] / sums["seen"]) for k in (1, 5)}
    data = {key: value for key, value in first["data"].items() if key not in ("fold", "folds")}
    data |= {"split": f"{len(parts)} folds", "fingerprint": data["division"]}
    return Folds(parts[0].path, {**first, **sums, **errors, "data": data}, tuple(parts))


def compare(records: Sequence[Record]) -> list[Comparison]:
    """Return a comparison for each data, split and protocol, with rows in order of their top-1 error."""
    records = _pooled(records)
    questions = sorted({record.question for record in records})
    return [_comparison([record for record in records if record.question == question]) for question in questions]


def _comparison(records: Sequence[Record]) -> Comparison:
    records, left_out = _of_the_same_images(records)
    groups, doubled = _grouped(records)
    names = labels([runs[0].settings for runs in groups])
    rows = sorted(zip(names, groups, strict=True), key=lambda named: (_error(named[1]), named[0]))
    data, split, _, protocol = records[0].question
    tests = paired_tests({name: {run.seed: run.right[1] for run in runs} for name, runs in rows})
    return Comparison(data, split, protocol, tuple(mean_row(*row) for row in rows), tuple(tests), (*left_out, *doubled))


def _of_the_same_images(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the records whose predictions are of the images that most are of, and a line for each other one."""
    (images, _), *_ = Counter(record.right[0] for record in records).most_common(1)
    others = [record for record in records if record.right[0] != images]
    lines = [f"{record.path}: its predictions are of other images than those of the other records" for record in others]
    return [record for record in records if record.right[0] == images], lines


def _error(runs: Sequence[Record]) -> float:
    return statistics.mean(float(run.content["top1_error"]) for run in runs)


def _grouped(records: Sequence[Record]) -> tuple[list[list[Record]], list[str]]:
    """Return the runs of each row, in order of their seeds, each seed once; and a line for each record left out.

    If a seed occurs twice, runs that differ in a setting that changes only the last bits become rows of their own. If
    their settings are all equal but their predictions differ, the first one by its path is used.
    """
    groups: list[list[Record]] = []
    for runs in _by([*records], lambda record: record.settings.key):
        groups += [runs] if _each_once(runs) else _by(runs, lambda record: record.settings.exact_key)
    left_out = []
    for group in groups:
        kept: dict[int | None, Record] = {}
        for record in sorted(group, key=lambda record: record.path):
            first = kept.setdefault(record.seed, record)
            if first is not record:
                left_out.append(
                    f"{record.path}: its predictions differ from those of {first.path}, although settings and seed are "
                    "the same; choose the records to compare with runs="
                )
        group[:] = sorted(kept.values(), key=lambda record: -1 if record.seed is None else record.seed)
    return groups, left_out


def _each_once(runs: Sequence[Record]) -> bool:
    return len({run.seed for run in runs}) == len(runs)


def _by(records: Sequence[Record], key: Callable[[Record], str]) -> list[list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return list(groups.values())


def mean_row(label: str, runs: Sequence[Record]) -> Row:
    """Return the row of runs that differ only in the seed."""
    contents = [run.content for run in runs]
    images = contents[0]["seen"]

    parts = runs[0].folds if len(runs) == 1 and isinstance(runs[0], Folds) else runs

    def summary(k: int) -> tuple[float, tuple[float, float], float | None]:
        mean = statistics.mean(content[f"top{k}_error"] for content in contents)
        deviation = statistics.stdev(errors(k)) if len(parts) > 1 else None
        return mean, wilson(mean * images / 100, images), deviation

    def errors(k: int) -> tuple[float, ...]:
        return tuple(part.content[f"top{k}_error"] for part in parts)

    seeds = tuple(run.seed for run in runs if run.seed is not None)
    parameters, settings = contents[0]["model"]["parameters"], runs[0].settings.key
    top1, top5 = summary(1), summary(5)
    intervals = {"top1_error_interval_95": top1[1], "top5_error_interval_95": top5[1]}
    published = published_beside({**contents[0], **intervals})  # a mean's verdict need not be that of each seed
    classes = len(contents[0].get("class_names", ())) or None
    rates = [rate for part in parts if (rate := part.images_per_second) is not None]
    evaluated = ", ".join(sorted({part.evaluated for part in parts}))
    return Row(
        label,
        settings,
        parameters,
        images,
        seeds,
        *top1,
        *top5,
        published,
        classes,
        top1_seeds=errors(1),
        top5_seeds=errors(5),
        multiply_adds=contents[0]["model"].get("multiply_adds"),
        images_per_second=statistics.median(rates) if rates else None,
        evaluated=evaluated,
        runs=tuple(part for run in runs for part in (run.folds if isinstance(run, Folds) else [run])),
    )
