"""The processes of a run: who belongs to it, whatever the environment holds, and how all of them end."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import socket
import subprocess
import time
from pathlib import Path

import lightning as L
import pytest
import torch
from conftest import ROOT, run_script
from in_process import only
from lightning.pytorch.utilities import rank_zero_only
from test_interruption import QUICK, group_is_gone, slurm, started
from test_training import PREPROCESSING, PROTOCOL, RECIPE, Network, fit, images

from harness import build
from harness.config.trainer import TrainerConfig
from harness.errors import UserError
from harness.evaluation.evaluator import evaluate
from harness.run.machine import available_cores
from harness.run.processes import Tasks, Team, devices_of, gather, launched
from harness.run.progress import ProgressBar

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}


def trainer(devices: int = 1, accelerator: str = "cpu") -> TrainerConfig:
    return TrainerConfig("cpu", accelerator, devices, "auto", None, False, None, None, 1000)


def clear(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


LEFT_OVER = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}
LEFT_OVER |= {"CNN_ZOO_MEMBER": "1/2/4711", "CNN_ZOO_PARENT": "1"}


@pytest.mark.parametrize("devices", [1, 2])
def test_left_over_variables_mean_nothing(devices: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if devices > available_cores():
        pytest.skip("two processes need two cores")
    clear(monkeypatch, **LEFT_OVER, SLURM_LOCALID="1", SLURM_NODEID="0", SLURM_JOB_ID="4711")
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning does when it is imported
    monkeypatch.setattr("harness.run.interruption.listens", lambda: True)  # as in a script
    team = gather(trainer(devices))
    assert (team.size, team.rank, team.leads, rank_zero_only.rank) == (devices, 0, True, 0)  # type: ignore[attr-defined]
    if devices == 1:
        built = build.build_trainer(team, tmp_path, "32-true", [])
        assert built.is_global_zero and built.world_size == 1


def test_no_other_packages_callbacks_act(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lightning adds those of every package that registers an entry point for it."""
    place = "lightning.pytorch.trainer.connectors.callback_connector._load_external_callbacks"
    monkeypatch.setattr(place, lambda group: [L.Callback()])
    own = ProgressBar(enabled=False)
    assert build.build_trainer(gather(trainer(1)), tmp_path, "32-true", [own]).callbacks == [own]  # type: ignore[attr-defined]


def test_tasks_of_a_launcher_are_one_run_or_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({**TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"}, slurm(1, 2)):
        clear(monkeypatch, **variables)
        together = gather(trainer(2))
        assert (together.size, together.rank, together.local_rank, together.leads) == (2, 1, 1, False)
        alone = gather(trainer(1))
        assert (alone.size, alone.rank) == (1, 0) and "task 2 of 2" in str(alone) and "trains alone" in str(alone)
        monkeypatch.undo()


@pytest.mark.parametrize("nodes", ["1", "2"])
def test_other_numbers_of_tasks_are_refused_by_the_first(nodes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = 3 if nodes == "1" else 2
    clear(monkeypatch, **{**slurm(0, tasks), "SLURM_STEP_NUM_NODES": nodes})
    with pytest.raises(UserError, match=f"trainer.devices=2: srun started {tasks} tasks"):
        gather(trainer(2))
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit) as silent:
        gather(trainer(2))
    assert silent.value.code == 2


def test_a_batch_script_of_slurm_is_one_process() -> None:
    script = {key: value for key, value in slurm(0, 4).items() if "STEP" not in key}
    assert launched(script) is None
    assert launched({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}) == Tasks("torchrun", 2, 0, 0, 1, 2)
    assert launched({**TORCHRUN, "WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0"}) == Tasks("torchrun", 4, 2, 0, 2, 2)
    assert launched({"TORCHELASTIC_RUN_ID": "none"}) is None


def test_the_machines_of_a_launcher_are_counted() -> None:
    """torchrun says how many there are, and SLURM how many tasks each has, in a shorthand of its own."""
    uneven = {**TORCHRUN, "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "3", "GROUP_WORLD_SIZE": "2"}
    assert launched({**uneven, "RANK": "0", "LOCAL_RANK": "0"}) == Tasks("torchrun", 4, 0, 0, 2, 3)
    several = {
        **slurm(7, 11),
        "SLURM_LOCALID": "3",
        "SLURM_STEP_NUM_NODES": "3",
        "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
    }
    for node, tasks in (("1", 4), ("2", 3)):
        assert launched({**several, "SLURM_NODEID": node}) == Tasks("srun", 11, 7, 3, 3, tasks)


def on_nodes(nodes: int, devices: int = 1) -> TrainerConfig:
    return dataclasses.replace(trainer(devices), nodes=nodes)


def on_two(rank: int, tasks: int = 2) -> dict[str, str]:
    """What srun sets for a task of a step on two machines."""
    each = tasks // 2
    place = {"SLURM_LOCALID": str(rank % each), "SLURM_NODEID": str(rank // each), "SLURM_STEP_NUM_NODES": "2"}
    return {**slurm(rank, tasks), **place, "SLURM_STEP_NODELIST": "gpu[07-08]"}


def test_ranks_of_several_machines_are_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, **on_two(1))
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    team = gather(on_nodes(2))
    assert (team.size, team.rank, team.local_rank, team.device, team.nodes) == (2, 1, 0, 0, 2)
    assert str(team) == "2 x cpu on 2 machines" and os.environ["MASTER_ADDR"] == "gpu07"
    built = build.build_trainer(team, tmp_path, "32-true", [])
    assert (built.world_size, built.num_nodes, built.num_devices) == (2, 2, 1)
    assert (built.global_rank, built.local_rank, built.node_rank) == (1, 0, 1)


@pytest.mark.parametrize(
    ("variables", "nodes", "line"),
    [
        ({}, 2, "trainer.nodes=2: torchrun or srun starts the processes .* srun --nodes=2 --ntasks-per-node=1"),
        (
            slurm(0, 2),
            2,
            "trainer.nodes=2 trainer.devices=1: srun started 2 tasks; start 1 tasks on each of 2 machines",
        ),
        (slurm(0, 1), 2, "trainer.nodes=2 trainer.devices=1: srun started 1 tasks; start 1 tasks on each of 2"),
        (on_two(0, 4), 2, "srun started 4 tasks on 2 machines; start 1 tasks on each of 2 machines"),
        (on_two(0), 3, "trainer.nodes=3 trainer.devices=1: srun started 2 tasks on 2 machines; start 1 tasks"),
        (
            {**TORCHRUN, "RANK": "1", "LOCAL_RANK": "0", "GROUP_WORLD_SIZE": "2"},
            2,
            "torchrun started 2 tasks on 2 machines, 2 of them on .*; start 1 tasks on each of 2 machines",
        ),
    ],
    ids=["no launcher", "one machine", "one task", "four tasks", "three", "uneven"],
)
def test_other_tasks_than_those_of_the_machines_are_one_line(
    variables: dict[str, str], nodes: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(monkeypatch, **variables)
    with pytest.raises(UserError, match=line) as told:
        gather(on_nodes(nodes))
    assert "\n" not in str(told.value)


def test_more_processes_than_cores_are_refused() -> None:
    with pytest.raises(
        UserError, match=rf"trainer.devices=1000: each device is one process, .* has {available_cores()} CPU cores"
    ):
        gather(trainer(1000))
    for key, value in (("threads", 2026), ("workers", 100_000), ("devices", 10**9)):
        done = run_script("train.py", f"trainer.{key}={value}")
        assert done.returncode == 2 and f"trainer.{key}={value}: must be at most" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match=r"trainer.accelerator=gpu .*has no GPU"):
        gather(trainer(1, "gpu"))


def test_the_gpu_of_a_mac_is_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for by name, trains alone, and is no substitute for another GPU; this machine only pretends."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"accelerator=mps .*is the GPU of a Mac, and torch finds none here; trainer=c"):
        gather(trainer(1, "mps"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = {kind: devices_of(trainer(0, kind)) for kind in ("auto", "gpu", "mps", "cpu")}
    assert found == {"auto": ("cuda", 1, 1), "gpu": ("cuda", 1, 1), "mps": ("mps", 1, 1), "cpu": ("cpu", 1, 1)}
    for several in ({"strategy": "ddp"}, {"nodes": 2}):
        with pytest.raises(UserError, match="the GPU of a Mac trains alone"):
            gather(dataclasses.replace(trainer(1, "mps"), **several))
    with pytest.raises(UserError, match="this machine has 1 devices"):
        gather(trainer(2, "mps"))


def test_lightning_reads_and_writes_nothing_that_it_was_not_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of a requeued job, options and handlers: none of them changes training or evaluation."""
    before_folder, after_folder, work = (tmp_path / name for name in ("before", "after", "work"))
    for folder in (before_folder, after_folder, work):
        folder.mkdir()
    torch.manual_seed(0)
    before = fit(Network(), before_folder, RECIPE).network.state_dict()
    monkeypatch.chdir(work)
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.0", "global_step": 9}, work / "hpc_ckpt_1.ckpt")
    clear(monkeypatch, **slurm(0, 1), PL_TRAINER_ACCUMULATE_GRAD_BATCHES="7", PL_TRAINER_LIMIT_TEST_BATCHES="1")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    seen = dict[str, object]()

    class Sees(Network):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen["during"] = {number: signal.getsignal(number) for number in handlers}
            return super().forward(x)

    torch.manual_seed(0)
    gather(trainer())
    network = fit(Sees(), after_folder, RECIPE).network
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert seen["during"] == handlers
    tester = build.build_trainer(Team("cpu", 1), after_folder, "32-true", [])
    evaluator = evaluate(tester, network, images(20), PREPROCESSING, PROTOCOL)
    assert evaluator.counts.seen == 20
    assert [path.name for path in work.iterdir()] == ["hpc_ckpt_1.ckpt"]
    assert not list(after_folder.glob("hpc*"))


two_cores = pytest.mark.skipif(available_cores() < 2, reason="two processes need two cores")
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.threads=1")


def children(process: subprocess.Popen[str]) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def training(tmp_path: Path, *settings: str, until: str = "epoch    2/") -> subprocess.Popen[str]:
    """Two processes that train."""
    process = started("train.py", *QUICK, *TWO, "recipe.epochs=5000", f"runs={tmp_path}", *settings)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(until):
        assert process.poll() is None
    return process


@two_cores
def test_a_process_that_dies_in_training_is_one_line_with_the_command_that_goes_on(tmp_path: Path) -> None:
    process = training(tmp_path)
    (child,) = children(process)
    os.kill(child, signal.SIGKILL)
    _, stderr = process.communicate(timeout=30)
    (run,) = (tmp_path / "mlp-digits").iterdir()
    assert process.returncode == 1
    line = f"process 2 of 2 ended with signal 9; go on with: python train.py resume='{run}'"
    assert stderr == f"train.py: {line}\n"
    assert line in (run / "log.txt").read_text()
    assert group_is_gone(process, 10)


@pytest.mark.slow
@two_cores
def test_processes_end_when_the_first_is_killed(tmp_path: Path) -> None:
    process = training(tmp_path)
    process.kill()
    assert process.communicate(timeout=30)[1] == ""
    assert group_is_gone(process, 10)


@pytest.mark.slow
@two_cores
@pytest.mark.parametrize("seconds", [1.0, 3.5, 5.0, 6.5, 8.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_processes_start_is_one_line_and_all_are_gone(
    number: signal.Signals, seconds: float, tmp_path: Path
) -> None:
    process = started("train.py", *QUICK, *TWO, "recipe.epochs=5000", f"runs={tmp_path}")
    time.sleep(seconds)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C in a terminal does
    else:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number and stderr.count("\n") == 1, stderr
    assert stderr.startswith(f"train.py: stopped by {number.name}")
    assert group_is_gone(process, 10)


@pytest.mark.slow
@two_cores
@pytest.mark.parametrize("which", ["first", "second"])
def test_a_signal_to_either_process_stops_both_after_the_same_step(which: str, tmp_path: Path) -> None:
    process = training(tmp_path)
    os.kill(process.pid if which == "first" else children(process)[0], signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143 and stderr.count("\n") == 1 and "stopped by SIGTERM after step" in stderr
    assert group_is_gone(process, 10)


@pytest.mark.slow
@two_cores
def test_an_error_of_one_process_reaches_standard_error(tmp_path: Path) -> None:
    code = (
        "import runpy; from harness.training.classifier import Classifier; from harness.errors import UserError\n"
        "step = Classifier.training_step\n"
        "def fails(self, *a):\n"
        "    if self.global_rank == 1 and self.global_step == 30: raise UserError('only the second knows')\n"
        "    step(self, *a)\n"
        "Classifier.training_step = fails; runpy.run_path('train.py', run_name='__main__')\n"
    )
    script = tmp_path / "train_that_fails.py"
    script.write_text(code)
    process = started(str(script), *QUICK, *TWO, f"runs={tmp_path}", env={"PYTHONPATH": str(ROOT)})
    _, stderr = process.communicate(timeout=60)
    assert "train.py: only the second knows\n" in stderr and "process 2 of 2 ended with exit code 2" in stderr
    assert "Traceback" not in stderr and process.returncode == 1
    assert group_is_gone(process, 10)


@pytest.mark.slow
@two_cores
def test_torchrun_and_srun_start_the_same_run(tmp_path: Path) -> None:
    settings = (*QUICK, *TWO, "recipe.epochs=3", "recipe.patience=2")
    done = run_script("train.py", *settings, f"runs={tmp_path / 'own'}")
    assert done.returncode == 0, done.stderr
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py", *settings]
    torchrun = started(*command, f"runs={tmp_path / 'torchrun'}")
    _, stderr = torchrun.communicate(timeout=120)
    assert torchrun.returncode == 0, stderr
    tasks = [started("train.py", *settings, f"runs={tmp_path / 'srun'}", env=slurm(rank, 2)) for rank in range(2)]
    ends = [task.communicate(timeout=120) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0] and ends[1] == ("", "")
    runs = [next((tmp_path / name / "mlp-digits").iterdir()) for name in ("own", "torchrun", "srun")]
    assert all(len(list(run.parent.iterdir())) == 1 for run in runs)
    for file in ("metrics.csv", "result.json", "predictions.csv"):
        assert len({(run / file).read_bytes() for run in runs}) == 1, file


NODES = ("trainer.accelerator=cpu", "trainer.threads=1", "trainer.nodes=2", "trainer.devices=1")


def torchrun_on_two(*words: str, folders: tuple[Path, Path] = (ROOT, ROOT)) -> list[subprocess.Popen[str]]:
    """torchrun on two machines, which are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meet = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", port]
    command = ["-m", "torch.distributed.run", *meet, "--node-rank"]
    return [
        started(*command, str(node), str(ROOT / words[0]), *words[1:], cwd=folder, env={"PYTHONPATH": str(ROOT)})
        for node, folder in enumerate(folders)
    ]


def quiet(output: str, errors: str) -> bool:
    """Whether a machine but the first says nothing; torch may warn that the first, where they met, ended before it."""
    of_torch = ("TCPStore", "torch/distributed/elastic/agent/server/api.py")  # torchrun's wait for the other machines
    return not output and all(
        any(name in line for name in of_torch) or line.startswith(("frame #", "Exception raised")) or not line
        for line in errors.splitlines()
    )


@pytest.mark.slow
@two_cores
def test_two_machines_with_one_device_each_are_one_run_with_the_record_of_two_devices(tmp_path: Path) -> None:
    settings = (*QUICK, "recipe.epochs=3", "recipe.patience=2", "seed=3")
    done = run_script("train.py", *settings, *TWO, f"runs={tmp_path / 'devices'}")
    assert done.returncode == 0, done.stderr
    pytest.importorskip("tensorboard", reason="this tracker is not installed")
    tasks = torchrun_on_two("train.py", *settings, *NODES, f"runs={tmp_path / 'torchrun'}", "track=tensorboard")
    ends = [task.communicate(timeout=120) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], ends
    assert "2 x cpu on 2 machines; " in ends[0][0] and quiet(*ends[1]), ends
    assert len(list((only(tmp_path / "torchrun" / "mlp-digits") / "tensorboard").glob("events*"))) == 1
    machines = {"SLURM_STEP_NODELIST": "localhost,127.0.0.1"}
    words = ("train.py", *settings, *NODES, f"runs={tmp_path / 'srun'}")
    tasks = [started(*words, env={**on_two(rank), **machines}) for rank in range(2)]
    ends = [task.communicate(timeout=120) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0] and quiet(*ends[1]), ends
    runs = [only(tmp_path / name / "mlp-digits") for name in ("devices", "torchrun", "srun")]
    for file in ("metrics.csv", "result.json", "predictions.csv"):
        assert len({(run / file).read_bytes() for run in runs}) == 1, file
    tasks = torchrun_on_two("eval.py", f"run={runs[1]}", *NODES, f"runs={tmp_path / 'eval'}")
    ends = [task.communicate(timeout=120) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], ends
    assert (only(tmp_path / "eval" / "mlp-digits") / "predictions.csv").read_bytes() == (
        runs[0] / "predictions.csv"
    ).read_bytes()


@pytest.mark.slow
@two_cores
def test_machines_that_share_no_folder_are_told_in_one_line(tmp_path: Path) -> None:
    folders = tmp_path / "first", tmp_path / "second"
    for folder in folders:
        folder.mkdir()
    tasks = torchrun_on_two("train.py", *QUICK, *NODES, "recipe.epochs=3", folders=folders)
    ends = [task.communicate(timeout=120) for task in tasks]
    assert all(task.returncode for task in tasks)
    own = [[line for line in stderr.splitlines() if line.startswith("train.py: ")] for _, stderr in ends]
    run = only(folders[0] / "runs" / "mlp-digits").relative_to(folders[0])
    assert len(own[0]) == 1 and own[1] == [], ends
    line = f"train.py: {run}: machine {platform.node()} does not have this folder of machine 1: with trainer.nodes=2"
    assert own[0][0].startswith(line) and not (folders[1] / "runs").exists()


@pytest.mark.slow
def test_four_tasks_with_a_seed_each_are_four_runs(tmp_path: Path) -> None:
    tasks = [
        started("train.py", *QUICK, "recipe.epochs=2", f"seed={rank}", f"runs={tmp_path}", env=slurm(rank, 4))
        for rank in range(4)
    ]
    for rank, task in enumerate(tasks):
        stdout, stderr = task.communicate(timeout=120)
        assert task.returncode == 0 and stderr == "" and f"task {rank + 1} of 4 of srun trains alone" in stdout
    records = [json.loads(path.read_text()) for path in tmp_path.glob("mlp-digits/*/result.json")]
    assert sorted(record["training"]["seed"] for record in records) == [0, 1, 2, 3]


@pytest.mark.slow
@two_cores
def test_all_processes_go_on_with_the_run_that_auto_finds(tmp_path: Path) -> None:
    command = ("train.py", *QUICK, *TWO, "recipe.epochs=60", f"runs={tmp_path}", "resume=auto")
    process = started(*command)
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch  2/"):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    done = run_script(*command)
    assert done.returncode == 0 and done.stdout.startswith("resuming "), done.stderr
    (run,) = (tmp_path / "mlp-digits").iterdir()
    assert (run / "result.json").exists() and len((run / "metrics.csv").read_text().splitlines()) == 61
