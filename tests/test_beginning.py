"""A command says in its first line what it is about to do, before torch is loaded, which takes seconds."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_script

# Each command line in turn, where torch cannot be loaded; a line tells that it was wanted
WITHOUT_TORCH = """
import json, os, sys
sys.modules["torch"] = sys.modules["lightning"] = None  # an import of them fails
from harness.command import cli, lr_range
for script, *words in json.loads(sys.argv[1]):
    sys.argv = [script, *words]
    try:
        lr_range.main() if script == "lr_range.py" else cli.main(script.removesuffix(".py"))
    except ModuleNotFoundError as error:
        print("END" if error.name in ("torch", "lightning") else error, flush=True)
"""


def said_without_torch(*commands: tuple[str, ...], environment: dict[str, str] | None = None) -> list[list[str]]:
    """What each command prints until it wants torch."""
    program = [sys.executable, "-c", WITHOUT_TORCH, json.dumps(commands)]
    done = subprocess.run(
        program, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False
    )
    *pieces, rest = done.stdout.split("END\n")
    assert rest == "" and len(pieces) == len(commands), done
    return [piece.splitlines() for piece in pieces]


def test_the_first_line_comes_before_torch(trained_run: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "runs" / "lenet5-digits" / "2026-01-01_00-00-00"
    unfinished.mkdir(parents=True)
    (unfinished / "config.yaml").write_bytes((trained_run / "config.yaml").read_bytes())
    here = f"runs={tmp_path / 'runs'}"
    new, digits = f"; a new folder in {tmp_path / 'runs'}", "lenet5 on digits: recipe=sgd_cosine, 3 epochs, batch 64"
    commands = {
        (
            "train.py",
        ): "training lenet5 on digits: recipe=sgd_cosine, 30 epochs, batch 64, seed 0; a new folder in runs",
        ("train.py", "trainer=smoke", "model=mlp", "seed=3", here): (
            f"training mlp on digits: recipe=sgd_cosine, 2 epochs, batch 64, seed 3{new}"
        ),
        ("train.py", f"weights={trained_run}", here): (
            f"training lenet5, weights={trained_run}, on digits: recipe=sgd_cosine, 30 epochs, batch 64, seed 0{new}"
        ),
        ("train.py", "resume=auto", here): (
            "training lenet5 on digits: recipe=sgd_cosine, 30 epochs, batch 64, seed 0; no unfinished run in "
            f"{tmp_path / 'runs'} has these settings, so a new one begins there"
        ),
        ("train.py", f"resume={unfinished}"): f"resuming {unfinished}: training {digits}, seed 0",
        ("eval.py", f"run={trained_run}", here): f"evaluating run={trained_run}{new}",
        ("eval.py", "model=lenet5", "weights=DIGITS", "data=digits", here): (
            f"evaluating lenet5, weights=DIGITS, on digits: protocol=whole_image{new}"
        ),
        ("eval.py", "model=resnet18", "weights=IMAGENET1K_V1", "data=imagenet", "data.root=my photos", here): (
            f"evaluating resnet18, weights=IMAGENET1K_V1, on imagenet data.root=my photos: protocol=center_crop{new}"
        ),
        ("eval.py", "model=[mlp,lenet5]", "weights=DIGITS", "data=digits", here): (
            f"evaluating 2 networks; a new folder for each in {tmp_path / 'runs'}"
        ),
        ("eval.py", "verify=all", "data=digits", here): (
            f"evaluating released weights on digits, and comparing them with their records{new}"
        ),
        ("lr_range.py", "steps=20", "highest=1"): (
            "range test of lenet5 on digits: recipe=sgd_cosine, 20 steps at rates of 1e-05 to 1, seed 0; a new folder "
            "in lr_ranges"
        ),
    }
    assert said_without_torch(*commands) == [[line] for line in commands.values()]


@pytest.mark.parametrize("launcher", ["TORCHELASTIC_RUN_ID", "SLURM_STEP_ID"])
def test_tasks_of_one_run_leave_the_line_to_the_first(launcher: str) -> None:
    """Which task that is, is found out with torch; tasks that train alone have a line each, as before."""
    alone, together = said_without_torch(("train.py",), ("train.py", "trainer.devices=2"), environment={launcher: "1"})
    assert len(alone) == 1 and together == []


def test_several_devices_have_one_line(trained_run: Path) -> None:
    ((line,),) = said_without_torch(("train.py", "trainer=ddp", "trainer.devices=2"))
    assert line.startswith("training lenet5 on digits: ")


def test_a_mistake_comes_before_the_line() -> None:
    for command in (("train.py", "recipe.epochs=0"), ("eval.py", "run=none"), ("eval.py", "checkpoint=none")):
        done = run_script(*command)
        assert done.returncode == 2 and done.stdout == "" and command[1] in done.stderr


@pytest.mark.slow
def test_the_first_line_takes_less_than_a_second_of_a_core() -> None:
    """Whatever else runs on the machine; the quickest of three starts."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with subprocess.Popen([sys.executable, "train.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline().startswith("training lenet5 on digits: ")
            process.kill()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 1, seconds


STORY = """
import gc
print("loading", gc.isenabled())
def train(config):
    print("running", gc.isenabled(), gc.get_freeze_count() > 10_000)
"""


def test_the_garbage_collector_rests_while_torch_is_loaded_and_passes_it_by_later(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(STORY, encoding="utf-8")
    program = (
        "import sys, harness.stories as s; s.__path__.insert(0, sys.argv.pop()); from harness.command.cli import main"
    )
    command = [sys.executable, "-c", f"{program}; main('train')", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[1:] == ["loading False", "running True True"], done
