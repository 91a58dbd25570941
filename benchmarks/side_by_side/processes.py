"""Processes that work in turns, and what memory they take."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.work import Work

ROOT = Path(__file__).parents[2]
SAMPLE_EVERY = 0.05  # seconds


class Worker:
    """One's process; call it to let it work once.

    Its memory is looked at in the first turn alone, which `in_turns` throws away: the other turns lose no time by it.

    Args:
        who: module of this package.
        what: `epoch` or `evaluation`.
        work: to be done.
        cache: folder for what programs keep from one run to the next.

    Attributes:
        peak: MiB of the process and all that it started, at most; None before the first turn.
    """

    def __init__(self, who: str, what: str, work: Work, cache: Path) -> None:
        self.peak: float | None = None
        self.who = who
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process lives
        command = [*_python("worker"), who, what, json.dumps(dataclasses.asdict(work))]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, env=environment, **pipes)

    def __call__(self) -> float:
        """Seconds of a turn."""
        if self.peak is not None:
            return self._turn()
        looking = _Looking(self.process.pid)
        seconds = self._turn()
        self.peak = looking.end()
        return seconds

    def _turn(self) -> float:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.who} ended:\n{self.errors.read()[-4000:]}")
        return float(line)

    def end(self) -> None:
        """Let the process end."""
        self.process.communicate()
        self.errors.close()


def seconds_to_first_step(who: str, work: Work) -> float:
    """Seconds from the start of one's script to its first optimiser step."""
    command = [*_python("first_step"), who, json.dumps(dataclasses.asdict(work))]
    started = time.time()
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{who} ended:\n{done.stderr[-4000:]}")
    return float(done.stdout) - started


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.side_by_side.{module}"]


class _Looking:
    """Looks at the memory of a process and its children, from now on."""

    def __init__(self, process: int) -> None:
        self.process, self.peak = process, 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.ended.wait(SAMPLE_EVERY):
            self.peak = max(self.peak, _mebibytes(self.process))

    def end(self) -> float:
        """The largest sum that was seen, in MiB."""
        self.ended.set()
        self.thread.join()
        return self.peak


def _family(process: int) -> Iterator[int]:
    """A process, its children, theirs, and so on."""
    yield process
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:  # it has ended
            continue
        for child in children:
            yield from _family(int(child))


def _mebibytes(process: int) -> float:
    """What lies in memory for a process and its family: shared pages count once, and files that they map, too.

    Processes that copied themselves share pages, of which each counts its part (PSS). The files are those of libraries,
    which all of them map: the largest number stands for all.
    """
    own, files = 0, 0
    for member in _family(process):
        try:
            rollup = _kibibytes(Path(f"/proc/{member}/smaps_rollup"))
            mapped = _kibibytes(Path(f"/proc/{member}/status")).get("RssFile", 0)
        except OSError:  # it has ended
            continue
        own += rollup.get("Pss_Anon", 0) + rollup.get("Pss_Shmem", 0)
        files = max(files, mapped)
    return (own + files) / 1024


def _kibibytes(path: Path) -> dict[str, int]:
    """The lines `name: number kB` of a file."""
    words = [line.split() for line in path.read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in words if len(line) == 3 and line[2] == "kB"}
