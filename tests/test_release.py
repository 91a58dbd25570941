"""Released weights: a file that says everything known of it, and gives its record again wherever its data are."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT
from in_process import call, only
from safetensors import safe_open
from safetensors.torch import load_file

from harness import load
from harness.command import release as command
from harness.errors import UserError
from harness.run.checkpoint import read_checkpoint, weights_sha256
from harness.stories import release as story
from harness.stories import verify as verifying
from harness.stories.release import release
from harness.stories.verify import close_images
from harness.weights.find import _released, find
from models.catalogue import MODELS, RELEASED, WEIGHTS, Released

QUICK = ("model=lenet5", "recipe.epochs=2", "trainer.threads=1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Finished runs with the seeds 3 and 4."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (3, 4):
        assert call("train.py", *QUICK, f"seed={seed}", f"runs={folder / str(seed)}") == 0
    return [only(only(folder / str(seed))) for seed in (3, 4)]


@pytest.fixture(scope="module")
def file(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(runs[0], "TEST", tmp_path_factory.mktemp("weights"), [run / "result.json" for run in runs], None)


def described(file: Path) -> dict[str, Any]:
    with safe_open(file, framework="pt") as content:
        known: dict[str, Any] = json.loads(content.metadata()["cnn_zoo"])
    return known


def test_a_file_holds_everything_known_of_its_network(file: Path, runs: list[Path]) -> None:
    known = described(file)
    record = json.loads((runs[0] / "result.json").read_text())
    assert known["class_names"] == [str(digit) for digit in range(10)] and known["model"] == "lenet5"
    assert known["release"]["record"] == record
    assert known["release"]["metrics"] == (runs[0] / "metrics.csv").read_text()
    assert known["release"]["config"]["recipe"]["epochs"] == 2
    assert known["release"]["config"]["overrides"] == [*QUICK, "seed=3"]
    assert str(runs[0].parent) not in json.dumps(known), "no folder of this machine"


def test_its_numbers_are_in_half_precision_and_give_the_record(file: Path, runs: list[Path], tmp_path: Path) -> None:
    with safe_open(file, framework="pt") as content:
        tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118  # it is no dictionary
    whole = read_checkpoint(runs[0] / "checkpoints" / "last.ckpt").state_dict
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    assert all(torch.equal(tensors[key], whole[key].half()) for key in whole)
    words = ("model=lenet5", f"weights={file}", "data=digits", "trainer.threads=1", f"runs={tmp_path}")
    assert call("eval.py", *words) == 0
    again = json.loads((only(only(tmp_path)) / "result.json").read_text())
    record = json.loads((runs[0] / "result.json").read_text())
    assert [again[key] for key in ("seen", "correct_top1", "correct_top5")] == [
        record[key] for key in ("seen", "correct_top1", "correct_top5")
    ]


def test_the_same_run_makes_the_same_file(file: Path, runs: list[Path], tmp_path: Path) -> None:
    again = release(runs[0], "TEST", tmp_path, [], None)
    assert again.read_bytes() == file.read_bytes()


def test_a_file_that_is_lost_is_made_again_by_another_version_from_an_equal_run(
    file: Path, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = file.with_name("released.json").read_bytes()
    (tmp_path / "released.json").write_bytes(listed)
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "newer_setting: 1\n")
    again = release(run, "TEST", tmp_path, [], None)
    assert again.read_bytes() != file.read_bytes() and (tmp_path / "released.json").read_bytes() == listed
    (row,) = (Released(**row) for row in json.loads(listed))
    monkeypatch.setattr("harness.weights.find.WEIGHTS", tmp_path)
    assert _released(row).sha256 == row.sha256
    again.unlink()
    with pytest.raises(UserError, match="has another network under this name: choose another --name"):
        release(runs[1], "TEST", tmp_path, [], None)
    assert not again.exists()


def test_a_large_file_does_not_come_with_the_program(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "SHIPPED", 100_000)
    file = release(runs[0], "TEST", tmp_path, [], None)
    (row,) = json.loads((tmp_path / "released.json").read_text())
    assert row["shipped"] is False and row["bytes"] == file.stat().st_size > 100_000
    assert "too large to come with the program" in file.with_suffix(".md").read_text()


def test_its_line_in_the_list_and_its_card(file: Path, runs: list[Path]) -> None:
    (row,) = json.loads((file.parent / "released.json").read_text())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    network = weights_sha256(load_file(file))
    assert row == {
        **{"model": "lenet5", "name": "TEST", "file": "lenet5-TEST.safetensors", "sha256": digest, "network": network},
        **{"bytes": file.stat().st_size, "data": "digits", "shipped": True},
    }
    card = file.with_suffix(".md").read_text()
    errors = [json.loads((run / "result.json").read_text())["top1_error"] for run in runs]
    for seed, error in zip((3, 4), errors, strict=True):
        assert f"| {seed} | {error:.2f} | " in card
    assert f"Top-1 of 2 seeds: mean {sum(errors) / 2:.2f} ± " in card and "The file is that of seed 3" in card
    for word in (digest, "half precision", "BSD-3-Clause", "CC BY 4.0", f"python train.py {' '.join(QUICK)} seed=3"):
        assert word in card


def test_single_precision_where_half_gives_another_record(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["3 images have another likeliest class", None]
    monkeypatch.setattr(story, "_difference", lambda *_: answers.pop(0))
    file = release(runs[0], "TEST", tmp_path, [], None)
    with safe_open(file, framework="pt") as content:
        assert content.get_tensor("c1.weight").dtype == torch.float32
    assert "single precision" in file.with_suffix(".md").read_text()
    monkeypatch.setattr(story, "_difference", lambda *_: "seen 1 instead of 2")
    with pytest.raises(UserError, match="does not give its record again: seen 1 instead of 2"):
        release(runs[0], "OTHER", tmp_path, [], None)
    assert not (tmp_path / "lenet5-OTHER.safetensors").exists()


def test_another_likeliest_class_is_seen(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    text = (run / "predictions.csv").read_text().splitlines(keepends=True)
    fields = text[5].split(",")
    fields[2] = str((int(fields[2]) + 1) % 10)
    (run / "predictions.csv").write_text("".join([*text[:5], ",".join(fields), *text[6:]]))
    with pytest.raises(UserError, match="1 images have another likeliest class"):
        release(run, "TEST", tmp_path, [], None)


def test_what_cannot_be_released_is_refused(file: Path, runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not the folder of a finished run: it has no result\.json"):
        release(tmp_path, "TEST", tmp_path, [], None)
    with pytest.raises(UserError, match="a released file never changes"):
        release(runs[0], "TEST", file.parent, [], None)
    with pytest.raises(UserError, match="has seed 4; the run of the smallest seed is released: "):
        release(runs[1], "TEST", tmp_path, [runs[0] / "result.json"], None)
    other = json.loads((runs[1] / "result.json").read_text())
    other["training"]["recipe"]["learning_rate"] = 0.01
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="they differ in more than the seed"):
        release(runs[0], "TEST", tmp_path, [tmp_path / "other.json"], None)
    changed = tmp_path / "changed"
    shutil.copytree(runs[0], changed)
    shutil.copy(runs[1] / "checkpoints" / "last.ckpt", changed / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match="its checkpoint is not the network of its"):
        release(changed, "TEST", tmp_path, [], None)


def test_the_command(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> int:
        monkeypatch.setattr("sys.argv", ["release.py", str(runs[0]), *words])
        return command.main()

    assert run("--name", "test") == 2 and "write capital letters" in capsys.readouterr().err
    assert run("--name", "TEST", "--out", str(tmp_path / "none")) == 2 and "no such folder" in capsys.readouterr().err
    assert run("name=TEST", f"out={tmp_path}") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{tmp_path / 'lenet5-TEST.safetensors'}: ")


# --------------------------------------------------------------------------------------------------------- what ships


def is_tracked(file: Path) -> bool:
    """Whether git, where there is one, would add the file."""
    command = ["git", "check-ignore", "-q", str(file)]
    return (ROOT / ".git").exists() and subprocess.run(command, cwd=ROOT, check=False).returncode != 0


@pytest.mark.parametrize("row", RELEASED, ids=lambda row: f"{row.model}-{row.name}")
def test_what_ships_is_small_whole_and_described(row: Released) -> None:
    file = WEIGHTS / row.file
    assert row.sha256 in file.with_suffix(".md").read_text(encoding="utf-8")
    if not row.shipped:
        assert row.bytes > story.SHIPPED and not is_tracked(file)
        assert row.network in file.with_suffix(".md").read_text(encoding="utf-8")
        (record,) = (ROOT / "benchmarks/results/experiments").glob(f"{row.data}_zoo/{row.model}-seed0.json")
        assert row.network == json.loads(record.read_text())["weights"]["sha256"]
        return
    content = file.read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (row.sha256, row.bytes) and row.bytes <= story.SHIPPED
    assert row.network == weights_sha256(load_file(file))
    known = described(file)
    record = known["release"]["record"]
    assert (known["model"], record["data"]["name"], record["training"]["seed"]) == (row.model, row.data, 0)
    assert find(row.name, row.model).sha256 == row.sha256
    assert load(row.model, weights=row.name).class_names == tuple(known["class_names"])


def test_what_ships_fits_and_is_all_listed() -> None:
    shipped, larger = ({row.file for row in RELEASED if row.shipped == here} for here in (True, False))
    assert shipped <= {path.name for path in WEIGHTS.glob("*.safetensors")} <= shipped | larger
    assert sum(row.bytes for row in RELEASED if row.shipped) < 6_000_000
    assert "models" in (ROOT / "pyproject.toml").read_text() and all(row.model in MODELS for row in RELEASED)


def test_a_file_that_is_not_here_or_another_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = RELEASED[0]
    monkeypatch.setattr("harness.weights.find.WEIGHTS", tmp_path)
    with pytest.raises(UserError, match=f"get {row.file} \\({row.bytes:,} bytes, SHA-256 {row.sha256}\\)"):
        find(row.name, row.model)
    (tmp_path / row.file).write_bytes(b"other")
    with pytest.raises(UserError, match="is damaged or another file"):
        find(row.name, row.model)


# ------------------------------------------------------------------------------------------------------------- verify


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_verify_gives_the_records_again(
    data: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data={data}", "trainer.threads=1", f"runs={tmp_path}"]
    if data == "mnist":
        words.append(f"data.root={request.getfixturevalue('mnist_root')}")
    assert call("eval.py", "verify=all", *words) == 0
    shipped = [row for row in RELEASED if row.data == data]
    lines = [line for line in capsys.readouterr().out.splitlines() if " right, top-1 error " in line]
    assert shipped and len(lines) == len(shipped)
    for row in shipped:
        record = described(WEIGHTS / row.file)["release"]["record"]
        right = f"{record['correct_top1']:,} of {record['seen']:,} right, top-1 error "
        (line,) = (line for line in lines if line.startswith(f"model={row.model} weights={row.name}: {right}"))
        assert line.endswith(", as in its record")


def test_verify_fails_where_a_count_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true = verifying._record
    monkeypatch.setattr(
        verifying, "_record", lambda file: {**true(file), "correct_top1": true(file)["correct_top1"] - 1}
    )
    row = next(row for row in RELEASED if row.data == "digits")
    words = ("verify=all", f"model={row.model}", "data=digits", "trainer.threads=1", f"runs={tmp_path}")
    assert call("eval.py", *words) == 2
    said = capsys.readouterr().err
    assert "1 of 1 do not give their record" in said and "1 apart; two best classes within 0.0001: no image" in said
    monkeypatch.setattr(verifying, "close_images", lambda path: ["digits/7"])
    assert call("eval.py", *words) == 0
    assert "1 apart; two best classes within 0.0001: digits/7" in capsys.readouterr().out


def test_a_missing_folder_is_told_before_weights_are_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("harness.weights.find._download", None)
    words = ("model=resnet18", "weights=IMAGENET1K_V1", "data=imagenet", f"data.root={tmp_path / 'none'}")
    assert call("eval.py", *words, f"runs={tmp_path}") == 2
    assert "none has no folder val; it should hold" in capsys.readouterr().err


def test_verify_passes_by_what_is_not_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("verify=all", "data=mnist", f"data.root={tmp_path / 'none'}", f"runs={tmp_path}")
    assert call("eval.py", *words) == 0
    out = capsys.readouterr().out
    assert "not evaluated: " in out and " right, top-1 error " not in out
    assert "(with `verify=all data=mnist data.root=FOLDER`)" in out
    assert call("eval.py", "verify=all", "model=vgg11", f"runs={tmp_path}") == 2
    assert "no weights are released for model=vgg11 data=any" in capsys.readouterr().err
    assert call("eval.py", "verify=all", "run=x") == 2
    assert "say what to evaluate" in capsys.readouterr().err


def test_close_images_are_those_whose_two_best_logits_nearly_agree(tmp_path: Path) -> None:
    rows = [("a", 0.5, 0.49996), ("b", 0.5, 0.4999), ("c", 0.9, 0.1), ("d", 1.0, 0.0)]
    text = "image,label,class_1,probability_1,class_2,probability_2\n"
    (tmp_path / "p.csv").write_text(text + "".join(f"{image},0,0,{one},1,{two}\n" for image, one, two in rows))
    assert close_images(tmp_path / "p.csv") == ["a"]


def test_weights_that_ship_are_verified_by_their_own_hash() -> None:
    """The same tensors, whatever reads them."""
    row = next(row for row in RELEASED if row.data == "digits")
    tensors = load(row.model, weights=row.name).network.state_dict()
    hub = torch.hub.load(str(ROOT), row.model, source="local", weights=row.name)  # type: ignore[no-untyped-call]
    assert weights_sha256(tensors) == weights_sha256(hub.state_dict())
    assert yaml.safe_load(json.dumps(described(WEIGHTS / row.file)))["release"]["config"]["seed"] == 0
