"""Run a sweep (`-m`): compose and check every job before the first starts, then run each in a process of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from harness.comparison.records import compare, find_records
from harness.comparison.tables import show
from harness.config.compose import check_words, compose, composing, quoted_path
from harness.config.files import own_sweep
from harness.config.mistakes import one_line
from harness.errors import StoppedError, UserError
from harness.run import program
from harness.run.files import FOLDERS_VARIABLE, announced
from harness.run.interruption import SIGNALS, heard
from harness.run.printable import say
from harness.stories.check import check


def sweep(command: str, overrides: list[str], extra_configs: str | None) -> int:
    """Run every combination of the swept values, each in a new process, and compare the results.

    Returns:
        Exit code: 1 if a job failed, otherwise 0.
    """
    jobs = _checked_jobs(command, overrides, extra_configs)
    with TemporaryDirectory() as place:
        return _run_jobs(jobs, Path(place) / "folders", command != "compare", extra_configs)


def _run_jobs(jobs: list[list[str]], folders: Path, compared: bool, extra_configs: str | None) -> int:
    """Run one job after the other; each writes its folder into the file `folders`, whose records are then compared."""
    failed: list[str] = []
    options = ["--config-dir", extra_configs] if extra_configs else []
    for number, job in enumerate(jobs, 1):
        say(f"job {number} of {len(jobs)}: {' '.join(job)}")
        code = _run_job([*program.start(), *options, *job], {**os.environ, FOLDERS_VARIABLE: str(folders)})
        if code - 128 in SIGNALS:
            raise StoppedError(f"the sweep was stopped in job {number} of {len(jobs)}", code)
        if code:
            failed.append(" ".join(job))
    for job_line in failed:
        say(f"failed: {job_line}", sys.stderr)
    done = f"{len(jobs) - len(failed)} of {len(jobs)} jobs done"
    if compared:
        _compare(announced(folders), done)
    else:
        say(done)
    return 1 if failed else 0


def _compare(folders: list[str], done: str) -> None:
    """Print how many jobs are done, and one table of the records in their folders."""
    records, passed_over = find_records(folders)
    for line in passed_over:
        say(f"passed over: {line}")
    say(done)
    show(compare(records))


def _run_job(command: list[str], environment: dict[str, str]) -> int:
    """Run a job to its end; the terminal sends it Ctrl-C, and other signals are passed on to it."""
    with subprocess.Popen(command, env=environment) as process:

        def tell(number: signal.Signals) -> None:
            if number != signal.SIGINT:
                process.send_signal(number)

        with heard(tell):
            return process.wait()


def _checked_jobs(command: str, overrides: list[str], extra_configs: str | None) -> list[list[str]]:
    check_words(overrides, command)
    try:
        jobs = jobs_of(overrides)
    except HydraException as error:
        raise UserError(one_line(error, command)) from error
    for job in jobs:
        try:
            check(compose(command, job, extra_configs))
        except UserError as error:
            raise UserError(f"job {' '.join(job)}: {error}; no job was started") from error
    return jobs


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
        swept = [
            [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
            if o.is_sweep_override()
            else [str(o.input_line)]
            for o in parsed
        ]
    return [list(job) for job in itertools.product(*swept)]
