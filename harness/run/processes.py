"""The processes of one run: how they find their ranks, connect to each other, and end together.

A run has one process for each device. Either rank 0 starts the others, or torchrun or srun has started them all as
tasks. Rank 0 checks everything, makes the run's folder, and then connects to the others, which wait for it. Environment
variables of launchers and schedulers are ignored unless such a launcher started this process.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in torch's types
from torch.distributed.rendezvous import rendezvous

from harness.config.trainer import TrainerConfig
from harness.errors import EXIT_CODE, StoppedError, UserError
from harness.run import interruption, program
from harness.run.log import only_errors
from harness.run.machine import available_cores

MEMBER = "CNN_ZOO_MEMBER"  # environment variable of a process that rank 0 started: rank/size/port
STARTED_HERE = "rank 0"
LOCALHOST = "127.0.0.1"
GRACE = 3.0  # seconds that a process has to print why it ends, after another one has ended
LOST = ("gloo", "nccl", "tcpstore", "connection closed by peer", "connection reset by peer", "broken pipe")


@dataclass(frozen=True)
class Tasks:
    """The tasks that a launcher started, one of which is this process.

    Attributes:
        launcher: name of the launcher.
        size: number of tasks.
        rank: rank of this process.
        local_rank: rank of this process among the tasks on its machine.
        nodes: number of machines.
    """

    launcher: str
    size: int
    rank: int
    local_rank: int
    nodes: int


def launched(environment: Mapping[str, str]) -> Tasks | None:
    """Return the tasks that torchrun or srun started together with this process; None if neither did.

    Both launchers set more than a rank, so a rank that is left over from an earlier job is ignored. An sbatch script is
    ignored, too: SLURM gives it a rank although it is one process.
    """

    def numbers(*keys: str) -> list[int]:
        return [int(environment[key]) for key in keys]

    try:
        if "TORCHELASTIC_RUN_ID" in environment:
            size, rank, local_rank, local = numbers("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
            return Tasks("torchrun", size, rank, local_rank, -(-size // local))
        if "SLURM_STEP_ID" in environment:
            size, rank, local_rank = numbers("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
            return Tasks("srun", size, rank, local_rank, int(environment.get("SLURM_STEP_NUM_NODES", 1)))
    except (KeyError, ValueError):
        return None
    return None


def devices_of(config: TrainerConfig) -> tuple[str, int, int]:
    """Return Lightning's name of the accelerator, the number of devices of the run, and the number available.

    Raises:
        UserError: this machine does not have the devices.
    """
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind = next((kind for kind, count in there.items() if count and config.accelerator != "cpu"), "cpu")
    asked = f"trainer.accelerator={config.accelerator} trainer.devices={config.devices}"
    if kind == "cpu":
        if config.accelerator == "gpu":
            raise UserError(f"{asked}: this machine has no GPU that torch can use; trainer=cpu runs everywhere")
        if config.devices <= 1:
            return kind, 1, 1
        cores = available_cores()
        if config.devices > cores:
            raise UserError(
                f"{asked}: each device is one process, but this machine has {cores} CPU cores; ask for at most {cores}"
            )
        return kind, config.devices, cores
    if config.devices > there[kind]:
        raise UserError(f"{asked}: this machine has {there[kind]} devices; trainer.devices=0 takes all of them")
    return kind, config.devices or there[kind], there[kind]


class Team:
    """The processes of a run, seen from one of them; as a context manager it ends them together.

    Args:
        accelerator: Lightning's name of the accelerator.
        size: number of processes, each with one device.
        rank: rank of this process; rank 0 makes the folder, writes the files and prints.
        local_rank: rank of this process on its machine.
        device: index of this process's device on its machine.
        launcher: what started the processes: `torchrun`, `srun`, or `STARTED_HERE` if rank 0 starts the others.
        distributed: whether the processes are connected; a single process need not be.
        note: a line for the log; empty for none.

    Attributes:
        leads: whether this is rank 0.
    """

    def __init__(
        self,
        accelerator: str,
        size: int,
        rank: int = 0,
        local_rank: int = 0,
        *,
        device: int = 0,
        launcher: str = STARTED_HERE,
        distributed: bool = False,
        note: str = "",
    ) -> None:
        self.accelerator = accelerator
        self.size = size
        self.rank = rank
        self.leads = rank == 0
        self.local_rank = local_rank
        self.device = device
        self.launcher = launcher
        self.distributed = distributed or size > 1
        self.note = note
        self.folder = Path()
        self.resumed = False
        self.advice = ""
        self._children: list[subprocess.Popen[bytes]] = []
        self._ending = False

    def __str__(self) -> str:
        return f"{self.size} x {self.accelerator}" + (f" ({self.note})" if self.note else "")

    def call(self, folder: Path, resumed: bool, advice: str) -> None:
        """Start the other processes if no launcher did, connect to them, and tell them the folder.

        Args:
            folder: folder of the run or evaluation.
            resumed: whether the folder existed before.
            advice: what a user can do after a process has died.
        """
        self.folder, self.resumed, self.advice = folder, resumed, advice
        if self.distributed:
            self._connect()
            self._broadcast()

    def follow(self) -> Path | None:
        """Wait until rank 0 has told the folder, and set `folder`; return it if it existed before, otherwise None."""
        self._connect()
        self._broadcast()
        return self.folder if self.resumed else None

    def _connect(self) -> None:
        options: dict[str, Any] = {"rank": self.rank, "world_size": self.size}
        if self.launcher == STARTED_HERE:
            port = int(os.environ[MEMBER].split("/")[2]) if self.rank else 0
            self._store = TCPStore(LOCALHOST, port, self.size, self.leads, wait_for_workers=False)
            if self.leads:
                self._start_others(self._store.port)
        else:
            self._store, _, _ = next(rendezvous("env://", self.rank, self.size))
        if self.accelerator == "cuda":
            torch.cuda.set_device(self.device)
            options["device_id"] = torch.device("cuda", self.device)
        backend = "nccl" if self.accelerator == "cuda" else "gloo"
        torch.distributed.init_process_group(backend, store=self._store, **options)

    def _broadcast(self) -> None:
        said: list[Any] = [self.folder, self.resumed, self.advice]
        torch.distributed.broadcast_object_list(said, src=0)
        self.folder, self.resumed, self.advice = said

    def _start_others(self, port: int) -> None:
        """Run this command again, once for each other rank, and watch the processes."""
        command = [*program.start(), *sys.argv[1:]]
        interruption.before_the_end(lambda _: self._kill())
        for rank in range(1, self.size):
            member = {MEMBER: f"{rank}/{self.size}/{port}", interruption.PARENT: str(os.getpid())}
            self._children.append(subprocess.Popen(command, env={**os.environ, **member}))
        threading.Thread(target=self._look_after, name="processes", daemon=True).start()

    def _look_after(self) -> None:
        """End this process if another one has died and the main thread, waiting inside a library, does not notice."""
        while not self._ending and self._lost() is None:
            time.sleep(0.2)
        time.sleep(GRACE)
        if not self._ending:
            interruption.end(self._loss(), 1)

    def _lost(self) -> str | None:
        """Say which process has died, and how; return None if none has."""
        for rank, child in enumerate(self._children, 1):
            code = child.poll()
            if code:
                how = f"exit code {code}" if code > 0 else f"signal {-code}"
                return f"process {rank + 1} of {self.size} ended with {how}"
        return None

    def _loss(self) -> str:
        return f"{self._lost() or 'another process of the run ended'}; {self.advice}"

    def _kill(self) -> None:
        for child in self._children:
            child.kill()

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes together, or this one at once if another has died or rank 0 prints the error."""
        if not (self.distributed and torch.distributed.is_initialized()):
            self._ending = True
            self._kill()
            return
        if error is None:
            torch.distributed.barrier()
        self._ending = self.leads
        if isinstance(error, Exception):
            self._end_because_of(error)
        torch.distributed.destroy_process_group()
        self._wait(30.0)

    def _end_because_of(self, error: Exception) -> None:
        """Let only one process print the error, and print one line about a process that died.

        A process that has lost the connection ends without Python's clean-up, in which torch may abort.
        """
        meant = isinstance(error, (UserError, StoppedError))
        unreachable = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in LOST)
        if self.leads:
            if meant:
                self._store.set(_key(error), "said")
            self._wait(GRACE)
            if unreachable and (self._lost() or self.launcher != STARTED_HERE):
                interruption.end(self._loss(), 1)
        elif unreachable:
            interruption.end("", 1)
        elif isinstance(error, StoppedError) or (meant and self._said_by_rank_0(error)):
            torch.distributed.destroy_process_group()
            raise SystemExit(error.exit_code if isinstance(error, StoppedError) else EXIT_CODE) from error

    def _said_by_rank_0(self, error: Exception) -> bool:
        """Return whether rank 0 fails with the same error, or is gone."""
        deadline = time.monotonic() + GRACE
        try:
            while not self._store.check([_key(error)]):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.05)
        except RuntimeError:
            pass
        return True

    def _wait(self, seconds: float) -> None:
        """Wait for the processes that this one started; kill those that do not end in time."""
        deadline = time.monotonic() + seconds
        for child in self._children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


def _key(error: Exception) -> str:
    return hashlib.sha256(str(error).encode()).hexdigest()


class TeamEnvironment(ClusterEnvironment):
    """Describes the team to Lightning, so that it reads no environment variable and starts no process.

    Args:
        team: processes of the run.
    """

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.team = team

    creates_processes_externally = True
    main_address = LOCALHOST  # nobody asks: the processes are connected already
    main_port = 0

    @staticmethod
    def detect() -> bool:
        """Return False: Lightning gets this environment as an argument and need not detect it."""
        return False

    def world_size(self) -> int:
        """Return the number of processes of the run."""
        return self.team.size

    def set_world_size(self, size: int) -> None:
        """Do nothing: the team knows its size."""

    def global_rank(self) -> int:
        """Return the rank of this process."""
        return self.team.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: the team knows its ranks."""

    def local_rank(self) -> int:
        """Return the rank of this process on its machine."""
        return self.team.local_rank

    def node_rank(self) -> int:
        """Return 0: a run uses one machine."""
        return 0


def gather(config: TrainerConfig) -> Team:
    """Return the team that this process belongs to.

    Raises:
        UserError: the machine lacks the devices, or a launcher started another number of tasks.
    """
    accelerator, size, there = devices_of(config)
    team = _team(accelerator, size, there, config.strategy == "ddp")
    for variable in [name for name in os.environ if name.startswith("PL_TRAINER_")]:
        del os.environ[variable]  # Lightning would read options of its trainer from there
    rank_zero_only.rank = team.rank  # type: ignore[attr-defined]  # which Lightning took from whatever variables were there
    if not team.leads:
        interruption.be_silent()
        only_errors()
    _set_threads(config.threads, size)
    return team


def _team(accelerator: str, size: int, there: int, distributed: bool) -> Team:
    if MEMBER in os.environ and interruption.is_member():
        rank = int(os.environ[MEMBER].split("/")[0])
        return Team(accelerator, size, rank, rank, device=rank)
    tasks = launched(os.environ)
    if tasks is None or tasks.size == 1:
        if size > 1 and not interruption.listens():
            raise UserError(
                f"trainer.devices={size}: a call of the library trains on one device; use the command line, or start "
                "your program by torchrun"
            )
        return Team(accelerator, size, distributed=distributed)
    if size == 1:
        which = f"task {tasks.rank + 1} of {tasks.size} of {tasks.launcher}"
        device, note = tasks.local_rank % there, f"{which} trains alone: trainer.devices=1"
        return Team(accelerator, 1, device=device, distributed=distributed, note=note)
    if size != tasks.size or tasks.nodes > 1:
        if tasks.rank:
            raise SystemExit(EXIT_CODE)  # the first task says why
        on = f" on {tasks.nodes} machines" if tasks.nodes > 1 else ""
        raise UserError(
            f"trainer.devices={size}: {tasks.launcher} started {tasks.size} tasks{on}; start {size} tasks on one "
            "machine for one run, or set trainer.devices=1 to let each task train alone"
        )
    if tasks.launcher == "srun":
        job, step = (int(os.environ.get(f"SLURM_{key}_ID", 0)) for key in ("JOB", "STEP"))
        port = 20_000 + (31 * job + step) % 20_000  # the same in every task, another in other jobs
        address = {"MASTER_ADDR": LOCALHOST, "MASTER_PORT": str(port)}
        os.environ.update({key: value for key, value in address.items() if key not in os.environ})
    return Team(accelerator, size, tasks.rank, tasks.local_rank, device=tasks.local_rank, launcher=tasks.launcher)


def _set_threads(threads: int | None, size: int) -> None:
    """Set the number of CPU threads of this process; by default several processes share the cores equally."""
    if threads is None and size > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, available_cores() // size)
    if threads is not None:
        torch.set_num_threads(threads)
    if size > 1:
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # otherwise Lightning would set it itself
