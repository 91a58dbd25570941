"""tools/predict.py: the pictures that are meant, as an evaluation sees them, and what is said of each."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import ROOT, run_script
from PIL import Image
from test_runs import only
from torch import nn

from harness.command import predict as predict_command
from harness.command.arguments import Parser
from harness.config.data import DataConfig
from harness.config.facts import Preprocessing
from harness.data.images.geometry import centre_crop, six_crop
from harness.data.images.image_set import ImageSet
from harness.data.images.pixels import pad_to
from harness.data.sources import cifar
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.data.sources.table import load_test
from harness.errors import UserError
from harness.export.export import export
from harness.prediction.network import Loaded
from harness.prediction.output import Names, as_csv, as_json_lines
from harness.prediction.pictures import find_images
from harness.prediction.predict import NOT_A_NUMBER, Prediction, predict
from harness.run.checkpoint import Trained
from harness.weights.find import Found
from models import build_model

RNG = np.random.default_rng(0)
CIFAR10 = cifar.cifar10.facts.class_names
GREY = Preprocessing(1, 32, None, None, (0.5,), (0.5,))
SMALL = Preprocessing(3, 32, 36, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
Picture = Callable[..., Path]


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    def save(name: str, height: int = 40, width: int = 50, exif: int | None = None, mode: str = "RGB") -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = Image.Exif()
        if exif is not None:
            metadata[0x0112] = exif
        pixels = np.kron(RNG.integers(0, 256, (4, 5, 3)), np.ones((height // 4, width // 5, 1))).astype(np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, exif=metadata)
        return path

    return save


def loaded(network: nn.Module, preprocessing: Preprocessing, names: tuple[str, ...] = tuple("0123456789")) -> Loaded:
    return Loaded(network.eval(), Trained("lenet5", {}, names, preprocessing, None, None), "a test")


def lenet5() -> Loaded:
    torch.manual_seed(0)
    return loaded(build_model("lenet5"), GREY)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that tools/export.py would write."""
    export(lenet5(), "safetensors", tmp_path / "lenet5.safetensors")
    return tmp_path / "lenet5.safetensors"


Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """tools/predict.py in this process: its exit code, and what it printed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, words)])
        capsys.readouterr()
        return predict_command.main(), *capsys.readouterr()

    return run


def said(
    known: Loaded, paths: list[Path | str], top: int = 5, batch_size: int = 64, workers: int = 0
) -> list[Prediction]:
    named = [os.fsencode(path) for path in paths]
    cpu = torch.device("cpu")
    return list(predict(known, named, top=top, batch_size=batch_size, device=cpu, workers=workers))


# ------------------------------------------------------------------------------------------- as an evaluation sees them


def test_predictions_are_those_of_eval(picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same five names with the same six digits, of 70 pictures: a whole batch, and a smaller one filled up."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = ("cat", "dog", "löwe", "polar bear", "tiger", "yak", "zebra")
    for number in range(70):
        ending, mode = {7: ("png", "L"), 8: ("png", "RGBA"), 9: ("gif", "P")}.get(number, ("jpg", "RGB"))
        folder, exif = f"val/{names[number % 7]}", 6 if number % 10 == 2 else None
        picture(f"{folder}/{number:02d}.{ending}", 36 + 4 * (number % 5), 60, exif, mode)
    for name in names:
        picture(f"train/{name}/a.jpg")
    (tmp_path / "photos" / "val" / "cat" / "zz.jpg").write_bytes(b"broken")
    torch.manual_seed(0)
    trained = Trained("resnet20", {"shortcut": "A"}, names, SMALL, None, None)
    weights = tmp_path / "weights.safetensors"
    network = build_model("resnet20", num_classes=7).eval()
    export(Loaded(network, trained, "a test"), "safetensors", weights)

    data = ("data=folder", f"data.root={tmp_path / 'photos'}", "data.image_size=32", "data.resize=36", "force=true")
    done = run_script("eval.py", "model=resnet20", f"weights={weights}", *data, f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    with (only(tmp_path / "runs" / "resnet20-folder") / "predictions.csv").open(newline="") as file:
        evaluated = {row["image"].partition("val/")[2]: row for row in csv.DictReader(file)}
    assert len(evaluated) == 71

    out = tmp_path / "out.csv"
    done = run_script("tools/predict.py", str(weights), str(tmp_path / "photos" / "val"), f"out={out}")
    assert done.returncode == 0 and done.stdout == f"70 of 71 pictures: {out}\n"
    assert done.stderr == f"{tmp_path}/photos/val/cat/zz.jpg: not predicted: not an image\n"
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        wanted = evaluated.pop(row["image"].removeprefix(f"{tmp_path}/photos/val/"))
        for k in range(1, 6):
            position = wanted[f"class_{k}"]
            assert row[f"class_{k}"] == (position and names[int(position)])
            assert row[f"probability_{k}"] == wanted[f"probability_{k}"]
        assert (row["problem"] != "") == (wanted["class_1"] == "")
    assert not evaluated and len({row["class_1"] for row in rows}) > 1


def test_predictions_of_pictures_that_were_in_memory(trained_run: Path, tmp_path: Path) -> None:
    """The digits of the test split, saved as PNG files, get what the run's own record says: here and in eval.py."""
    split = load_test(DataConfig("digits", "", False, 0, [0.5], [0.5]))
    assert isinstance(split, ImageSet)
    folder = tmp_path / "digits"
    for name, label, pixels in zip(split.ids, split.labels.tolist(), split.images.numpy(), strict=True):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(folder / str(label) / f"{name.rpartition('/')[2]}.png")
    out = tmp_path / "out.jsonl"
    done = run_script("tools/predict.py", str(trained_run), str(folder), "--out", str(out))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    with (trained_run / "predictions.csv").open(newline="") as file:
        wanted = {row["image"].rpartition("/")[2]: row for row in csv.DictReader(file)}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == len(wanted) == 360
    for line in lines:
        row = wanted[Path(line["image"]).stem]
        assert [answer["class"] for answer in line["classes"]] == [row[f"class_{k}"] for k in range(1, 6)]
        probabilities = [float(row[f"probability_{k}"]) for k in range(1, 6)]
        assert [answer["probability"] for answer in line["classes"]] == pytest.approx(probabilities, abs=2e-6)

    settings = ("data=folder", f"data.root={folder}", "data.test=100", "trainer.workers=0", f"runs={tmp_path / 'runs'}")
    done = run_script("eval.py", f"run={trained_run}", *settings)
    assert done.returncode == 0, done.stderr
    with (only(only(tmp_path / "runs")) / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(wanted)
    for row in rows:
        before = wanted[Path(row["image"]).stem]
        assert all(row[key] == before[key] for key in ("label", *(f"class_{k}" for k in range(1, 6))))


def test_a_small_picture_is_padded_where_the_networks_own_are_never_resized() -> None:
    pixels = RNG.integers(0, 256, (28, 20, 3), dtype=np.uint8)
    padded = pad_to(torch.from_numpy(pixels).permute(2, 0, 1)[None], 32).permute(0, 2, 3, 1)
    assert torch.equal(torch.from_numpy(centre_crop(pixels, GREY, "fast")), padded)
    assert torch.equal(torch.from_numpy(six_crop(pixels, GREY, "fast")), padded.expand(6, -1, -1, -1))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (20, 300), (33, 32)])
def test_a_larger_one_is_resized_and_cropped(height: int, width: int) -> None:
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    middle = centre_crop(pixels, GREY, "pil")
    assert middle.shape == (1, 32, 32, 3)
    scale = 32 / min(height, width)
    size = (32, int(width * scale)) if height <= width else (int(height * scale), 32)
    whole = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    top, left = round((size[0] - 32) / 2), round((size[1] - 32) / 2)
    assert np.array_equal(middle[0], whole[top : top + 32, left : left + 32])


def test_photographs_are_upright(picture: Picture) -> None:
    path = picture("turned.png", exif=6)
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_270).save(path.with_name("upright.png"))
    turned, upright = said(lenet5(), [path, path.with_name("upright.png")])
    assert (turned.classes, turned.probabilities) == (upright.classes, upright.probabilities)


def test_an_answer_depends_neither_on_neighbours_nor_on_workers(picture: Picture, tmp_path: Path) -> None:
    paths: list[Path | str] = [picture(f"{number}.jpg") for number in range(9)]
    paths.insert(4, tmp_path / "missing.jpg")
    whole = said(lenet5(), paths, batch_size=4, workers=2)
    assert [prediction.image for prediction in whole] == [str(path) for path in paths]
    assert whole[4] == Prediction(str(paths[4]), (), (), "No such file or directory")
    backwards = said(lenet5(), paths[::-1], batch_size=4)
    assert backwards[::-1] == whole


class Scores(nn.Module):
    """The same scores for every image."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scores.expand(len(images), -1)


def test_ties_go_to_the_lower_class_and_nothing_is_said_of_nan(picture: Picture) -> None:
    paths: list[Path | str] = [picture("a.jpg")]
    (tied,) = said(loaded(Scores(0, 1, 0, 1), GREY), paths, top=3)
    assert tied.classes == (1, 3, 0) and tied.probabilities[0] == tied.probabilities[1] and tied.problem is None
    (nan,) = said(loaded(Scores(0, float("nan")), GREY), paths)
    assert (nan.classes, nan.problem) == ((), NOT_A_NUMBER)


def test_channels_that_no_picture_has(picture: Picture) -> None:
    four = Preprocessing(4, 32, None, None, (0.5,) * 4, (0.5,) * 4)
    with pytest.raises(UserError, match="takes 4 channels; pictures have one or three"):
        said(loaded(build_model("lenet5", in_channels=4), four), [picture("a.jpg")])


# ------------------------------------------------------------------------------------------------ which files are meant


def found(*words: str, stdin: bytes = b"") -> list[str]:
    return [os.fsdecode(path) for path in find_images(words, io.BytesIO(stdin)).images]


def test_files_folders_patterns_and_standard_input(
    picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/2.JPG", "b/10.png", "a.jpeg", ".hidden.jpg", ".hidden/x.jpg", "c [1].png", "c 1.png"):
        picture(name)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    in_order = ["photos/a.jpeg", "photos/c 1.png", "photos/c [1].png", "photos/b/10.png", "photos/b/2.JPG"]
    assert found("photos") == in_order
    assert found("photos/*.png", "photos/notes.txt") == ["photos/c 1.png", "photos/c [1].png", "photos/notes.txt"]
    assert found("photos/**/*.png") == ["photos/b/10.png", "photos/c 1.png", "photos/c [1].png"]
    assert found("photos/c [1].png") == ["photos/c [1].png"]  # it exists, and is no pattern
    assert found("photos/b*") == ["photos/b/10.png", "photos/b/2.JPG"]  # a folder that matches
    assert found("-", stdin=b"photos/a.jpeg\nphotos/b\n\n") == ["photos/a.jpeg", *in_order[3:]]
    assert found("-", stdin=b"new\nline.jpg\0photos/a.jpeg\0") == ["new\nline.jpg", "photos/a.jpeg"]
    assert found("missing.jpg", "*.tiff") == ["missing.jpg", "*.tiff"]  # listed as unreadable
    monkeypatch.setenv("HOME", str(tmp_path))
    assert found("~/photos/b") == [f"{tmp_path}/{name}" for name in in_order[3:]]


def test_files_of_a_folder_that_are_no_pictures_are_told(picture: Picture, tmp_path: Path) -> None:
    picture("a.jpg")
    for name in ("IMG_1.HEIC", "sub/notes.txt", ".hidden.txt"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).touch()
    photos = f"{tmp_path / 'photos'}"
    (line,) = find_images([photos], io.BytesIO()).others
    said = "2 files are passed by, such as IMG_1.HEIC, a HEIC picture, which JPEG or PNG would replace: names of"
    assert line.startswith(f"{photos}: {said}")
    assert find_images([f"{photos}/a.jpg", f"{photos}/sub/notes.txt"], io.BytesIO()).others == []  # named by the user


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_listed(picture: Picture, tmp_path: Path) -> None:
    inside = picture("closed/a.jpg").parent
    inside.chmod(0)
    try:
        assert found(str(tmp_path / "photos")) == [str(inside)]
    finally:
        inside.chmod(0o755)


def test_a_file_that_looks_like_an_option_gets_a_hint(
    picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("-dash.jpg")
    monkeypatch.chdir(tmp_path / "photos")
    monkeypatch.setattr("sys.argv", ["predict.py", "run", "-dash.jpg"])
    parser = Parser()
    parser.add_argument("words", nargs="+")
    with pytest.raises(UserError, match=r"-dash.jpg is a file: write -- before names that begin with -; --help lists"):
        parser.parse_args()


def test_a_table_for_spreadsheets_computes_nothing() -> None:
    names = Names(("=1+1", "cat"), {})
    prediction = Prediction("-1.jpg", (0, 1), (0.75, 0.25), None)
    assert as_csv([prediction], names).splitlines()[1] == "'-1.jpg,'=1+1,0.750000,cat,0.250000,"
    assert json.loads(as_json_lines([prediction], names))["classes"][0]["class"] == "=1+1"  # for programs


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no image found; names of images in folders end in \.jpg"):
        found(str(tmp_path))
    with pytest.raises(UserError, match="-: no image found"):
        found("-")


def test_a_setting_may_be_spelt_as_in_the_scripts() -> None:
    parser = Parser()
    parser.add_argument("words", nargs="+")
    parser.add_argument("--out")
    parser.add_argument("--data", action="append")
    given = parser.parse_args(["run", "out=a.csv", "side=left.jpg", "data=x", "data.root=a=b", "-"])
    assert (given.words, given.out) == (["run", "side=left.jpg", "-"], "a.csv")
    assert given.data == ["x", "data.root=a=b"]
    given = parser.parse_args(["run", "data=x", "--", "-odd.jpg", "out=b.jpg"])  # of which none is an option
    assert (given.words, given.out, given.data) == (["run", "-odd.jpg", "out=b.jpg"], None, ["x"])


# ---------------------------------------------------------------------------------------------------------- the tool


def test_the_table_has_every_picture_and_its_classes(file: Path, tool: Tool, picture: Picture) -> None:
    paths = [picture("holiday [red].jpg"), picture("b.png", mode="L")]
    code, stdout, stderr = tool(file, *paths, "no.jpg", "--top", "3")
    assert code == 0 and stderr == "no.jpg: not predicted: No such file or directory\n"
    rows = [line.split("│")[1:4] for line in stdout.splitlines() if line.startswith("│")]
    assert [row[0].strip() for row in rows] == [str(paths[0]), "", "", str(paths[1]), "", ""]
    assert {row[1].strip() for row in rows} <= set("0123456789")
    assert sum(float(row[2]) for row in rows[:3]) <= 100.01


def test_a_bar_shows_progress_on_a_terminal_alone(
    file: Path, tool: Tool, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture("a.jpg")
    assert "predicting" not in tool(file, path)[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "predicting" in tool(file, path)[2]


def test_paths_on_standard_input(file: Path, picture: Picture, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    command = [sys.executable, "tools/predict.py", str(file), "-", f"out={out}"]
    done = subprocess.run(command, cwd=ROOT, input=f"{picture('a.jpg')}\n", capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stdout == f"1 of 1 pictures: {out}\n", done.stderr
    (line,) = out.read_text().splitlines()
    assert len(json.loads(line)["classes"]) == 5


def test_no_picture_could_be_read(file: Path, tool: Tool, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    assert tool(file, bad) == (1, "", f"{bad}: not predicted: not an image\n")


def test_weights_without_names_are_called_by_number(tool: Tool, picture: Picture, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "theirs.pth"
    torch.save(build_model("resnet20", num_classes=3).state_dict(), weights)
    given = ("--model", "resnet20", "--weights", weights, picture("a.jpg"))
    code, stdout, stderr = tool(*given)
    assert code == 2 and "does not say what its images went through; name the data set" in stderr
    code, stdout, stderr = tool(*given, "--data", "cifar10")
    assert code == 0 and stderr == ""
    assert stdout.startswith("resnet20: the names of its classes are not known: they are called by number\n")
    assert {line.split("│")[2].strip() for line in stdout.splitlines() if line.startswith("│")} == set("012")


@pytest.mark.slow
def test_the_whole_test_split_of_a_third_partys_network(
    akamasters_resnet20: Path, cifar10_jpeg: Path, tool: Tool, tmp_path: Path
) -> None:
    """10,000 JPEG files, named by what they show: as many errors as in the record of `eval.py`."""
    folder, out = tmp_path / "with space", tmp_path / "a.csv"
    folder.mkdir()
    shutil.copytree(cifar10_jpeg, tmp_path / "data é")
    for number, row in enumerate(pq.read_table(cifar10_jpeg / "test-00000-of-00001.parquet").to_pylist()):
        (folder / f"{number}_{CIFAR10[row['label']]}.jpg").write_bytes(row["img"]["bytes"])
    data = ("data=parquet", f"data.root={tmp_path / 'data é'}")
    code, stdout, stderr = tool("model=resnet20", f"weights={akamasters_resnet20}", *data, folder, f"out={out}")
    assert (code, stdout, stderr) == (0, f"10,000 of 10,000 pictures: {out}\n", "")
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    said = [(Path(row["image"]).stem.partition("_")[2], [row[f"class_{k}"] for k in range(1, 6)]) for row in rows]
    record = json.loads((ROOT / "benchmarks/results/weights/akamaster-resnet20-cifar10-jpeg.json").read_text())
    assert sum(truth == five[0] for truth, five in said) == record["correct_top1"]
    assert sum(truth in five for truth, five in said) == record["correct_top5"]


def test_imagenets_weights_bring_names_and_preprocessing(
    tool: Tool, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchvision's and timm's do, of which none is at hand here."""
    torch.manual_seed(0)
    torch.save(build_model("resnet20", num_classes=1000).state_dict(), tmp_path / "a.pth")
    found = Found("a", tmp_path / "a.pth", "0", "a test", trained_on="ImageNet-1K", preprocessing=SMALL)
    monkeypatch.setattr("harness.weights.load.find", lambda weights, model: found)
    out = tmp_path / "a.jsonl"
    given = ("model=resnet20", f"weights={tmp_path / 'a.pth'}", picture("a.jpg"), f"out={out}", "--top", "1000")
    assert tool(*given) == (0, f"1 of 1 pictures: {out}\n", "")
    classes = json.loads(out.read_text())["classes"]
    assert {answer["class"] for answer in classes} == set(IMAGENET_CLASSES)
    assert {"n01440764": "tench", "n02012849": "crane bird", "n03126707": "crane"}.items() <= {
        answer["class"]: answer["name"] for answer in classes
    }.items()
    assert sum(answer["probability"] for answer in classes) == pytest.approx(1, abs=1e-3)


BAD = [
    (["{run}"], "say which pictures behind it"),
    (["{run}", "{empty}"], "no image found"),
    (["{empty}", "{image}"], r"the folder has no checkpoint \(checkpoints/last.ckpt\)"),
    (["{image}/none", "{image}"], "there is no such run folder or file"),
    (["{image}", "{image}"], "not a checkpoint of tensors and plain data"),
    (["{run}", "{image}", "out={out}"], "this file exists; name a new one"),
    (["{run}", "{image}", "--out", "a.txt"], r"ends in none of .csv, .jsonl, which say the format"),
    (["{run}", "{image}", "--out", "nowhere/a.csv"], "there is no folder nowhere"),
    (["{run}", "{image}", "--top", "0"], "argument --top: invalid positive value: '0'; --help"),
    (["{run}", "{image}", "--tpo", "3"], "unrecognized arguments: --tpo 3; --help lists"),
    (["{run}", "{image}", "--device", "abacus"], "--device abacus: .*; cpu runs everywhere"),
    (["--model", "resnet50", "{image}"], "model= and weights= belong together"),
    (["model=resnet5", "weights=DEFAULT", "{image}"], "model=resnet5: no such choice; the nearest are: resnet"),
    (["model=lenet5", "weights=IMAGENET1K_V9", "{image}"], "no weights have this name"),
    (["model=resnet20", "weights={weights}", "data=cifar", "{image}"], "data=cifar: no such choice; .*: cifar10"),
    (
        ["model=resnet20", "weights={weights}", "data=cifar10", "data.men=[0]", "{image}"],
        "data.men: no such key; .*mean",
    ),
    (["{run}", "{image}", "data=cifar10"], "data=cifar10: belongs with weights="),
    ([], "the following arguments are required"),
]


@pytest.mark.parametrize(("words", "line"), BAD, ids=[line for _, line in BAD])
def test_a_mistake_is_one_line(
    words: list[str], line: str, file: Path, tool: Tool, picture: Picture, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    out, weights = tmp_path / "kept.csv", tmp_path / "weights.pth"
    out.write_text("mine")
    torch.save({"a": torch.zeros(1)}, weights)
    places = {"run": file, "empty": tmp_path / "empty", "image": picture("a.jpg"), "out": out, "weights": weights}
    code, stdout, stderr = tool(*(word.format(**places) for word in words))
    assert code == 2 and stdout == "" and stderr.count("\n") == 1, stderr
    assert stderr.startswith("predict.py: ") and re.search(line, stderr), stderr
    assert out.read_text() == "mine"
