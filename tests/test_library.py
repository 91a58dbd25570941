"""The door for programs: docs/library.md runs, twice in one process, silently, and leaves nothing behind."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from filelock import FileLock
from hydra import compose as hydras_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from test_torch_hub import cache, publish, randomised  # noqa: F401  # cache is a fixture

import harness
from harness import compose, evaluate, load, train
from harness.command.cli import main
from harness.errors import UserError
from harness.run.log import log, spoken, stop_writing, write_to
from models.keymaps import to_torchvision

PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.DOTALL)
QUICK: dict[str, Any] = {"model": "mlp", "recipe.epochs": 2, "trainer.threads": 1}


def test_the_page_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    cache: Path,  # noqa: F811
) -> None:
    tensors = to_torchvision("resnet50", randomised("resnet50").state_dict())
    publish("resnet50", "IMAGENET1K_V2", cache, tensors)
    monkeypatch.setattr("harness.weights.find._sha256", lambda path: path.stem.rpartition("-")[2])  # no true file
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for program in PROGRAMS:
        exec(program, names)
    said = capfd.readouterr()
    printed = said.out.splitlines()
    assert said.err == "" and len(printed) == 6, said
    assert printed[0].startswith("runs/lenet5-digits/") and printed[0].endswith(" 5")
    assert float(printed[0].split()[1]) == names["result"]["top1_error"] < 10
    assert printed[3].startswith("[{'0': 0.9") and printed[4] == "torch.Size([1, 10])"
    assert printed[5] == "n01440764 224"


def test_the_program_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert capfd.readouterr().out.endswith("('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')\n")


def test_the_door_is_light() -> None:
    heavy = "{'torch', 'hydra', 'omegaconf', 'lightning', 'numpy'} & set(sys.modules)"
    program = f"import sys, harness; from harness import compose, load, train, evaluate; print({heavy})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done


def test_two_runs_in_one_process_are_what_the_scripts_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = [train(compose("train", runs=tmp_path, **QUICK)) for _ in range(2)]
    assert runs[0].folder != runs[1].folder and runs[0].result == runs[1].result
    assert [epoch.epoch for epoch in runs[0].history] == [1, 2]
    from in_process import call

    assert capfd.readouterr() == ("", "")
    words = [f"{key}={value}" for key, value in QUICK.items()]
    assert call("train.py", *words, f"runs={tmp_path / 'script'}") == 0
    (script,) = (tmp_path / "script" / "mlp-digits").iterdir()
    assert (script / "result.json").read_text() == (runs[0].folder / "result.json").read_text()
    assert "test top-1 error" in (runs[0].folder / "log.txt").read_text()


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    log = logging.getLogger("cnn_zoo")
    before = [*log.handlers], log.propagate, log.level
    run = train(compose("train", runs=tmp_path, **QUICK))
    evaluate(compose("eval", run=run.folder, runs=tmp_path))
    assert ([*log.handlers], log.propagate, log.level) == before
    for lock in tmp_path.rglob(".lock"):
        FileLock(lock).acquire(timeout=0)


def test_a_command_gives_the_log_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = [*logging.getLogger("cnn_zoo").handlers]
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", "--help"])
        main("train")
    assert "recipe" in capsys.readouterr().out and logging.getLogger("cnn_zoo").handlers == before


def test_it_speaks_when_it_is_asked_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(compose("train", runs=tmp_path, **QUICK), verbose=True)
    said = capfd.readouterr()
    assert "epoch 2/2" in said.out and "test top-1 error" in said.out and said.err == ""
    assert said.out.count("training mlp on digits: ") == 1


def test_it_is_silent_after_it_failed_and_the_folder_is_free(tmp_path: Path) -> None:
    before = [*logging.getLogger("cnn_zoo").handlers]
    with pytest.raises(UserError, match="the loss is not a finite number"):
        train(compose("train", runs=tmp_path, **QUICK, **{"recipe.learning_rate": 1e30}))
    (folder,) = (tmp_path / "mlp-digits").iterdir()
    FileLock(folder / ".lock").acquire(timeout=0)
    assert logging.getLogger("cnn_zoo").handlers == before


def test_a_run_goes_on(tmp_path: Path) -> None:
    run = train(compose("train", runs=tmp_path, **QUICK))
    with pytest.raises(UserError, match="this run is finished"):
        train(compose("train", resume=run.folder))


def test_mistakes_are_the_lines_of_the_command_line() -> None:
    with pytest.raises(ValueError, match=r"^recipe.lr: no such key; it is called recipe.learning_rate$"):
        compose("train", **{"recipe.lr": 1})
    with pytest.raises(ValueError, match=r"no such command; there are train, eval, compare"):
        compose("tain")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"a call of the library trains on one device"):
        train(compose("train", trainer="ddp"))


def test_values_of_python_arrive_as_they_are(tmp_path: Path) -> None:
    odd = tmp_path / "it's [a] {b}, c=1 é"
    settings: dict[str, Any] = {"model.hidden": [5, 6], "recipe.flip": True, "trainer.threads": None}
    config = compose("train", "seed=3", runs=odd, model="mlp", **settings)
    assert config.runs == str(odd) and config.seed == 3
    assert config.model.options() == {"hidden": [5, 6]} and config.recipe.flip and config.trainer.threads is None


def test_a_program_that_uses_hydra_itself_finds_it_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert compose("train").model.name == "lenet5"
        assert hydras_compose("own") == {"a": 1}
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("kind", ["path", "image", "array"])
def test_a_picture_is_what_an_evaluation_of_its_file_makes_of_it(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = train(compose("train", runs=tmp_path, **QUICK, data="digits"))
    network = load(run.folder)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture: Any = {"path": tmp_path / "a.png", "image": Image.open(tmp_path / "a.png"), "array": pixels}[kind]
    (answer,) = network.predict([picture], top=3)
    from harness.prediction.predict import predict

    paths = [bytes(tmp_path / "a.png")]
    (expected,) = predict(network, paths, top=3, batch_size=1, device=torch.device("cpu"), workers=0)
    assert list(answer) == [network.class_names[position] for position in expected.classes]
    assert list(answer.values()) == pytest.approx(expected.probabilities, abs=1e-5)


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), "nowhere.png"])
def test_what_is_no_picture_is_one_line(picture: Any, trained_run: Path) -> None:
    with pytest.raises(UserError, match=r"a picture is uint8 \(H, W, 3\) or \(H, W\)|No such file"):
        load(trained_run).predict([picture])


def test_the_door_names_all_of_its_functions() -> None:
    assert sorted(harness.__all__) == ["compose", "evaluate", "load", "train"]


def test_lines_of_the_log_steer_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with spoken(True):
        write_to(tmp_path)
        log.info(["a class called \x1b[31mred\n", "the next line\u202e"])  # a message is a line, or a list of lines
        stop_writing()
    expected = "a class called \\x1b[31mred\\n\nthe next line\\u202e\n"
    assert capsys.readouterr().out == (tmp_path / "log.txt").read_text() == expected
