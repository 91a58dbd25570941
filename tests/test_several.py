"""`eval.py` of several networks: the records of separate evaluations, each picture decoded once, and resumable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import run_script
from in_process import call, only
from PIL import Image
from test_imagenet import SMALL, save_checkpoint

from harness.data.loading.workers import WindowDecoder
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.errors import StoppedError
from harness.evaluation.evaluator import Evaluator
from harness.evaluation.parts import Part
from harness.evaluation.scores import class_scores
from harness.stories import evaluate_several
from models import build_model

PICTURES = 12


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Twelve small pictures, one of them unreadable, and weights of two networks under one name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(PICTURES):
        folder = tmp_path / "data" / "val" / IMAGENET_CLASSES[400 * (number % 3)]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (40, 44 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.JPEG", quality=90)
    (tmp_path / "data" / "val" / IMAGENET_CLASSES[400] / "04.JPEG").write_bytes(b"text")
    return tmp_path


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    """As if torchvision's weights were here: random ones of resnet18 and resnet34."""
    from harness.weights import load

    torch.manual_seed(0)
    files = {
        name: save_checkpoint(place / f"{name}.ckpt", name, build_model(name).state_dict(), SMALL)
        for name in ("resnet18", "resnet34")
    }
    start = load.Weights.__init__

    def found(self: load.Weights, weights: str, model: str, *others: Any) -> None:
        start(self, str(files[model]) if weights == "IMAGENET1K_V1" else weights, model, *others)

    monkeypatch.setattr(load.Weights, "__init__", found)
    return place


def evaluate(place: Path, runs: str, *words: str) -> int:
    data = ("data=imagenet", f"data.root={place / 'data'}", "weights=IMAGENET1K_V1", "force=true")
    how = ("trainer.workers=0", "trainer.threads=1", "trainer.accelerator=cpu", "protocol.batch_size=4")
    return call("eval.py", *data, *how, f"runs={place / runs}", *words)


def folder_of(place: Path, runs: str, model: str) -> Path:
    return only(place / runs / f"{model}-imagenet")


def test_records_are_those_of_separate_evaluations_and_each_picture_is_decoded_once(
    networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate_several, "PART", 5)
    for model in ("resnet18", "resnet34"):
        assert evaluate(networks, "separate", f"model={model}") == 0
    decoded: list[bytes] = []
    decode = WindowDecoder.__getitem__

    def counted(self: WindowDecoder, request: Any) -> Any:
        decoded.extend(request.places)
        return decode(self, request)

    monkeypatch.setattr(WindowDecoder, "__getitem__", counted)
    capsys.readouterr()
    assert evaluate(networks, "together", "model=[resnet34,resnet18]") == 0
    assert len(decoded) == len(set(decoded)) == PICTURES
    for model in ("resnet18", "resnet34"):
        alone, together = (folder_of(networks, runs, model) for runs in ("separate", "together"))
        for file in ("result.json", "predictions.csv", "predictions_readable.csv", "unreadable.csv"):
            assert (together / file).read_bytes() == (alone / file).read_bytes(), file
        log = (together / "log.txt").read_text()
        assert f"{model} of " in log and "12 images" in log and log.count("test top-1 error") == 1
        assert not (together / "parts").exists()
    said = capsys.readouterr().out
    assert "2 networks see each picture together: model=resnet34, model=resnet18" in said
    assert "record in" in said and said.endswith("evaluated: 2 of 2\n")


def result(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return content


def same_files(one: Path, other: Path) -> None:
    for file in ("result.json", "predictions.csv"):
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def test_an_interrupted_evaluation_goes_on_after_its_last_whole_part(
    networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate_several, "PART", 5)
    both = "model=[resnet18,resnet34]"
    assert evaluate(networks, "whole", both) == 0
    write = Part.write

    def written(self: Part, path: Path) -> None:
        if path.name == "1.pt" and "resnet34" in str(path):
            raise StoppedError("stopped by SIGTERM", 143)
        write(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Part, "write", written)
        assert evaluate(networks, "stopped", both) == 143
    assert not list((networks / "stopped").rglob("result.json"))
    seen: list[tuple[str, int]] = []
    start = Evaluator.on_test_start

    def counted(self: Evaluator) -> None:
        seen.append((type(self.network).__name__, len(self.split)))
        start(self)

    monkeypatch.setattr(Evaluator, "on_test_start", counted)
    assert evaluate(networks, "stopped", both, "resume=auto") == 0
    assert [images for _, images in seen] == [5, 2, 2]  # the second part of one network, the third of both
    for model in ("resnet18", "resnet34"):
        same_files(folder_of(networks, "stopped", model), folder_of(networks, "whole", model))
    capsys.readouterr()
    seen.clear()
    assert evaluate(networks, "stopped", both, "resume=auto") == 0 and not seen  # both records are there
    assert capsys.readouterr().out.count("its record is there: ") == 2
    assert evaluate(networks, "stopped", "model=resnet18", "resume=auto", "protocol.batch_size=3") == 0
    assert len(seen) == 3  # other settings: nothing of the above is used


def test_a_damaged_part_is_seen_again(networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_several, "PART", 5)
    assert evaluate(networks, "whole", "model=resnet18") == 0
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_several, "join", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(networks, "again", "model=[resnet18]")
    parts = folder_of(networks, "again", "resnet18") / "parts"
    (parts / "1.pt").write_bytes(b"PK")
    shutil.copy(parts / "0.pt", parts / "2.pt")  # of another number of images
    assert evaluate(networks, "again", "model=[resnet18]", "resume=auto") == 0
    same_files(folder_of(networks, "again", "resnet18"), folder_of(networks, "whole", "resnet18"))


@pytest.mark.parametrize("from_batch", [0, 2])
def test_without_memory_a_network_sees_half_the_batch_and_its_record_has_one_batch_size(
    from_batch: int, networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Memory is full with more than one image at a time in resnet34, from the first or from the third batch on."""
    monkeypatch.setattr(evaluate_several, "PART", 5)
    for model, size in (("resnet18", 4), ("resnet34", 1)):
        assert evaluate(networks, "separate", f"model={model}", f"protocol.batch_size={size}") == 0
    small_memory(monkeypatch, "resnet34", most=1, from_batch=from_batch)
    assert evaluate(networks, "together", "model=[resnet18,resnet34]") == 0
    said = capsys.readouterr().out
    for size in (2, 1):
        assert f"model=resnet34: the memory of the device is full; half the batch: protocol.batch_size={size}" in said
    assert said.count("begins again with protocol.batch_size=1, so that its record has only one") == (from_batch > 0)
    for model, size in (("resnet18", 4), ("resnet34", 1)):
        folder = folder_of(networks, "together", model)
        same_files(folder, folder_of(networks, "separate", model))
        assert result(folder)["protocol"]["batch_size"] == size


def small_memory(monkeypatch: pytest.MonkeyPatch, model: str, *, most: int, from_batch: int = 0) -> None:
    """Let a network raise torch's error for more than so many images at once."""
    batches = 0

    def step(network: torch.nn.Module, images: torch.Tensor, *arguments: Any) -> torch.Tensor:
        nonlocal batches
        if (sum(1 for _ in network.parameters()) > 100) == (model == "resnet34"):
            batches += 1
            if batches > from_batch and len(images) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return class_scores(network, images, *arguments)

    monkeypatch.setattr("harness.evaluation.evaluator.class_scores", step)


def test_one_that_fails_does_not_stop_the_others(
    networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights of one are damaged, and another one has no memory even for one image."""
    (networks / "resnet34.ckpt").write_bytes(b"nothing")
    assert evaluate(networks, "runs", "model=[resnet34,resnet18]") == 1
    said = capsys.readouterr()
    assert "evaluated: 1 of 2" in said.out and "failed: model=resnet34: " in said.err
    assert "Traceback" not in said.err
    assert result(folder_of(networks, "runs", "resnet18"))["seen"] == PICTURES
    assert not (networks / "runs" / "resnet34-imagenet").exists()
    small_memory(monkeypatch, "resnet18", most=0)
    assert evaluate(networks, "none", "model=[resnet18]") == 1
    assert "failed: model=resnet18: the memory of the device is full, even with one image" in capsys.readouterr().err


def test_a_score_that_means_nothing_and_a_bug_stop_only_their_network(
    networks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(networks, "refused", "model=[resnet18,resnet34]", "force=false") == 1
    errors = capsys.readouterr().err
    assert errors.count("\nfailed: ") + errors.startswith("failed: ") == 2 and "no better than guessing" in errors
    assert not list((networks / "refused").rglob("result.json"))
    step = Evaluator.test_step

    def buggy(self: Evaluator, batch: Any, batch_idx: int) -> None:
        if sum(1 for _ in self.network.parameters()) > 100:
            raise ZeroDivisionError("a bug")
        step(self, batch, batch_idx)

    monkeypatch.setattr(Evaluator, "test_step", buggy)
    assert evaluate(networks, "bug", "model=[resnet34,resnet18]") == 1
    errors = capsys.readouterr().err
    assert "Traceback" in errors and "failed: model=resnet34: ZeroDivisionError: a bug" in errors
    assert result(folder_of(networks, "bug", "resnet18"))["seen"] == PICTURES


def test_two_runs_of_digits_are_evaluated_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ("recipe.epochs=2", "trainer.threads=1", "trainer.accelerator=cpu", f"runs={tmp_path / 'runs'}")
    for model in ("lenet5", "mlp"):
        assert call("train.py", *quick, f"model={model}") == 0
    runs = [only(tmp_path / "runs" / f"{model}-digits") for model in ("lenet5", "mlp")]
    words = (f"runs={tmp_path / 'again'}", "trainer.threads=1", "trainer.accelerator=cpu")
    capsys.readouterr()
    assert call("eval.py", f"run=[{runs[0]},{runs[1]}]", *words) == 0
    for run in runs:
        same_files(only(tmp_path / "again" / run.parent.name), run)
    said = capsys.readouterr().out
    assert "2 networks see each picture together" in said and "evaluated: 2 of 2" in said
    (tmp_path / "runs" / "mlp-digits" / "notes").mkdir()
    assert call("eval.py", f"run={tmp_path / 'runs' / '*' / '*'}", *words) == 0
    said = capsys.readouterr().out
    assert "left out, because they are no runs: " in said and "notes" in said and "evaluated: 2 of 2" in said


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("model=[resnet18,resnet1]",), "no such choice; the nearest are: "),
        (("model=resnext*",), "model=resnext*: names no network; the nearest are: "),
        (("model=lenet*",), "weights=IMAGENET1K_V1: none of these "),
        (("model=[resnet18,lenet5]",), "(of model=lenet5; no network was evaluated)"),
        (("model=[resnet18,resnet34]", "protocol=whole_image"), "(of model=resnet18; no network was evaluated)"),
        (("model=[resnet18,resnet34]", "run=[a,b]"), "give several networks by one of them"),
        (("model=[resnet18,resnet34]", "weights=some.pth"), "a file holds the weights of one network"),
        (("model=[resnet18,resnet34]", "verify=all"), "verify=all takes one network"),
        (("run=[nowhere,there]",), "run=nowhere: not the folder of a run"),
        (("run=nowhere*",), "run=nowhere*: names no folder of a run"),
        (("model=resnet18", "resume=last"), "resume=last: no such choice; the nearest are: auto"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_read(
    words: tuple[str, ...], line: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = () if words[0].startswith("run") or "weights=some.pth" in words else ("weights=IMAGENET1K_V1",)
    data = ("data=imagenet", f"data.root={place / 'data'}", f"runs={place / 'runs'}")
    assert call("eval.py", *words, *weights, *data) == 2
    errors = capsys.readouterr().err
    assert line in errors and errors.count("\n") == 1, errors
    assert not (place / "runs").exists()


def test_a_pattern_leaves_out_networks_without_these_weights_and_says_so(
    networks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(networks, "runs", "model=[resnet18,resnet*4]") == 0
    said = capsys.readouterr().out
    assert "left out, because they have no weights=IMAGENET1K_V1: resnet44" in said
    assert "evaluated: 2 of 2" in said


@pytest.mark.slow
def test_any_number_of_processes_writes_the_same_records(tmp_path: Path) -> None:
    quick = ("recipe.epochs=1", "trainer.threads=1", "trainer.accelerator=cpu", f"runs={tmp_path / 'runs'}")
    for model in ("lenet5", "mlp"):
        assert call("train.py", *quick, f"model={model}") == 0
    runs = [only(tmp_path / "runs" / f"{model}-digits") for model in ("lenet5", "mlp")]
    for out, more in (("first", ()), ("second", ("resume=auto",))):
        words = (f"run=[{runs[0]},{runs[1]}]", f"runs={tmp_path / 'again'}", "trainer.threads=1", *more)
        done = run_script("tests/eval_on_many_cores.py", *words, "trainer=ddp", "trainer.devices=2", "force=true")
        assert done.returncode == 0, done.stderr
        assert ("its record is there" in done.stdout) == (out == "second")
    for run in runs:
        same_files(only(tmp_path / "again" / run.parent.name), run)
