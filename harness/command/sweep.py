"""Run a sweep (`-m`): check every job before the first starts, run each in a process of its own, compare the records.

Its words are divided into those of its own (`jobs=`, `choose=`, `show=`, `hydra/launcher=`) and those of its jobs.
With `resume=auto` a job whose run has a record is not run again, and one whose run was cut off goes on.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.command.jobs import Job, run_at_once, run_job, stopped
from harness.command.launching import GROUP, SETTINGS, Launcher
from harness.command.plan import Planned, checked_jobs
from harness.comparison.choice import show_choices, the_folder
from harness.comparison.records import compare, find_records
from harness.comparison.tables import show
from harness.config.commands import SWEEP, CompareConfig, SweepConfig, TrainConfig
from harness.config.compose import as_word
from harness.config.data import FolderConfig
from harness.config.fit import keys_given
from harness.config.mistakes import one_line
from harness.errors import UserError
from harness.run import program
from harness.run.files import CHOOSING_VARIABLE, FOLDERS_VARIABLE, announced, new_folder
from harness.run.interruption import SIGNALS
from harness.run.machine import available_cores
from harness.run.printable import say

SWEEPS = "sweeps"  # folder beside those of runs, for what launchers write
_run_job = run_job  # tests run a job in their own process instead


def sweep(command: str, overrides: list[str], extra_configs: str | None) -> int:
    """Run every combination of the swept values, each in a new process, and compare the results.

    Returns:
        Exit code: 1 if a job failed, otherwise 0.
    """
    settings, launching, words = _divided(overrides, command)
    jobs = checked_jobs(command, words, extra_configs)
    _check_choice(settings, jobs, command)
    chooses = command == "train" and settings.show is None and _rows(jobs) > 1 and all(map(_validates, jobs))
    options = ["--config-dir", extra_configs] if extra_configs else []
    with TemporaryDirectory() as place:
        launcher = _launcher(launching, settings, jobs)
        folders = Path(place) if launcher is None else launcher.folder
        starting = [job for job in jobs if not job.done]
        threads = _share(len(starting) if launcher and launcher.here else settings.jobs, starting)
        variables = {CHOOSING_VARIABLE: "1"} if chooses else {}
        started = [
            Job(
                job.name,
                (*program.start(), *options, *_words_to_start(job, threads)),
                {**variables, FOLDERS_VARIABLE: str(folders / f"folders.{number}")},
                isinstance(job.config, TrainConfig) and job.before is None and job.config.resume is None,
            )
            for number, job in enumerate(starting)
        ]
        for job in jobs:
            if job.done:
                say(f"done before: {job.name}: {job.before}")
        failed = _run_jobs(started, settings.jobs, launcher)
        made = [folder for number in range(len(started)) for folder in announced(folders / f"folders.{number}")]
    before = [str(job.before) for job in jobs if job.done]
    _report(command, settings, [*before, *made], f"{len(jobs) - len(failed)} of {len(jobs)} jobs done")
    return 1 if failed else 0


def _divided(overrides: Sequence[str], command: str) -> tuple[SweepConfig, list[str], list[str]]:
    """Return the settings of the sweep, its words about a launcher, and the words of its jobs."""
    own = [word for word in overrides if word.partition("=")[0] in SWEEP]
    launching = [word for word in overrides if word.startswith((f"{GROUP}=", SETTINGS))]
    try:
        settings = OmegaConf.merge(OmegaConf.structured(SweepConfig), OmegaConf.from_dotlist(own))
        config = OmegaConf.to_object(settings)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error, command)) from error
    assert isinstance(config, SweepConfig)
    return config, launching, [word for word in overrides if word not in (*own, *launching)]


def _check_choice(settings: SweepConfig, jobs: Sequence[Planned], command: str) -> None:
    """Raise `UserError` if `choose=validation` cannot end in a choice."""
    if command != "train" and (settings.choose or settings.show):
        raise UserError(f"choose= and show= are for train.py: {command}.py measures on the test split alone")
    if settings.choose is None:
        return
    lacking = next((job for job in jobs if not _validates(job)), None)
    if lacking is not None:
        raise UserError(
            f"choose=validation: job {lacking.name} has no validation split; set data.validation above 0; no job was "
            "started"
        )
    names = list(dict.fromkeys(job.config.data.name for job in jobs if isinstance(job.config, TrainConfig)))
    if len(names) > 1:
        raise UserError(f"choose=validation: chooses among runs on the same images, not on data={','.join(names)}")


def _validates(job: Planned) -> bool:
    """Return whether a job holds images out for validation; a folder may have them ready, which is seen later."""
    data = None if isinstance(job.config, CompareConfig) else job.config.data
    return data is not None and (data.validation > 0 or isinstance(data, FolderConfig))


def _rows(jobs: Sequence[Planned]) -> int:
    """Return the number of rows that the table will have at most: runs that differ in the seed, or fold, are one."""
    alike = ("seed=", "data.fold=")
    return len({tuple(word for word in job.words if not word.startswith(alike)) for job in jobs})


def _launcher(words: Sequence[str], settings: SweepConfig, jobs: Sequence[Planned]) -> Launcher | None:
    if not words:
        return None
    if settings.jobs > 1:
        raise UserError(f"jobs={settings.jobs}: {words[0]} decides how many run at once; leave it out")
    place = Path(jobs[0].config.runs) / SWEEPS
    launcher = Launcher(words, place / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    launcher.folder = new_folder(launcher.folder)
    return launcher


def _share(at_once: int, jobs: Sequence[Planned]) -> int | None:
    """Return the number of threads of each process where several jobs run at once; None leaves it as it is."""
    at_once = min(at_once, len(jobs))
    devices = max((job.config.trainer.devices for job in jobs if not isinstance(job.config, CompareConfig)), default=1)
    return max(1, available_cores() // (at_once * max(1, devices))) if at_once > 1 else None


def _words_to_start(job: Planned, threads: int | None) -> list[str]:
    """Return the words that start a job, or let its run go on."""
    words = list(job.words)
    if job.before is not None:
        words = [as_word("resume", str(job.before)), *(word for word in words if word.startswith("trainer"))]
    shared = threads is not None and not isinstance(job.config, CompareConfig)
    return [*words, *([f"trainer.threads={threads}"] if shared and "trainer.threads" not in keys_given(words) else [])]


def _run_jobs(jobs: Sequence[Job], at_once: int, launcher: Launcher | None = None) -> list[str]:
    """Run the jobs; name those that failed."""
    if not jobs:
        return []
    if launcher is not None:
        codes = launcher.launch(jobs)
    else:
        codes = run_at_once(jobs, at_once) if at_once > 1 else _one_by_one(jobs)
    failed = [job.name for job, code in zip(jobs, codes, strict=True) if code]
    for name in failed:
        say(f"failed: {name}", sys.stderr)
    return failed


def _one_by_one(jobs: Sequence[Job]) -> list[int]:
    """Run one job after the other; each has the terminal. Returns their exit codes."""
    codes = []
    for number, job in enumerate(jobs, 1):
        say(f"job {number} of {len(jobs)}: {job.name}")
        code = _run_job(list(job.command), {**os.environ, **job.environment})
        if code - 128 in SIGNALS:
            raise stopped(number, len(jobs), code)
        codes.append(code)
    return codes


def _report(command: str, settings: SweepConfig, folders: Sequence[str], done: str) -> None:
    """Print how many jobs are done, and one table of the records in their folders."""
    if command == "compare":
        say(done)
        return
    records, passed_over = find_records(folders)
    for line in passed_over:
        say(f"passed over: {line}")
    say(done)
    if command == "eval":
        show(compare(records))
        return
    choices = show_choices(compare(records), settings.show is not None)
    if settings.choose is not None:
        say(the_folder(choices))
