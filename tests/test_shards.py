"""data=shards: tars give the pictures and numbers of the folder that they were packed from; tars of others work."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from conftest import run_script
from in_process import only
from PIL import Image
from test_file_loader import PREPROCESSING, RECIPE
from test_folder_data import config as folder_config
from test_folder_data import picture

from harness.command.shard import main
from harness.config.data import DataConfig, FolderConfig
from harness.data.images import tars
from harness.data.images.decode import decode, read
from harness.data.images.image_files import ImageFiles
from harness.data.images.opening import UnreadableError
from harness.data.images.shards import Shards, index_shards, member_of, name_of
from harness.data.loading.file_loader import TrainFileLoader
from harness.data.sources.packing import pack
from harness.data.sources.splits import Splits
from harness.data.sources.table import describe, load, recorded
from harness.errors import UserError

ODD = (
    "a.b.c.jpg",
    "x%2E.jpg",
    "deep/er/z.jpg",
    "deep/a.jpg",
    "é.JPEG",
    "twin.jpg",
    "twin.png",
    "twin.gif",
    "l" * 150 + ".jpg",
)
Member = tuple[str, bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    index_shards.cache_clear()


def photos(root: Path, names: Sequence[str] = ODD) -> Path:
    for label in ("a class", "b.c", "%25"):
        for name in names:
            picture(root / label / name)
    return root


def shards(root: Path, **changes: Any) -> FolderConfig:
    return dataclasses.replace(folder_config(root), name="shards", **changes)


def jpeg(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 16), (level, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def write(path: Path, members: Sequence[Member], form: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(numbers: Sequence[int], name: str = "{:04d}", classes: int = 2) -> list[Member]:
    """Pictures whose red is 10 times their number, with numbers as labels."""
    keys = [(name.format(number), number) for number in numbers]
    return [
        member
        for key, number in keys
        for member in ((f"{key}.jpg", jpeg(10 * number)), (f"{key}.cls", b"%d" % (number % classes)))
    ]


def levels(split: ImageFiles) -> list[int]:
    return [round(float(decode(read(split.place(i)), "fast")[..., 0].mean()) / 10) for i in range(len(split))]


def files(splits: Splits) -> list[ImageFiles]:
    return [splits.train, splits.validation, splits.test]  # type: ignore[list-item]


def batches(split: ImageFiles) -> list[torch.Tensor]:
    loader = TrainFileLoader(split, PREPROCESSING, RECIPE, decoder="fast", workers=0, seed=5, position=lambda: 1)
    return [tensor for batch in loader for tensor in (batch.images, batch.labels, batch.indices)]


@pytest.mark.parametrize("divided", [True, False])
def test_a_packed_folder_is_the_same_data(divided: bool, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for split in ("train", "val") if divided else ("",):
        photos(root / split)
    packed = pack(folder_config(root), tmp_path / "shards", 20_000)
    assert packed == ({"train": 27, "val": 27} if divided else {"images": 27})
    assert len(list((tmp_path / "shards").glob("*.tar"))) > 2
    plain, tarred = folder_config(root), shards(tmp_path / "shards")
    assert describe(tarred) == describe(plain)
    for one, other in zip(files(load(plain)), files(load(tarred)), strict=True):
        assert one.ids == other.ids and one.labels.tolist() == other.labels.tolist()
        assert (one.fingerprint(), one.listing()) == (other.fingerprint(), other.listing())
        assert one.as_viewed is other.as_viewed is True
        for index in range(len(one)):
            assert read(one.place(index)) == read(other.place(index))
    mine, theirs = batches(load(plain).train), batches(load(tarred).train)  # type: ignore[arg-type]
    assert len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))


def test_folds_of_a_packed_folder_are_the_same(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    pack(folder_config(tmp_path / "photos"), tmp_path / "shards", 10**9)
    for fold in (0, 1):
        plain, tarred = (
            make(root, folds=3, fold=fold)
            for make, root in ((folder_config, tmp_path / "photos"), (shards, tmp_path / "shards"))
        )
        assert [one.ids for one in files(load(plain))] == [one.ids for one in files(load(tarred))]
        assert recorded(plain) == recorded(tarred)


def test_what_lies_in_memory_is_packed_without_loss(tmp_path: Path) -> None:
    config = DataConfig("digits", "", False, 0, [0.5], [0.5])
    assert pack(config, tmp_path / "shards", 10**9) == {"train": 1437, "test": 360}
    whole, tarred = load(config), load(shards(tmp_path / "shards", mean=[0.5], std=[0.5], validation=0))
    for one, other in ((whole.train, tarred.train), (whole.test, tarred.test)):
        assert isinstance(other, ImageFiles) and not other.as_viewed
        assert sorted(one.ids) == [name.removesuffix(".png") for name in other.ids]
        at = {name: index for index, name in enumerate(one.ids)}
        for index in range(0, len(other), 97):
            expected = at[other.id_of(index).removesuffix(".png")]
            pixels = decode(read(other.place(index)), "fast")
            assert (pixels == one.images[expected].movedim(0, -1).numpy()).all()  # type: ignore[union-attr]
            assert other.labels[index] == one.labels[expected]


@pytest.mark.parametrize(
    "name", [*(f"a/{odd}".encode() for odd in ODD), b"%00.jpg", b"a.b/c.jpg", b"\xff.png", b"..jpg"]
)
@pytest.mark.parametrize("twin", [0, 2])
def test_a_picture_keeps_its_name_in_a_tar(name: bytes, twin: int) -> None:
    member = member_of(name, twin)
    assert name_of(member) == name
    assert member.rpartition(b"/")[2].count(b".") == 1  # WebDataset ends the key at the first dot


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "name", ["{:04d}", "n01440764/n01440764_{:d}", "./a/{:04d}", "ü" * 60 + "/" + "y" * 90 + "{:04d}"]
)
def test_tars_of_others(form: int, name: str, tmp_path: Path) -> None:
    write(tmp_path / "imagenet1k-train-0.tar", samples(range(6), name), form)
    write(tmp_path / "imagenet1k-train-1.tar", samples(range(6, 12), name)[::-1], form)  # labels come first
    write(tmp_path / "imagenet1k-validation-0.tar", samples(range(12, 16), name), form)
    found = load(shards(tmp_path, validation=0))
    train, _, test = files(found)
    assert sorted(levels(train)) == list(range(12)) and sorted(levels(test)) == [12, 13, 14, 15]
    assert train.labels.tolist() == [level % 2 for level in levels(train)]
    assert test.prefix == "shards/validation" and describe(shards(tmp_path)).class_names == ("0", "1")


def test_labels_in_json_names_as_labels_and_names_for_numbers(tmp_path: Path) -> None:
    facts = [
        (f"{n}.{kind}", content)
        for n in range(4)
        for kind, content in (("JPEG", jpeg(10 * n)), ("json", json.dumps({"label": n % 2, "width": 20}).encode()))
    ]
    write(tmp_path / "train" / "0.tar", facts)
    write(tmp_path / "val" / "0.tar", [*samples([4, 5]), ("__meta__.json", b"{}"), (".hidden", b"")])
    (tmp_path / "shards.json").write_text('{"class_names": ["cat", "dog"]}')
    assert describe(shards(tmp_path)).class_names == ("cat", "dog")
    assert load(shards(tmp_path, validation=0)).test.labels.tolist() == [0, 1]
    write(
        tmp_path / "train" / "0.tar", [("1.png", jpeg(1)), ("1.cls", b"dog\n"), ("2.png", jpeg(1)), ("2.cls", b"cat")]
    )
    assert load(shards(tmp_path, validation=0)).train.labels.tolist() == [1, 0]
    (tmp_path / "shards.json").unlink()
    with pytest.raises(UserError, match="its class '0' is none of the 2"):
        describe(shards(tmp_path))


def test_tars_that_use_the_same_names(tmp_path: Path) -> None:
    for number in range(2):
        write(
            tmp_path / f"{number:03d}.tar", samples(range(8 * number, 8 * number + 8), "{:d}".replace("{:d}", "{0:d}"))
        )
    again = samples(range(8), "{:d}")
    write(tmp_path / "001.tar", again)
    whole = load(shards(tmp_path, test=100)) if False else load(shards(tmp_path, validation=0))
    ids = [name for split in files(whole) for name in split.ids]
    assert len(ids) == len(set(ids)) == 16 and "shards/001/3.jpg" in ids


def link(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("1.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)


def cut(path: Path, end: int) -> None:
    write(path, samples(range(3)))
    os.truncate(path, end)


def cut_behind_a_sample(path: Path) -> None:
    write(path, samples(range(3)))
    with tarfile.open(path) as tar:
        end = tar.getmember("0001.jpg").offset
    os.truncate(path, end)


def damaged_header(path: Path) -> None:
    content = bytearray(write(path, samples(range(3))).read_bytes())
    content[content.index(b"0001.jpg") + 150] ^= 0xFF
    path.write_bytes(content)


def twice(path: Path) -> None:
    content = write(path, samples(range(3))).read_bytes()
    path.write_bytes(content + content)


HOSTILE = {
    "a link": (link, "1.jpg is a link"),
    "absolute": (lambda path: write(path, [("/etc/1.jpg", jpeg(1)), ("/etc/1.cls", b"1")]), "leads out of the tar"),
    "above": (lambda path: write(path, [("a/../../1.jpg", jpeg(1))]), "leads out of the tar"),
    "two of one key": (lambda path: write(path, [*samples([1]), ("0001.png", jpeg(2))]), "two pictures of one key"),
    "one twice": (lambda path: write(path, samples([1, 1])), "two pictures of one key"),
    "no label": (lambda path: write(path, [*samples([1]), ("2.jpg", jpeg(2))]), "2.jpg has no label"),
    "no field": (lambda path: write(path, [("2.jpg", jpeg(2)), ("2.json", b'{"a": 1}')]), "no number or name as label"),
    "no json": (lambda path: write(path, [("2.jpg", jpeg(2)), ("2.json", b"{")]), "its .json cannot be read"),
    "empty label": (lambda path: write(path, [("2.jpg", jpeg(2)), ("2.cls", b"")]), "its label is empty"),
    "binary label": (lambda path: write(path, [("2.jpg", jpeg(2)), ("2.cls", b"\x01\xff")]), "its label is empty"),
    "cut in a picture": (lambda path: cut(path, 700), "cut off in 0000.jpg"),
    "cut in a header": (lambda path: cut(path, 1024 + 600), "cut off"),
    "cut between": (lambda path: cut(path, 1024 + 1024), "cut off"),
    "cut behind a sample": (cut_behind_a_sample, "cut off, or damaged at byte"),
    "damaged": (damaged_header, "damaged at byte"),
    "two tars": (twice, "goes on behind its end"),
    "compressed": (lambda path: path.write_bytes(b"\x1f\x8b" + bytes(600)), "a compressed tar"),
    "no tar": (lambda path: path.write_bytes(b"GIF89a" * 200), "not a tar that can be read"),
    "empty": (lambda path: path.write_bytes(b""), "not a tar that can be read"),
    "without pictures": (lambda path: write(path, [("1.txt", b"a")]), "no labelled picture"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_damaged_tars_are_one_line(kind: str, tmp_path: Path) -> None:
    make, line = HOSTILE[kind]
    make(tmp_path / "train-0.tar")
    write(tmp_path / "val-0.tar", samples(range(4)))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=line) as told:
        describe(shards(tmp_path))
    assert "\n" not in str(told.value) and str(tmp_path) in str(told.value)
    assert sorted(path for path in tmp_path.iterdir() if path.suffix != ".index") == before  # nothing was unpacked


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["train-0.tar", "val-0.tar", "extra.tar"], "extra.tar has no word for its split"),
        (["train-0.tar"], "none whose names say val or test"),
        (["train-0.tar", "valid-0.tar", "dev-0.tar"], "are the same split"),
        ([], "no .tar in it"),
    ],
)
def test_sets_that_cannot_be_told_apart(names: list[str], line: str, tmp_path: Path) -> None:
    for name in names:
        write(tmp_path / name, samples(range(4)))
    with pytest.raises(UserError, match=line):
        describe(shards(tmp_path))


def test_a_missing_tar_is_told(tmp_path: Path) -> None:
    for split in ("train", "val"):
        photos(tmp_path / "photos" / split)
    pack(folder_config(tmp_path / "photos"), tmp_path / "shards", 20_000)
    (tmp_path / "shards" / "train-000001.tar").unlink()
    with pytest.raises(UserError, match=r"pictures instead of 27"):
        describe(shards(tmp_path / "shards"))
    for path in (tmp_path / "shards").glob("val-*.tar"):
        path.unlink()
    with pytest.raises(UserError, match="val-"):
        describe(shards(tmp_path / "shards"))


def settled(folder: Path) -> None:
    for number, path in enumerate(sorted(folder.glob("*.tar"))):
        os.utime(path, ns=(10**18 + number, 10**18 + number))


def scans(config: FolderConfig) -> int:
    """Tars that are scanned when the data is loaded by a new process."""
    index_shards.cache_clear()
    with patch("harness.data.images.tars.scan", side_effect=tars.scan) as scan:
        load(config)
    return scan.call_count


@pytest.mark.parametrize("writable", [True, False])
def test_an_index_is_kept_until_a_tar_changes(writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train-0", "train-1", "val-0"):
        write(tmp_path / "tars" / f"{name}.tar", samples(range(4), f"{name}-{{:d}}"))
    settled(tmp_path / "tars")
    if not writable:
        for name in ("train", "val"):  # where the index would be put, for root may write anywhere
            (tmp_path / "tars" / f"{name}.index").mkdir()
    config = shards(tmp_path / "tars", validation=0)
    assert [scans(config), scans(config)] == [3, 0]
    write(tmp_path / "tars" / "train-1.tar", samples(range(4, 8), "train-1-{:d}"))
    settled(tmp_path / "tars")
    os.utime(tmp_path / "tars" / "train-1.tar", ns=(10**18 + 7, 10**18 + 7))
    assert [scans(config), scans(config)] == [2, 0]
    assert sorted(levels(load(config).train)) == list(range(8))  # type: ignore[arg-type]
    (tmp_path / "tars" / "train-1.tar").unlink()
    assert len(load(config).train) == 4
    if writable:
        index = tmp_path / "tars" / "train.index"
        content = index.read_bytes()
        for place in (3, content.index(b"classes"), content.index(b"\0train-0") + 1):
            index.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert scans(config) == 1 and len(load(config).train) == 4


def test_a_tar_that_changes_under_a_run_gives_no_wrong_picture(tmp_path: Path) -> None:
    for name in ("train-0", "val-0"):
        write(tmp_path / f"{name}.tar", samples(range(4)))
    split = files(load(shards(tmp_path, validation=0)))[0]
    time.sleep(0.02)
    write(tmp_path / "train-0.tar", samples([3, 2, 1, 0], classes=1))
    with pytest.raises(UnreadableError, match="changed since it was indexed"):
        read(split.place(0))
    (tmp_path / "train-0.tar").unlink()
    with pytest.raises(UnreadableError, match="No such file"):
        read(split.place(0))


def test_an_empty_picture_is_unreadable_in_a_tar_as_in_a_file(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", ["1.jpg", "2.jpg", "3.jpg"])
    (root / "b.c" / "2.jpg").write_bytes(b"")
    pack(folder_config(root), tmp_path / "shards", 10**9)
    reasons = []
    for config in (folder_config(root, test=100), shards(tmp_path / "shards", test=100)):
        split = load_of(config)
        index = [i for i in range(len(split)) if split.size_of(i) == 0]
        with pytest.raises(UnreadableError) as told:
            read(split.place(index[0]))
        reasons.append((index, str(told.value)))
    assert reasons[0] == reasons[1]


def load_of(config: FolderConfig) -> ImageFiles:
    from harness.data.sources.table import load_test

    split = load_test(config)
    assert isinstance(split, ImageFiles)
    return split


def test_places_hold_few_descriptors_and_read_at_once(tmp_path: Path) -> None:
    """Threads read from one open file, by position."""
    from concurrent.futures import ThreadPoolExecutor

    write(tmp_path / "train-0.tar", samples(range(24)))
    write(tmp_path / "val-0.tar", samples(range(2)))
    split = files(load(shards(tmp_path, validation=0)))[0]
    assert isinstance(split.folder, Shards)
    alone = [read(split.place(i)) for i in range(24)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda i: read(split.place(i % 24)), range(480))) == alone * 20


def test_the_command_packs_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos(tmp_path / "photos")
    words = ["shard.py", "data=folder", f"data.root={tmp_path / 'photos'}", f"out={tmp_path / 'out'}"]
    with patch.object(sys, "argv", words):
        assert main() == 0
        assert capsys.readouterr().out == f"{tmp_path / 'out'}: images: 27 pictures\n"
        assert main() == 2
    assert "exists; name a new folder" in capsys.readouterr().err
    (tmp_path / "photos" / "a class" / "a.b.c.jpg").unlink()
    (tmp_path / "photos" / "a class" / "a.b.c.jpg").mkdir()
    (tmp_path / "photos" / "a class" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with patch.object(sys, "argv", [*words[:-1], f"out={tmp_path / 'other'}"]):
        assert main() == 2
    assert "gone.jpg: cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.glob("*other*")) and not list(tmp_path.glob(".*other*"))


def test_a_full_disk_is_told_before(tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    with patch("shutil.disk_usage") as usage, pytest.raises(UserError, match="are free"):
        usage.return_value.free = 10_000
        pack(folder_config(tmp_path / "photos"), tmp_path / "shards", 10**9)


@pytest.mark.slow
def test_training_on_tars_equals_training_on_files_also_when_cut_off(tmp_path: Path) -> None:
    for split in ("train", "val"):
        photos(tmp_path / "photos" / split, [f"{n}.jpg" for n in range(12)])
    (tmp_path / "photos" / "train" / "b.c" / "5.jpg").unlink()
    pack(folder_config(tmp_path / "photos"), tmp_path / "shards", 30_000)
    quick = (
        *("model=lenet5", "data.mean=[0.5]", "data.std=[0.5]", "data.image_size=32", "data.resize=32"),
        *("recipe=torchvision_v1", "recipe.epochs=2", "recipe.milestones=[1]", "recipe.batch_size=8", "trainer=cpu"),
        *("trainer.threads=1", "trainer.checkpoint_every=1"),
    )
    runs = {}
    for name, kill_at in (("folder", "never:0"), ("shards", "never:0"), ("cut", "batch:2")):
        data, root = ("folder", "photos") if name == "folder" else ("shards", "shards")
        words = [f"data={data}", f"data.root={tmp_path / root}", *quick, f"trainer.workers={int(name == 'shards')}"]
        done = run_script(
            "tests/killed_train.py", *words, f"runs={tmp_path / 'runs' / name}", environment={"KILL_AT": kill_at}
        )
        assert done.returncode == (-9 if name == "cut" else 0), done.stderr
        runs[name] = only(only(tmp_path / "runs" / name))
    done = run_script("tests/killed_train.py", f"resume={runs['cut']}")
    assert done.returncode == 0, done.stderr
    plain, *others = (json.loads((run / "result.json").read_text()) for run in runs.values())
    for other in others:
        for key in ("seen", "correct_top1", "correct_top5", "unreadable", "weights", "predictions", "class_names"):
            assert other[key] == plain[key], key
        assert other["data"]["fingerprint"] == plain["data"]["fingerprint"]
    for file in ("predictions.csv", "metrics.csv", "split.csv"):
        assert len({(run / file).read_bytes() for run in runs.values()}) == 1, file
