"""A user's own pictures through the scripts: odd files, other channels, other folders, and what cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, run_script
from PIL import Image
from test_folder_data import config

from harness.data.images.decode import decode
from harness.data.images.opening import UnreadableError
from harness.data.sources.folder import divide
from harness.data.sources.table import load, load_test
from harness.errors import UserError
from harness.run.checkpoint import read_checkpoint

RNG = np.random.default_rng(0)
CLASSES = ("circle", "square", "été, 2024")
QUICK = (
    *("model=lenet5", "data=folder", "data.image_size=32", "data.resize=32", "recipe=torchvision_v1", "trainer=cpu"),
    *("recipe.epochs=1", "recipe.milestones=[]", "recipe.schedule=constant", "trainer.threads=1", "trainer.workers=0"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def shape(label: int) -> Image.Image:
    """A light circle, square or line on a dark ground, of any size."""
    side = int(RNG.integers(40, 60))
    y, x = np.mgrid[:side, : side + 8] - side / 2
    inside = (x**2 + y**2 < 150, (np.abs(x) < 12) & (np.abs(y) < 12), np.abs(y) < 3)[label]
    noise = RNG.normal(0, 4, (*inside.shape, 3))
    return Image.fromarray((noise + np.where(inside[..., None], 200, 40)).clip(0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path, number: int) -> None:
    """Each of eight in another of the forms in which people have pictures."""
    exif = Image.Exif()
    exif[0x0112] = 6
    kind = ("colour", "grey", "palette", "CMYK", "16 bits", "alpha", "turned", "animated")[number % 8]
    sixteen = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    forms: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "colour": (image, "jpg", {}),
        "grey": (image.convert("L"), "jpeg", {}),
        "palette": (image.quantize(32), "png", {}),
        "CMYK": (image.convert("CMYK"), "jpg", {}),
        "16 bits": (sixteen, "png", {}),
        "alpha": (image.convert("RGBA"), "webp", {}),
        "turned": (image.transpose(Image.Transpose.ROTATE_90), "jpg", {"exif": exif}),
        "animated": (image.convert("P"), "gif", {"save_all": True, "append_images": [Image.new("P", image.size)]}),
    }
    made, ending, options = forms[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path.with_suffix(f".{ending}"), **options)


def write(root: Path, images: int, classes: tuple[str, ...] = CLASSES) -> Path:
    for name in classes:
        for number in range(images):
            save(shape(CLASSES.index(name)), root / name / f"{number:02d}", number)
    return root


def train(root: Path, runs: Path, *settings: str) -> tuple[Path, str]:
    done = run_script("train.py", *QUICK, f"data.root={root}", f"runs={runs}", *settings)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (run,) = runs.glob("*/*")
    return run, done.stdout


def predictions(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "predictions.csv").read_text(encoding="utf-8").splitlines()))


def test_grey_networks_learn_colour_and_the_reverse_and_are_evaluated_by_name(
    trained_run: Path, tmp_path: Path
) -> None:
    """From digits to pictures in colour, from those to grey ones, and from there to another folder."""
    root = write(tmp_path / "shapes & more", 16)
    weights = trained_run / "checkpoints" / "last.ckpt"
    colour, said = train(root, tmp_path / "colour", f"weights={weights}", "recipe.batch_size=100")
    assert "c1 takes 3 channels: 1 repeated in turn, times 1/3" in said and "output is new" in said
    assert ", 1 epochs, batch 100, " in said and "steps of an epoch: 1\n" in said  # fewer images than a batch
    trained = read_checkpoint(colour / "checkpoints" / "last.ckpt").trained
    assert trained.class_names == CLASSES and trained.preprocessing.channels == 3
    weights = colour / "checkpoints" / "last.ckpt"
    how = (f"weights={weights}", "data.mean=[0.5]", "data.std=[0.25]", "recipe.batch_size=8")
    grey, said = train(root, tmp_path / "grey", *how, "recipe.epochs=4", "recipe.learning_rate=0.05")
    assert "c1 takes 1 channel: the sum over 3" in said and "is new" not in said

    done = run_script("eval.py", f"run={grey}", "protocol.batch_size=2", f"runs={tmp_path / 'again'}", "force=true")
    assert done.returncode == 0, done.stderr
    (again,) = (tmp_path / "again").glob("*/*")  # the protocol is the one that suits the run's data, with its batch
    for row, before in zip(predictions(again), predictions(grey), strict=True):
        likely = {key: float(value) for key, value in row.items() if key.startswith("probability_") and value}
        assert {key: float(before[key]) for key in likely} == pytest.approx(likely, abs=1e-5)  # other batches round so
        assert row == {**before, **{key: row[key] for key in likely}}
    protocol = json.loads((again / "result.json").read_text(encoding="utf-8"))["protocol"]
    assert (protocol["name"], protocol["batch_size"]) == ("center_crop", 2)

    done = run_script("eval.py", f"run={grey}", "data=digits")
    line = "data=digits: its images are never resized, but this network needs images resized to 32 and cropped to 32: "
    assert done.returncode == 2 and line in done.stderr and done.stderr.count("\n") == 1

    for network, where in ((f"run={grey}", tmp_path), ("checkpoint=last.ckpt", grey / "checkpoints")):
        done = run_script("eval.py", network, "data=folder", f"data.root={root}", "data.test=100", cwd=where)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert "split.csv: 39 of the 48 pictures to report on are ones that the run was trained on" in done.stderr

    other = write(tmp_path / "others", 8, CLASSES[:0:-1])  # two of the three
    (other / CLASSES[1] / "bad.jpg").write_bytes(b"text")
    settings = ("data=folder", f"data.root={other}", "data.test=100", f"runs={tmp_path / 'evals'}", "force=true")
    done = run_script("eval.py", f"run={grey}", *settings, "data.resize=64", "data.image_size=32")
    assert (done.returncode, done.stderr) == (
        2,
        "eval.py: data.resize=64: the network's own preprocessing has 32: leave data.resize out\n",
    )
    done = run_script("eval.py", f"run={grey}", *settings, "trainer.workers=0")
    assert done.returncode == 0, done.stderr
    assert "scored 16 of 17 images; 1 could not be read" in done.stdout
    (evaluation,) = (tmp_path / "evals").glob("*/*")
    with (evaluation / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17 and all(CLASSES[int(row["label"])] == row["image"].split("/")[1] for row in rows)


def interrupted(root: Path, runs: Path, after: str, seconds: float, *settings: str) -> tuple[int, str]:
    """Exit code and stderr of a training run that gets a terminal's Ctrl-C so long after a line was printed."""
    write(root, 12)
    common = (f"data.root={root}", f"runs={runs}", "recipe.epochs=50", "trainer.workers=2")
    command = [sys.executable, str(ROOT / "train.py"), *QUICK, *common, *settings]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        while after not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=100)
    return process.returncode, stderr


@pytest.mark.parametrize("seconds", [0.2, pytest.param(1.0, marks=pytest.mark.slow)])
def test_ctrl_c_while_workers_start_is_one_line(seconds: float, tmp_path: Path) -> None:
    code, stderr = interrupted(tmp_path / "shapes", tmp_path / "runs", "pictures once", seconds)
    assert code == 130 and stderr.count("\n") == 1 and "resume=" in stderr, stderr


def test_ctrl_c_while_features_are_computed_says_how_to_go_on(trained_run: Path, tmp_path: Path) -> None:
    probe = ("recipe=linear_probe", f"weights={trained_run}")
    code, stderr = interrupted(tmp_path / "shapes", tmp_path / "runs", "computing features of", 0.1, *probe)
    line = "train.py: stopped by SIGINT outside of its steps; go on with: python train.py resume="
    assert code == 130 and stderr.startswith(line), stderr


def test_what_lies_in_the_working_folder_is_not_loaded_by_workers(tmp_path: Path) -> None:
    write(tmp_path / "shapes", 4)
    for name in ("hydra.py", "torch.py", "harness/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise RuntimeError('foreign')")
    done = run_script("train.py", *QUICK, "data.root=shapes", "trainer.workers=2", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_a_mistake_is_told_before_a_run_starts(tmp_path: Path) -> None:
    done = run_script("train.py", "model=lenet5", "data=folder", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not list(tmp_path.glob("runs"))
    assert "data=folder: data.root=data/photos: there is no such folder; name the one with your pictures" in done.stderr


def test_what_is_not_divided_is_evaluated_whole_and_not_trained_on(tmp_path: Path) -> None:
    write(tmp_path / "all", 3, CLASSES[:1])  # of one class, which cannot be trained on either
    (tmp_path / "all" / "nothing").mkdir()
    assert len(load_test(config(tmp_path / "all", test=100))) == 3
    with pytest.raises(UserError, match=r"data.test=100 data.root=.*: no image is left to train on"):
        load(config(tmp_path / "all", test=100))
    write(tmp_path / "kept" / "val", 4, CLASSES[1:])
    parts = divide(config(tmp_path / "kept", test=100))
    assert parts.class_names == CLASSES[1:] and [len(part) for part in parts[1:4]] == [0, 0, 8]
    assert parts.test.prefix == "folder/val"


def test_pixels_without_a_white_are_unreadable() -> None:
    file = io.BytesIO()
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(file, "TIFF")
    with pytest.raises(UnreadableError, match="floating-point pixels"):
        decode(file.getvalue(), "fast", as_viewed=True)
    assert decode(file.getvalue(), "fast").shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
@pytest.mark.parametrize("decoder", ["fast", "pil"])
def test_what_is_opaque_and_upright_is_read_as_ever(mode: str, decoder: str) -> None:
    file = io.BytesIO()
    image = shape(1).convert(mode)
    image.save(file, "JPEG" if mode == "CMYK" else "PNG")
    pixels = decode(file.getvalue(), decoder, as_viewed=True)
    assert np.array_equal(pixels, decode(file.getvalue(), decoder))
    assert np.abs(pixels.astype(int) - np.asarray(image.convert("RGB"))).mean() < 8


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000", "MPO", "PPM", "BMP", "WEBP", "TIFF", "DDS", "PCX", "SGI", "TGA"])
@pytest.mark.parametrize("decoder", ["fast", "pil"])
def test_every_kind_of_file_is_read(kind: str, decoder: str) -> None:
    if kind not in Image.SAVE and not (Image.init() and kind in Image.SAVE):
        pytest.skip(f"this Pillow writes no {kind}")
    file = io.BytesIO()
    image = shape(0)
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    pixels = decode(file.getvalue(), decoder, as_viewed=True)
    assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 8


@pytest.mark.parametrize(("bad", "what"), [("train", "training"), ("val", "validation")])
def test_pictures_that_cannot_be_read_stop_a_small_training_and_are_named(bad: str, what: str, tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    for split in ("train", "val", "test"):
        write(root / split, 4)
    for path in (root / bad).rglob("*.*"):
        path.write_bytes(path.read_bytes()[:50])
    done = run_script("train.py", *QUICK, f"data.root={root}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"12 of 12 {what} images cannot be read, more than 3: they are listed in" in done.stderr
    (listed,) = (tmp_path / "runs").rglob(f"unreadable_in_{what}.csv")
    assert f"folder/{bad}/square/0" in listed.read_text()
