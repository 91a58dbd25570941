"""Checkpoints name their network, hold no code, and are refused in one line when they are not ours."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from conftest import run_script

from harness.errors import UserError
from harness.run.checkpoint import checkpoint_of_run, read_checkpoint
from harness.run.files import atomic, write_text


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_is_tensors_and_plain_data_and_says_what_it_is(trained_run: Path) -> None:
    content = torch.load(trained_run / "checkpoints" / "last.ckpt", weights_only=True)
    described = content["cnn_zoo"]
    assert described["version"] == 2
    assert described["model"] == "lenet5" and described["options"] == {}
    assert described["class_names"] == list("0123456789")
    assert described["preprocessing"]["size"] == 32 and described["preprocessing"]["mean"] == [0.1716]
    assert described["data"]["name"] == "digits"
    assert described["training"]["seed"] == 0 and described["training"]["recipe"]["name"] == "sgd_cosine"
    checkpoint = read_checkpoint(trained_run / "checkpoints" / "last.ckpt")
    assert (checkpoint.epoch, checkpoint.step) == (3, 60)
    assert set(checkpoint.state_dict) == {
        f"{layer}.{part}" for layer in ("c1", "c3", "c5", "f6", "output") for part in ("weight", "bias")
    }


@pytest.mark.parametrize("with_torch", [True, False])
def test_code_in_a_checkpoint_never_runs(tmp_path: Path, with_torch: bool) -> None:
    made = tmp_path / "made by the checkpoint"
    path = tmp_path / "evil.ckpt"
    if with_torch:
        torch.save({"cnn_zoo": {"version": 1}, "state_dict": Malicious(made)}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(made)))
    done = run_script("eval.py", f"checkpoint={path}", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "may hold code and was not loaded" in done.stderr
    assert not made.exists()
    with pytest.raises(UserError):
        read_checkpoint(path)
    with path.open("rb") as file:  # the file is a real attack: it works on a reader that trusts it
        torch.load(file, weights_only=False) if with_torch else pickle.load(file)
    assert made.exists()


@pytest.mark.parametrize("kept", [0.0, 0.00001, 0.001, 0.5, 0.99])
def test_truncated_checkpoints(trained_run: Path, tmp_path: Path, kept: float) -> None:
    good = (trained_run / "checkpoints" / "last.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(good[: int(kept * len(good))])
    with pytest.raises(UserError, match=r"cut.ckpt: (damaged|not a checkpoint)") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(3), {"cnn_zoo": "yes"}])
def test_foreign_checkpoints(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "foreign.pt")
    with pytest.raises(UserError, match=r"foreign.pt: not a checkpoint of this project"):
        read_checkpoint(tmp_path / "foreign.pt")


def test_another_version(tmp_path: Path) -> None:
    torch.save({"cnn_zoo": {"version": 99}}, tmp_path / "new.ckpt")
    with pytest.raises(UserError, match="checkpoint version 99; this program reads versions 1 to 2"):
        read_checkpoint(tmp_path / "new.ckpt")


def test_a_recipe_of_an_older_version_has_its_name_of_today(trained_run: Path, tmp_path: Path) -> None:
    content = torch.load(trained_run / "checkpoints" / "last.ckpt", weights_only=True)
    content["cnn_zoo"]["training"]["recipe"]["name"] = "modern"
    for version, name in ((1, "sgd_cosine"), (2, "modern")):
        content["cnn_zoo"]["version"] = version
        torch.save(content, tmp_path / "a.ckpt")
        training = read_checkpoint(tmp_path / "a.ckpt").trained.training
        assert training is not None and training["recipe"]["name"] == name


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(UserError, match="is a folder; name a run folder with run="):
        read_checkpoint(tmp_path)
    with pytest.raises(UserError, match="there is no such folder"):
        checkpoint_of_run(tmp_path / "none")
    with pytest.raises(UserError, match="the folder has no checkpoint"):
        checkpoint_of_run(tmp_path)
    for run in ("2026-01-01", "2026-01-02"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        (tmp_path / run / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match=r"run=.*: holds 2 runs; name one of them, the newest is .*2026-01-02$"):
        checkpoint_of_run(tmp_path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic(path) as file:
        file.write(b"half of the n")
        raise RuntimeError("killed")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"
