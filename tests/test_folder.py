"""The index of a folder of classes, and ImageNet's labels from it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from harness.config.data import FolderConfig, ImageFilesConfig
from harness.data.images import folder as folder_module
from harness.data.images.folder import Folder, index_folder, printable
from harness.data.sources import imagenet
from harness.data.sources.imagenet import IMAGENET_CLASSES, load_test
from harness.data.sources.table import describe, load, recorded
from harness.data.sources.table import load_test as load_split
from harness.errors import UserError

OLD = 1_000_000_000  # seconds since 1970: long enough ago for an index to be kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cnn-zoo"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that keeps no index itself, so that every call asks the user's cache."""
    monkeypatch.setattr(folder_module, "MOST_KNOWN", 0)


def make(root: Path, *names: str | bytes) -> Path:
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for directory, *_ in os.walk(root):
        os.utime(directory, (OLD, OLD))
    return root


def names(folder: Folder) -> list[bytes]:
    return [folder.name(i) for i in range(len(folder))]


def imagenet_config(root: Path) -> ImageFilesConfig:
    return ImageFilesConfig("imagenet", str(root), False, 0, [0.5] * 3, [0.5] * 3, 224, 256, "bilinear", "fast")


def test_images_come_in_order_of_class_and_name(tmp_path: Path) -> None:
    found = index_folder(
        make(tmp_path / "a", "b/2.jpg", "b/10.JPEG", "a/x.png", "b/sub/y.jpg", "b/notes.txt", "b/._z.jpg")
    )
    assert names(found) == [b"a/x.png", b"b/10.JPEG", b"b/2.jpg", b"b/sub/y.jpg"]
    assert found.classes == ("a", "b") and found.label.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("by", ["the process", "the user's cache"])
def test_a_kept_index_is_used_until_something_changes(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if by == "the process":
        monkeypatch.setattr(folder_module, "_read_cache", lambda *_: None)
    else:
        request.getfixturevalue("forgetful")
    root = make(tmp_path / "a", "b/1.jpg", "b/2.jpg", "c/d/3.jpg")
    scans = []
    scan = folder_module._scan

    def counted(root: Path) -> tuple[Folder, list[int]]:
        scans.append(root)
        return scan(root)

    monkeypatch.setattr(folder_module, "_scan", counted)
    first = index_folder(root)
    second = index_folder(root)
    assert len(scans) == 1 and names(first) == names(second) and first.classes == second.classes
    for field in ("until", "class_of", "label", "names", "ends"):
        assert np.array_equal(getattr(first, field), getattr(second, field))
    (root / "c" / "d" / "4.jpg").touch()
    assert len(index_folder(root)) == 4 and len(scans) == 2
    (root / "b" / "1.jpg").rename(root / "b" / "0.jpg")
    assert names(index_folder(root))[0] == b"b/0.jpg"
    (root / "e").mkdir()
    assert index_folder(root).classes == ("b", "c", "e")


def test_a_folder_that_changes_again_and_again_is_seen_to(tmp_path: Path) -> None:
    root = make(tmp_path / "a", "b/1.jpg")
    for number in range(2, 60):  # faster than the clock of the file system counts
        assert len(index_folder(root)) == number - 1
        (root / "b" / f"{number}.jpg").touch()


def test_a_process_scans_a_folder_once_however_new_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")  # nothing can be kept there
    for number in range(60):
        path = tmp_path / "photos" / f"class {number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    time.sleep(0.1)
    read = []
    scandir = os.scandir

    def counted(path: Any) -> Iterator[os.DirEntry[Any]]:
        if isinstance(path, bytes):  # the index's; Python 3.13 also lists folders for `Path.iterdir` so
            read.append(os.fsdecode(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    config = FolderConfig(
        *("folder", str(tmp_path / "photos"), False, 15, [0.5], [0.5], 32, 32, "bilinear", "fast"),
        test=20,
        split_seed=0,
        folds=5,
        fold=1,
    )
    facts, splits = describe(config), load(config)
    assert (describe(config), len(load_split(config)), recorded(config)["fold"]) == (facts, len(splits.test), 1)
    places = [str(tmp_path / "photos" / name) for name in ("", "class 0", "class 1")]
    assert sorted(f"{path.rstrip('/')}" for path in read if "photos" in path) == places


def test_a_process_keeps_the_indices_that_it_used_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    scans = []
    scan = folder_module._scan

    def counted(root: Path) -> tuple[Folder, list[int]]:
        scans.append(root.name)
        return scan(root)

    monkeypatch.setattr(folder_module, "_scan", counted)
    monkeypatch.setattr(folder_module, "_KNOWN", {})
    roots = [make(tmp_path / name, "b/1.jpg") for name in "abcdefghi"]
    for root in (*roots[:8], *roots[:8], roots[8], roots[1], roots[0]):
        index_folder(root)
    assert scans == [*"abcdefgh", "i", "a"]


def test_a_folder_that_has_just_changed_is_not_trusted(tmp_path: Path, cache: Path) -> None:
    root = make(tmp_path / "a", "b/1.jpg")
    os.utime(root / "b")
    index_folder(root)
    assert not cache.exists()


@pytest.mark.usefixtures("forgetful")
def test_a_damaged_index_is_made_anew(tmp_path: Path, cache: Path) -> None:
    root = make(tmp_path / "a", "b/1.jpg")
    index_folder(root)
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    method = content.index(b"PK\x01\x02") + 10  # of compression, of the first file in the archive
    unknown = content[:method] + b"\x63" + content[method + 1 :]
    middle = content[:200] + b"\0" * 50 + content[250:]
    for damaged in (b"", b"text", content[:100], content[:-30], middle, unknown):
        kept.write_bytes(damaged)
        assert names(index_folder(root)) == [b"b/1.jpg"]


@pytest.mark.usefixtures("forgetful")
def test_an_index_of_another_version_is_made_anew(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "a", "b/1.jpg")
    index_folder(root)
    monkeypatch.setattr(folder_module, "INDEX_VERSION", folder_module.INDEX_VERSION + 1)
    monkeypatch.setattr(folder_module, "_scan", lambda _: pytest.fail("made anew"))
    with pytest.raises(pytest.fail.Exception, match="made anew"):
        index_folder(root)


def test_an_index_is_done_without_where_none_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(index_folder(make(tmp_path / "a", "b/1.jpg"))) == 1


def test_odd_names_are_read_and_printed(tmp_path: Path) -> None:
    odd = [b"b/line\nbreak.jpg", b"b/\xff\xfe.jpg", b"b/\\xff\\xfe.jpg", "b/é 字.jpg".encode(), b"b/a,\"b'.jpg"]
    found = index_folder(make(tmp_path / "a", *odd))
    assert names(found) == sorted(odd)
    ids = [printable(name) for name in odd]
    assert len(set(ids)) == len(odd) and all(id.isprintable() and id.encode() for id in ids)
    assert ids[:3] == ["b/line\\nbreak.jpg", "b/\\xff\\xfe.jpg", "b/\\\\xff\\\\xfe.jpg"]


def test_links_are_followed_to_classes_and_no_further(tmp_path: Path) -> None:
    root = make(tmp_path / "a", "b/1.jpg")
    (root / "c").symlink_to(root / "b")
    (root / "b" / "loop").symlink_to(root)
    (root / "b" / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert names(index_folder(root)) == [b"b/1.jpg", b"b/broken.jpg", b"c/1.jpg", b"c/broken.jpg"]


@pytest.mark.parametrize(
    ("made", "wanted", "line"),
    [((), "a/none", "there is no such folder"), (("f",), "a/f", "not a folder"), (("b/x.txt",), "a", "no image in it")],
)
def test_a_folder_without_images_is_told(tmp_path: Path, made: tuple[str, ...], wanted: str, line: str) -> None:
    make(tmp_path / "a", *made)
    with pytest.raises(UserError, match=line):
        index_folder(tmp_path / wanted)


def test_labels_are_the_official_ones_for_any_subset(tmp_path: Path) -> None:
    chosen = [999, 3, 500]
    make(tmp_path, *(f"val/{IMAGENET_CLASSES[label]}/{label}.JPEG" for label in chosen))
    split = load_test(imagenet_config(tmp_path))
    assert [int(Path(os.fsdecode(split.path(i))).stem) for i in range(3)] == split.labels.tolist() == [3, 500, 999]
    assert split.ids[0] == f"imagenet/val/{IMAGENET_CLASSES[3]}/3.JPEG"


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (("other/x.jpg",), "has no folder val"),
        (("val/dogs/x.jpg",), r"1 of 1 folders are not called like a class of ImageNet \(dogs\)"),
        (("val/n01440764/x.jpg", "val/y.jpg"), r"images lie beside the folders of classes \(y.jpg\)"),
        (("val/ILSVRC2012_val_00000001.JPEG",), "no ground truth for them at"),
    ],
)
def test_another_layout_is_told(tmp_path: Path, made: tuple[str, ...], line: str) -> None:
    make(tmp_path, *made)
    with pytest.raises(UserError, match=line):
        load_test(imagenet_config(tmp_path))


def make_devkit(root: Path, lines: list[int]) -> None:
    """A development kit whose ids run backwards through the wnids."""
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    kind = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O")]
    synsets = np.array([(i + 1, IMAGENET_CLASSES[999 - i], "w") for i in range(1000)], dtype=kind)
    savemat(data / "meta.mat", {"synsets": synsets[:, None]})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{line}\n" for line in lines))


def test_a_flat_folder_takes_its_labels_from_the_development_kit(tmp_path: Path) -> None:
    make(tmp_path, "val/ILSVRC2012_val_00000003.JPEG", "val/ILSVRC2012_val_00000001.JPEG")
    make_devkit(tmp_path, [1000, 500, 1])
    assert load_test(imagenet_config(tmp_path)).labels.tolist() == [0, 999]
    (tmp_path / "val" / "ILSVRC2012_val_00000004.JPEG").touch()
    with pytest.raises(UserError, match=r"00000004.JPEG: not the name of one of the 3 images"):
        load_test(imagenet_config(tmp_path))


@pytest.mark.parametrize("place", [".", "../../.."], ids=["beside the pictures", "as Kaggle's archive has it"])
def test_a_flat_folder_takes_its_labels_from_kaggles_file(place: str, tmp_path: Path) -> None:
    root = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    make(root, "val/ILSVRC2012_val_00000003.JPEG", "val/ILSVRC2012_val_00000001.JPEG")
    solution = (root / place / "LOC_val_solution.csv").resolve()
    lines = [
        f"ILSVRC2012_val_{n:08d},{IMAGENET_CLASSES[label]} 85 1 499 272 " for n, label in ((3, 7), (2, 0), (1, 999))
    ]
    solution.write_text("\n".join(["ImageId,PredictionString", *lines]))
    assert load_test(imagenet_config(root)).labels.tolist() == [999, 7]
    (root / "val" / "other.JPEG").touch()
    with pytest.raises(UserError, match=r"other.JPEG: not the name of one of the 3 images of .*LOC_val_solution.csv"):
        load_test(imagenet_config(root))
    solution.write_text("ImageId,Labels\na,b\n")
    with pytest.raises(UserError, match=r"LOC_val_solution.csv: not Kaggle's list of labels .KeyError"):
        load_test(imagenet_config(root))


def test_a_fingerprint_tells_names_labels_and_sizes_apart(tmp_path: Path) -> None:
    make(tmp_path, "val/n01440764/a.JPEG", "val/n01443537/b.JPEG")
    split = load_test(imagenet_config(tmp_path))
    before = split.fingerprint()
    assert before == load_test(imagenet_config(tmp_path)).fingerprint()
    (tmp_path / "val" / "n01440764" / "a.JPEG").write_bytes(b"x")
    assert split.fingerprint() != before


def test_a_reader_that_crashes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_devkit(tmp_path, [1])
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    files = (data / "ILSVRC2012_validation_ground_truth.txt", data / "meta.mat")
    assert len(imagenet.truth_labels(*files)) == 1
    monkeypatch.setattr(imagenet, "READ_META", "import os; os.abort()")
    with pytest.raises(UserError, match=r"not the development kit of ILSVRC 2012 .*meta\.mat: its reader crashed"):
        imagenet.truth_labels(*files)
