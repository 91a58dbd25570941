"""data=folder: a user's own pictures are divided by a fixed rule, decoded as a viewer shows them, and known by name."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_script
from PIL import Image

from harness.config.data import FolderConfig
from harness.data.images.decode import decode
from harness.data.images.pixels import grey
from harness.data.sources.folder import Parts, divide
from harness.data.sources.splits import Splits
from harness.data.sources.table import load, load_test, recorded
from harness.errors import UserError
from harness.training.own_pictures import Division, check_unseen

COLOURS = {"rot gefärbt": (200, 40, 40), "green": (40, 200, 40), "b\\lue": (40, 40, 200)}
RNG = np.random.default_rng(0)
QUICK = (
    *("model=resnet20", "data=folder", "data.image_size=32", "data.resize=32", "recipe=torchvision_v1"),
    *("recipe.epochs=2", "recipe.milestones=[1]", "recipe.batch_size=16", "trainer=cpu", "trainer.threads=1"),
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def picture(path: Path, colour: tuple[int, int, int] = (200, 40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = RNG.normal(0, 40, (36, 48, 3)) + np.array(colour)
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(path)


def classes(root: Path, images: int, first: int = 0) -> Path:
    for name, colour in COLOURS.items():
        for number in range(first, first + images):
            picture(root / name / f"{number:03d}.jpg", colour)
    return root


def config(root: Path, **changes: object) -> FolderConfig:
    plain = FolderConfig(
        *("folder", str(root), False, 15, [0.5] * 3, [0.5] * 3, 32, 32, "bilinear", "fast"),
        test=20,
        split_seed=0,
        folds=None,
        fold=0,
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def names(parts: Parts) -> list[set[bytes]]:
    return [
        {part.folder.name(int(position)) for position in part.positions}
        for part in (parts.train, parts.validation, parts.test)
    ]


def test_a_whole_folder_is_divided_by_class_and_the_same_way_every_time(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 20)
    parts = divide(config(root))
    assert parts.class_names == ("b\\\\lue", "green", "rot gefärbt")
    for part, each in zip((parts.train, parts.validation, parts.test), (14, 2, 4), strict=True):
        assert np.bincount(part.labels).tolist() == [each] * 3
    train, validation, test = names(parts)
    assert len(train | validation | test) == 60
    assert names(divide(config(root))) == [train, validation, test]
    assert names(divide(config(root, split_seed=1)))[2] != test
    for part in (parts.train, parts.test):
        for position, label in zip(part.positions, part.labels, strict=True):
            assert part.folder.name(int(position)).startswith(sorted(n.encode() for n in COLOURS)[label])


def test_a_new_picture_moves_few_others(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 20)
    before = names(divide(config(root, validation=0)))[2]
    classes(root, 1, first=20)
    assert len(before - names(divide(config(root, validation=0)))[2]) <= 3  # at most one a class


@pytest.mark.parametrize(("images", "train", "validation", "test"), [(13, 8, 2, 3), (20, 14, 2, 4), (23, 15, 3, 5)])
def test_shares_of_a_class_are_rounded(images: int, train: int, validation: int, test: int, tmp_path: Path) -> None:
    """20% of all are reported on, 15% of what is left select."""
    parts = divide(config(classes(tmp_path, images)))
    assert [len(part) for part in parts[1:4]] == [3 * train, 3 * validation, 3 * test]


def test_classes_of_few_pictures_keep_one_to_train_on(tmp_path: Path) -> None:
    for name, images in (("a", 1), ("b", 2), ("c", 3)):
        for number in range(images):
            picture(tmp_path / "all" / name / f"{number}.png")
    parts = divide(config(tmp_path / "all", test=90, validation=90))
    assert [np.bincount(p.labels, minlength=3).tolist() for p in (parts.train, parts.validation, parts.test)] == [
        [1, 1, 1],
        [0, 0, 0],
        [0, 1, 2],
    ]


def test_folds_hold_every_picture_once_in_proportion(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 7)
    tests = [divide(config(root, folds=5, fold=fold)) for fold in range(5)]
    seen = Counter(name for parts in tests for name in names(parts)[2])
    assert len(seen) == 21 and set(seen.values()) == {1}
    assert sorted(len(parts.test) for parts in tests) == [4, 4, 4, 4, 5]
    for parts in tests:
        assert set(np.bincount(parts.test.labels, minlength=3).tolist()) <= {1, 2}
        train, validation, test = names(parts)
        assert len(train) + len(validation) + len(test) == len(train | validation | test) == 21


def test_folders_are_taken_as_they_lie_and_classes_by_name(tmp_path: Path) -> None:
    classes(tmp_path / "train", 10)
    for name in ("rot gefärbt", "green"):  # one class less: positions would be wrong
        picture(tmp_path / "val" / name / "v.png")
    (tmp_path / "val" / "unused").mkdir()
    parts = divide(config(tmp_path))
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [24, 6, 2]
    assert [parts.class_names[label] for label in parts.test.labels] == ["green", "rot gefärbt"]
    picture(tmp_path / "test" / "green" / "t.png")
    parts = divide(config(tmp_path))
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [30, 2, 1]
    assert parts.class_names[parts.test.labels[0]] == "green"


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev", "Valid"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("training", "testing"), ("Train", "Test")])
def test_splits_by_the_names_that_people_give_them(train: str, val: str, test: str, tmp_path: Path) -> None:
    for name, images in ((train, 4), (val, 1), (test, 2)):
        classes(tmp_path / name, images)
    parts = divide(config(tmp_path))
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [12, 3, 6]
    assert load_test(config(tmp_path)).ids[0].startswith(f"folder/{test}/") and not parts.passed_over


@pytest.mark.parametrize("kind", ["empty", "flat", "empty classes", "a file"])
@pytest.mark.parametrize("name", ["test", "val"])
def test_a_split_without_labelled_pictures_is_passed_over_aloud(
    name: str, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one is reported on, and what selects comes out of the training images."""
    other = "val" if name == "test" else "test"
    classes(tmp_path / "train", 10)
    classes(tmp_path / other, 2)
    (tmp_path / name).mkdir()
    if kind == "flat":
        picture(tmp_path / name / "p.jpg")
    elif kind == "empty classes":
        (tmp_path / name / "green").mkdir()
    elif kind == "a file":
        (tmp_path / name / "readme.txt").touch()
    splits = load(config(tmp_path))
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [24, 6, 6]
    assert splits.test.ids[0].startswith(f"folder/{other}/")
    line = f"{tmp_path / name}: it has no pictures in folders of classes, and is passed over"
    assert [record.message for record in caplog.records] == [line]


def test_what_is_reported_on_needs_no_training_images(tmp_path: Path) -> None:
    """Nor images of a class whose folder is empty, known or not."""
    classes(tmp_path / "valid", 2)
    (tmp_path / "valid" / "no class").mkdir()
    assert divide(config(tmp_path)).class_names == ("b\\\\lue", "green", "rot gefärbt")
    assert load_test(config(tmp_path)).labels.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(UserError, match="no image is left to train on"):
        load(config(tmp_path))


def bad_folders(root: Path) -> dict[str, tuple[Path, str]]:
    classes(root / "one" / "x", 1)
    for name in ("green", "b\\lue"):
        for file in (root / "one" / "x" / name).iterdir():
            file.unlink()
        (root / "one" / "x" / name).rmdir()
    classes(root / "empty", 2)
    (root / "empty" / "none").mkdir()
    classes(root / "lacks" / "train", 2)
    picture(root / "lacks" / "val" / "purple" / "p.png")
    classes(root / "no val" / "train", 2)
    picture(root / "flat" / "p.png")
    classes(root / "stray", 2)
    picture(root / "stray" / "p.png")
    for name in ("train", "val", "valid"):
        classes(root / "twice" / name, 1)
    classes(root / "accents", 1)
    picture(root / "accents" / unicodedata.normalize("NFD", "rot gefärbt") / "p.png")
    return {
        "one class": (root / "one" / "x", "one class, 'rot gefärbt': there is nothing to tell it from"),
        "empty class": (root / "empty", "no image in the folder of the class 'none'"),
        "val's class": (root / "lacks", "its class 'purple' is none of the 3 of"),
        "no val": (root / "no val", "has a folder train and no val"),
        "flat": (root / "flat", "images without folders; put them into one folder a class"),
        "stray": (root / "stray", "images lie beside the folders of classes (p.png)"),
        "twice": (root / "twice", "val and valid are the same split; make them one folder"),
        "accents": (root / "accents", "two folders are called 'rot gefärbt', their accents written differently"),
        "a file": (root / "stray" / "p.png", "is no folder; name the one with your pictures"),
        "none": (root / "nothing", "there is no such folder; name the one with your pictures"),
    }


def test_a_folder_that_cannot_be_used_is_told_in_a_line(tmp_path: Path) -> None:
    for kind, (root, line) in bad_folders(tmp_path).items():
        with pytest.raises(UserError) as error:
            divide(config(root))
        assert line in str(error.value) and str(root) in str(error.value), kind
    with pytest.raises(UserError, match="too few for one in every fold"):
        divide(config(classes(tmp_path / "few", 3), folds=5))
    with pytest.raises(UserError, match="is divided into train and val already"):
        divide(config(tmp_path / "lacks", folds=2))
    for changes, line in (
        ({"test": 0}, "data.test=0: must be at least 1 .percent of"),
        ({"validation": 100}, "data.validation=100: must be at most 99"),
        ({"fold": 2, "folds": 2}, "data.fold=2: from 0 to 1"),
        ({"fold": 1}, "there are no folds; set data.folds"),
        ({"mean": [0.5] * 2, "std": [0.5] * 2}, "or one, which makes them grey"),
    ):
        with pytest.raises(UserError, match=line):
            config(tmp_path, **changes)


def test_an_accent_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    classes(tmp_path / "train", 2)
    for name in ("rot gefärbt", "green"):
        picture(tmp_path / "val" / unicodedata.normalize("NFD", name) / "p.png")
    parts = divide(config(tmp_path))
    assert [parts.class_names[label] for label in parts.test.labels] == ["green", "rot gefärbt"]


def write_division(run: Path, splits: Splits) -> None:
    """What a run does before and while it trains."""
    division = Division(run, splits, ("a", "b", "c"))
    division.begin()
    division.finish()


def test_the_same_picture_on_two_sides_is_found(tmp_path: Path) -> None:
    classes(tmp_path / "train", 3)
    classes(tmp_path / "val", 2)
    copy = tmp_path / "train" / "green" / "copy.jpg"
    copy.write_bytes((tmp_path / "val" / "green" / "001.jpg").read_bytes())
    (tmp_path / "train" / "green" / "twin.jpg").write_bytes((tmp_path / "train" / "green" / "000.jpg").read_bytes())
    write_division(tmp_path, load(config(tmp_path, validation=0)))
    assert (tmp_path / "duplicates.csv").read_text(encoding="utf-8").splitlines() == [
        "image,split,same_as,its_split",
        "folder/val/green/001.jpg,test,folder/train/green/copy.jpg,train",
    ]


def test_a_run_goes_on_with_the_division_that_it_began_with(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 6)
    write_division(tmp_path, load(config(root)))
    before = (tmp_path / "split.csv").read_bytes()
    old = "".join(",".join(line.split(",")[:3]) + "\n" for line in before.decode().splitlines())
    (tmp_path / "split.csv").write_text(old, encoding="utf-8")  # of a run that began with an earlier version
    write_division(tmp_path, load(config(root)))
    assert (tmp_path / "split.csv").read_bytes() == before
    classes(root, 1, first=6)
    with pytest.raises(UserError, match=r"split.csv: the pictures are not those that this run began with"):
        write_division(tmp_path, load(config(root)))
    assert (tmp_path / "split.csv").read_bytes() == before


def test_an_evaluation_reports_on_no_picture_that_the_run_has_learnt_from(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 6)
    before = load(config(root))
    write_division(tmp_path, before)
    check_unseen(tmp_path, before.test)
    check_unseen(tmp_path / "elsewhere", before.train)
    with pytest.raises(UserError, match=r"split.csv: 3 of the 3 pictures to report on .* such as folder/.*force=true"):
        check_unseen(tmp_path, before.validation)
    for split_seed in range(5):
        now = load(config(root, split_seed=split_seed)).test
        moved = len(set(now.ids) - set(before.test.ids))
        if moved:
            with pytest.raises(UserError, match=f"split.csv: {moved} of the 3 pictures"):
                check_unseen(tmp_path, now)
    (root / "green").rename(root / "renamed")  # by another name it is the same picture
    with pytest.raises(UserError, match=r"split.csv: 15 of the 18 pictures to report on .* such as folder/"):
        check_unseen(tmp_path, load_test(config(root, test=100)))
    for path in root.rglob("*.jpg"):  # other pictures of the same names and sizes
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    check_unseen(tmp_path, load_test(config(root, test=100)))


def test_folds_of_the_same_pictures_have_their_division_in_common(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 4)
    first, second = (recorded(config(root, folds=2, fold=fold)) for fold in (0, 1))
    assert first == {**second, "fold": 0} and recorded(config(root, folds=2, split_seed=1)) != first
    (root / "green" / "000.jpg").write_bytes(b"another")
    assert recorded(config(root, folds=2)) != first


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("decoder", ["fast", "pil"])
def test_pictures_are_taken_as_a_viewer_shows_them(decoder: str) -> None:
    ramp = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    shown = decode(encoded(Image.fromarray(ramp), "PNG"), decoder, as_viewed=True)
    assert np.array_equal(shown[..., 1], np.rint(ramp / 257).astype(np.uint8))
    half = np.full((4, 4, 4), (200, 0, 0, 128), dtype=np.uint8)
    half[0] = (0, 255, 0, 0)
    shown = decode(encoded(Image.fromarray(half, "RGBA"), "PNG"), decoder, as_viewed=True)
    assert (shown[0] == 255).all() and np.abs(shown[1:].astype(int) - (227, 127, 127)).max() <= 1
    red, blue = (Image.new("P", (4, 4), index) for index in (1, 2))
    for frame in (red, blue):
        frame.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    shown = decode(encoded(red, "GIF", save_all=True, append_images=[blue]), decoder, as_viewed=True)
    assert (shown == (255, 0, 0)).all()


def test_grey_is_pillows() -> None:
    colours = RNG.integers(0, 256, (50, 40, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(colours).convert("L"))
    assert np.array_equal(grey(torch.from_numpy(colours).permute(2, 0, 1)[None])[0, 0].numpy(), wanted)


def run_of(folder: Path) -> Path:
    (run,) = folder.glob("*/*")
    return run


def test_a_run_writes_its_division_and_lists_duplicates(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 12)
    same = (root / "green" / "000.jpg").read_bytes()
    for number in range(12):
        (root / "rot gefärbt" / f"{number:03d}.jpg").write_bytes(same)
    (root / "green" / "a.heic").touch()
    (root / "green" / "b.txt").touch()
    done = run_script("train.py", *QUICK, f"data.root={root}", f"runs={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("the same picture in two splits: "))
    assert " times, such as folder/" in said and " of them with two labels, one of which is wrong; " in said
    assert "classes: b\\\\lue, green, rot gefärbt\n" in done.stdout
    assert done.stdout.count(f"{root}: 2 files are passed by, such as green/a.heic, a HEIC picture, which ") == 1
    run = run_of(tmp_path / "runs")
    with (run / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert Counter(row["split"] for row in rows) == {"train": 24, "validation": 6, "test": 6}
    by_split = {row["image"]: row["split"] for row in rows}
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert {by_split[row["image"]] for row in csv.DictReader(file)} == {"test"}
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["class_names"] == ["b\\\\lue", "green", "rot gefärbt"]


@pytest.mark.slow
def test_a_sweep_over_folds_ends_in_one_table(tmp_path: Path) -> None:
    root = classes(tmp_path / "all", 6)
    done = run_script(
        "train.py", "-m", *QUICK, f"data.root={root}", "data.folds=2", "data.fold=0,1", f"runs={tmp_path / 'runs'}"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("folder 2 folds, center_crop") == 1 and "fold 0 of 2" not in done.stdout
    results = [json.loads(path.read_text()) for path in (tmp_path / "runs").rglob("result.json")]
    wrong = sum(result["seen"] - result["correct_top1"] for result in results)
    assert sum(result["seen"] for result in results) == 18
    assert f"{100 * wrong / 18:.2f}" in done.stdout
