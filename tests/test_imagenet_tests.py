"""ImageNet's other test sets and other labels: layouts, numbers of images, and which answers count."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import call, only
from PIL import Image
from test_imagenet import SMALL, save_checkpoint

from harness.config.compose import compose
from harness.config.data import DataConfig
from harness.data.images.image_files import ImageFiles
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.data.sources.imagenet_tests import TestSet
from harness.data.sources.table import SOURCES, describe, load, load_test, recorded
from harness.errors import UserError
from harness.run.log import spoken
from models import build_model

SIX = tuple(IMAGENET_CLASSES[place] for place in (700, 5, 6, 999, 40, 41))


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def settings(name: str, root: Path, *words: str) -> DataConfig:
    data = compose("eval", [f"data={name}", "model=resnet18", "weights=DEFAULT", f"data.root={root}", *words]).data
    assert data is not None
    return data


def picture(path: Path, shade: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), (shade, 90, 255 - shade)).save(path, "JPEG")


def smaller(monkeypatch: pytest.MonkeyPatch, name: str, **facts: Any) -> None:
    source = SOURCES[name]
    assert isinstance(source, TestSet)
    monkeypatch.setitem(SOURCES, name, dataclasses.replace(source, **facts))


@pytest.fixture(params=["imagenet_a", "imagenet_r"])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, Path]:
    """A set of six classes with two pictures each, where its archive was unpacked."""
    name = str(request.param)
    smaller(monkeypatch, name, images=12, classes=6)
    for place, wnid in enumerate(SIX):
        for number in range(2):
            picture(tmp_path / name.replace("_", "-") / wnid / f"{number}.jpg", 20 * place + number)
    (tmp_path / name.replace("_", "-") / "README.txt").touch()
    return name, tmp_path


def test_the_papers_numbers() -> None:
    wanted = {
        "imagenet_v2": (10_000, 1000),
        "imagenet_a": (7_500, 200),
        "imagenet_r": (30_000, 200),
        "imagenet_sketch": (50_889, 1000),
    }
    for name, numbers in wanted.items():
        source = SOURCES[name]
        assert isinstance(source, TestSet) and (source.images, source.classes) == numbers


@pytest.mark.parametrize("inside", [False, True])
def test_a_part_of_the_classes_is_read_from_either_folder(part: tuple[str, Path], inside: bool) -> None:
    name, root = part
    data = settings(name, root / name.replace("_", "-") if inside else root)
    known, split = describe(data), load_test(data)
    assert known.class_names == tuple(sorted(SIX, key=IMAGENET_CLASSES.index)) and known.restricted
    for image, label in zip(split.ids, split.labels.tolist(), strict=True):
        assert image.split("/")[:2] == [name, known.class_names[label]]
    with pytest.raises(UserError, match=r"has no images to train on; eval\.py evaluates networks on it"):
        load(data)


def test_another_number_of_images_or_classes_is_refused(part: tuple[str, Path]) -> None:
    name, root = part
    folder = root / name.replace("_", "-")
    (folder / SIX[0] / "1.jpg").unlink()
    with pytest.raises(UserError, match=r"holds 11 images instead of 12; data\.root should be"):
        load_test(settings(name, root))
    (folder / "n00000000").mkdir()
    assert len(describe(settings(name, root)).class_names) == 6  # which is none of ImageNet's
    (folder / SIX[0]).rename(folder / "another")
    with pytest.raises(UserError, match="holds 5 folders called by a wnid instead of 6"):
        describe(settings(name, root))
    with pytest.raises(UserError, match=r"data.root=.*nowhere: there is no such folder"):
        load_test(settings(name, root / "nowhere"))


def test_only_the_classes_of_the_set_are_answers(part: tuple[str, Path], tmp_path: Path) -> None:
    name, root = part
    torch.manual_seed(0)
    network = build_model("resnet18")
    checkpoint = save_checkpoint(tmp_path / "resnet18.ckpt", "resnet18", network.state_dict(), SMALL)
    words = (f"checkpoint={checkpoint}", f"data={name}", f"data.root={root}", f"runs={tmp_path / 'runs'}", "force=true")
    assert call("eval.py", *words, "protocol.batch_size=4", "trainer.workers=0") == 0
    folder = only(only(tmp_path / "runs"))
    result = json.loads((folder / "result.json").read_text())
    assert (result["seen"], result["data"]["answers_among"]) == (12, 6)
    allowed = {IMAGENET_CLASSES.index(wnid) for wnid in SIX}
    with (folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        answers = [int(row[f"class_{k}"]) for k in range(1, 6)]
        assert set(answers) <= allowed and int(row["label"]) in allowed and row["image"].startswith(f"{name}/n")
        assert sum(float(row[f"probability_{k}"]) for k in range(1, 6)) > 0.8  # among six, not among a thousand
    assert result["correct_top1"] == sum(row["label"] == row["class_1"] for row in rows)


def test_folders_of_version_two_are_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smaller(monkeypatch, "imagenet_v2", images=4)
    for variant, classes in (("matched-frequency", (0, 2, 10, 999)), ("top-images", (1, 2, 3, 4))):
        for number in classes:
            picture(tmp_path / f"imagenetv2-{variant}-format-val" / str(number) / "abc.jpeg", 9)
    split = load_test(settings("imagenet_v2", tmp_path))
    assert (
        sorted(split.labels.tolist()) == [0, 2, 10, 999] and split.ids[0] == "imagenet_v2/matched-frequency/0/abc.jpeg"
    )
    top = settings("imagenet_v2", tmp_path, "data.variant=top-images")
    assert sorted(load_test(top).labels.tolist()) == [1, 2, 3, 4] and recorded(top) == {"variant": "top-images"}
    with pytest.raises(UserError, match="folders are not called like a class of ImageNet-V2"):
        picture(tmp_path / "other" / "1000" / "a.jpeg", 1)
        smaller(monkeypatch, "imagenet_v2", images=1)
        load_test(settings("imagenet_v2", tmp_path / "other"))


def test_sketches_are_called_by_wnid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    smaller(monkeypatch, "imagenet_sketch", images=2)
    for place in (3, 998):
        picture(tmp_path / "sketch" / IMAGENET_CLASSES[place] / "sketch_0.JPEG", place % 256)
    data = settings("imagenet_sketch", tmp_path)
    assert load_test(data).labels.tolist() == [3, 998] and not describe(data).restricted


# ---------------------------------------------------------------------------------------------------------------- ReaL


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Six pictures of ImageNet's validation split, by wnid, and labels of all 50,000 in `real.json`."""
    for number in range(1, 7):
        picture(tmp_path / "val" / IMAGENET_CLASSES[number] / f"ILSVRC2012_val_{number:08d}.JPEG", 30 * number)
    write(tmp_path, [[1], [7, 2], [], [900, 901, 4], [11], []])
    return tmp_path


def write(root: Path, first: Sequence[object]) -> None:
    (root / "real.json").write_text(json.dumps([*first, *[[0]] * (50_000 - len(first))]))


def test_images_without_labels_are_left_out_and_said(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with spoken(True):
        split = load_test(settings("imagenet", whole, "data.labels=real"))
    assert isinstance(split, ImageFiles) and split.answers is not None
    assert split.answers.tolist() == [[1, 1, 1], [7, 2, 2], [900, 901, 4], [11, 11, 11]]
    assert [name.rpartition("_")[2] for name in split.ids] == [f"{n:08d}.JPEG" for n in (1, 2, 4, 5)]
    assert "2 of 6 images have no label and are left out" in capsys.readouterr().out
    plain = load_test(settings("imagenet", whole))
    assert len(plain) == 6 and isinstance(plain, ImageFiles) and plain.answers is None
    assert plain.subset(torch.arange(4).numpy()).fingerprint() != split.fingerprint()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[[1], [2]]", "50,000 lists of numbers below 1,000"),
        ("{}", "50,000 lists of numbers below 1,000"),
        ("nothing", "not the list of labels of real.json"),
    ],
)
def test_another_file_is_refused(content: str, line: str, whole: Path) -> None:
    (whole / "real.json").write_text(content)
    with pytest.raises(UserError, match=line):
        load_test(settings("imagenet", whole, "data.labels=real"))


@pytest.mark.parametrize("odd", [[1000], [-1], ["1"], [True], [[1]], 5])
def test_odd_labels_are_refused(odd: object, whole: Path) -> None:
    write(whole, [odd])
    with pytest.raises(UserError, match="50,000 lists of numbers below 1,000"):
        load_test(settings("imagenet", whole, "data.labels=real"))


def test_without_the_file_or_a_known_name_or_any_label_one_line_says_so(whole: Path) -> None:
    real = settings("imagenet", whole, "data.labels=real")
    write(whole, [[]] * 6)
    with pytest.raises(UserError, match="has no label for any of the 6 images"):
        load_test(real)
    (whole / "real.json").unlink()
    with pytest.raises(UserError, match=r"real.json cannot be read \(No such file"):
        load_test(real)
    write(whole, [[1]])
    picture(whole / "val" / IMAGENET_CLASSES[1] / "mine.JPEG", 1)
    with pytest.raises(UserError, match=r"mine\.JPEG: not the name of one of the 50,000 images"):
        load_test(real)


def test_any_answer_of_the_set_is_right(whole: Path, tmp_path: Path) -> None:
    """A network that likes class 901 best, then 4, 11, 0 and 1, whatever it sees."""
    network = build_model("resnet18")
    with torch.no_grad():
        network.get_parameter("fc.weight").zero_()
        bias = network.get_parameter("fc.bias").zero_()
        bias[901], bias[4], bias[11] = 3, 2, 1
    checkpoint = save_checkpoint(tmp_path / "resnet18.ckpt", "resnet18", network.state_dict(), SMALL)
    words = (f"checkpoint={checkpoint}", "data=imagenet", f"data.root={whole}", "force=true", "trainer.workers=0")
    for labels, right in (("real", (1, 3)), ("original", (0, 2))):
        out = tmp_path / labels
        assert call("eval.py", *words, f"data.labels={labels}", "protocol.batch_size=3", f"runs={out}") == 0
        result = json.loads((only(only(out)) / "result.json").read_text())
        assert (result["correct_top1"], result["correct_top5"]) == right
        assert result["data"].get("labels") == ("real" if labels == "real" else None)
        with (only(only(out)) / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(row["label"]) for row in rows] == ([1, 2, 901, 11] if labels == "real" else [1, 2, 3, 4, 5, 6])
