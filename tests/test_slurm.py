"""A job of SLURM that is preempted, meets its time limit, is killed or cancelled: `examples/train.sbatch` as it is."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from in_process import only
from slurm import Job

from harness.run.machine import available_cores

SCRIPT = ROOT / "examples" / "train.sbatch"
SETTINGS = (
    *("model=mlp", "model.hidden=[16]", "recipe.epochs=80", "recipe.warmup_epochs=1", "seed=2"),
    *("trainer.accelerator=cpu", "trainer.threads=1", "trainer.checkpoint_every=3"),
)
EXACT = ("metrics.csv", "result.json", "predictions.csv")
two_cores = pytest.mark.skipif(available_cores() < 2, reason="two processes need two cores")


def submitted(tmp_path: Path, *options: str) -> Job:
    spool = tmp_path / "spool"
    spool.mkdir()
    output = f"--output={tmp_path}/%x-%j.out"
    return Job(SCRIPT, [*SETTINGS, f"runs={tmp_path / 'runs'}"], [output, *options], ROOT, spool)


def wait_for_epochs(job: Job, count: int, before: int) -> None:
    """Wait until the job, since it was started last, has said the end of so many epochs, or has ended."""
    while job.process.poll() is None:
        if len(re.findall(r"^epoch ", job.output.read_text()[before:], re.MULTILINE)) >= count:
            return
        time.sleep(0.02)


def warned_and_terminated(job: Job) -> None:
    job.warn()
    time.sleep(0.3)
    job.signal_tasks(signal.SIGTERM)


PREEMPTIONS: dict[str, Callable[[Job], None]] = {
    "warned": Job.warn,
    "terminated": lambda job: job.signal_tasks(signal.SIGTERM),
    "both": warned_and_terminated,
    "killed": Job.kill,
}


@pytest.mark.slow
@two_cores
@pytest.mark.parametrize(("nodes", "each"), [(1, 1), (2, 1)], ids=["one process", "two machines"])
def test_a_job_that_is_preempted_again_and_again_ends_with_the_record_of_one_that_was_not(
    nodes: int, each: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chosen = random.Random(nodes)
    kinds = [*PREEMPTIONS, "warned", "terminated"]
    chosen.shuffle(kinds)
    job = submitted(tmp_path, f"--nodes={nodes}", f"--ntasks-per-node={each}")
    job.start()
    for kind in kinds:
        before = job.output.stat().st_size
        if chosen.random() < 0.25:
            time.sleep(chosen.uniform(0.3, 6))  # before its first step, too
        else:
            wait_for_epochs(job, chosen.randint(1, 9), before)
            time.sleep(chosen.uniform(0, 0.2))
        assert job.process.poll() is None, job.output.read_text()
        PREEMPTIONS[kind](job)
        if kind != "killed":
            assert job.ends(60), (kind, job.output.read_text())
            assert job.asked_again, (kind, job.output.read_text())
        job.again()
    assert job.ends(120) and job.process.returncode == 0 and not job.asked_again, job.output.read_text()
    assert job.restarts == len(kinds)
    devices = ("trainer=ddp", f"trainer.devices={nodes * each}") if nodes * each > 1 else ()
    done = run_script("train.py", *devices, *SETTINGS, f"runs={tmp_path / 'whole'}")
    assert done.returncode == 0, done.stderr
    run, whole = only(tmp_path / "runs" / "mlp-digits"), only(tmp_path / "whole" / "mlp-digits")
    for file in EXACT:
        assert (run / file).read_bytes() == (whole / file).read_bytes(), file
    stops = re.findall(r"stopped by (\w+) after step ([\d,]+)", job.output.read_text())
    record_property("stops", stops)
    assert len(stops) >= 2, job.output.read_text()


@pytest.mark.slow
def test_a_job_that_its_user_cancels_is_not_put_into_the_queue_again(tmp_path: Path) -> None:
    job = submitted(tmp_path, "--nodes=1", "--ntasks-per-node=1")
    job.start()
    wait_for_epochs(job, 1, 0)
    job.cancel()
    assert not job.asked_again and job.process.returncode == -signal.SIGTERM
    assert "stopped by SIGTERM after step" in job.output.read_text()


@pytest.mark.slow
def test_a_job_with_a_mistake_is_not_put_into_the_queue_again(tmp_path: Path) -> None:
    job = submitted(tmp_path, "--nodes=1", "--ntasks-per-node=1")
    job.command += ["recipe.epoch=3"]
    job.start()
    assert job.ends(60) and job.process.returncode == 2 and not job.asked_again
    assert "recipe.epoch" in job.output.read_text() and not (tmp_path / "runs").exists()


def test_the_job_file_asks_for_what_it_needs() -> None:
    """Its signal goes to the tasks: one for the batch script (`B:`) would reach nobody."""
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SCRIPT.read_text(), re.MULTILINE))
    assert {"requeue", "time", "ntasks-per-node"} <= options.keys()
    assert options["open-mode"] == "append" and re.fullmatch(r"USR1@\d+", options["signal"])
    page = (ROOT / "docs" / "cluster.md").read_text().partition("#SBATCH --requeue\n")[2].partition("```")[0]
    assert all(line in SCRIPT.read_text() for line in page.splitlines())
    assert f"{128 + signal.SIGUSR1} | {128 + signal.SIGTERM})" in SCRIPT.read_text()
