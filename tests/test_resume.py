"""A run that was killed, stopped or torn goes on and ends bit for bit like one that never was."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from conftest import ROOT, run_script
from filelock import FileLock
from in_process import call

from harness.config.trainer import TrainerConfig
from harness.errors import UserError
from harness.run.checkpoint import checkpoint_of_run, read_checkpoint, read_content, weights_sha256
from harness.run.resume import read_config

SETTINGS = ("recipe.epochs=3", "trainer.checkpoint_every=7", "trainer.threads=1")
EVERYTHING = (  # that keeps a state of its own or draws; dropout is in the network
    *("recipe.epochs=3", "trainer.checkpoint_every=7", "trainer.threads=1", "trainer.accumulate=2"),
    *("recipe.schedule=plateau", "recipe.average_decay=0.9", "recipe.exact_batch_norm=true", "recipe.clip_norm=1"),
    *("recipe.mixup=0.2", "recipe.cutmix=1", "recipe.label_smoothing=0.1", "recipe.distortion=[1,0.1,0.1,0.1]"),
    *("recipe.erasing=0.2", "recipe.optimizer=adamw", "recipe.learning_rate=0.002", "recipe.nesterov=false"),
)
PATIENT = ("recipe.epochs=3", "recipe.patience=3", "trainer.checkpoint_every=1000", "trainer.threads=1")
EXACT = ("metrics.csv", "result.json", "predictions.csv")


def start(*arguments: str, kill_at: str = "never:0") -> subprocess.CompletedProcess[str]:
    return run_script("tests/killed_train.py", *arguments, environment={"KILL_AT": kill_at}, timeout=300)


def run_of(runs: Path) -> Path:
    (folder,) = (runs / "lenet5-digits").iterdir()
    return folder


def whole(runs: Path, *settings: str) -> Path:
    done = start(*settings, f"runs={runs}")
    assert done.returncode == 0, done.stderr
    return run_of(runs)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole(tmp_path_factory.mktemp("unbroken"), *SETTINGS)


@pytest.fixture(scope="module")
def unbroken_patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run that reports its best epoch; that is its last one here."""
    return whole(tmp_path_factory.mktemp("patient"), *PATIENT)


@pytest.fixture(scope="module")
def unbroken_with_everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole(tmp_path_factory.mktemp("everything"), *EVERYTHING)


def assert_equal_runs(run: Path, unbroken: Path) -> None:
    for file in EXACT:
        assert (run / file).read_bytes() == (unbroken / file).read_bytes(), file
    for file in ("last.ckpt", "best_on_validation.ckpt"):
        mine, whole = (read_checkpoint(folder / "checkpoints" / file) for folder in (run, unbroken))
        assert (mine.epoch, mine.step) == (whole.epoch, whole.step)
        assert weights_sha256(mine.state_dict) == weights_sha256(whole.state_dict)
    assert len((run / "timing.csv").read_text().splitlines()) == 4
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(run.rglob(".*.partial"))


def killed_and_resumed(runs: Path, moments: Sequence[str], settings: Sequence[str] = SETTINGS) -> Path:
    """Start a run and kill it at each moment in turn; then let it end."""
    for number, moment in enumerate(moments):
        arguments = [f"resume={run_of(runs)}"] if number else [*settings, f"runs={runs}"]
        assert start(*arguments, kill_at=moment).returncode == -signal.SIGKILL, moment
    done = start(f"resume={run_of(runs)}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"resuming {run_of(runs)}: training ")
    return run_of(runs)


MOMENTS = [
    ["batch:3"],  # before the first checkpoint
    ["batch:7", "batch:14", "batch:19", "batch:20"],  # at a checkpoint's step, between two, before an epoch's last
    ["before_validation:2", "after_validation:2"],
    ["saved:3", "saved:1", "batch:41"],  # saved:3 is the end of epoch 1
    ["torn:2"],
    ["torn:4", "torn:1"],
]


@pytest.mark.slow
@pytest.mark.parametrize("moments", MOMENTS, ids=",".join)
def test_killed_at_a_moment(moments: list[str], unbroken: Path, tmp_path: Path) -> None:
    assert_equal_runs(killed_and_resumed(tmp_path, moments), unbroken)


FILES_OF_AN_END = (
    *("timing.csv", "previous.ckpt", "last.ckpt", "best_on_validation.ckpt", "metrics.csv", "curves.png"),
    *("predictions.csv", "predictions_readable.csv", "evaluation_timing.json", "result.json"),
)


def test_killed_before_the_best_checkpoint_was_copied(unbroken_patient: Path, tmp_path: Path) -> None:
    """Nothing is left to train then; the run reported an earlier epoch's weights as the last one's."""
    moment = f"ending:{FILES_OF_AN_END.index('last.ckpt') + 1}"
    assert start(*PATIENT, f"runs={tmp_path}", kill_at=moment).returncode == -signal.SIGKILL
    checkpoint = checkpoint_of_run(run_of(tmp_path))  # what an evaluation would take now
    assert checkpoint.name == "last.ckpt" and read_checkpoint(checkpoint).epoch == 3
    done = start(f"resume={run_of(tmp_path)}")
    assert done.returncode == 0, done.stderr
    assert_equal_runs(run_of(tmp_path), unbroken_patient)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [SETTINGS, PATIENT], ids=["last", "best"])
@pytest.mark.parametrize("number", range(1, len(FILES_OF_AN_END)), ids=FILES_OF_AN_END.__getitem__)
def test_killed_after_each_file_of_an_ending_run(
    number: int, settings: tuple[str, ...], unbroken: Path, unbroken_patient: Path, tmp_path: Path
) -> None:
    moments = [f"ending:{number}", *([f"repairing:{number - 1}"] if number > 2 else [])]
    run = killed_and_resumed(tmp_path, moments, settings)
    assert_equal_runs(run, unbroken if settings == SETTINGS else unbroken_patient)


@pytest.mark.slow
def test_a_run_that_wrote_its_record_is_finished(unbroken: Path, tmp_path: Path) -> None:
    killed = start(*SETTINGS, f"runs={tmp_path}", kill_at=f"ending:{len(FILES_OF_AN_END)}")
    assert killed.returncode == -signal.SIGKILL
    assert_equal_runs(run_of(tmp_path), unbroken)
    assert "this run is finished" in start(f"resume={run_of(tmp_path)}").stderr


def test_a_best_checkpoint_of_another_epoch_is_refused(unbroken_patient: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken_patient, run)
    last, best = (run / "checkpoints" / name for name in ("last.ckpt", "best_on_validation.ckpt"))
    content = read_content(last)
    content["cnn_zoo_progress"]["history"][1]["validation"]["correct_top1"] = 180  # epoch 2 was the best
    torch.save(content, last)
    with pytest.raises(UserError, match="holds step 60, but the best epoch, 2, ended at step 40"):
        checkpoint_of_run(run)
    assert best.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "seed"),
    [*((SETTINGS, seed) for seed in range(10)), *((EVERYTHING, seed) for seed in range(4))],
    ids=[*(f"default-{seed}" for seed in range(10)), *(f"everything-{seed}" for seed in range(4))],
)
def test_killed_at_random_moments(
    settings: tuple[str, ...],
    seed: int,
    unbroken: Path,
    unbroken_with_everything: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    chosen, kills = random.Random(seed), 0
    longest = 0.25 if settings == SETTINGS else 0.5  # seconds, of some that all epochs take
    moments = [f"seconds:{chosen.uniform(0.0, longest):.3f}" for _ in range(4)]
    finished = "this run is finished"  # the kill before came between its record and its end
    for number, moment in enumerate(moments):
        arguments = [f"resume={run_of(tmp_path)}"] if number else [*settings, f"runs={tmp_path}"]
        done = start(*arguments, kill_at=moment)
        if done.returncode == 0 or finished in done.stderr:
            break
        assert done.returncode == -signal.SIGKILL
        kills += 1
    else:
        done = start(f"resume={run_of(tmp_path)}")
        assert done.returncode == 0 or finished in done.stderr, done.stderr
    record_property("kills", kills)  # in --junitxml
    assert_equal_runs(run_of(tmp_path), unbroken if settings == SETTINGS else unbroken_with_everything)


def test_a_torn_checkpoint_is_passed_over_and_said_so(tmp_path: Path) -> None:
    assert start(*SETTINGS, f"runs={tmp_path}", kill_at="torn:2").returncode == -signal.SIGKILL
    done = start(f"resume={run_of(tmp_path)}")
    assert re.search(r"from the checkpoint before the last: .*last.ckpt: damaged", done.stdout.splitlines()[1])
    assert (run_of(tmp_path) / "checkpoints" / "damaged.ckpt").exists()


def test_both_checkpoints_torn_is_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    assert start(*SETTINGS, f"runs={tmp_path}", kill_at="saved:2").returncode == -signal.SIGKILL
    run = run_of(tmp_path)
    for checkpoint in (run / "checkpoints").iterdir():
        checkpoint.write_bytes(b"torn")
    done = start(f"resume={run}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "no checkpoint can be read" in done.stderr
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_batch_end_with_a_checkpoint(
    number: signal.Signals, sweep: list[str], tmp_path: Path
) -> None:
    arguments = ("train.py", *sweep, "recipe.epochs=2000", "recipe.warmup_epochs=1", f"runs={tmp_path}")
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch    3/"):
                break
        time.sleep(0.05)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as Ctrl-C in a terminal does
        else:
            process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait() == 128 + number
    run = run_of(tmp_path)
    stopped = re.search(
        rf"stopped by {number.name} after step (\d+); go on with: python train.py resume='(.*)'", errors
    )
    assert stopped is not None and errors.count("\n") == 1 + len(sweep)
    assert not sweep or errors.endswith("the sweep was stopped in job 1 of 1; the same words with resume=auto go on\n")
    assert read_checkpoint(run / "checkpoints" / "last.ckpt").step == int(stopped[1])
    assert stopped[2] == str(run)
    assert errors.splitlines()[0] in (run / "log.txt").read_text()


def test_resume_auto_finds_the_newest_unfinished_run_of_the_same_config(unbroken: Path, tmp_path: Path) -> None:
    new = start(*SETTINGS, f"runs={tmp_path}", "resume=auto", kill_at="batch:25")  # nothing to resume: a new run
    assert new.returncode == -signal.SIGKILL
    time.sleep(1)  # run folders are named by the second
    other = start(*SETTINGS, "seed=1", f"runs={tmp_path}", "resume=auto", kill_at="batch:3")
    assert other.returncode == -signal.SIGKILL
    folders = sorted((tmp_path / "lenet5-digits").iterdir())
    assert len(folders) == 2
    done = start(*SETTINGS, f"runs={tmp_path}", "resume=auto")
    assert done.stdout.startswith(f"resuming {folders[0]}: training lenet5 on digits: ")
    assert sorted((tmp_path / "lenet5-digits").iterdir()) == folders
    assert_equal_runs(folders[0], unbroken)


def test_what_cannot_be_resumed_is_refused_in_one_line(unbroken: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.yaml").write_text("model: {name: lenet5\n")
    for arguments, line in (
        ([f"resume={unbroken}"], "this run is finished; its record is"),
        ([f"resume={unbroken}", "seed=1"], "seed=1: a run goes on with its own settings"),
        ([f"resume={unbroken}", "model=mlp"], "model=mlp: a run goes on with its own settings"),
        ([f"resume={tmp_path}"], "not the folder of a run (it has no config.yaml)"),
        ([f"resume={half}"], "not YAML that can be read of line 2"),
    ):
        done = run_script("train.py", *arguments)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert line in done.stderr


def test_a_live_run_is_refused_to_a_second_process(tmp_path: Path) -> None:
    assert start(*SETTINGS, f"runs={tmp_path}", kill_at="batch:8").returncode == -signal.SIGKILL
    run = run_of(tmp_path)
    with FileLock(run / ".lock"):
        done = run_script("train.py", f"resume={run}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "another process is running in this folder" in done.stderr


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    limit = "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "import harness.run.checkpoint as c; save = c.AtomicCheckpointIO.save_checkpoint; c.count = 0\n"
    limit += "def full(self, *a, **k):\n"
    limit += "    c.count += 1\n"
    limit += "    if c.count == 3: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    limit += "    save(self, *a, **k)\n"
    limit += "c.AtomicCheckpointIO.save_checkpoint = full\n"
    limit += f"sys.argv = ['train.py', 'recipe.epochs=5', 'runs={tmp_path}']\n"
    limit += "runpy.run_path('train.py', run_name='__main__')\n"
    done = subprocess.run([sys.executable, "-c", limit], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "the checkpoint could not be written (File too large); the last good one is kept" in done.stderr
    checkpoints = run_of(tmp_path) / "checkpoints"
    assert read_checkpoint(checkpoints / "last.ckpt").epoch == 2
    assert {path.name for path in checkpoints.iterdir()} == {"last.ckpt", "previous.ckpt", "best_on_validation.ckpt"}


KILLED = ROOT / "tests" / "fixtures" / "2026-11" / "runs" / "mlp-digits" / "killed"  # in step 50 of 120
ITS_SETTINGS = (
    *("model=mlp", "model.hidden=[4]", "recipe.epochs=3", "recipe.batch_size=32", "recipe.learning_rate=0.02"),
    *("recipe.warmup_epochs=1", "recipe.crop_padding=0", "seed=1", "resume=auto"),
)


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run that did not end, below `runs/` of the working folder."""
    run = Path("runs") / "mlp-digits" / "killed"
    monkeypatch.chdir(tmp_path)
    shutil.copytree(KILLED, run)
    return run


def began_with(run: Path, **limits: object) -> None:
    text = (run / "config.yaml").read_text()
    for key, value in limits.items():
        text = re.sub(rf"  {key}: .*", f"  {key}: {value}", text)
    (run / "config.yaml").write_text(text)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("trainer.max_batches=3", "trainer.max_batches=3; this run began with null, and its steps cannot change"),
        ("trainer.max_epochs=2", "trainer.max_epochs=2; this run began with null, and its steps cannot change"),
        ("trainer=smoke", "trainer=smoke: sets trainer.max_epochs=2; this run began with null"),
        ("trainer.max_batches=null", "trainer.max_batches=null; this run began with 30, and its steps cannot change"),
    ],
)
def test_what_changes_the_steps_of_a_run_is_refused(
    setting: str, line: str, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if setting.endswith("null"):
        began_with(killed, max_batches=30)
    assert call("train.py", f"resume={killed}", setting) == 2
    errors = capsys.readouterr().err
    assert line in errors and errors.count("\n") == 1
    assert not (killed / "result.json").exists()


@pytest.mark.parametrize("settings", [["trainer.threads=1"], ["trainer=cpu"], ["trainer.checkpoint_every=9"]])
def test_only_the_given_keys_of_trainer_change(settings: list[str], killed: Path) -> None:
    began_with(killed, max_batches=30, threads=1, checkpoint_every=11)
    seen: list[TrainerConfig] = []

    def watched(config: TrainerConfig, *arguments: Any, **options: Any) -> object:
        seen.append(config)
        raise UserError("enough")

    before = read_config(killed / "config.yaml").trainer
    with patch("harness.stories.train.gather", watched):
        assert call("train.py", f"resume={killed}", *settings) == 2
    (after,) = seen
    assert (after.max_epochs, after.max_batches) == (None, 30)
    if settings == ["trainer=cpu"]:
        assert (after.name, after.accelerator, after.threads, after.checkpoint_every) == ("cpu", "cpu", None, 1000)
    else:
        key, _, value = settings[0].removeprefix("trainer.").partition("=")
        assert vars(after) == {**vars(before), key: int(value)}


def test_a_run_goes_on_with_the_limits_that_it_began_with(killed: Path) -> None:
    assert call("train.py", *ITS_SETTINGS[:-1], "trainer.max_batches=30", "trainer.threads=1", "runs=whole") == 0
    (whole,) = Path("whole/mlp-digits").iterdir()
    shutil.rmtree(killed)
    shutil.copytree(whole, killed)
    (killed / "result.json").unlink()
    (killed / "checkpoints" / "previous.ckpt").replace(killed / "checkpoints" / "last.ckpt")  # after two of three
    assert call("train.py", f"resume={killed}", "trainer.threads=1", "trainer.checkpoint_every=4") == 0
    for file in EXACT:
        assert (killed / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.parametrize("limits", [{"max_batches": 30}, {"max_epochs": 2}], ids=str)
def test_auto_passes_by_runs_of_other_limits_and_evaluations(limits: dict[str, int], killed: Path) -> None:
    shutil.copytree(killed, killed.with_name("shorter"))  # newer, by its name
    began_with(killed.with_name("shorter"), **limits)
    evaluation = killed.with_name("z-eval")  # one that was refused, or stopped
    evaluation.mkdir()
    shutil.copyfile(KILLED.with_name("finished-eval") / "config.yaml", evaluation / "config.yaml")
    assert call("train.py", *ITS_SETTINGS) == 0
    assert (killed / "result.json").exists() and not (killed.with_name("shorter") / "result.json").exists()
    given = [f"trainer.{key}={value}" for key, value in limits.items()]
    assert call("train.py", *ITS_SETTINGS, *given) == 0
    assert (killed.with_name("shorter") / "result.json").exists()
    assert len(list(killed.parent.iterdir())) == 3


def test_auto_goes_on_where_the_run_began(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began_with(killed, strategy="ddp", devices=1)
    seen: list[TrainerConfig] = []

    def watched(config: TrainerConfig, *arguments: Any, **options: Any) -> object:
        seen.append(config)
        raise UserError("enough")

    with patch("harness.stories.train.gather", watched):
        call("train.py", *ITS_SETTINGS)
        call("train.py", *ITS_SETTINGS, "trainer=cpu")
    assert [(config.strategy, config.checkpoint_every) for config in seen] == [("ddp", 7), ("auto", 1000)]
