"""Signals, closed pipes and files that fail: one line, the right exit code, nothing lost and nothing left running."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import pytest
import torch
from conftest import ROOT, run_script

from harness.run.interruption import MOST_STEPS, Interruption

LISTENING = "import os, signal, sys, time; sys.path.insert(0, '.'); from harness.run import interruption\n"
QUICK = ("model=mlp", "model.hidden=[8]", "recipe.warmup_epochs=0")


def hears_ctrl_c() -> None:
    """A process that a shell starts in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def started(*command: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=options.pop("cwd", ROOT),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
        **options,
    )


def listening(code: str, **options: Any) -> subprocess.Popen[str]:
    """A script of a few lines that listens like the real ones."""
    return started("-c", LISTENING + "interruption.listen('script.py')\n" + code, **options)


def group_is_gone(process: subprocess.Popen[str], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def wait_until_it_listens(process: subprocess.Popen[str]) -> None:
    """Wait until a process catches SIGTERM; until then Python itself is still starting, on a busy machine for long."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.parents[1].exists():
        time.sleep(0.3)
        return
    while process.poll() is None:
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


@pytest.mark.parametrize("script", ["train.py", "eval.py", "compare.py", "tools/predict.py"])
def test_a_signal_while_a_script_imports_is_one_line(script: str) -> None:
    for number, seconds in ((signal.SIGINT, 0.0), (signal.SIGTERM, 0.2)):
        process = started(script)
        wait_until_it_listens(process)
        time.sleep(seconds)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        if process.returncode == 128 + number:
            *refused, stopped = stderr.splitlines()  # three of them refuse an empty command line, and may do so first
            assert stopped == f"{Path(script).name}: stopped by {number.name}"
            assert len(refused) <= (script != "train.py")
        else:  # it had ended
            assert script != "train.py" and "Traceback" not in stderr


@pytest.mark.slow
def test_signals_at_random_moments_of_the_first_seconds(record_property: Callable[[str, object], None]) -> None:
    chosen, seen = random.Random(0), {"before Python's first line": 0, "one line": 0}
    for _ in range(40):
        number, seconds = chosen.choice([signal.SIGINT, signal.SIGTERM]), chosen.uniform(0.1, 4)
        process = started("train.py", "trainer.max_batches=1", "recipe.epochs=2000", "runs=/nonexistent/x")
        time.sleep(seconds)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
        if process.returncode == 2:  # it had come so far that it found no place for its folder
            continue
        assert process.returncode == 128 + number and stderr.count("\n") == 1, (seconds, stderr)
        seen["one line"] += 1
    record_property("seen", seen)
    assert seen["one line"] >= 25


def test_a_signal_ends_what_has_nothing_to_lose_also_inside_a_library() -> None:
    with listening("with interruption.doing('in its sleep'): print(flush=True); time.sleep(100)") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143 and process.stderr.read() == "script.py: stopped by SIGTERM in its sleep\n"


def test_who_has_something_to_lose_gets_the_signal_and_ctrl_c_twice_does_not_wait() -> None:
    code = (
        "stop = interruption.Interruption(); stop.watch(); print(flush=True)\n"
        "while stop.received is None: time.sleep(0.01)\n"
        "print(stop.received.name, flush=True); time.sleep(100)"
    )
    with listening(code) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "SIGINT\n"
        process.send_signal(signal.SIGINT)  # a launcher repeats what the terminal sent already
        time.sleep(1.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 130 and process.stderr.read() == "script.py: stopped by SIGINT\n"


def test_a_signal_after_all_was_written_is_no_failure() -> None:
    """A job with another exit code would be put into the queue again, and do all of it anew."""
    with listening("interruption.nothing_to_lose(); print(flush=True); time.sleep(100)") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(signal.SIGUSR1)
        assert process.wait(5) == 0 and process.stderr.read() == "script.py: SIGUSR1 came after all was written\n"


def test_a_signal_that_the_shell_wants_ignored_stays_ignored() -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + LISTENING
    with started("-c", ignoring + "interruption.listen('s'); print(flush=True); time.sleep(1)") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0


def test_a_process_that_a_run_started_ends_with_the_run() -> None:
    child = LISTENING + "interruption.listen('s'); print(os.getpid(), flush=True); time.sleep(100)"
    parent = (
        f"import subprocess\nenvironment = {{**os.environ, interruption.PARENT: str(os.getpid())}}\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], env=environment)"
    )
    with listening(parent) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert group_is_gone(process, 10)


class TwoProcesses:
    """Of a trainer: what `Interruption` asks, as if another process answered."""

    world_size = 2
    is_global_zero = True

    def __init__(self, other_received: bool = False) -> None:
        self.asked = 0
        self.other = torch.tensor([other_received, 0])
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=self.reduce)

    def reduce(self, mine: torch.Tensor, reduce_op: str) -> torch.Tensor:
        self.asked += 1
        assert reduce_op == "sum"
        return mine + self.other


def test_processes_ask_each_other_about_once_a_second() -> None:
    trainer, stop = TwoProcesses(), Interruption()
    assert not any(stop.agreed_at_step(cast(L.Trainer, trainer)) for _ in range(40 * MOST_STEPS))
    assert trainer.asked <= 41
    slow, stop = TwoProcesses(), Interruption()
    for _ in range(3):
        time.sleep(0.6)
        stop.agreed_at_step(cast(L.Trainer, slow))
    assert slow.asked == 3
    told = Interruption()
    assert any(told.agreed_at_step(cast(L.Trainer, TwoProcesses(other_received=True))) for _ in range(MOST_STEPS))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_schedulers_signal_stops_a_run_with_a_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    process = started("train.py", *QUICK, "recipe.epochs=5000", f"runs={tmp_path}", env=slurm(0, 1))
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch    3/"):
        assert process.poll() is None
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    (run,) = (tmp_path / "mlp-digits").iterdir()
    line = f"train.py: stopped by {number.name} after step "
    assert process.returncode == 128 + number and stderr.startswith(line) and stderr.count("\n") == 1, stderr
    assert f"go on with: python train.py resume='{run}'" in stderr
    assert (run / "checkpoints" / "last.ckpt").exists()
    assert not list(ROOT.glob("hpc_ckpt*"))


def slurm(rank: int, tasks: int) -> dict[str, str]:
    """What srun sets for one of its tasks, as far as it matters here."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),  # tests at the same time meet at ports of their own
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "SLURM_NODEID": "0",
    }


def test_a_reader_that_goes_away_neither_stops_a_training_nor_shows_a_traceback(tmp_path: Path) -> None:
    process = started("train.py", *QUICK, "recipe.epochs=3", f"runs={tmp_path}")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 0
    (run,) = (tmp_path / "mlp-digits").iterdir()
    assert json.loads((run / "result.json").read_text())["seen"] == 360
    assert "test top-1 error" in (run / "log.txt").read_text()


@pytest.mark.parametrize(
    "command",
    [["-m", "models"], ["train.py", "--help"], ["tools/predict.py", "--help"], ["tools/prepare_imagenet.py", "--help"]],
    ids=" ".join,
)
def test_every_script_survives_a_closed_pipe(command: list[str]) -> None:
    process = started(*command)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 0


def test_a_script_without_standard_output_works(tmp_path: Path) -> None:
    command = f"{sys.executable} train.py {' '.join(QUICK)} recipe.epochs=1 runs={tmp_path} >&-"
    done = subprocess.run(command, shell=True, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert list(tmp_path.glob("mlp-digits/*/result.json"))


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        ("/dev/null", "runs=/dev/null: cannot make a folder there: /dev/null/mlp-digits: Not a directory"),
        ("x" * 300, "File name too long; choose a shorter name"),
        ("dangling", "runs=dangling: cannot make a folder there: dangling: File exists"),
    ],
    ids=["no folder", "long", "dangling"],
)
def test_a_place_where_no_run_can_be_is_one_line(runs: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    done = run_script("train.py", *QUICK, "trainer=smoke", f"runs={runs}", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and line in done.stderr, done.stderr


@pytest.mark.parametrize("renamed", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["renamed", "removed"])
def test_a_run_whose_folder_goes_away_stops_and_says_so(renamed: bool, tmp_path: Path) -> None:
    process = started("train.py", *QUICK, "recipe.epochs=5000", f"runs={tmp_path}")
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch    2/"):
        assert process.poll() is None
    (run,) = (tmp_path / "mlp-digits").iterdir()
    if renamed:
        run.rename(tmp_path / "elsewhere")
    else:
        while run.exists():  # the run may write another file while this one removes them
            subprocess.run(["rm", "-rf", str(run)], check=False)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and stderr.count("\n") == 1, stderr
    assert "this folder is gone; was it removed or renamed?" in stderr and str(run) in stderr
    assert not run.exists()


def test_a_full_disk_is_one_line_wherever_it_strikes(tmp_path: Path) -> None:
    """A limit on the size of files fails like a full disk; `log.txt` meets it here, long before a checkpoint."""
    code = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "import harness.run.folder as r; take = r._take\n"
    code += "def full(folder): take(folder); resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
    code += f"r._take = full; sys.argv = ['train.py', *{QUICK}, 'recipe.epochs=2', 'runs={tmp_path}']\n"
    code += "runpy.run_path('train.py', run_name='__main__')\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "File too large" in done.stderr, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_evaluation_that_is_stopped_leaves_no_record(
    number: signal.Signals, trained_run: Path, tmp_path: Path
) -> None:
    process = started("eval.py", f"run={trained_run}", f"runs={tmp_path}", "protocol.batch_size=1", "trainer=cpu")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("evaluating run=")
    assert "on digits: 360 images" in process.stdout.readline()  # the evaluation begins
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stderr == (
        f"eval.py: stopped by {number.name} in the evaluation, before its record was written; start it again\n"
    )
    (folder,) = (tmp_path / "lenet5-digits").iterdir()
    assert not (folder / "result.json").exists() and not (folder / "predictions.csv").exists()
