"""A SLURM of one machine for tests: it runs sbatch files, with its own `srun` and `scontrol`, and preempts them.

What it does is what SLURM's manuals say of sbatch, srun, scontrol and preemption: the variables of a batch script and
of each task; `--signal=USR1@120` reaches the tasks and not the batch script, `--signal=B:...` the batch script alone;
`scancel` sends SIGTERM to both; srun exits with the highest exit code of its tasks, 128 + signal for one that a signal
ended. A signal goes to all processes of a task, as by `proctrack/linuxproc`. The machines of a job are this one.

`python slurm.py srun ...` and `python slurm.py scontrol ...` are the two commands.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

SPOOL = "FAKE_SLURM_SPOOL"  # environment variable: a folder in which job, srun and scontrol find each other
MACHINES = ("localhost", "127.0.0.1")
JOB_ID = "4711"


class Job:
    """A job from its submission on.

    Args:
        script: sbatch file.
        words: its arguments.
        options: of sbatch, which take the place of those in the file.
        cwd: folder in which sbatch is called.
        spool: an empty folder.
    """

    def __init__(self, script: Path, words: Sequence[str], options: Sequence[str], cwd: Path, spool: Path) -> None:
        lines = re.findall(r"^#SBATCH (--\S+)", script.read_text(), re.MULTILINE)
        self.options = dict(option.removeprefix("--").partition("=")[::2] for option in (*lines, *options))
        self.command = ["bash", str(script), *words]
        self.cwd, self.spool = cwd, spool
        name = self.options.get("output", "slurm-%j.out").replace("%x", self.options["job-name"])
        self.output = cwd / name.replace("%j", JOB_ID)
        self.restarts = 0
        for command in ("srun", "scontrol"):
            file = spool / command
            file.write_text(f'#!/bin/bash\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} {command} "$@"\n')
            file.chmod(0o755)

    def start(self) -> None:
        """Start the batch script, for the first time or after the job was put into the queue again."""
        for left in (*self.spool.glob("task-*"), *self.spool.glob("requeue")):
            left.unlink()
        nodes, each = (int(self.options[key]) for key in ("nodes", "ntasks-per-node"))
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "MASTER_"))},
            "PATH": f"{self.spool}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            SPOOL: str(self.spool),
            "SLURM_JOB_ID": JOB_ID,
            "SLURM_JOB_NAME": self.options["job-name"],
            "SLURM_JOB_NODELIST": ",".join(MACHINES[:nodes]),
            "SLURM_SUBMIT_DIR": str(self.cwd),
            "SLURM_NNODES": str(nodes),
            "SLURM_NTASKS": str(nodes * each),
            "SLURM_NTASKS_PER_NODE": str(each),
            "SLURM_TASKS_PER_NODE": f"{each}(x{nodes})" if nodes > 1 else str(each),
            **dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0"),
        }
        if self.restarts:
            environment["SLURM_RESTART_COUNT"] = str(self.restarts)
        mode = "a" if self.options.get("open-mode") == "append" else "w"
        with self.output.open(mode) as out:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )

    def signal_tasks(self, number: int) -> None:
        """Signal the tasks and what they started, not the batch script."""
        for task in [int(file.read_text() or 0) for file in self.spool.glob("task-*")]:
            try:
                if task:
                    os.killpg(task, number)
            except ProcessLookupError:
                pass

    def warn(self) -> None:
        """Send the signal of `--signal` to those whom it is for, as some time before the end of the job."""
        to_batch, name = re.match(r"(B:)?(\w+)@\d+", self.options["signal"]).groups()  # type: ignore[union-attr]
        number = signal.Signals[f"SIG{name}"]
        if to_batch:
            self.process.send_signal(number)
        else:
            self.signal_tasks(number)

    def cancel(self) -> None:
        """End the job as scancel does: SIGTERM to all, and SIGKILL some time after."""
        self.process.terminate()
        self.signal_tasks(signal.SIGTERM)
        time.sleep(5)
        self.kill()

    def kill(self) -> None:
        """End all processes of the job at once, as at the end of the time of grace, or when a machine fails."""
        self.process.kill()
        self.process.wait()
        self.signal_tasks(signal.SIGKILL)

    def ends(self, seconds: float) -> bool:
        """Return whether the batch script asked for the queue again or ended, within some seconds."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if self.asked_again or time.monotonic() > deadline:
                return self.asked_again
            time.sleep(0.05)
        return True

    @property
    def asked_again(self) -> bool:
        """Whether the batch script called `scontrol requeue`."""
        return (self.spool / "requeue").exists()

    def again(self) -> None:
        """Put the job into the queue again and start it: what is left of it is killed, and it keeps its number."""
        self.kill()
        self.restarts += 1
        self.start()


def srun(words: Sequence[str]) -> int:
    """Start the tasks, pass signals on to them, and return the highest exit code."""
    command = list(words)
    while command[0].startswith("--"):
        assert command.pop(0).startswith("--kill-on-bad-exit"), "an option that this srun does not know"
    nodes, size = (int(os.environ[f"SLURM_{key}"]) for key in ("NNODES", "NTASKS"))
    each = size // nodes
    tasks = []
    for rank in range(size):
        own = {
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": str(size),
            "SLURM_STEP_NUM_NODES": str(nodes),
            "SLURM_STEP_TASKS_PER_NODE": os.environ["SLURM_TASKS_PER_NODE"],
            "SLURM_STEP_NODELIST": os.environ["SLURM_JOB_NODELIST"],
            "SLURM_PROCID": str(rank),
            "SLURM_LOCALID": str(rank % each),
            "SLURM_NODEID": str(rank // each),
        }
        task = subprocess.Popen(command, env={**os.environ, **own}, start_new_session=True)
        (Path(os.environ[SPOOL]) / f"task-{rank}").write_text(str(task.pid))
        tasks.append(task)

    def forward(number: int, frame: FrameType | None) -> None:
        for task in tasks:
            task.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, forward)
    bad_since = None
    while any(task.poll() is None for task in tasks):
        if bad_since is None and any(task.returncode for task in tasks):
            bad_since = time.monotonic()
        if bad_since is not None and time.monotonic() > bad_since + 5:
            for task in tasks:
                task.kill()
        time.sleep(0.05)
    return max(code if code >= 0 else 128 - code for code in (task.returncode for task in tasks))


def scontrol(words: Sequence[str]) -> int:
    """Put the job into the queue again."""
    assert list(words) == ["requeue", JOB_ID], words
    (Path(os.environ[SPOOL]) / "requeue").touch()
    return 0


if __name__ == "__main__":
    sys.exit({"srun": srun, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:]))
