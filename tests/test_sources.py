"""Sources of images: fixed splits, and what is said of files that are missing, damaged or foreign."""

from __future__ import annotations

import dataclasses
import gzip
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import ROOT
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from harness.config.data import DataConfig
from harness.config.fit import preprocessing_for
from harness.data.images.image_set import ImageSet
from harness.data.images.pixels import pad_to
from harness.data.sources import table as sources
from harness.data.sources.splits import relabelled
from harness.data.sources.table import SOURCES, describe
from harness.data.sources.torchvision_files import TorchvisionFiles
from harness.errors import UserError

RAW = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Loaded(NamedTuple):
    train: ImageSet
    validation: ImageSet
    test: ImageSet


def load(config: DataConfig) -> Loaded:
    splits = sources.load(config)
    assert isinstance(splits.train, ImageSet) and isinstance(splits.validation, ImageSet)
    assert isinstance(splits.test, ImageSet)
    return Loaded(splits.train, splits.validation, splits.test)


FILES = [name for name, source in SOURCES.items() if isinstance(source, TorchvisionFiles)]


def config(name: str, root: Path | str = "", validation: int = 10, download: bool = False) -> DataConfig:
    channels = 3 if name.startswith("cifar") else 1
    return DataConfig(name, str(root), download, validation, [0.5] * channels, [0.5] * channels)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets of 100 + 20 images, so that a test can write one."""
    for name in FILES:
        source = SOURCES[name]
        assert isinstance(source, TorchvisionFiles)
        facts = dataclasses.replace(source.facts, train=100, test=20)
        monkeypatch.setitem(SOURCES, name, dataclasses.replace(source, facts=facts))


def write_mnist(root: Path, folder: str = "MNIST", train: int = 100, test: int = 20) -> Path:
    """Random images in torchvision's layout of MNIST's files."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("t10k", test)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return raw


def test_every_source_is_described_before_torch_is_loaded(tmp_path: Path) -> None:
    program = """
import io
import sys
import tarfile
from pathlib import Path
from harness.config.compose import compose
from harness.data.sources.table import SOURCES, describe
for name in sorted(set(SOURCES) - {"folder", "parquet", "hub", "hub_photos", "imagenet_a", "imagenet_r", "shards"}):
    data = compose("train", [f"data={name}", "model=resnet18"]).data
    assert describe(data).channels == len(data.mean), name
for path in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
    file = Path(sys.argv[1], path)
    file.parent.mkdir(exist_ok=True)
    file.touch()
data = compose("train", ["data=folder", f"data.root={sys.argv[1]}", "model=resnet18"]).data
assert describe(data).class_names == ("a", "b")
with tarfile.open(Path(sys.argv[1], "0.tar"), "w") as tar:
    for number in range(4):
        for name, content in ((f"{number}.jpg", b""), (f"{number}.cls", b"%d" % (number % 2))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
data = compose("train", ["data=shards", f"data.root={sys.argv[1]}", "model=resnet18"]).data
assert describe(data).class_names == ("0", "1")
assert not {"torch", "torchvision", "sklearn", "scipy", "PIL", "pyarrow", "huggingface_hub"} & set(sys.modules)
"""
    command, environment = [sys.executable, "-c", program, str(tmp_path)], {**os.environ, "XDG_CACHE_HOME": "/dev/null"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("small")
def test_a_run_that_holds_nothing_out_does_not_wait_for_scikit_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path)
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)  # an import of it fails
    splits = load(config("mnist", tmp_path, validation=0))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (100, 0, 20)


def test_digits_splits_are_those_written_down() -> None:
    splits = load(config("digits", validation=180))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1257, 180, 360)
    target = load_digits().target
    _, test = train_test_split(np.arange(1797), test_size=360, stratify=target, random_state=0)
    assert [int(i.split("/")[1]) for i in splits.test.ids] == sorted(test)
    ids = [*splits.train.ids, *splits.validation.ids, *splits.test.ids]
    assert len(set(ids)) == 1797 and set(splits.test.ids).isdisjoint(splits.train.ids)
    for split in (splits.train, splits.validation, splits.test):
        share = split.labels.bincount(minlength=10) / len(split)
        assert ((share > 0.085) & (share < 0.115)).all()
        labels = [target[int(i.split("/")[1])] for i in split.ids]
        assert split.labels.tolist() == labels


def test_digits_are_upscaled_to_24_and_padded_to_32() -> None:
    splits = load(config("digits"))
    images = splits.test.images
    assert images.dtype == torch.uint8 and images.shape == (360, 1, 32, 32)
    assert images[:, :, 4:28, 4:28].sum() == images.sum() and images.max() == 255
    small = torch.from_numpy(load_digits().images[[int(i.split("/")[1]) for i in splits.test.ids]])
    centres = images[:, 0, 5:28:3, 5:28:3].float()  # the middle of each 3x3 block is the pixel itself
    torch.testing.assert_close(centres, (small * 255 / 16).float(), atol=0.51, rtol=0)


def test_digits_lose_nothing_but_a_black_margin_for_a_network_of_28_pixels() -> None:
    known, splits = describe(config("digits")), load(config("digits"))
    assert preprocessing_for("lenet1", config("digits"), known).size == known.cropped_size == 28
    assert preprocessing_for("lenet5", config("digits"), known).size == 32
    for split in (splits.train, splits.test):
        assert torch.equal(pad_to(pad_to(split.images, 28), 32), split.images)


def test_digits_statistics_are_those_of_the_config() -> None:
    pixels = load(config("digits", validation=180)).train.images.float() / 255
    assert (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) == (0.1716, 0.2905)


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
@pytest.mark.parametrize("place", ["plain", "with space & äccents [1]"])
@pytest.mark.usefixtures("small")
def test_mnist_files_are_read(tmp_path: Path, name: str, folder: str, place: str) -> None:
    raw = write_mnist(tmp_path / place, folder)
    splits = load(config(name, tmp_path / place))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (90, 10, 20)
    pixels = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(20, 1, 28, 28)
    assert np.array_equal(splits.test.images.numpy(), pixels)
    assert splits.test.labels.tolist() == [i % 10 for i in range(20)]
    assert splits.test.ids[3] == f"{name}/test/00003"
    assert sorted([*splits.train.ids, *splits.validation.ids]) == [f"{name}/train/{i:05d}" for i in range(100)]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.usefixtures("small")
def test_cifar_files_are_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)  # the real files' checksums
    monkeypatch.setattr(kind, "_load_meta", lambda self: None)
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    random = np.random.default_rng(0)
    written = {}
    for files, count in ((kind.train_list, 100), (kind.test_list, 20)):
        for file, _ in files:
            part = random.integers(0, 256, (count // len(files), 3072), dtype=np.uint8)
            key = "labels" if name == "cifar10" else "fine_labels"
            (folder / file).write_bytes(pickle.dumps({"data": part, key: [i % 10 for i in range(len(part))]}))
            written[file] = part
    splits = load(config(name, tmp_path))
    assert splits.train.images.shape == (90, 3, 32, 32)
    test = written[kind.test_list[0][0]].reshape(20, 3, 32, 32)
    assert np.array_equal(splits.test.images.numpy(), test)


@pytest.mark.parametrize("name", FILES)
def test_missing_files_without_leave_to_download(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"data={name}: data.root=.* lacks the files of {name}.*data.download=true"):
        sources.load(config(name, tmp_path / "nowhere"))
    assert not list(tmp_path.iterdir())


def test_missing_files_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.request

    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(
        UserError, match=r"could not be downloaded .*without a network, copy .* by hand, or use data=digits"
    ):
        sources.load(config("mnist", tmp_path / "mistyped" / "data", download=True))
    assert not list(tmp_path.iterdir())  # torchvision makes folders before it asks the network


@pytest.mark.parametrize("damage", ["empty", "truncated header", "truncated", "text", "gzip", "other kind"])
@pytest.mark.parametrize("file", RAW)
@pytest.mark.usefixtures("small")
def test_damaged_files_are_named_and_what_to_do(tmp_path: Path, damage: str, file: str) -> None:
    path = write_mnist(tmp_path) / file
    good = path.read_bytes()
    other = path.with_name(file.replace("images-idx3", "LABELS-idx1").replace("labels-idx1", "images-idx3"))
    bad = {
        "empty": b"",
        "truncated header": good[:6],
        "truncated": good[:-5],
        "text": b"<html>404 Not Found</html>",
        "gzip": gzip.compress(good),
        "other kind": other.with_name(other.name.replace("LABELS", "labels")).read_bytes(),
    }[damage]
    path.write_bytes(bad)
    with pytest.raises(UserError, match=r"data=mnist: .*mnist") as caught:
        sources.load(config("mnist", tmp_path))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_another_data_set_in_the_same_layout_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)  # 100 images where 60,000 belong
    with pytest.raises(UserError, match=r"is not mnist: 100 images of 1 channels instead of 60,000 of 1"):
        sources.load(config("mnist", tmp_path))


@pytest.mark.usefixtures("small")
def test_an_unreadable_root_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def denied(*_: object, **__: object) -> None:  # root reads everything, so permissions cannot be taken away here
        raise PermissionError(13, "Permission denied", str(tmp_path / "MNIST"))

    monkeypatch.setattr(datasets, "MNIST", denied)
    with pytest.raises(UserError, match=r"data=mnist: .*no permission to read or write .*MNIST"):
        sources.load(config("mnist", tmp_path))


def test_a_file_where_the_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"data=mnist: data.root=.*file"):
        sources.load(config("mnist", tmp_path / "file", download=True))


@pytest.mark.parametrize(
    ("validation", "what"), [(5, "fewer than one image of each of 10"), (1437, "only 1,437 training")]
)
def test_impossible_validation_splits(validation: int, what: str) -> None:
    with pytest.raises(UserError, match=f"data.validation={validation}: {what}"):
        sources.load(config("digits", validation=validation))


def test_no_validation_split() -> None:
    splits = load(config("digits", validation=0))
    assert len(splits.train) == 1437 and len(splits.validation) == 0


def test_classes_get_other_labels() -> None:
    labels = torch.tensor([2, 0, 1, 2])
    split = ImageSet(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), labels, list("abcd"))
    other = relabelled(split, [7, 5, 0])
    assert other.labels.tolist() == [0, 7, 5, 0] and list(other.ids) == list("abcd") and split.labels is labels


def test_fingerprint_knows_pixels_labels_and_order() -> None:
    split = load(config("digits")).test
    others = [
        split.subset(np.arange(len(split))[::-1].copy()),
        dataclasses.replace(split, images=split.images.clone().index_fill_(3, torch.tensor([9]), 1)),
        dataclasses.replace(split, labels=split.labels.flip(0)),
    ]
    assert len({split.fingerprint(), *(other.fingerprint() for other in others)}) == 4
    assert split.fingerprint() == load(config("digits")).test.fingerprint()


def test_real_mnist(mnist_root: Path) -> None:
    splits = load(config("mnist", mnist_root, validation=5000))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (55_000, 5_000, 10_000)
    assert splits.test.labels[:5].tolist() == [7, 2, 1, 0, 4]  # as printed in many tutorials
    pixels = torch.cat((splits.train.images, splits.validation.images)).float() / 255
    assert (round(float(pixels.mean()), 4), round(float(pixels.std()), 4)) == (
        0.1307,
        0.3081,
    )  # configs/data/mnist.yaml
