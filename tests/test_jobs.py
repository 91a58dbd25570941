"""The jobs of a sweep: several at once, on Hydra's launchers, cut off and going on; each is a process of its own."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from conftest import ROOT, run_script
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher as HydraLauncher
from in_process import call
from omegaconf import DictConfig, OmegaConf
from test_interruption import hears_ctrl_c

from harness.command.jobs import Job, run_at_once
from harness.command.launching import Launcher, starting
from harness.command.plan import checked_jobs
from harness.errors import StoppedError, UserError

TINY = ("model=mlp", "model.hidden=[8]", "trainer.accelerator=cpu")
SWEPT = ("recipe.learning_rate=0.01,0.1", "seed=0,1")


def number(job: int) -> DictConfig:
    """What a launcher calls the function of a job with."""
    return OmegaConf.create({"job": job})


def program(code: str, **environment: str) -> Job:
    return Job(code[:20], (sys.executable, "-c", f"import os, signal, sys, time\n{code}"), environment, True)


def test_several_run_at_once_and_each_line_is_whole_and_says_whose_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"""
place = {str(tmp_path)!r}
mine = os.path.join(place, os.environ["ME"])
open(mine, "w").close()
time.sleep(0.3)
print("together", len(os.listdir(place)), "said " * 500, os.environ["ME"])
print("wrong", file=sys.stderr)
os.remove(mine)
sys.exit(int(os.environ["ME"]))
"""
    codes = run_at_once([program(code, ME=str(number)) for number in range(5)], 2)
    assert codes == [0, 1, 2, 3, 4]
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if "together" in line]
    assert sorted(int(line.split()[2]) for line in said)[-1] == 2  # two at once, and never three
    assert {(line[:3], line[-1]) for line in said} == {(f"[{number + 1}]", str(number)) for number in range(5)}
    assert sorted(line for line in lines if "wrong" in line) == [f"[{number}] wrong" for number in range(1, 6)]
    assert sum(line.startswith("job ") for line in lines) == 5 and len(lines) == 15


def test_a_job_that_a_signal_ends_stops_the_others_and_no_more_start(tmp_path: Path) -> None:
    waits = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); time.sleep(60)"
    ends = "time.sleep(0.5); sys.exit(130)"
    never = f"open({str(tmp_path / 'never')!r}, 'w')"
    began = time.monotonic()
    with pytest.raises(StoppedError, match=r"stopped in job \d of 3; the same words with resume=auto go on") as stopped:
        run_at_once([program(waits), program(ends), program(never)], 2)
    assert stopped.value.exit_code in (130, 143)
    assert time.monotonic() - began < 30 and not (tmp_path / "never").exists()


def words_of(jobs: Sequence[Any]) -> list[list[str]]:
    return [list(job.command)[2:] for job in jobs]


def launched(*words: str) -> list[list[str]]:
    """The words of the processes that a sweep starts."""
    found: list[list[str]] = []

    def run(jobs: Sequence[Job], *_: object) -> list[str]:
        found.extend(words_of(jobs))
        return []

    with patch("harness.command.sweep._run_jobs", run):
        assert call("train.py", "-m", *words) == 0
    return found


def test_the_cores_are_shared_and_the_users_own_number_of_threads_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.command.sweep.available_cores", lambda: 8)
    assert [words[-1] for words in launched("seed=0,1", "jobs=2")] == ["trainer.threads=4"] * 2
    assert [words[-1] for words in launched("seed=0,1", "jobs=99")] == ["trainer.threads=4"] * 2  # as many as run
    assert [words[-1] for words in launched("seed=0,1", "jobs=2", "trainer.devices=2")] == ["trainer.threads=2"] * 2
    assert launched("seed=0,1", "jobs=2", "trainer.threads=3")[0] == ["seed=0", "trainer.threads=3"]
    assert launched("seed=0,1") == [["seed=0"], ["seed=1"]]


def earlier(place: Path, *words: str, done: bool) -> Path:
    """The folder of an earlier run with these words."""
    from harness.config.compose import compose
    from harness.run.folder import given_back, make_run_folder

    config = compose("train", words)
    with given_back():
        folder = make_run_folder(str(place), f"{config.model.name}-{config.data.name}", config)
    if done:
        (folder / "result.json").touch()
    return folder


def test_a_sweep_that_was_cut_off_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Path("runs")
    done = earlier(runs, *TINY, "seed=0", done=True)
    cut_off = earlier(runs, *TINY, "seed=1", "trainer.threads=1", done=False)
    earlier(runs, *TINY, "seed=2", "recipe.epochs=5", done=True)  # of other settings
    found = launched(*TINY, "seed=0,1,2", "resume=auto")
    assert found == [[f"resume='{cut_off}'", "trainer.accelerator=cpu"], [*TINY, "seed=2"]]
    assert capsys.readouterr().out.startswith(f"done before: {' '.join(TINY)} seed=0: {done}\n")
    assert len(launched(*TINY, "seed=0,1,2")) == 3  # unasked, all of them are run


def test_going_on_takes_no_run_for_two_jobs_and_none_of_another_row(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    whole = earlier(Path("runs"), *TINY, done=True)
    for words, expected in (
        (("trainer.accumulate=1,2",), [True, False]),  # parts make another row
        (("seed=0,0",), [True, False]),
        (("trainer.workers=0,1",), [False, False]),  # both are asked for
    ):
        jobs = checked_jobs("train", [*TINY, *words, "resume=auto"], None)
        assert [job.before == whole for job in jobs] == expected, words
    newer = earlier(Path("runs"), *TINY, done=False)
    (job,) = checked_jobs("train", [*TINY, "seed=0", "resume=auto"], None)
    assert job.done and job.before == whole != newer  # what has a record comes before what is newer


def test_a_job_of_a_launcher_needs_nothing_of_this_program_to_start(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle", reason="launchers are not installed: cnn-zoo[slurm]")
    code = "print(os.environ['ME'], os.getcwd()); sys.exit(7)"
    start = starting([program(code, ME="first"), program(code, ME="second")], tmp_path)
    pickled = cloudpickle.dumps(start)
    there = f"import pickle, types; print(pickle.loads({pickled!r})(types.SimpleNamespace(job=1)))"
    elsewhere = subprocess.run([sys.executable, "-c", there], cwd="/", capture_output=True, text=True)
    assert elsewhere.stdout == "7\n", elsewhere.stderr
    assert (tmp_path / "job_2.txt").read_text() == f"second {Path.cwd()}\n"
    assert pickle.loads(pickled)(number(0)) == 7


WAITS = """
def told(*_):
    time.sleep(0.2)
    print("a checkpoint", sys.argv[1:])
    sys.exit(140)
signal.signal(signal.SIGUSR2, told)
print("began", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("ending", [RuntimeError, SystemExit], ids=("time is over", "requeued"))
def test_a_launcher_that_ends_a_job_stops_it_with_a_checkpoint(ending: type[BaseException], tmp_path: Path) -> None:
    def tell(*_: object) -> None:
        raise ending

    before = signal.signal(signal.SIGALRM, tell)
    start = starting([program(WAITS)], tmp_path)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        if ending is RuntimeError:
            assert start(number(0)) == 140
        else:
            with pytest.raises(SystemExit):
                start(number(0))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (tmp_path / "job_1.txt").read_text() == "began\na checkpoint []\n"


def test_a_job_that_a_launcher_starts_once_more_goes_on(tmp_path: Path) -> None:
    prints = program("print(sys.argv[1:])")
    named = Job(prints.name, prints.command, prints.environment, resumable=False)
    start = starting([prints, named], tmp_path)
    for _ in range(2):
        assert [start(number(n)) for n in (0, 1)] == [0, 0]
    assert (tmp_path / "job_1.txt").read_text() == "[]\n['resume=auto']\n"
    assert (tmp_path / "job_2.txt").read_text() == "[]\n[]\n"  # it names its run itself


def test_a_launcher_gets_what_the_user_and_this_program_set(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="launchers are not installed: cnn-zoo[slurm]")
    slurm = Launcher(["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"], tmp_path).config.hydra
    assert (slurm.launcher.timeout_min, slurm.launcher.partition) == (1440, "gpu")
    assert Path(slurm.launcher.submitit_folder).is_relative_to(tmp_path)
    words = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=90"]
    assert Launcher(words, tmp_path).config.hydra.launcher.timeout_min == 90
    more = ["hydra.launcher.additional_parameters.mail-type=BEGIN", "hydra/launcher=submitit_slurm"]
    assert Launcher(more, tmp_path).config.hydra.launcher.additional_parameters == {"mail-type": "BEGIN"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("hydra/launcher=slurm",), "hydra/launcher=slurm: no such launcher; there are: basic, ray"),
        (("hydra.launcher.partition=gpu",), "hydra.launcher.partition=gpu: say which launcher it belongs to"),
        (("hydra/launcher=basic", "jobs=2"), "jobs=2: hydra/launcher=basic decides how many run at once; leave it out"),
        (
            ("hydra/launcher=basic", "hydra.launcher.timeout=2"),
            "hydra.launcher.timeout=2: hydra/launcher=basic has no such setting",
        ),
    ],
)
def test_a_mistake_about_a_launcher_is_one_line_before_any_job(
    words: Sequence[str], line: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("train.py", "-m", "seed=0,1", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"train.py: {line}") and error.count("\n") == 1
    assert not list(tmp_path.rglob("folders*")) and not (tmp_path / "runs").exists()


def test_a_launcher_that_is_not_installed_is_named_with_its_command(
    tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with patch("hydra._internal.config_loader_impl.ConfigLoaderImpl.get_group_options", lambda *_: ["basic"]):
        assert call("train.py", "-m", "seed=0,1", "hydra/launcher=ray") == 2
    assert "hydra/launcher=ray: is not installed: pip install 'cnn-zoo[ray]'" in capsys.readouterr().err


def test_hydras_own_launcher_runs_processes_too(
    tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The smallest of them pins what is relied on: the plugin, its setup, its overrides, what it returns."""
    monkeypatch.chdir(tmp_path)
    launcher = Launcher(["hydra/launcher=basic"], tmp_path / "été")
    launcher.folder.mkdir()
    codes = [f"print({number}); sys.exit({number})" for number in range(3)]
    assert launcher.launch([program(code) for code in codes]) == [0, 1, 2]
    assert [(launcher.folder / f"job_{number}.txt").read_text() for number in (1, 2, 3)] == ["0\n", "1\n", "2\n"]
    assert "3 jobs for hydra/launcher=basic; what they print is in" in capsys.readouterr().out
    (basic,) = (it for it in Plugins.instance().discover(HydraLauncher) if it.__name__ == "BasicLauncher")
    gone = patch.object(basic, "launch", side_effect=RuntimeError("gone"))
    with gone, pytest.raises(UserError, match=r"hydra/launcher=basic: RuntimeError: gone; other jobs may still be"):
        launcher.launch([program("")])


def sweep_by(*words: str, runs: Path, environment: dict[str, str] | None = None) -> str:
    done = run_script("train.py", "-m", *TINY, "recipe.epochs=2", *words, f"runs={runs}", environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def finished(runs: Path) -> list[Path]:
    return sorted((runs / "mlp-digits").glob("*/result.json"))


@pytest.mark.slow
def test_jobs_at_once_end_in_the_records_of_one_after_the_other(tmp_path: Path) -> None:
    one = sweep_by(*SWEPT, "trainer.threads=1", runs=tmp_path / "one")
    two = sweep_by(*SWEPT, "trainer.threads=1", "jobs=2", "choose=validation", runs=tmp_path / "two")
    records = [{path.read_text() for path in finished(tmp_path / name)} for name in ("one", "two")]
    assert len(records[0]) == 4 and records[0] == records[1]
    assert Path(two.splitlines()[-1]).is_relative_to(tmp_path / "two")
    assert re.search(r"^\[4\] record: ", two, re.MULTILINE) and "[4]" not in one
    again = sweep_by(*SWEPT, "trainer.threads=1", "jobs=2", "choose=validation", "resume=auto", runs=tmp_path / "two")
    assert again.count("done before: ") == 4 and again.splitlines()[-1] == two.splitlines()[-1]
    assert len(finished(tmp_path / "two")) == 4


@pytest.mark.slow
def test_ctrl_c_stops_all_jobs_and_the_same_words_go_on(tmp_path: Path) -> None:
    words = [*TINY, "recipe.epochs=400", "trainer.threads=1", "seed=0,1,2", "jobs=2", f"runs={tmp_path}"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
    )
    assert process.stdout is not None and process.stderr is not None
    began: set[str] = set()
    while began != {"[1]", "[2]"}:
        line = process.stdout.readline()
        began |= {line[:3]} if "epoch   3/" in line else set()
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    rest, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "job 3 of 3" not in rest
    assert re.search(r"the sweep was stopped in job \d of 3; the same words with resume=auto go on\n$", errors)
    folders = [*(tmp_path / "mlp-digits").iterdir()]
    kept = [folder for folder in folders if (folder / "checkpoints" / "last.ckpt").exists()]
    assert len(kept) == len(folders) == 2
    done = run_script("train.py", "-m", *words, "resume=auto", timeout=900)
    assert done.returncode == 0 and len(finished(tmp_path)) == 3
    assert len([*(tmp_path / "mlp-digits").iterdir()]) == 3  # both went on in their folders


@pytest.mark.slow
def test_submitit_really_runs_a_sweep_by_its_local_executor(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="launchers are not installed: cnn-zoo[slurm]")
    out = sweep_by("seed=0,1", "hydra/launcher=submitit_local", runs=tmp_path)
    assert "each may take 1,440 minutes (hydra.launcher.timeout_min)" in out and "2 of 2 jobs done\n" in out
    assert len(finished(tmp_path)) == 2
    (place,) = (tmp_path / "sweeps").iterdir()
    assert "record: " in (place / "job_1.txt").read_text() and "record: " in (place / "job_2.txt").read_text()


@pytest.mark.slow
def test_what_submitit_ends_for_its_time_goes_on(tmp_path: Path) -> None:
    """It signals USR2 before the time is over, and starts the job again, three times: the run stops and goes on."""
    pytest.importorskip("submitit", reason="launchers are not installed: cnn-zoo[slurm]")
    words = [*TINY, "recipe.epochs=100000", "seed=0", f"runs={tmp_path}"]
    limit = ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=1")
    stopped = run_script("train.py", "-m", *words, *limit, timeout=600)
    assert stopped.returncode == 1 and "failed: " in stopped.stderr, stopped.stderr
    (folder,) = (tmp_path / "mlp-digits").iterdir()
    steps = re.findall(r"stopped by SIGUSR2 after step ([\d,]+)", (folder / "log.txt").read_text())
    counted = [int(step.replace(",", "")) for step in steps]
    assert 2 <= len(counted) <= 4 and counted == sorted({*counted})  # one may be stopped before its first step
    (job,) = checked_jobs("train", [*words, "resume=auto"], None)
    assert job.before == folder and not job.done


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[str]:
    """The address of a Ray of the test's own, on this machine."""
    pytest.importorskip("ray", reason="Ray is not installed: cnn-zoo[ray]")
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="Ray is not installed: cnn-zoo[ray]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = Path("/tmp") / f"ray-{os.getpid()}"  # a short path: its sockets lie there
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(Path(sys.executable).with_name("ray"))]
    start = ["start", "--head", f"--port={port}", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={place}"]
    subprocess.run([*command, *start, "--disable-usage-stats"], env=environment, check=True, capture_output=True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([*command, "stop", "--force"], env=environment, check=True, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.slow
def test_ray_really_runs_a_sweep(ray: str, tmp_path: Path) -> None:
    out = sweep_by(
        "recipe.learning_rate=0.01,0.1",
        "choose=validation",
        "hydra/launcher=ray",
        f"hydra.launcher.ray.init.address='{ray}'",
        "hydra.launcher.ray.remote.num_cpus=1",
        runs=tmp_path,
        environment={"RAY_AUTH_MODE": "disabled"},
    )
    assert "2 of 2 jobs done\n" in out and len(finished(tmp_path)) == 2
    assert Path(out.splitlines()[-1]).parent == tmp_path / "mlp-digits"
    (place,) = (tmp_path / "sweeps").iterdir()
    assert "record: " in (place / "job_1.txt").read_text() and "record: " in (place / "job_2.txt").read_text()
