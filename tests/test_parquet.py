"""data=parquet: pictures are read as they are, and files that are missing, damaged or foreign are named."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_script
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from harness.config.data import DataConfig
from harness.data.images.image_set import ImageSet
from harness.data.sources import cifar
from harness.data.sources import table as sources
from harness.data.sources.table import describe
from harness.errors import UserError

NAMES = ["cat", "dog", "äpfel"]
FEATURES = {"img": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}


def config(root: Path, validation: int = 3) -> DataConfig:
    return DataConfig("parquet", str(root), False, validation, [0.5] * 3, [0.5] * 3)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, images: Any, labels: Any, metadata: bytes | None = None) -> None:
    table = pa.table({"img": images, "label": labels})
    pq.write_table(table.replace_schema_metadata(metadata and {"huggingface": metadata}), path)


def pixels(count: int, seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_set(root: Path, shape: tuple[int, ...] = (8, 8, 3), named: bool = True) -> dict[str, np.ndarray]:
    """Twelve training images in two files, as bytes and as structs, and six test images."""
    root.mkdir(parents=True, exist_ok=True)
    metadata = json.dumps({"info": {"features": FEATURES}}).encode() if named else None
    train, test = pixels(12, 0, shape), pixels(6, 1, shape)
    write(root / "train-0.parquet", [png(image) for image in train[:6]], [0, 1, 2] * 2, metadata)
    write(root / "train-1.parquet", [{"bytes": png(i), "path": None} for i in train[6:]], [2, 1, 0] * 2, metadata)
    write(root / "test.parquet", [png(image) for image in test], [2, 1, 0] * 2, metadata)
    return {"train": train, "test": test}


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8)], ids=["colour", "grey"])
def test_pixels_labels_and_names(tmp_path: Path, shape: tuple[int, ...]) -> None:
    written = write_set(tmp_path / "with spaces & é", shape)
    data = config(tmp_path / "with spaces & é")
    known = describe(data)
    assert (known.image_size, known.channels) == (8, 3 if len(shape) == 3 else 1)
    assert (known.train, known.test, known.class_names) == (12, 6, tuple(NAMES))
    splits = sources.load(data)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (9, 3, 6)
    assert isinstance(splits.test, ImageSet)
    expected = written["test"].reshape(6, 8, 8, -1).transpose(0, 3, 1, 2)
    assert np.array_equal(splits.test.images.numpy(), expected) and splits.test.labels.tolist() == [2, 1, 0] * 2
    everything = sources.load(config(tmp_path / "with spaces & é", validation=0)).train
    assert isinstance(everything, ImageSet)
    assert np.array_equal(everything.images.numpy(), written["train"].reshape(12, 8, 8, -1).transpose(0, 3, 1, 2))
    assert everything.labels.tolist() == [0, 1, 2] * 2 + [2, 1, 0] * 2
    assert sorted([*splits.train.ids, *splits.validation.ids]) == [f"parquet/train/{i:05d}" for i in range(12)]
    assert splits.test.ids[5] == "parquet/test/00005"
    assert sorted(splits.validation.labels.tolist()) == [0, 1, 2]  # every class in proportion


@pytest.mark.parametrize("file", ["train-0.parquet", "train-1.parquet", "test.parquet"])
def test_one_picture_in_colour_makes_all_so(tmp_path: Path, file: str) -> None:
    write_set(tmp_path, (8, 8))
    metadata = pq.read_schema(tmp_path / "test.parquet").metadata[b"huggingface"]
    write(tmp_path / file, [png(image) for image in (*pixels(5, 3, (8, 8)), pixels(1, 4)[0])], [0, 1, 2] * 2, metadata)
    assert describe(config(tmp_path)).channels == 3
    splits = sources.load(config(tmp_path, validation=0))
    assert isinstance(splits.test, ImageSet) and isinstance(splits.train, ImageSet)
    changed = {"train-0.parquet": splits.train.images[5], "train-1.parquet": splits.train.images[11]}
    image = changed.get(file, splits.test.images[5])
    assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels(1, 4)[0])


@pytest.mark.parametrize("missing", [-1, None])
def test_a_split_without_labels_is_not_reported_on(
    missing: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The validation split is, aloud; one row of a labelled split that has none is still a mistake."""
    write_set(tmp_path)
    metadata = pq.read_schema(tmp_path / "test.parquet").metadata[b"huggingface"]
    write(tmp_path / "test.parquet", [png(image) for image in pixels(4, 1)], [missing] * 4, metadata)
    with pytest.raises(UserError, match="no image of test has a label, so there is none to report on"):
        describe(config(tmp_path))
    write(tmp_path / "validation.parquet", [png(image) for image in pixels(5, 2)], [0, 1, 2, 0, 1], metadata)
    assert describe(config(tmp_path)).test == 5 and not caplog.records
    assert sources.load(config(tmp_path, validation=3)).test.labels.tolist() == [0, 1, 2, 0, 1]
    assert sources.load_test(config(tmp_path)).labels.tolist() == [0, 1, 2, 0, 1]
    assert [record.message for record in caplog.records] == [
        f"data=parquet: data.root={tmp_path}: no image of test has a label, so validation is reported on"
    ] * 2
    write(tmp_path / "test.parquet", [png(image) for image in pixels(2, 1)], [missing, 1], metadata)
    with pytest.raises(UserError, match=rf"test.parquet: row 0: label {missing} is none of the 3 classes"):
        sources.load_test(config(tmp_path))


def test_what_is_reported_on_needs_no_training_files(tmp_path: Path) -> None:
    written = write_set(tmp_path)
    for path in tmp_path.glob("train*"):
        path.unlink()
    known, test = describe(config(tmp_path)), sources.load_test(config(tmp_path))
    assert (known.class_names, known.train, known.test) == (tuple(NAMES), 0, 6) and isinstance(test, ImageSet)
    assert np.array_equal(test.images.numpy(), written["test"].transpose(0, 3, 1, 2))
    with pytest.raises(UserError, match=r"no train\*.parquet in it, so there is no image to train on"):
        sources.load(config(tmp_path))


def test_metadata_costs_no_picture(tmp_path: Path) -> None:
    """And a format whose reader runs a program is none of ours."""
    written = write_set(tmp_path)
    text = PngInfo()
    text.add_text("Comment", "x" * 2**21, zip=True)
    file = io.BytesIO()
    Image.fromarray(written["train"][0]).save(file, "PNG", pnginfo=text)
    metadata = pq.read_schema(tmp_path / "test.parquet").metadata[b"huggingface"]
    images = [file.getvalue(), *map(png, written["train"][1:6])]
    write(tmp_path / "train-0.parquet", images, [0, 1, 2] * 2, metadata)
    splits = sources.load(config(tmp_path, validation=0))
    assert isinstance(splits.train, ImageSet)
    assert np.array_equal(splits.train.images[0].permute(1, 2, 0).numpy(), written["train"][0])
    eps = io.BytesIO()
    Image.fromarray(written["train"][0]).save(eps, "EPS")
    write(tmp_path / "train-0.parquet", [eps.getvalue(), *images[1:]], [0, 1, 2] * 2, metadata)
    with pytest.raises(UserError, match=r"row 0: an image that cannot be read \(not an image\)"):
        sources.load(config(tmp_path, validation=0))


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    write_set(tmp_path, named=False)
    assert describe(config(tmp_path)).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (png(pixels(1, 0, (4, 8, 3))[0]), 1, "row 1: an image of 8 x 4 pixels among those of 8 x 8"),
        (b"no image", 1, r"row 1: an image that cannot be read \(not an image\)"),
        (png(pixels(1, 0)[0])[:40], 1, r"row 1: an image that cannot be read"),
        (None, 1, "row 1: no bytes of an image"),
        (png(pixels(1, 0)[0]), 3, "row 1: label 3 is none of the 3 classes"),
        (png(pixels(1, 0)[0]), -1, "row 1: label -1 is none of the 3 classes"),
        (png(pixels(1, 0)[0]), None, "row 1: label None is none of the 3 classes"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, image: bytes | None, label: int | None, message: str) -> None:
    write_set(tmp_path)
    metadata = pq.read_schema(tmp_path / "test.parquet").metadata[b"huggingface"]
    write(tmp_path / "train-1.parquet", [png(pixels(1, 0)[0]), image], [0, label], metadata)
    with pytest.raises(UserError, match=rf"train-1.parquet: {message}") as caught:
        sources.load(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_foreign_damaged_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data.root=.*: no train\*.parquet in it; it should hold"):
        describe(config(tmp_path))
    write_set(tmp_path)
    good = (tmp_path / "test.parquet").read_bytes()
    for content in (b"", b"PAR1", good[:-20], b"<html>"):
        (tmp_path / "test.parquet").write_bytes(content)
        with pytest.raises(UserError, match=r"test.parquet: damaged, or not a parquet file"):
            describe(config(tmp_path))
    (tmp_path / "test.parquet").write_bytes(good[:60] + bytes(200) + good[260:])
    with pytest.raises(UserError, match=r"test.parquet: "):
        sources.load(config(tmp_path))
    pq.write_table(pa.table({"picture": [b""], "label": [0]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"no column 'img' or 'image'; it has: picture, label"):
        describe(config(tmp_path))
    pq.write_table(pa.table({"img": [b""], "label": ["cat"]}), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"the column 'label' holds string where integers belong"):
        describe(config(tmp_path))
    pq.write_table(
        pa.table({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}), tmp_path / "test.parquet"
    )
    with pytest.raises(UserError, match=r"test.parquet: it holds no image"):
        describe(config(tmp_path))


def named(*names: str) -> bytes:
    """Metadata of a file whose labels are positions among these names."""
    return json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}).encode()


def one_a_name(path: Path, *names: str) -> None:
    """An image of each class, in the order of the names; the level of its pixels says the class."""
    level = {"blue": 10, "green": 20, "red": 30}
    images = [png(np.full((8, 8, 3), level.get(name, 0), dtype=np.uint8)) for name in names]
    write(path, images, range(len(names)), named(*names))


@pytest.mark.parametrize(
    ("train", "reported", "classes"),
    [
        ([("blue", "green", "red")], ("red", "green", "blue"), ("blue", "green", "red")),
        ([("red", "blue", "green")], ("blue", "green", "red"), ("red", "blue", "green")),
        ([("blue", "green", "red"), ("green", "red", "blue")], ("red", "blue", "green"), ("blue", "green", "red")),
        ([("blue", "green", "red"), ("red", "green")], ("green",), ("blue", "green", "red")),
    ],
)
@pytest.mark.parametrize("split", ["test", "validation"])
def test_labels_are_matched_by_name_to_those_of_training(
    split: str, train: list[tuple[str, ...]], reported: tuple[str, ...], classes: tuple[str, ...], tmp_path: Path
) -> None:
    for number, names in enumerate(train):
        one_a_name(tmp_path / f"train-{number}.parquet", *names)
    one_a_name(tmp_path / f"{split}.parquet", *reported)
    assert describe(config(tmp_path)).class_names == classes
    splits = sources.load(config(tmp_path, validation=0))
    level = {10: "blue", 20: "green", 30: "red"}
    for images in (splits.train, splits.test):
        assert isinstance(images, ImageSet)
        assert [level[int(image[0, 0, 0])] for image in images.images] == [classes[k] for k in images.labels.tolist()]
    assert len(splits.train) == sum(map(len, train)) and len(splits.test) == len(reported)


def test_a_class_that_training_does_not_know_is_refused(tmp_path: Path) -> None:
    one_a_name(tmp_path / "train-0.parquet", "blue", "green")
    one_a_name(tmp_path / "test.parquet", "green", "Blue")
    message = r"test.parquet: its class 'Blue' is none of the 2 of .*train-0.parquet: blue, green$"
    with pytest.raises(UserError, match=message):
        describe(config(tmp_path))
    one_a_name(tmp_path / "test.parquet", "green", "blue")
    one_a_name(tmp_path / "train-1.parquet", "blue", "green", "red")
    with pytest.raises(UserError, match=r"train-1.parquet: its class 'red' is none of the 2 of .*train-0.parquet"):
        describe(config(tmp_path))
    one_a_name(tmp_path / "train-1.parquet", "blue", "blue")
    with pytest.raises(UserError, match=r"train-1.parquet: two of its classes are called 'blue'"):
        describe(config(tmp_path))


def test_a_label_past_the_names_of_its_own_file_is_refused(tmp_path: Path) -> None:
    one_a_name(tmp_path / "train.parquet", "blue", "green", "red")
    write(tmp_path / "test.parquet", [png(pixels(1, 0)[0])], [2], named("red", "blue"))
    with pytest.raises(UserError, match=r"test.parquet: row 0: label 2 is none of the 2 classes"):
        sources.load(config(tmp_path, validation=0))


@pytest.mark.parametrize("silent", ["train-0", "train-1", "test", "validation"])
@pytest.mark.parametrize("metadata", [None, b"{", named(), named("abc").replace(b'["abc"]', b'"abc"')])
def test_a_file_without_class_names_beside_those_that_have_them_is_refused(
    silent: str, metadata: bytes | None, tmp_path: Path
) -> None:
    for name in ("train-0", "train-1", "test", "validation"):
        one_a_name(tmp_path / f"{name}.parquet", "blue", "green", "red")
    write(tmp_path / f"{silent}.parquet", [png(pixels(1, 0)[0])] * 3, [0, 1, 2], metadata)
    named_too = "train-1" if silent == "train-0" else "train-0"
    message = rf"{silent}.parquet: it does not say the names of its classes, as .*{named_too}.parquet does"
    with pytest.raises(UserError, match=message) as caught:
        describe(config(tmp_path))
    assert "\n" not in str(caught.value)


def test_numbers_of_columns_with_two_names_are_not_mixed(tmp_path: Path) -> None:
    write_set(tmp_path, named=False)
    table = pq.read_table(tmp_path / "test.parquet")
    pq.write_table(table.rename_columns(["img", "fine_label"]), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"test.parquet: its labels are called 'fine_label', those of .*0.parquet 'la"):
        describe(config(tmp_path))


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.float64(), pa.bool_()])
@pytest.mark.parametrize("name", ["train-1", "test", "validation"])
def test_labels_that_are_no_integers_are_refused_in_any_file(name: str, kind: Any, tmp_path: Path) -> None:
    write_set(tmp_path, named=False)
    write(tmp_path / f"{name}.parquet", [png(pixels(1, 0)[0])], pa.array([None], kind))
    with pytest.raises(UserError, match=rf"{name}.parquet: the column 'label' holds .* where integers belong"):
        describe(config(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("train-00000-of-00003 train-00002-of-00003", r"holds 2 of 3 files like train-00000-of-00003.parquet: put the"),
        ("train-00001-of-00002", r"holds 1 of 2 files like train-00001-of-00002.parquet"),
        ("train_1_of_3 train_3_of_3", "holds 2 of 3 files like train_1_of_3"),
        ("train-0-of-2 train-2-of-2", "holds 2 of 2 files like train-0-of-2"),
        (
            "train-00000-of-00002 train-00001-of-00003",
            r"train-00000-of-00002.parquet and .*1-of-00003.parquet cannot b",
        ),
        ("train-00000-of-00002 train_b-00001-of-00002", "cannot both be of one split"),
        ("train-00000-of-00001 train", r"-00000-of-00001.parquet and .*train.parquet cannot both be of one split"),
        (
            "train-00000-of-00002 train-0-of-2 train-00001-of-00002",
            r"-0-of-2.parquet and .*-00000-of-00002.parquet can",
        ),
        ("train-00000-of-00001-0a1b train-00000-of-00001-9c8d", "cannot both be of one split; take one of them away"),
        ("train test-00001-of-00002", "holds 1 of 2 files like test-00001-of-00002.parquet"),
        ("train test validation-00000-of-00004", "holds 1 of 4 files like validation-00000-of-00004.parquet"),
        ("sub/train-00000-of-00002", "holds 1 of 2 files like train-00000-of-00002.parquet"),
        ("train/00000-of-00002", "holds 1 of 2 files like 00000-of-00002.parquet"),
    ],
)
def test_files_of_a_split_that_are_not_all_there_or_of_two_sets_are_refused(
    files: str, message: str, tmp_path: Path
) -> None:
    for name in files.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        one_a_name(tmp_path / f"{name}.parquet", "blue", "green", "red")
    if "test" not in files:
        one_a_name((tmp_path / files.split()[0]).parent / "test.parquet", "blue", "green", "red")
    with pytest.raises(UserError, match=message) as caught:
        describe(config(tmp_path))
    assert f"data.root={tmp_path}: " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "train",
    ["train-00000-of-00002 train-00001-of-00002", "train-1-of-2 train-2-of-2", "train-0 train-7", "train-a-0 trainb"],
)
def test_files_that_are_all_there_or_without_a_total_are_read(train: str, tmp_path: Path) -> None:
    for name in train.split():
        one_a_name(tmp_path / f"{name}.parquet", "blue", "green", "red")
    one_a_name(tmp_path / "test-00000-of-00001-b42a775f407cee45.parquet", "blue", "green", "red")
    known = describe(config(tmp_path))
    assert (known.train, known.test) == (6, 3)


def test_a_mistake_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    done = run_script("train.py", "data=parquet", "data.root=nowhere", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "data=parquet: data.root=nowhere: no train*.parquet in it" in done.stderr
    write_set(tmp_path / "grey", (8, 8))
    done = run_script("train.py", "data=parquet", "data.root=grey", "model=mlp", "model.hidden=[9]", cwd=tmp_path)
    assert done.returncode == 2 and "has 1 channels; give one value each" in done.stderr


def test_real_cifar10(cifar10_jpeg: Path) -> None:
    known = describe(config(cifar10_jpeg))
    assert (known.image_size, known.channels, known.train, known.test) == (32, 3, 50_000, 10_000)
    assert known.class_names == cifar.cifar10.facts.class_names
    test = sources.load_test(config(cifar10_jpeg))
    assert isinstance(test, ImageSet)
    assert test.images.shape == (10_000, 3, 32, 32) and test.labels.bincount().tolist() == [1000] * 10
