"""The jobs of a sweep: every combination of the swept values, composed and checked before the first starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from harness.config.commands import CompareConfig, EvalConfig, TrainConfig
from harness.config.compose import check_words, compose, composing, quoted_path
from harness.config.files import own_sweep
from harness.config.mistakes import one_line
from harness.errors import UserError
from harness.run.files import RESULT_FILE
from harness.run.program import typed
from harness.run.resume import AUTO, earlier_runs
from harness.stories.check import check

Config = TrainConfig | EvalConfig | CompareConfig


@dataclass(frozen=True)
class Planned:
    """A job of a sweep.

    Attributes:
        words: its words.
        config: what they compose to.
        before: folder of an earlier run of the same settings, with which the job goes on; None without one.
        done: whether that run has a record, so that there is nothing to do.
    """

    words: tuple[str, ...]
    config: Config
    before: Path | None = None
    done: bool = False

    @property
    def name(self) -> str:
        """The words as the user reads them."""
        return " ".join(self.words)


def checked_jobs(command: str, overrides: list[str], extra_configs: str | None) -> list[Planned]:
    """Return the jobs of a sweep.

    Raises:
        UserError: a word cannot be read, or a job has a mistake.
    """
    check_words(overrides, command)
    goes_on = command == "train" and f"resume={AUTO}" in overrides
    try:
        words = jobs_of([word for word in overrides if not goes_on or word != f"resume={AUTO}"])
    except HydraException as error:
        raise UserError(one_line(error, command)) from error
    jobs = []
    for job in words:
        try:
            config = compose(command, job, extra_configs)
            check(config)
        except UserError as error:
            raise UserError(f"job {' '.join(job)}: {error}; no job was started") from error
        jobs.append(Planned(tuple(job), config))
    if not goes_on:
        return jobs
    before = earlier_runs([job.config for job in jobs if isinstance(job.config, TrainConfig)])
    return [
        replace(job, before=folder, done=folder is not None and (folder / RESULT_FILE).exists())
        for job, folder in zip(jobs, before, strict=True)
    ]


def jobs_of(overrides: list[str]) -> list[list[str]]:
    """Return the words of each job, unchecked: all combinations of what the user and an experiment sweep."""
    return [
        job
        for words in _combinations([quoted_path(word, sweep=True) for word in overrides])
        for job in _combinations(_with_own_sweep(words))
    ]


def _with_own_sweep(words: list[str]) -> list[str]:
    """Add the values that the experiment among these words sweeps, unless the words set them."""
    given = {word.partition("=")[0] for word in words}
    return [*words, *(f"{key}={values}" for key, values in own_sweep(words).items() if key not in given)]


def _combinations(overrides: list[str]) -> list[list[str]]:
    """Return the overrides of each job: every value of one swept key with every value of the others."""
    with composing():
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())
        parsed = parser.parse_overrides(overrides)
        interval = next((str(o.input_line) for o in parsed if o.is_interval_sweep()), None)
        if interval is not None:
            raise UserError(
                f"{interval}: {typed('python tools/tune.py')} searches an interval; a sweep takes values: a,b"
            )
        swept = [
            [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
            if o.is_sweep_override()
            else [str(o.input_line)]
            for o in parsed
        ]
    return [list(job) for job in itertools.product(*swept)]
