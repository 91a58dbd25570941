"""Run the jobs of a sweep on this machine, each in a process of its own, one after the other or several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.errors import StoppedError
from harness.run.interruption import SIGNALS, heard
from harness.run.printable import say


@dataclass(frozen=True)
class Job:
    """A job that is to run.

    Attributes:
        name: its words, as the user reads them.
        command: the words that start its process.
        environment: variables that its process has beside those of this one.
        resumable: whether it takes `resume=auto`: a training that names no run to go on with.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    resumable: bool


def stopped(number: int, jobs: int, code: int) -> StoppedError:
    """Return the error to raise once a signal has ended a job."""
    return StoppedError(f"the sweep was stopped in job {number} of {jobs}; the same words with resume=auto go on", code)


def run_job(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a job to its end; the terminal sends it Ctrl-C, and other signals are passed on to it."""
    with subprocess.Popen(command, env=environment) as process:

        def tell(number: signal.Signals) -> None:
            if number != signal.SIGINT:
                process.send_signal(number)

        with heard(tell):
            return process.wait()


def run_at_once(jobs: Sequence[Job], at_once: int) -> list[int]:
    """Run jobs, so many at once; each line that one prints begins with its number.

    A signal stops all of them, as does one that ends a single job: the rest are sent it, and no other is started.

    Returns:
        Their exit codes.

    Raises:
        StoppedError: a signal has ended a job.
    """
    several = _Several(jobs)
    with heard(several.stop), ThreadPoolExecutor(at_once) as threads:
        codes = list(threads.map(several.run, range(len(jobs))))
    for number, code in enumerate(codes, 1):
        if code is not None and code - 128 in SIGNALS:
            raise stopped(number, len(jobs), code)
    if several.received is not None:
        raise StoppedError("the sweep was stopped; the same words with resume=auto go on", 128 + several.received)
    return [1 if code is None else code for code in codes]


class _Several:
    """Jobs of which several run at once, each in a thread that waits for its process."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.running: set[subprocess.Popen[str]] = set()
        self.received: signal.Signals | None = None
        self.lock = threading.Lock()  # of the above, and of the terminal: a line is printed whole

    def stop(self, number: signal.Signals) -> None:
        """Start no more jobs, and pass a signal on to those that run; the terminal sends them Ctrl-C itself."""
        with self.lock:
            self.received = number
            for process in self.running if number != signal.SIGINT else ():
                process.send_signal(number)

    def run(self, place: int) -> int | None:
        """Run a job to its end; return its exit code, or None if a signal came before."""
        job = self.jobs[place]
        with self.lock:
            if self.received is not None:
                return None
            say(f"job {place + 1} of {len(self.jobs)}: {job.name}")
            process = subprocess.Popen(
                job.command,
                env={**os.environ, **job.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self.running.add(process)
        assert process.stdout is not None
        for line in process.stdout:
            with self.lock:
                say(f"[{place + 1}] {line.rstrip()}")
        code = process.wait()
        with self.lock:
            self.running.discard(process)
        if self.received is None and code - 128 in SIGNALS:
            self.stop(signal.SIGTERM)
        return code
