"""The official archives, small ones of the same layout, to folders of classes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from test_folder import make_devkit

from harness.data.sources import imagenet_archives
from harness.data.sources.imagenet import IMAGENET_CLASSES
from harness.data.sources.imagenet_archives import unpack_train, unpack_val, verify
from harness.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def downloads(tmp_path: Path) -> Path:
    """Two training images of each class, three validation images of classes 0, 500 and 999."""
    folder = tmp_path / "downloads"
    classes = {f"{w}.tar": archive({f"{w}_{i}.JPEG": f"{w} {i}".encode() for i in (1, 2)}) for w in IMAGENET_CLASSES}
    folder.mkdir()
    (folder / imagenet_archives.TRAIN).write_bytes(archive(classes))
    images = {f"ILSVRC2012_val_{n:08d}.JPEG": f"val {n}".encode() for n in (1, 2, 3)}
    (folder / imagenet_archives.VAL).write_bytes(archive(images))
    make_devkit(folder, [1000, 500, 1])
    with tarfile.open(folder / imagenet_archives.DEVKIT, "w:gz") as tar:
        tar.add(folder / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    return folder


def test_archives_become_folders_of_classes(tmp_path: Path) -> None:
    made = downloads(tmp_path)
    unpack_train(made / imagenet_archives.TRAIN, tmp_path / "root" / "train")
    verify(tmp_path / "root" / "train", 2000)
    assert (
        (tmp_path / "root" / "train" / IMAGENET_CLASSES[7] / f"{IMAGENET_CLASSES[7]}_2.JPEG")
        .read_bytes()
        .endswith(b"2")
    )
    val = tmp_path / "root" / "val"
    unpack_val(made / imagenet_archives.VAL, made / imagenet_archives.DEVKIT, val)
    found = {path.parent.name: path.read_bytes() for path in val.rglob("*.JPEG")}
    assert found == {IMAGENET_CLASSES[0]: b"val 1", IMAGENET_CLASSES[500]: b"val 2", IMAGENET_CLASSES[999]: b"val 3"}
    with pytest.raises(UserError, match=r"val: 3 images of 3 classes instead of 50,000 of 1,000; without n0"):
        verify(val, 50_000)


def test_an_interrupted_run_goes_on_and_writes_nothing_over(tmp_path: Path) -> None:
    made, train = downloads(tmp_path), tmp_path / "root" / "train"
    unpack_train(made / imagenet_archives.TRAIN, train)
    kept = train / IMAGENET_CLASSES[0] / f"{IMAGENET_CLASSES[0]}_1.JPEG"
    kept.write_bytes(b"mine")
    (train / IMAGENET_CLASSES[1]).rename(train / f".{IMAGENET_CLASSES[1]}")  # as a killed run leaves it
    (train / f".{IMAGENET_CLASSES[1]}" / f"{IMAGENET_CLASSES[1]}_1.JPEG").unlink()
    unpack_train(made / imagenet_archives.TRAIN, train)
    verify(train, 2000)
    assert kept.read_bytes() == b"mine"


def test_foreign_and_damaged_archives_are_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar"
    bad.write_bytes(archive({"../../escape.tar": b""}))
    with pytest.raises(UserError, match="is not the archive of one of the 1,000 classes"):
        unpack_train(bad, tmp_path / "train")
    bad.write_bytes(b"text")
    with pytest.raises(UserError, match=r"bad.tar: damaged, or no archive"):
        unpack_train(bad, tmp_path / "train")
    data = tmp_path / "kit" / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    for name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
        (data / name).write_text("text")
    with tarfile.open(tmp_path / "kit.tar.gz", "w:gz") as tar:
        tar.add(data.parent, data.parent.name)
    unpacked = tmp_path / "root" / "ILSVRC2012_devkit_t12" / "data"
    with pytest.raises(UserError, match=f"{unpacked}: not the development kit .*; delete that folder, and download"):
        unpack_val(bad, tmp_path / "kit.tar.gz", tmp_path / "root" / "val")
    done = run_script(str(ROOT / "tools" / "prepare_imagenet.py"), str(tmp_path / "nowhere"), str(tmp_path / "root"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "cannot be read as an archive" in done.stderr


@pytest.mark.parametrize("name", [imagenet_archives.VAL, imagenet_archives.DEVKIT])
def test_a_download_that_was_cut_off(name: str, tmp_path: Path) -> None:
    made = downloads(tmp_path)
    whole = (made / name).read_bytes()
    for length in range(0, len(whole), len(whole) // 10 + 1):
        (made / name).write_bytes(whole[:length])
        root = tmp_path / f"root{length}"
        with pytest.raises(UserError) as raised:
            unpack_val(made / imagenet_archives.VAL, made / imagenet_archives.DEVKIT, root / "val")
            verify(root / "val", 50_000)
        assert "\n" not in str(raised.value), length
        assert not [path for path in root.rglob("*.JPEG") if not path.name.startswith(".") and not path.read_bytes()]
