"""Scripts as a user runs them, without the seconds that every process spends on importing torch.

A process imports the libraries once and nothing of this project; each script is a copy of it, which then loads the
script and the project anew and lives and dies as a process of its own: arguments, folder, environment, output and exit
code are the script's. `python scripts.py` is that process; it reads a request a line and answers with an exit code.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("torch", "lightning", "hydra", "torchvision", "sklearn.datasets", "sklearn.model_selection", "scipy.stats"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "rich.progress", "rich.table", "safetensors.torch"),
    *("filelock", "PIL.Image", "simplejpeg"),
)
_servers: list[subprocess.Popen[str]] = []


def run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """`python COMMAND` in a folder, with its output.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    if not _servers:
        _servers.append(
            subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    server = _servers[0]
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        out, err = (Path(folder) / name for name in ("stdout", "stderr"))
        request = {
            "command": list(command),
            "cwd": str(cwd),
            "environment": dict(environment),
            "out": str(out),
            "err": str(err),
            "timeout": timeout,
        }
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        if code is None:
            raise subprocess.TimeoutExpired(list(command), timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(list(command), code, out.read_text(), err.read_text())


def serve() -> None:
    """Answer requests until the pipe is closed."""
    for library in LIBRARIES:
        importlib.import_module(library)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            answers.close()
            _become(request)
        answers.write(json.dumps(_wait(child, request["timeout"])) + "\n")
        answers.flush()


def _wait(child: int, timeout: float) -> int | None:
    """The exit code, minus the signal of a process that was killed; None for one that did not end in time."""

    def too_late(number: int, frame: object) -> None:
        os.kill(child, signal.SIGKILL)
        late.append(True)

    late: list[bool] = []
    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return None if late else os.waitstatus_to_exitcode(status)


def _become(request: Mapping[str, Any]) -> None:
    """Turn this copy into the process that was asked for, and end with it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for path, fd, flags in (
        (os.devnull, 0, os.O_RDONLY),
        (request["out"], 1, os.O_WRONLY | os.O_CREAT),
        (request["err"], 2, os.O_WRONLY | os.O_CREAT),
    ):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    code = _run(request["command"])
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(command: list[str]) -> int:
    sys.orig_argv = [sys.executable, *command]
    module = command[1] if command[0] == "-m" else None
    sys.argv = command[1:] if module else command
    sys.path[0] = str(Path.cwd()) if module else str(Path(command[0]).parent)
    try:
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve()
