"""Hand the jobs of a sweep to a launcher of Hydra: `hydra/launcher=submitit_slurm`, `submitit_local`, `ray`.

A launcher is a plugin that calls a function for each job, somewhere. Here that function starts the job as a process of
its own, `python train.py ...`, and waits for its exit code; so every machine needs the same folders, Python and program
at the same places. The launcher itself composes nothing but the number of a job.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from harness.command.jobs import Job
from harness.config.compose import as_word, composing
from harness.errors import UserError
from harness.run.printable import printable, say

GROUP, SETTINGS = "hydra/launcher", "hydra.launcher."  # beginnings of a sweep's words about its launcher
EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}  # of this package; each brings launchers
TIMEOUT = 24 * 60  # minutes that a job may take; submitit's own hour would end most trainings
INSTALLED = Path(__file__).parents[2]  # holds `harness`, which a launcher's process imports


class Launcher:
    """A launcher; its settings are checked at once, before any job starts.

    Args:
        words: those of a sweep about its launcher: `hydra/launcher=NAME`, `hydra.launcher.KEY=VALUE`.
        folder: where it writes what it needs and what the jobs print; it is made when the jobs start.

    Raises:
        UserError: the launcher is not installed, or has no such setting.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        chosen = [word.partition("=")[2] for word in words if word.startswith(f"{GROUP}=")]
        if not chosen:
            raise UserError(f"{words[0]}: say which launcher it belongs to: add {GROUP}=NAME")
        self.name = chosen[-1]
        self.folder = folder
        self.words = [f"{GROUP}={self.name}"]
        known = self._config().hydra.launcher  # of the launcher as it comes
        settings = [word for word in words if not word.startswith(f"{GROUP}=")]
        self.words += [*self._own_values(settings), *map(_addable, settings)]
        try:
            self.config = self._config()
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(_mistake(self.name, words, known, error)) from error

    @property
    def here(self) -> bool:
        """Whether all jobs start at once on this machine."""
        return self.name == "submitit_local"

    def _own_values(self, words: Sequence[str]) -> list[str]:
        """What is set unless the user sets it."""
        given = {word.partition("=")[0] for word in words}
        timeout, address, memory = (
            f"{SETTINGS}{key}" for key in ("timeout_min", "ray.init.address", "ray.init.object_store_memory")
        )
        own = {timeout: str(TIMEOUT)} if self.name in ("submitit_slurm", "submitit_local") else {}
        if address in given:  # a Ray that runs already refuses the size that the launcher would ask for
            own[memory] = "null"
        return [_addable(f"{key}={value}") for key, value in own.items() if key not in given]

    def _config(self) -> DictConfig:
        place = {"hydra.sweep.dir": str(self.folder.absolute()), "hydra.sweep.subdir": ".", "hydra.job.name": "cnn_zoo"}
        quiet = ("hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null")
        with composing():
            loader = GlobalHydra.instance().config_loader()
            known = loader.get_group_options(GROUP)
            if self.name not in known:
                raise UserError(_absent(self.name, known))
            words = [*quiet, *(as_word(key, value) for key, value in place.items()), *self.words]
            return loader.load_configuration(None, words, run_mode=RunMode.MULTIRUN)

    def launch(self, jobs: Sequence[Job]) -> list[int]:
        """Run the jobs; return the exit code of each, 1 for one that ended without."""
        limit = self.config.hydra.launcher.get("timeout_min")
        limited = f"; each may take {limit:,} minutes ({SETTINGS}timeout_min)" if limit else ""
        say(f"{len(jobs)} jobs for {GROUP}={self.name}{limited}; what they print is in {self.folder}/job_N.txt")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(INSTALLED), os.environ.get("PYTHONPATH"))))
        with composing():
            context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(self.config))
            launcher = Plugins.instance().instantiate_launcher(context, starting(jobs, self.folder), self.config)
            try:
                returned = launcher.launch([[f"+job={number}"] for number in range(len(jobs))], 0)
            except Exception as error:  # of the launcher, of any kind: a job was killed, the queue refused it
                line = " ".join(str(error).split())
                raise UserError(
                    f"{GROUP}={self.name}: {type(error).__name__}: {printable(line)[:500]}; other jobs may still be "
                    "running; once they have ended, the same words with resume=auto go on"
                ) from error
        return [_code(number, each) for number, each in enumerate(returned, 1)]


def starting(jobs: Sequence[Job], folder: Path) -> Callable[[DictConfig], int]:
    """Return the function that a launcher calls, somewhere, with the number of a job: it starts it and waits for it.

    What job 0 prints goes to `job_1.txt` in the folder. Where the launcher ends the function, as submitit does by USR2
    shortly before the time is over or the machine is taken away, the job stops at its next step with a checkpoint; one
    that is started once more goes on from there.
    """
    words = [(list(job.command), dict(job.environment)) for job in jobs]
    resumable = [job.resumable for job in jobs]
    place, output = str(Path.cwd()), str(folder.absolute())

    def start(config: Any) -> int:
        import os
        import signal
        import subprocess

        command, environment = words[config.job]
        printed = f"{output}/job_{config.job + 1}.txt"
        again = ["resume=auto"] if resumable[config.job] and os.path.exists(printed) else []  # noqa: PTH110
        with (
            open(printed, "a") as file,  # noqa: PTH123  # it imports little
            subprocess.Popen(
                [*command, *again], cwd=place, env={**os.environ, **environment}, stdout=file, stderr=file
            ) as process,
        ):
            try:
                return process.wait()
            except BaseException as ended:
                process.send_signal(signal.SIGUSR2)
                code = process.wait()
                if isinstance(ended, Exception):
                    return code
                raise  # it is started once more

    return start


def _addable(word: str) -> str:
    """Let a word add an entry to a mapping, such as `hydra.launcher.ray.remote.num_cpus=2`."""
    inside = word.partition("=")[0].removeprefix(SETTINGS).count(".")
    return f"++{word}" if inside else word


def _code(number: int, returned: JobReturn) -> int:
    if returned.status == JobStatus.COMPLETED:
        return int(returned.return_value)
    say(f"job {number}: {type(returned._return_value).__name__}: {returned._return_value}")
    return 1


def _absent(name: str, known: Sequence[str]) -> str:
    if name in EXTRAS:
        return f"{GROUP}={name}: is not installed: pip install 'cnn-zoo[{EXTRAS[name]}]'"
    return f"{GROUP}={name}: no such launcher; there are: {', '.join(sorted({*known, *EXTRAS}))}"


def _mistake(name: str, words: Sequence[str], known: DictConfig, error: Exception) -> str:
    """Say which word about the launcher is wrong."""
    cause = error.__cause__
    key = str(getattr(cause, "full_key", None) or "")
    word = next((word for word in words if word.partition("=")[0] == key), None)
    leaf = key.removeprefix(SETTINGS)
    if word is not None and leaf.partition(".")[0] not in known:
        near = ", ".join(difflib.get_close_matches(leaf, map(str, known), n=3)) or ", ".join(map(str, known))
        return f"{word}: {GROUP}={name} has no such setting; the nearest are: {near}"
    said = str(getattr(cause, "msg", None) or error).splitlines()[0]
    return f"{word or GROUP + '=' + name}: {' '.join(said.split())}"
