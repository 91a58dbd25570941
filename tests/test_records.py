"""A record says what ran: training and `eval.py run=` write the same one, whatever was set."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from in_process import call, only
from PIL import Image
from torch import nn

from harness.evaluation.evaluator import Evaluator

KILLED = ROOT / "tests" / "fixtures" / "2026-11" / "runs" / "mlp-digits" / "killed"
QUICK = ("recipe.epochs=2", "trainer.threads=1", "trainer.accelerator=cpu")
PRETRAINED = "weights={pretrained}"
OVERRIDES: list[Any] = [
    ("seed=3", "recipe.batch_size=100"),
    ("model=mlp", "model.hidden=[20]", "recipe.class_weights=balanced"),
    ("model=lenet5_1998", "recipe.loss=lecun_map", "recipe.learning_rate=0.001"),
    ("recipe.precision=bf16-mixed", "recipe.channels_last=true", "protocol.channels_last=true"),
    ("protocol.batch_size=7",),
    ("protocol.precision=bf16-mixed", "protocol.channels_last=true"),
    ("recipe.epochs=6", "recipe.patience=1", "recipe.learning_rate=0.2"),
    ("data.validation=0",),
    ("data.mean=[0.3]", "data.std=[0.2]", "data.validation=100"),
    ("trainer.max_epochs=1",),
    ("trainer.max_batches=15",),
    ("recipe=finetune", PRETRAINED, "recipe.freeze=[c1]", "recipe.unfreeze_epoch=2", "recipe.patience=1"),
    ("recipe=linear_probe", PRETRAINED, "recipe.channels_last=true", "recipe.precision=bf16-mixed"),
    ("recipe=linear_probe", PRETRAINED, "recipe.patience=1", "protocol.batch_size=50"),
    pytest.param(("recipe.compile=true",), marks=pytest.mark.slow),
    pytest.param(("protocol.compile=true",), marks=pytest.mark.slow),
    pytest.param(("trainer.strategy=ddp", "trainer.devices=1", "protocol.batch_size=99"), marks=pytest.mark.slow),
]


def train(runs: Path, *settings: str) -> Path:
    assert call("train.py", *QUICK, *settings, f"runs={runs}") == 0
    return only(only(runs))


def evaluate(runs: Path, *settings: str) -> Path:
    assert call("eval.py", "force=true", "trainer.threads=1", "trainer.accelerator=cpu", *settings, f"runs={runs}") == 0
    return only(only(runs))


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("pretrained"))


@pytest.mark.parametrize("settings", OVERRIDES, ids=" ".join)
def test_an_evaluation_of_a_run_writes_its_record(settings: tuple[str, ...], pretrained: Path, tmp_path: Path) -> None:
    run = train(tmp_path / "runs", *(setting.format(pretrained=pretrained) for setting in settings))
    again = evaluate(tmp_path / "again", f"run={run}")
    for file in ("result.json", "predictions.csv"):
        assert (again / file).read_text() == (run / file).read_text()


def test_the_evaluation_inherits_nothing_of_how_the_network_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if torch compiled: the network is marked; and laid out otherwise, frozen, and hooked."""
    evaluated: list[nn.Module] = []
    start = Evaluator.__init__

    def watched(self: Evaluator, network: nn.Module, *arguments: Any) -> None:
        evaluated.append(network)
        start(self, network, *arguments)

    monkeypatch.setattr(nn.Module, "compile", lambda network, mode: setattr(network, "compiled", True))
    monkeypatch.setattr(Evaluator, "__init__", watched)
    for number, settings in enumerate(((), ("recipe.channels_last=true", "recipe.compile=true"))):
        train(tmp_path / str(number), *settings)
    for network in evaluated:
        assert not hasattr(network, "compiled")
        weight = network.get_parameter("c3.weight")
        assert weight.is_contiguous() and not weight.is_contiguous(memory_format=torch.channels_last)
    assert len(evaluated) == 2


def test_the_record_holds_what_can_move_its_number(tmp_path: Path) -> None:
    run = train(
        tmp_path / "a", "data.validation=100", "data.std=[0.2]", "protocol.batch_size=50", "trainer.max_epochs=1"
    )
    found = record(run)
    assert found["version"] == 5
    assert found["training_data"] == {"name": "digits", "validation": 100, "mean": [0.1716], "std": [0.2]}
    training = found["training"]
    assert (training["images"], training["epochs"], training["recipe"]["epochs"]) == (1337, 1, 2)
    assert training["validated"]["batch_size"] == 50
    version = torch.__version__.split("+")[0]
    assert training["places"] == [{"device": "cpu", "devices": 1, "threads": 1, "torch": version}]
    assert (found["weights"]["epoch"], found["weights"]["step"], found["weights"]["file"]) == (1, 21, "last.ckpt")
    other = record(train(tmp_path / "b", "data.validation=100", "data.std=[0.2]", "seed=1"))
    assert other["training"]["fingerprint"] == training["fingerprint"]
    more = record(train(tmp_path / "c", "data.validation=90"))
    assert more["training"]["fingerprint"] != training["fingerprint"]


def test_given_keys_of_the_protocol_change_alone_and_other_data_bring_their_own(
    pretrained: Path, tmp_path: Path
) -> None:
    run = train(tmp_path / "runs", "protocol.batch_size=50", "protocol.channels_last=true", "recipe.epochs=3")
    checkpoint = run / "checkpoints" / "last.ckpt"
    protocols = {
        name: record(evaluate(tmp_path / name, *settings))["protocol"]
        for name, settings in {
            "checkpoint": (f"checkpoint={checkpoint}",),
            "same data": (f"run={run}", "data=digits"),
            "key": (f"run={run}", "protocol.precision=bf16-mixed"),
            "chosen": (f"run={run}", "protocol=whole_image"),
            "weights": (f"weights={run}", "model=lenet5", "data=digits"),
        }.items()
    }
    own = {
        "name": "whole_image",
        "batch_size": 50,
        "precision": "32-true",
        "channels_last": True,
        "compile": False,
        "scales": [],
    }
    usual = {**own, "batch_size": 100, "channels_last": False}  # as many as are fast on a CPU
    assert protocols["checkpoint"] == protocols["same data"] == own
    assert protocols["key"] == {**own, "precision": "bf16-mixed"}
    assert protocols["chosen"] == protocols["weights"] == usual


def test_the_moment_of_the_weights_is_recorded(tmp_path: Path) -> None:
    run = train(tmp_path / "runs", "recipe.epochs=4", "recipe.learning_rate=0.15", "seed=2")
    best = record(run)["best_on_validation"]["epoch"]
    moments = {
        name: record(evaluate(tmp_path / name, f"checkpoint={run / 'checkpoints' / name}"))["weights"]
        for name in ("last.ckpt", "best_on_validation.ckpt", "previous.ckpt")
    }
    found = {name: (weights["epoch"], weights["file"]) for name, weights in moments.items()}
    assert found == {
        "last.ckpt": (4, "last.ckpt"),
        "best_on_validation.ckpt": (best, "best_on_validation.ckpt"),
        "previous.ckpt": (3, None),
    }
    weights = record(evaluate(tmp_path / "killed", f"run={KILLED}"))["weights"]  # in the middle of its second epoch
    assert (weights["epoch"], weights["step"], weights["file"]) == (1, 49, None)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (("recipe.precision=16-mixed",), "recipe.precision=16-mixed: a CPU does not compute in float16; choose recipe"),
        (("protocol.precision=16-mixed",), "protocol.precision=16-mixed: a CPU does not compute in float16"),
        (
            ("recipe=linear_probe", PRETRAINED, "recipe.compile=true"),
            "recipe.compile=true: does not work with recipe.trains=head, which computes features once; leave it out",
        ),
    ],
)
def test_what_would_not_run_as_it_says_is_refused(
    settings: tuple[str, ...], line: str, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [setting.format(pretrained=pretrained) for setting in settings]
    capsys.readouterr()
    assert call("train.py", *QUICK, *given, f"runs={tmp_path / 'runs'}") == 2
    errors = capsys.readouterr().err
    assert line in errors and errors.count("\n") == 1 and not list(tmp_path.iterdir())
    if settings[0].startswith("protocol"):
        assert call("eval.py", f"run={pretrained}", *QUICK[1:], *given, f"runs={tmp_path / 'runs'}") == 2
        errors = capsys.readouterr().err
        assert line in errors and errors.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_run_that_goes_on_elsewhere_says_so_and_other_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "runs", "recipe.epochs=3")
    (run / "result.json").unlink()
    (run / "checkpoints" / "previous.ckpt").replace(run / "checkpoints" / "last.ckpt")
    shutil.copytree(run, tmp_path / "moved")
    assert call("train.py", f"resume={run}", "trainer.threads=2") == 0
    assert [place["threads"] for place in record(run)["training"]["places"]] == [1, 2]
    monkeypatch.setattr("harness.data.images.image_set.ImageSet.fingerprint", lambda _: "other pixels")
    capsys.readouterr()
    assert call("train.py", f"resume={tmp_path / 'moved'}") == 2
    assert "the training images have changed since this run began; put the old ones back" in capsys.readouterr().err


def test_a_run_of_an_older_version_says_what_is_not_known(tmp_path: Path) -> None:
    shutil.copytree(KILLED, tmp_path / "killed")
    assert call("train.py", f"resume={tmp_path / 'killed'}", "trainer.accelerator=cpu") == 0
    places = record(tmp_path / "killed")["training"]["places"]
    assert [place["threads"] for place in places] == [None, 1]


def test_a_readable_table_has_names_and_paths_and_no_formulas(tmp_path: Path) -> None:
    """A class may be called like a formula: only this table, which people open in spreadsheets, has an apostrophe."""
    names = ("=1+1", "cat", "-dog", "@x")
    for split, images in (("train", 4), ("val", 2)):
        for colour, name in enumerate(names):
            for number in range(images):
                path = tmp_path / "photos" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 40), (60 * colour, 200, 255 - 60 * colour)).save(path)
    settings = ("model=resnet20", "data=folder", f"data.root={tmp_path / 'photos'}", "recipe=scratch_small")
    folder = train(tmp_path / "runs", *settings, "recipe.learning_rate=0.01", "trainer.workers=0")
    assert tuple(record(folder)["class_names"]) == tuple(sorted(names, key=str.encode))
    with (folder / "predictions_readable.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        plain = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [row["image"] for row in plain] and len(rows) == 8
    for row, positions in zip(rows, plain, strict=True):
        assert Path(row["path"]).is_file() and row["image"].endswith("/".join(Path(row["path"]).parts[-2:]))
        for kind in ("label", "class_1", "class_4"):
            assert row[kind].removeprefix("'") == record(folder)["class_names"][int(positions[kind])]
            assert row[kind].startswith("'") == (row[kind] != "cat")
        assert row["probability_1"] == positions["probability_1"]


def test_too_large_a_batch_is_told_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "large", "model=mlp", "recipe.batch_size=512", "recipe.learning_rate=0.1")
    said = capsys.readouterr().out
    line = "an epoch of 1,257 images is 3 steps of recipe.batch_size=512, which is meant for more; "
    assert line + "recipe.batch_size=64 and, in proportion, recipe.learning_rate=0.013 would make 20" in said
    assert said.index(line) < said.index("epoch 1/2")
    train(tmp_path / "usual", "model=mlp")
    assert "which is meant for more" not in capsys.readouterr().out
