"""Experiments beside their committed records: a line of the results for each network that an experiment trains.

`configs/experiment/NAME.yaml` says what is run. The record of each run, its `result.json` as it is, is committed as
`benchmarks/results/experiments/NAME/seed0.json`; where an experiment sweeps more than the seed, the other values come
first: `lenet5-seed0.json`. A record of other settings than those of the experiment today is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.comparison.records import Record, Row, mean_row
from harness.comparison.settings import TABLES, reported_epoch
from harness.config.commands import TrainConfig
from harness.config.compose import compose
from harness.config.fields import declarations
from harness.config.files import describe, remarks
from harness.errors import UserError
from harness.evaluation.published import SPLITS, published_beside
from harness.run.files import read_json
from models.catalogue import MODELS, Published

BEST = "best_on_validation"  # the epoch that a run with patience reports
NOT_RUN = "not run here"  # begins a paragraph of an experiment that says why
OF_A_MACHINE = ("root", "download")  # settings of data that no record holds


@dataclass(frozen=True)
class Line:
    """A network that an experiment trains, once for each seed.

    Attributes:
        experiment: name of the experiment.
        label: the network in words.
        command: what trains it with every seed.
        config: of its first seed.
        seeds: those that the experiment has.
        records: of the seeds that have been run.
        row: their mean; None without any.
        published: what `published_beside` says of the mean; without records, what it will stand beside.
        state: empty if all seeds have been run, otherwise how far it is, such as `not run here`.
    """

    experiment: str
    label: str
    command: str
    config: TrainConfig
    seeds: tuple[int, ...]
    records: tuple[Record, ...]
    row: Row | None
    published: Mapping[str, Any] | None
    state: str


@dataclass(frozen=True)
class Section:
    """Lines that belong into one table, and published errors of the same paper and data that nothing here runs."""

    title: str
    lines: tuple[Line, ...]
    not_run: tuple[Published, ...]


def lines_of(experiment: str, jobs: Sequence[Sequence[str]], folder: Path) -> list[Line]:
    """Return a line for each network of an experiment.

    Args:
        experiment: its name.
        jobs: the words of its runs; the first names the experiment, and `seed=N` is among the others.
        folder: where the folder with its records is.

    Raises:
        UserError: a record is not of one of these jobs, or was made with other settings.
    """
    seeds_of: dict[tuple[str, ...], list[int]] = {}
    for _, *words in jobs:
        (seed,) = (word.removeprefix("seed=") for word in words if word.startswith("seed="))
        others = tuple(word for word in words if not word.startswith("seed="))
        seeds_of.setdefault(others, []).append(int(seed))
    unknown = {path.name for path in (folder / experiment).glob("*")}
    lines = []
    for others, seeds in seeds_of.items():
        values = [word.partition("=")[2] for word in others]
        config = compose("train", [f"experiment={experiment}", *others, f"seed={seeds[0]}"])
        paths = {seed: folder / experiment / ("-".join([*values, f"seed{seed}"]) + ".json") for seed in seeds}
        records = tuple(_read(path, config, seed) for seed, path in paths.items() if path.name in unknown)
        unknown -= {path.name for path in paths.values()}
        lines.append(_line(experiment, " ".join(values), config, seeds, records))
    if unknown:
        raise UserError(f"{folder / experiment / min(unknown)}: no run of experiment={experiment} has this name")
    return lines


def _read(path: Path, config: TrainConfig, seed: int) -> Record:
    record = Record(path, read_json(path))
    differing = differences(record.content, config, seed)
    if differing:
        raise UserError(f"{path}: not a record of its experiment, {'; '.join(differing)}; run it again")
    return record


def _line(experiment: str, swept: str, config: TrainConfig, seeds: Sequence[int], records: tuple[Record, ...]) -> Line:
    if len({record.settings.key for record in records}) > 1:
        raise UserError(f"{records[0].path.parent}: its runs differ in more than the seed, such as device or torch")
    title = describe("experiment", experiment)
    name = swept or title.replace(f" on {_name_of(config.data.name)}", "").rstrip(",")
    row = mean_row(name, records) if records else None
    state = NOT_RUN if NOT_RUN in remarks("experiment", experiment) else "not measured yet"
    if records:
        state = "" if len(records) == len(seeds) else f"{len(records)} of {len(seeds)} seeds"
    published = row.published if row else published_beside(_before_it_ran(config))
    command = f"python train.py -m experiment={experiment}"
    return Line(experiment, name, command, config, tuple(seeds), records, row, published, state)


def sections_of(lines: Sequence[Line]) -> list[Section]:
    """Divide lines into tables: one for each paper and data, and one for each experiment with several networks.

    Tables of which nothing was run here come last.
    """
    networks = Counter(line.experiment for line in lines)
    found: dict[str, list[Line]] = {}
    for line in sorted(lines, key=lambda line: networks[line.experiment] > 1):
        entry, data = MODELS[line.config.model.name], _name_of(line.config.data.name)
        alone = networks[line.experiment] == 1
        title = f"{data}: {entry.paper}, {entry.year}" if alone else describe("experiment", line.experiment)
        found.setdefault(title, []).append(line)
    sections = [_section(title, members) for title, members in found.items()]
    return sorted(sections, key=lambda section: all(line.state == NOT_RUN for line in section.lines))


def _name_of(data: str) -> str:
    """The name of a data set for people: `MNIST`."""
    return describe("data", data).partition(",")[0]


def _section(title: str, lines: Sequence[Line]) -> Section:
    questions = {record.question for line in lines for record in line.records}
    if len(questions) > 1:
        raise UserError(f"{title}: its records are of different images or protocols: {sorted(questions)}")
    papers = {MODELS[line.config.model.name].paper for line in lines}
    data, _ = SPLITS.get(lines[0].config.data.name, ("", 0))
    listed = (row for entry in MODELS.values() if entry.paper in papers for row in entry.published if row.data == data)
    shown = {line.published["source"] for line in lines if line.published}
    alone = len({line.experiment for line in lines}) == len(lines)  # each network has an experiment of its own
    not_run = {row.source: row for row in listed if alone and ": " in row.source and row.source not in shown}
    ordered = sorted(lines, key=_place) if alone else lines
    return Section(title, tuple(ordered), tuple(not_run.values()))


def _place(line: Line) -> float:
    """The order of LeCun's Figure 9: from the largest published error to the smallest."""
    return -line.published["top1_error"] if line.published else 0.0


def differences(content: Mapping[str, Any], config: TrainConfig, seed: int) -> list[str]:
    """Return a line for each setting in which a record differs from a config: `recipe.epochs is 10, not 20`.

    Settings that are newer than the record had their defaults.

    Args:
        content: of a `result.json`.
        config: of the run that should have written it, but for the seed.
        seed: the seed that the run should have had.
    """
    planned, recorded = _settings(_before_it_ran(config, seed)), _settings(content)
    groups = {"model": config.model, "data": config.data, "protocol": config.protocol, "recipe": config.recipe}
    defaults = {
        f"{group}.{name}": declared.default
        for group, values in groups.items()
        for name, declared in declarations(type(values)).items()
    }
    lines = []
    for name in sorted(planned.keys() | recorded.keys()):
        is_now, was = planned.get(name), recorded.get(name, defaults.get(name))
        if is_now != was:
            lines.append(f"{name} is {json.dumps(was)}, not {json.dumps(is_now)}")
    return lines


def _before_it_ran(config: TrainConfig, seed: int | None = None) -> dict[str, Any]:
    """What the record of a run holds of its config, and the widest interval."""
    recipe, data = config.recipe, vars(config.data)
    content = {
        "model": {"name": config.model.name, "options": config.model.options()},
        "data": {"name": config.data.name},
        "protocol": vars(config.protocol),
        "seen": SPLITS.get(config.data.name, ("", 0))[1],
        "top1_error_interval_95": (0, 100),
        "top5_error_interval_95": (0, 100),
        "weights": {"file": f"{BEST}.ckpt" if recipe.patience else "last.ckpt"},
        "training": {"seed": seed, "epochs": recipe.epochs, "max_batches": None, "recipe": vars(recipe)},
        "training_data": {key: value for key, value in data.items() if key not in OF_A_MACHINE},
        "preprocessing": {"size": data.get("image_size"), "resize": data.get("resize")},
        "pretrained": config.weights and {"name": config.weights},
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a record by name, `recipe.epochs`."""
    training = content["training"] or {}
    groups = {
        "model": {"name": content["model"]["name"], **content["model"]["options"]},
        "data": content["training_data"] or {},
        "protocol": {key: value for key, value in content["protocol"].items() if key != "batch_size"},
        "recipe": {key: value for key, value in training.get("recipe", {}).items() if key not in TABLES},
    }
    return {
        "seed": training.get("seed"),
        "trainer.max_epochs": training.get("epochs"),
        "trainer.max_batches": training.get("max_batches"),
        "weights": (content["pretrained"] or {}).get("name"),
        "the data of the test": content["data"]["name"],
        "the epoch of the test": reported_epoch(content["weights"], training) if training else None,
        **{f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()},
    }
