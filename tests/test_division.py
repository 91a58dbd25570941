"""A user's own pictures are read beside the training, once: what a run writes of them, and when it refuses others."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from in_process import call, only
from test_folder_data import QUICK, classes, config

from harness.data.images import decode, digests
from harness.data.images.folder import SETTLED
from harness.data.sources.splits import Splits
from harness.data.sources.table import load
from harness.errors import UserError
from harness.run.interruption import Interruption
from harness.training.own_pictures import Division, check_unseen

NAMES = ("blue", "green", "red")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cnn-zoo"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """18 pictures that seem to be old, to a process whose clock runs ahead: nobody sets when a file last changed."""
    found = classes(tmp_path / "photos", 6)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 10 * SETTLED)
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    names: list[str] = []
    plain = decode.read

    def counted(path: bytes) -> bytes:
        names.append(Path(os.fsdecode(path)).name)
        return plain(path)

    monkeypatch.setattr("harness.data.images.digests.read", counted)
    return names


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No picture can be read before it is set."""
    opened = threading.Event()
    plain = decode.read

    def held(path: bytes) -> bytes:
        assert opened.wait(60)
        return plain(path)

    monkeypatch.setattr("harness.data.images.digests.read", held)
    yield opened
    opened.set()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "split.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def divide(folder: Path, splits: Splits) -> None:
    division = Division(folder, splits, NAMES)
    division.begin()
    division.finish()


def test_training_does_not_wait_for_the_pictures_to_be_read(
    root: Path, tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They can be read only once the first step is done: a run that waited for them would wait for ever."""
    told = []

    def step_done(division: Division, *_: Any, plain: Any = Division.on_train_batch_end) -> None:
        if not gate.is_set():
            told.append([row["sha256"] for row in rows(division.folder)])
        gate.set()
        plain(division, *_)

    monkeypatch.setattr(Division, "on_train_batch_end", step_done)
    assert call("train.py", *QUICK, f"data.root={root}", f"runs={tmp_path / 'runs'}", "trainer.workers=0") == 0
    run = only(only(tmp_path / "runs"))
    assert told == [[""] * 18]
    assert all(len(row["sha256"]) == 64 for row in rows(run)) and len(rows(run)) == 18


def test_only_what_is_new_or_has_changed_is_read(root: Path, tmp_path: Path, read: list[str]) -> None:
    divide(tmp_path, load(config(root)))
    assert len(read) == 18
    first = rows(tmp_path)
    read.clear()
    divide(tmp_path, load(config(root)))
    assert read == [] and rows(tmp_path) == first
    changed = root / "green" / "003.jpg"
    facts = changed.stat()
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # by size and time of its content it is the old one
    with pytest.raises(UserError, match=r"split.csv: the pictures are not those that this run began with"):
        divide(tmp_path, load(config(root)))
    assert read == ["003.jpg"] and rows(tmp_path) == first
    classes(root, 1, first=6)
    (tmp_path / "other").mkdir()
    read.clear()
    divide(tmp_path / "other", load(config(root)))
    assert read == ["006.jpg"] * 3 and len(rows(tmp_path / "other")) == 21


def test_digests_of_files_that_may_yet_change_unnoticed_are_not_kept(tmp_path: Path, read: list[str]) -> None:
    splits = load(config(classes(tmp_path / "photos", 6)))
    divide(tmp_path, splits)
    divide(tmp_path, splits)
    assert len(read) == 36


def test_damaged_digests_are_made_anew(root: Path, tmp_path: Path, cache: Path, read: list[str]) -> None:
    divide(tmp_path, load(config(root)))
    (kept,) = cache.glob("digests-*")
    content = kept.read_bytes()
    for damaged in (b"", b"text", content[:100], content[:200] + b"\0" * 50 + content[250:]):
        kept.write_bytes(damaged)
        read.clear()
        divide(tmp_path, load(config(root)))
        assert len(read) == 18


def test_a_run_that_goes_on_with_other_pictures_stops_before_they_are_read(
    root: Path, tmp_path: Path, gate: threading.Event
) -> None:
    division = Division(tmp_path, load(config(root)), NAMES)
    division.begin()
    (root / "green" / "000.jpg").write_bytes(b"of another size")
    with pytest.raises(UserError, match=r"split.csv: the pictures are not those that this run began with"):
        Division(tmp_path, load(config(root)), NAMES).begin()
    gate.set()
    division.stop()


def test_what_was_not_read_when_a_run_was_stopped_is_read_when_it_goes_on(
    root: Path, tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MOST_THREADS", 1)
    splits = load(config(root))
    division = Division(tmp_path, splits, NAMES)
    asked = iter([False] * 7)
    division._stop.is_set = lambda: next(asked, True)  # type: ignore[method-assign]
    division.begin()
    division.stop()
    assert len(read) == 7 and {row["sha256"] for row in rows(tmp_path)} == {""}
    with pytest.raises(UserError, match=r"stopped before it had read its pictures.*resume='.*force=true"):
        check_unseen(tmp_path, splits.test)
    divide(tmp_path, splits)
    assert len(read) == 18
    check_unseen(tmp_path, splits.test)
    assert len(read) == 18, "the test split's are known, too"
    with pytest.raises(UserError, match="3 of the 3 pictures to report on are ones that the run was trained on or"):
        check_unseen(tmp_path, splits.validation)


def test_a_run_that_is_to_stop_waits_for_no_picture(root: Path, tmp_path: Path, gate: threading.Event) -> None:
    interruption = Interruption()
    division = Division(tmp_path, load(config(root)), NAMES, interruption)
    nothing: Any = SimpleNamespace(is_global_zero=True)
    division.on_fit_start(nothing, nothing)
    interruption.received = 15  # type: ignore[assignment]
    division.on_train_epoch_end(nothing, nothing)
    assert {row["sha256"] for row in rows(tmp_path)} == {""}
    gate.set()
    division.on_exception(nothing, nothing, KeyboardInterrupt())
    for thread in threading.enumerate():
        if thread.name.startswith("pictures"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_train_epoch_end", "on_fit_end"])
def test_what_goes_wrong_in_the_thread_ends_the_run(hook: str, root: Path, tmp_path: Path) -> None:
    division = Division(tmp_path, load(config(root)), NAMES)
    division._reading = Future()
    division._reading.set_exception(UserError("the disk is gone"))
    nothing: Any = SimpleNamespace(is_global_zero=True)
    with pytest.raises(UserError, match="the disk is gone"):
        getattr(division, hook)(nothing, nothing, *([None] * 3 if hook == "on_train_batch_end" else []))


def test_files_that_cannot_be_read_have_no_twin(root: Path, tmp_path: Path) -> None:
    for name in ("000.jpg", "001.jpg", "002.jpg", "003.jpg", "004.jpg", "005.jpg"):
        (root / "green" / name).write_bytes(b"")
    divide(tmp_path, load(config(root)))
    assert not (tmp_path / "duplicates.csv").exists()
    assert len({row["sha256"] for row in rows(tmp_path)}) == 18


def test_pictures_are_read_wherever_the_process_stands(
    root: Path, tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands elsewhere for a moment when workers start; the folder's name may be relative."""
    monkeypatch.chdir(root.parent)
    division = Division(tmp_path, load(config(Path(root.name))), NAMES)
    division.begin()
    monkeypatch.chdir("/")
    gate.set()
    division.finish()
    assert {row["sha256"] for row in rows(tmp_path)} == {
        hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.jpg")
    }


def test_folders_of_their_own_are_each_known_again(tmp_path: Path, root: Path, read: list[str]) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(root, tmp_path / "divided" / split)
    divide(tmp_path, load(config(tmp_path / "divided")))
    divide(tmp_path, load(config(tmp_path / "divided")))
    assert len(read) == 54
    found = rows(tmp_path)
    assert [row["split"] for row in found] == ["train"] * 18 + ["validation"] * 18 + ["test"] * 18
    for row in found:
        assert row["sha256"] == next(other["sha256"] for other in found if other["image"].endswith(row["image"][-12:]))
