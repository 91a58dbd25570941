"""Find the run to resume: the one that `resume=` names, or the newest unfinished one with the same settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.config.commands import TrainConfig
from harness.config.compose import schema_of
from harness.config.data import DATA_SCHEMAS
from harness.config.files import CONFIG_FILE
from harness.config.fit import keys_given
from harness.config.model import MODEL_SCHEMAS
from harness.config.plain_yaml import read_yaml
from harness.config.recipe import RECIPE_SCHEMAS
from harness.config.renamed import renamed
from harness.config.trainer import TrainerConfig
from harness.errors import UserError
from harness.run.files import RESULT_FILE

AUTO = "auto"
EVALUATION = "-eval"  # marks the folder of an evaluation, which is beside the folders of runs
LIMITS = ("max_epochs", "max_batches")  # the settings of `trainer` that change the steps of a run
OF_A_MACHINE = ("name", "progress", "threads", "workers", "checkpoint_every")  # those that make no other row


def continued(config: TrainConfig) -> tuple[TrainConfig, Path | None]:
    """Return the config to train with, and the folder of the run to resume; None if `resume=auto` finds none.

    Raises:
        UserError: the folder holds no run or a finished one, or a setting may not change in the middle of a run.
    """
    if config.resume == AUTO:
        folder = _newest_unfinished(config)
        before = config if folder is None else read_config(folder / CONFIG_FILE)
        return dataclasses.replace(config, trainer=_trainer(config, before), track=_track(config, before)), folder
    changed = [o for o in config.overrides if o.partition("=")[0].partition(".")[0] != "trainer"]
    foreign = [override for override in changed if not override.startswith(("resume=", "track="))]
    if foreign:
        raise UserError(
            f"{foreign[0]}: a run goes on with its own settings; with resume= only trainer and track may be set"
        )
    folder = Path(str(config.resume))
    before = read_config(folder / CONFIG_FILE)
    if (folder / RESULT_FILE).exists():
        raise UserError(f"resume={folder}: this run is finished; its record is {folder / RESULT_FILE}")
    return dataclasses.replace(before, trainer=_trainer(config, before), track=_track(config, before)), folder


def _track(config: TrainConfig, before: TrainConfig) -> str | None:
    """Return the tracker of a resumed run: its own, unless the command line names one."""
    return config.track if "track" in keys_given(config.overrides) else before.track


def _trainer(config: TrainConfig, before: TrainConfig) -> TrainerConfig:
    """Return the trainer settings of a resumed run: its own, changed by the command line, but always its own limits.

    Raises:
        UserError: the command line sets other limits, which would change the steps of the run.
    """
    given = keys_given(config.overrides)
    wanted, own = config.trainer, before.trainer
    for key in LIMITS:
        asked, began = getattr(wanted, key), getattr(own, key)
        if asked != began and (f"trainer.{key}" in given or asked is not None):
            said = f"trainer.{key}={_yaml(asked)}"
            if f"trainer.{key}" not in given:
                said = f"trainer={wanted.name}: sets {said}"
            raise UserError(f"{said}; this run began with {_yaml(began)}, and its steps cannot change: leave it out")
    if "trainer" in given:
        return dataclasses.replace(wanted, **{key: getattr(own, key) for key in LIMITS})
    keys = [key.removeprefix("trainer.") for key in given if key.startswith("trainer.")]
    return dataclasses.replace(own, **{key: getattr(wanted, key) for key in keys})


def _yaml(value: int | None) -> str:
    return "null" if value is None else str(value)


def _newest_unfinished(config: TrainConfig) -> Path | None:
    runs = Path(config.runs) / f"{config.model.name}-{config.data.name}"
    for folder in sorted(runs.glob("*/"), reverse=True):
        if (folder / RESULT_FILE).exists() or not (folder / CONFIG_FILE).exists() or EVALUATION in folder.name:
            continue
        if _same_run(read_config(folder / CONFIG_FILE), config):
            return folder
    return None


def earlier_runs(configs: Sequence[TrainConfig]) -> list[Path | None]:
    """Find for each config, of the jobs of a sweep, the run with the same settings: a finished one, or else the newest.

    Settings of `trainer` that could make another row of a table are the same, too, and no run is found twice.
    """
    places = {f"{config.runs}/{config.model.name}-{config.data.name}" for config in configs}
    known = {folder: before for place in places for folder in _runs_in(Path(place)) if (before := _readable(folder))}
    found: list[Path | None] = []
    for config in configs:
        same = [folder for folder, before in known.items() if folder not in found and _same_job(before, config)]
        found.append(max(same, key=lambda folder: ((folder / RESULT_FILE).exists(), folder.name), default=None))
    return found


def _runs_in(place: Path) -> Iterator[Path]:
    yield from (folder for folder in place.glob("*/") if (folder / CONFIG_FILE).exists())


def _readable(folder: Path) -> TrainConfig | None:
    """Return the config of a run; None for an evaluation, and for what an older version or a fault has left."""
    try:
        return None if EVALUATION in folder.name else read_config(folder / CONFIG_FILE)
    except UserError:
        return None


def _same_job(before: TrainConfig, config: TrainConfig) -> bool:
    free = [key for key in OF_A_MACHINE if f"trainer.{key}" not in keys_given(config.overrides)]
    trainer = dataclasses.replace(before.trainer, **{key: getattr(config.trainer, key) for key in free})
    return _same_run(before, config) and trainer == config.trainer


def _same_run(first: TrainConfig, second: TrainConfig) -> bool:
    """Return whether two configs describe the same run.

    Only `trainer` may differ, but for its limits, `track`, and the number of images that are evaluated at once.
    """
    limits = {key: getattr(first.trainer, key) for key in LIMITS}
    protocol = dataclasses.replace(first.protocol, batch_size=second.protocol.batch_size)
    free = {key: getattr(second, key) for key in ("trainer", "resume", "track")}
    same = dataclasses.replace(first, **free, protocol=protocol) == second
    return same and limits == {key: getattr(second.trainer, key) for key in LIMITS}


def read_config(path: Path) -> TrainConfig:
    """Read the config of an earlier run from the `config.yaml` in its folder.

    Raises:
        UserError: the file is missing or is not the config of a run.
    """
    content = _plain(path)
    try:
        plain = OmegaConf.create(content)
        if "overrides" not in plain:  # an older version wrote the file
            plain.recipe = renamed(plain.recipe)
        structured = OmegaConf.structured(TrainConfig)
        groups: dict[str, Any] = {"model": MODEL_SCHEMAS, "data": DATA_SCHEMAS, "recipe": RECIPE_SCHEMAS}
        for group, schemas in groups.items():
            keys = map(str, OmegaConf.select(plain, group, throw_on_missing=True))
            structured[group] = OmegaConf.structured(schema_of(list(keys), schemas.values()))
        config = OmegaConf.to_object(OmegaConf.merge(structured, plain))
    except (OmegaConfBaseException, LookupError, TypeError, ValueError, AttributeError) as error:
        said = f"{error}".splitlines()[0] if isinstance(error, UserError) else type(error).__name__
        raise UserError(f"{path}: damaged, or of another version of this program ({said})") from error
    assert isinstance(config, TrainConfig)
    return config


def _plain(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent}: not the folder of a run (it has no {path.name})")
    plain = read_yaml(path)
    if not isinstance(plain, dict):
        raise UserError(f"{path}: damaged, not settings with values")
    return plain
