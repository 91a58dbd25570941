"""The processes of one run: how they find their ranks, connect to each other, and end together.

A run has one process for each device. Either rank 0 starts the others, or torchrun or srun has started them all as
tasks, on one machine or several. Rank 0 checks everything, makes the run's folder, and then connects to the others,
which wait for it. Environment variables of launchers and schedulers are ignored unless such a launcher started this
process.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in torch's types
from torch.distributed.rendezvous import rendezvous

from harness.config.files import CONFIG_FILE
from harness.config.trainer import TrainerConfig
from harness.errors import EXIT_CODE, StoppedError, UserError
from harness.run import interruption, program
from harness.run.log import only_errors
from harness.run.machine import available_cores

MEMBER = "CNN_ZOO_MEMBER"  # environment variable of a process that rank 0 started: rank/size/port
STARTED_HERE = "rank 0"
LOCALHOST = "127.0.0.1"
PATIENCE = 10.0  # seconds that another machine may take to see a new folder of a file system that it shares
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
        local: number of tasks on the machine of this process.
    """

    launcher: str
    size: int
    rank: int
    local_rank: int
    nodes: int
    local: int


def launched(environment: Mapping[str, str]) -> Tasks | None:
    """Return the tasks that torchrun or srun started together with this process; None if neither did.

    Both launchers set more than a rank, so a rank that is left over from an earlier job is ignored. An sbatch script is
    ignored, too: SLURM gives it a rank although it is one process.
    """

    def numbers(*keys: str) -> list[int]:
        return [int(environment[key]) for key in keys]

    try:
        if program.TORCHRUN in environment:
            size, rank, local_rank, local = numbers("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
            nodes = int(environment.get("GROUP_WORLD_SIZE", -(-size // local)))
            return Tasks("torchrun", size, rank, local_rank, nodes, local)
        if program.SRUN in environment:
            size, rank, local_rank = numbers("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
            nodes = int(environment.get("SLURM_STEP_NUM_NODES", 1))
            each = _tasks_of_nodes(environment.get("SLURM_STEP_TASKS_PER_NODE", str(-(-size // nodes))))
            node = int(environment.get("SLURM_NODEID", 0))
            return Tasks("srun", size, rank, local_rank, nodes, each[min(node, len(each) - 1)])
    except (KeyError, ValueError):
        return None
    return None


def _tasks_of_nodes(counts: str) -> list[int]:
    """Return the number of tasks on each machine, which SLURM writes as `4(x2),3` for 4, 4 and 3."""
    found = []
    for part in counts.split(","):
        count, _, times = part.rstrip(")").partition("(x")
        found += [int(count)] * int(times or 1)
    return found


def devices_of(config: TrainerConfig) -> tuple[str, int, int]:
    """Return Lightning's name of the accelerator, and the numbers of devices that are asked for and available here.

    Raises:
        UserError: this machine does not have the devices.
    """
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    wanted = {"auto": ("cuda", "mps"), "gpu": ("cuda", "mps"), "mps": ("mps",), "cpu": ()}[config.accelerator]
    kind = next((kind for kind in wanted if there[kind]), "cpu")
    asked = f"trainer.accelerator={config.accelerator} trainer.devices={config.devices}"
    if kind == "cpu":
        if config.accelerator == "mps":
            raise UserError(f"{asked}: MPS is the GPU of a Mac, and torch finds none here; trainer=cpu runs everywhere")
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
    if kind == "mps" and (config.strategy == "ddp" or config.nodes > 1):
        raise UserError(
            f"{asked} trainer.strategy={config.strategy} trainer.nodes={config.nodes}: the GPU of a Mac trains alone, "
            "by trainer.strategy=auto trainer.nodes=1; trainer.accelerator=cpu uses several processes"
        )
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
        nodes: number of machines, each with as many of the processes.
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
        nodes: int = 1,
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
        self.nodes = nodes
        self.note = note
        self.folder = Path()
        self.resumed = False
        self.advice = ""
        self._children: list[subprocess.Popen[bytes]] = []
        self._ending = False

    def __str__(self) -> str:
        machines = f" on {self.nodes} machines" if self.nodes > 1 else ""
        return f"{self.size} x {self.accelerator}{machines}" + (f" ({self.note})" if self.note else "")

    @property
    def on_each_node(self) -> int:
        """Number of processes on each machine."""
        return self.size // self.nodes

    def call(self, folder: Path, resumed: bool, advice: str) -> None:
        """Start the other processes if no launcher did, connect to them, and tell them the folder.

        Args:
            folder: folder of the run or evaluation.
            resumed: whether the folder existed before.
            advice: what a user can do after a process has died.

        Raises:
            UserError: another machine does not have the folder.
        """
        self.folder, self.resumed, self.advice = folder, resumed, advice
        if self.distributed:
            self._connect()
            self._broadcast()

    def follow(self) -> Path | None:
        """Wait until rank 0 has told the folder, and set `folder`; return it if it existed before, otherwise None.

        Raises:
            UserError: this or another machine does not have the folder.
        """
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
        if self.nodes > 1:
            self._check_shared()

    def _check_shared(self) -> None:
        """Raise `UserError` in every process if a machine does not have the folder that rank 0 made or reopened."""
        missing: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(missing, None if _appears(self.folder) else platform.node())
        machine = next((name for name in missing if name is not None), None)
        if machine is not None:
            raise UserError(
                f"{self.folder}: machine {machine} does not have this folder of machine 1: with trainer.nodes="
                f"{self.nodes} all start in the same folder, and runs= is on a file system that they share"
            )

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
            with suppress(RuntimeError):  # all is done: a process that a signal has ended is not missed
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


def _appears(folder: Path) -> bool:
    """Return whether a run's folder is here; a network's file system may show a new one after some seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (folder / CONFIG_FILE).is_file():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


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
        """Return the number of this process's machine, as launchers count by default."""
        return self.team.rank // self.team.on_each_node


def gather(config: TrainerConfig) -> Team:
    """Return the team that this process belongs to.

    Raises:
        UserError: the machine lacks the devices, or a launcher started another number of tasks.
    """
    accelerator, devices, there = devices_of(config)
    team = _team(config, accelerator, devices, there)
    for variable in [name for name in os.environ if name.startswith("PL_TRAINER_")]:
        del os.environ[variable]  # Lightning would read options of its trainer from there
    rank_zero_only.rank = team.rank  # type: ignore[attr-defined]  # which Lightning took from whatever variables were there
    if not team.leads:
        interruption.be_silent()
        only_errors()
    _set_threads(config.threads, devices)
    return team


def _team(config: TrainerConfig, accelerator: str, devices: int, there: int) -> Team:
    size, distributed = devices * config.nodes, config.strategy == "ddp"
    if MEMBER in os.environ and interruption.is_member():
        rank = int(os.environ[MEMBER].split("/")[0])
        return Team(accelerator, size, rank, rank, device=rank)
    tasks = launched(os.environ)
    if config.nodes > 1 and tasks is None:
        raise UserError(
            f"trainer.nodes={config.nodes}: torchrun or srun starts the processes on all machines, and neither started "
            f"this one: torchrun --nnodes={config.nodes} --nproc-per-node={devices} ..., or srun --nodes="
            f"{config.nodes} --ntasks-per-node={devices} ...; docs/cluster.md shows both"
        )
    if tasks is None or (tasks.size == 1 and config.nodes == 1):
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
    _check_tasks(tasks, config.nodes, devices)
    if tasks.launcher == "srun":
        _meet_at_first_task(config.nodes)
    return Team(
        accelerator,
        size,
        tasks.rank,
        tasks.local_rank,
        device=tasks.local_rank,
        launcher=tasks.launcher,
        nodes=config.nodes,
    )


def _check_tasks(tasks: Tasks, nodes: int, devices: int) -> None:
    """Raise `UserError` if a launcher started other tasks than one for each device of each machine."""
    if (tasks.size, tasks.nodes, tasks.local) == (nodes * devices, nodes, devices):
        return
    told_by_first = (tasks.size, tasks.nodes) != (nodes * devices, nodes)
    if tasks.rank if told_by_first else tasks.local_rank:
        raise SystemExit(EXIT_CODE)  # the first task says why, or the first on this machine
    said = f"trainer.devices={devices}" if nodes == 1 else f"trainer.nodes={nodes} trainer.devices={devices}"
    on = f" on {tasks.nodes} machines" if tasks.nodes > 1 else ""
    here = "" if told_by_first else f", {tasks.local} of them on {platform.node()}"
    machines = "one machine" if nodes == 1 else f"each of {nodes} machines"
    several = f"trainer.nodes={tasks.nodes} for all of these, or " if tasks.nodes > 1 and nodes == 1 else ""
    raise UserError(
        f"{said}: {tasks.launcher} started {tasks.size} tasks{on}{here}; start {devices} tasks on {machines} for one "
        f"run, or set {several}trainer.devices=1{'' if nodes == 1 else ' trainer.nodes=1'} to let each task train alone"
    )


def _meet_at_first_task(nodes: int) -> None:
    """Tell torch where the tasks of srun meet: at a port on the machine of the first, unless the user says where."""
    job, step = (int(os.environ.get(f"SLURM_{key}_ID", 0)) for key in ("JOB", "STEP"))
    port = 20_000 + (31 * job + step) % 20_000  # the same in every task, another in other jobs
    machines = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", LOCALHOST)
    address = LOCALHOST if nodes == 1 else SLURMEnvironment.resolve_root_node_address(machines)
    os.environ.setdefault("MASTER_ADDR", address)
    os.environ.setdefault("MASTER_PORT", str(port))


def _set_threads(threads: int | None, devices: int) -> None:
    """Set the number of CPU threads of this process; by default those of a machine share its cores equally."""
    if threads is None and devices > 1 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, available_cores() // devices)
    if threads is not None:
        torch.set_num_threads(threads)
    if devices > 1:
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # otherwise Lightning would set it itself
