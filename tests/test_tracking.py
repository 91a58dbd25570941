"""`track=`: what TensorBoard, Weights & Biases and MLflow show of a run, and that they change nothing."""

from __future__ import annotations

import csv
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from in_process import call, only

from harness.config.commands import TRACKERS
from harness.run.interruption import Interruption
from harness.training import tracker

SETTINGS = (
    *("model=mlp", "model.hidden=[8]", "recipe.epochs=4", "recipe.warmup_epochs=1", "seed=1"),
    *("trainer.accelerator=cpu", "trainer.gradient_norms=20", "trainer.checkpoint_every=7", "resume=auto"),
)
EXACT = ("metrics.csv", "gradients.csv", "predictions.csv", "result.json")
SHOWN = ("learning_rate", "train_loss", "train_top1_error", "validation_loss", "validation_top1_error")
slow = pytest.mark.slow
EACH = ["tensorboard", pytest.param("wandb", marks=slow), pytest.param("mlflow", marks=slow)]
Curves = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def unplugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network; and what another run may have left behind in the environment, which means nothing."""
    for name in ("WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"WANDB_MODE": "offline", "WANDB_RUN_ID": "foreign", "MLFLOW_RUN_ID": "0" * 32}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no tracker is told of."""
    runs = tmp_path_factory.mktemp("plain")
    assert call("train.py", *SETTINGS, f"runs={runs}") == 0
    return only(only(runs))


def train(kind: str) -> Path:
    assert call("train.py", *SETTINGS, f"track={kind}") == 0
    return only(Path("runs/mlp-digits"))


def assert_equal(run: Path, plain: Path) -> None:
    for file in EXACT:
        assert (run / file).read_bytes() == (plain / file).read_bytes(), file


def of_tensorboard(run: Path) -> tuple[Curves, set[str], dict[str, Any]]:
    """Curves, pictures, and the settings and the record, as the program itself reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=NOT_THERE)
    events = accumulator.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    curves = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    texts = {
        tag.partition("/")[0]: event.tensor_proto.string_val[0].decode()
        for tag in events.Tags()["tensors"]
        for event in events.Tensors(tag)
    }
    settings = dict(line.strip().split(": ", 1) for line in texts["settings"].splitlines())
    record = json.loads(texts["record"]) if "record" in texts else None
    return curves, set(events.Tags()["images"]), {"settings": settings, "record": record}


def pieces(file: bytes) -> Iterator[bytes]:
    """The records of a file of LevelDB's log format, after its first seven bytes; wandb itself has no reader left."""
    at, begun = 7, b""
    while at + 7 <= len(file):
        if at % 32768 > 32768 - 7:  # no room for a head: the rest of a block is empty
            at += -at % 32768
            continue
        length, kind = int.from_bytes(file[at + 4 : at + 6], "little"), file[at + 6]
        begun += file[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield begun
            begun = b""


def of_wandb(run: Path) -> tuple[Curves, set[str], dict[str, Any]]:
    """The same from the files that `wandb sync` would send, one for each time that the run was started."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason=NOT_THERE)
    curves: Curves = {}
    pictures, settings, summary = set[str](), dict[str, Any](), dict[str, Any]()
    numbers = set[str]()
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for data in pieces(file.read_bytes()):
            record = pb.Record()
            record.ParseFromString(data)
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            for key, value in row.items():
                if isinstance(value, int | float) and not key.startswith("_"):
                    curves.setdefault(key, []).append((row["trainer/global_step"], value))
            pictures |= {Path(item.path).name.partition("_")[0] for item in record.files.files if "media" in item.path}
            if record.run.run_id:
                numbers.add(record.run.run_id)
            settings |= {i.key: json.loads(i.value_json) for i in (*record.run.config.update, *record.config.update)}
            summary |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.summary.update}
    assert numbers == {json.loads((run / "tracking.json").read_text())["wandb"]["number"]} != {"foreign"}
    return curves, pictures, {"settings": settings, "record": summary.get("record")}


def of_mlflow(run: Path) -> tuple[Curves, set[str], dict[str, Any]]:
    """The same by MLflow's client, from the file beside the runs."""
    mlflow = pytest.importorskip("mlflow", reason=NOT_THERE)
    client = mlflow.MlflowClient(f"sqlite:///{Path('runs').absolute()}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "cnn-zoo"]
    (known,) = client.search_runs([experiment.experiment_id])
    number = known.info.run_id
    curves = {key: [(m.step, m.value) for m in client.get_metric_history(number, key)] for key in known.data.metrics}
    files = {file.path for file in client.list_artifacts(number)}
    finished = (run / "result.json").exists()
    assert known.info.status == ("FINISHED" if finished else "FAILED")
    record = mlflow.artifacts.load_dict(f"{known.info.artifact_uri}/record.json") if finished else None
    pictures = {file.removesuffix(".png") for file in files if file.endswith(".png")}
    return curves, pictures, {"settings": known.data.params, "record": record}


NOT_THERE = "this tracker is not installed"
READERS: dict[str, Callable[[Path], tuple[Curves, set[str], dict[str, Any]]]] = {
    "tensorboard": of_tensorboard,
    "wandb": of_wandb,
    "mlflow": of_mlflow,
}


def assert_shows(kind: str, run: Path) -> None:
    """The tracker shows each epoch once, with the values of the run's own tables, its settings, record and pictures."""
    curves, pictures, told = READERS[kind](run)
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in SHOWN:
        wanted = [(int(row["step"]), float(row[name])) for row in rows]
        shown = curves[name]
        assert [step for step, _ in shown] == [step for step, _ in wanted], name
        assert all(math.isclose(a, b, rel_tol=1e-6) for (_, a), (_, b) in zip(shown, wanted, strict=True)), name
    assert len(curves["train_images_per_second"]) == len(rows)
    record = json.loads((run / "result.json").read_text())
    ((step, error),) = curves["test_top1_error"]
    assert step == int(rows[-1]["step"]) and error == pytest.approx(record["top1_error"])
    assert told["record"] == record and {"curves", "gradients"} <= pictures
    settings = {key: str(told["settings"][key]) for key in ("recipe.epochs", "model.name", "seed")}
    assert settings == {"recipe.epochs": "4", "model.name": "mlp", "seed": "1"}


@pytest.mark.parametrize("kind", EACH)
def test_a_tracker_shows_the_run_and_changes_nothing(kind: str, plain: Path) -> None:
    pytest.importorskip(kind, reason=NOT_THERE)
    run = train(kind)
    assert_equal(run, plain)
    assert_shows(kind, run)


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Steps after which a run is stopped as by a signal."""
    steps: list[int] = []

    def agreed(self: Interruption, trainer: Any) -> bool:
        if steps and trainer.global_step == steps[0]:
            self.received = signal.SIGTERM
            steps.pop(0)
            return True
        return False

    def agreed_at_step(self: Interruption, trainer: Any) -> bool:
        return trainer.global_step % 20 > 0 and agreed(self, trainer)  # an epoch has 20, and is asked after at its end

    monkeypatch.setattr(Interruption, "agreed_at_step", agreed_at_step)
    monkeypatch.setattr(Interruption, "agreed", agreed)
    yield steps
    assert not steps


@pytest.mark.parametrize("kind", EACH)
def test_a_resumed_run_goes_on_in_the_same_tracked_run(kind: str, plain: Path, stopped_at: list[int]) -> None:
    pytest.importorskip(kind, reason=NOT_THERE)
    stopped_at += [33, 40]  # within an epoch, and after one
    assert call("train.py", *SETTINGS, f"track={kind}") == 143
    run = only(Path("runs/mlp-digits"))
    assert len(READERS[kind](run)[0]["train_loss"]) == 1
    time.sleep(1.1 * (kind == "wandb"))  # its folders are named by the second
    assert call("train.py", f"resume={run}") == 143
    assert len(READERS[kind](run)[0]["train_loss"]) == 2
    time.sleep(1.1 * (kind == "wandb"))
    told = json.loads((run / "tracking.json").read_text())
    told[kind] |= {"epochs": 1, "step": 20}  # killed before it was written that the second epoch was told
    if kind != "wandb":  # its server is told by the steps which of two equal rows to keep
        (run / "tracking.json").write_text(json.dumps(told))
    train(kind)
    assert_equal(run, plain)
    assert_shows(kind, run)


def test_a_tracker_that_fails_in_the_middle_is_one_line_and_the_run_goes_on(
    plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[int] = []

    class Fails:
        number, place = "1", "nowhere"

        def __init__(self, run: tracker.Tracked) -> None:
            assert run.settings["model.name"] == "mlp"

        def tell(self, values: tracker.Values, step: int) -> None:
            told.append(step)
            if len(told) == 2:
                raise ConnectionError("no route to host\nand more")

    monkeypatch.setitem(tracker.SERVICES, "tensorboard", cast(Any, Fails))
    monkeypatch.setattr(tracker, "check_tracker", lambda kind: None)
    monkeypatch.setattr("harness.config.fit.check_tracker", lambda kind: None)
    run = train("tensorboard")
    assert_equal(run, plain)
    lines = [line for line in capsys.readouterr().out.splitlines() if "track=" in line]
    assert lines[1:] == [
        "track=tensorboard: ConnectionError: no route to host; the run goes on without it, and its own tables have "
        "everything"
    ]
    assert told == [20, 40]


def test_a_tracker_that_cannot_begin_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(run: tracker.Tracked) -> tracker.Service:
        raise RuntimeError("no API key\nask for one")

    monkeypatch.setitem(tracker.SERVICES, "tensorboard", fails)
    monkeypatch.setattr(tracker, "check_tracker", lambda kind: None)
    monkeypatch.setattr("harness.config.fit.check_tracker", lambda kind: None)
    assert call("train.py", *SETTINGS, "track=tensorboard") == 2
    line = "train.py: track=tensorboard: cannot begin: RuntimeError: no API key; docs/tracking.md says what it needs\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_tracker_that_is_not_installed_is_one_line_before_anything_is_made(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A folder that one left behind where Python looks is no package."""
    find = __import__("importlib.util").util.find_spec
    left = tmp_path / kind
    left.mkdir()
    namespace = find("configs_of_nobody", None)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: namespace if name == kind else find(name, *rest)
    )
    assert call("train.py", *SETTINGS, f"track={kind}") == 2
    line = f"train.py: track={kind} needs {TRACKERS[kind]}: pip install 'cnn-zoo[{kind}]'\n"
    assert capsys.readouterr().err == line and not Path("runs").exists()


def test_left_over_variables_track_nothing(plain: Path) -> None:
    assert not (plain / "tracking.json").exists() and not (plain / "wandb").exists()
    assert [path.name for path in plain.parent.parent.iterdir()] == ["mlp-digits"]


@pytest.mark.parametrize("by_name", [True, False])
def test_track_is_no_part_of_what_makes_a_run_another(by_name: bool, stopped_at: list[int], plain: Path) -> None:
    """One that began without a tracker can go on with one, which is told of all its epochs; by name and by auto."""
    pytest.importorskip("tensorboard", reason=NOT_THERE)
    stopped_at += [50]
    assert call("train.py", *SETTINGS) == 143
    run = only(Path("runs/mlp-digits"))
    words = (f"resume={run}",) if by_name else SETTINGS
    assert call("train.py", *words, "track=tensorboard") == 0
    assert only(Path("runs/mlp-digits")) == run
    assert_equal(run, plain)
    assert_shows("tensorboard", run)
