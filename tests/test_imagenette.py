"""The photographs of imagenette, in each layout in which people have them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from harness.config.compose import compose
from harness.config.data import DataConfig
from harness.config.facts import DataSet
from harness.data.sources import imagenette
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.data.sources.table import describe, load, load_test
from harness.errors import UserError
from harness.evaluation.plausibility import match_classes
from harness.weights.find import imagenet_names

PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "imagenette224"
CLASSES = tuple(imagenette.CLASSES)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A root whose folder `imagenette2-160` has two training images and one test image of every class."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(imagenette, "FACTS", DataSet(None, None, 3, CLASSES, 20, 10))
    for split, images in (("train", 2), ("val", 1)):
        for wnid in CLASSES:
            folder = tmp_path / "root" / "imagenette2-160" / split / wnid
            folder.mkdir(parents=True)
            for number in range(images):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{wnid}_{number}.JPEG")
    return tmp_path / "root"


def settings(root: Path) -> DataConfig:
    return compose("train", ["data=imagenette", "model=resnet18", f"data.root={root}", "data.validation=10"]).data


@pytest.mark.parametrize("layout", ["the publisher's folder in the root", "the root is the publisher's folder", "bare"])
def test_layouts_that_people_have(layout: str, small: Path) -> None:
    root = small
    if layout != "the publisher's folder in the root":
        root = small / "imagenette2-160"
    if layout == "bare":
        root = root.rename(small / "photographs")
    splits = load(settings(root))
    assert [len(split.labels) for split in (splits.train, splits.validation, splits.test)] == [10, 10, 10]
    assert splits.test.labels.tolist() == list(range(10))
    assert splits.test.ids[3] == "imagenette/val/n03000684/n03000684_0.JPEG"
    assert load_test(settings(root)).fingerprint() == splits.test.fingerprint()  # wherever it lies


def test_two_sizes_in_one_root_are_not_guessed_between(small: Path) -> None:
    (small / "imagenette2-320").mkdir()
    with pytest.raises(UserError, match=r"and imagenette2-160; say which one, such as data\.root=\S+320"):
        load_test(settings(small))


def test_a_part_or_another_version_is_refused(small: Path) -> None:
    next((small / "imagenette2-160" / "val" / CLASSES[4]).iterdir()).unlink()
    with pytest.raises(UserError, match=r"val has 9 images instead of 10; unpack the archive"):
        load_test(settings(small))


def test_another_class_is_refused(small: Path) -> None:
    (small / "imagenette2-160" / "val" / CLASSES[4]).rename(small / "imagenette2-160" / "val" / IMAGENET_CLASSES[1])
    with pytest.raises(UserError, match=r"not called like a class of imagenette .n01443537."):
        load_test(settings(small))


def test_nothing_there_names_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"has no folder train; it should hold .* imagenette2, imagenette2-320, imagenette2-160"
    ):
        load(settings(tmp_path))


def test_its_classes_are_those_of_a_network_of_imagenet(small: Path) -> None:
    ours = describe(settings(small)).class_names
    found = match_classes(ours, IMAGENET_CLASSES, "imagenette", "a network", force=False)
    assert found == (0, 217, 482, 491, 497, 566, 569, 571, 574, 701)
    assert imagenet_names(ours) == imagenette.CLASSES


def test_the_real_photographs() -> None:
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the photographs of imagenette are not at ../shared/data/imagenette224")
    splits = load(settings(PHOTOGRAPHS))
    assert (len(splits.train) + 10, len(splits.test)) == (9_469, 3_925)
