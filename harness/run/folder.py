"""The folder of one run: it is made once, locked while the run lives, and never overwritten."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import subprocess
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from harness.config.commands import EvalConfig, TrainConfig
from harness.config.files import CONFIG_FILE
from harness.errors import UserError, file_error
from harness.run import interruption
from harness.run.files import PARTIAL, announce, new_folder, write_json, write_text
from harness.run.log import stop_writing, write_to

PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "numpy", "scikit-learn", "scipy")


def make_run_folder(runs: str, name: str, config: TrainConfig | EvalConfig, suffix: str = "") -> Path:
    """Make `runs/<name>/<date>_<time><suffix>`, lock it, and write `config.yaml` and `environment.json`.

    From then on log lines also go to `log.txt` in the folder.

    Raises:
        UserError: the folder cannot be made.
    """
    environment = _environment()
    try:
        folder = new_folder(Path(runs) / name / (datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + suffix))
    except OSError as error:
        raise UserError(f"runs={runs}: cannot make a folder there: {file_error(error)}") from error
    _take(folder)
    write_text(folder / CONFIG_FILE, OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config))))
    write_json(folder / "environment.json", environment)
    return folder


def reopen_run_folder(folder: Path) -> None:
    """Lock the folder of a run that is resumed, append to its `log.txt`, and write the environment to a new file.

    Raises:
        UserError: another process is writing to the folder.
    """
    _take(folder)
    for leftover in folder.rglob(f".*{PARTIAL}"):  # from a process that was killed while it wrote
        leftover.unlink()
    number = len(list(folder.glob("environment*.json"))) + 1
    write_json(folder / f"environment_{number}.json", _environment())


def _take(folder: Path) -> None:
    """Lock a folder and log to it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"{folder}: another process is running in this folder; wait for it, or stop it") from error
    _LOCKS.append(lock)
    write_to(folder)
    interruption.before_the_end(partial(_add_line, folder / "log.txt"))
    announce(folder)


_LOCKS: list[FileLock] = []  # locks of the folders that this process writes to


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """At the end, release the folders that were made or reopened inside: unlock them and close their `log.txt`."""
    try:
        yield
    finally:
        stop_writing()
        while _LOCKS:
            _LOCKS.pop().release()


def _add_line(path: Path, line: str) -> None:
    with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def _environment() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: metadata.version(package) for package in PACKAGES},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else [],
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _git(*arguments: str) -> str | None:
    """Return what git says about the repository of this file; None if no repository tracks it.

    An installed package often lies inside somebody else's repository, such as in its `.venv/`, which does not track it.
    """
    git, here = ["git", "-C", str(Path(__file__).parent)], Path(__file__).name
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", here], capture_output=True, check=True)
        done = subprocess.run([*git, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
