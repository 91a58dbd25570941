"""data=hub and data=hub_photos: data sets by name, from the hub's own cache, which is all that there is: no network."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import run_script
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image

from harness.config.data import DataConfig, FolderConfig, HubConfig, HubPhotosConfig
from harness.data.images.image_files import ImageFiles
from harness.data.images.image_set import ImageSet
from harness.data.sources import hub_cache, hub_photos
from harness.data.sources import table as sources
from harness.data.sources.table import describe
from harness.errors import UserError

REPO = "someone/things"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ["T-shirt/top", ".hidden é", "100%"]
RNG = np.random.default_rng(0)


def photo(width: int = 40, height: int = 30, kind: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def write(
    path: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int],
    columns: tuple[str, str],
    names: Sequence[str] = NAMES,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": names, "_type": "ClassLabel"}}
    table = pa.table({columns[0]: [{"bytes": image, "path": None} for image in images], columns[1]: labels})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `REPO`'s snapshot, in the layout of the hub's cache; every attempt to reach the hub fails."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "index"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))  # for scripts
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "hf" / "hub" / f"datasets--{REPO.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    snapshot = huggingface_hub.snapshot_download

    def from_here(*arguments: Any, **options: Any) -> Any:
        return snapshot(*arguments, cache_dir=tmp_path / "hf" / "hub", **options)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", from_here)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (place / "snapshots" / COMMIT).mkdir(parents=True)
    return place / "snapshots" / COMMIT


def small(**changes: Any) -> HubConfig:
    settings = {"repo": REPO, "revision": "main", "subset": None, **changes}
    return HubConfig(name="hub", root="data", download=True, validation=3, mean=[0.5] * 3, std=[0.5] * 3, **settings)


def photos(root: Path, **changes: Any) -> HubPhotosConfig:
    sizes: dict[str, Any] = {"image_size": 32, "resize": 32, "interpolation": "bilinear", "decoder": "fast"}
    split: dict[str, Any] = {"validation": 20, "test": 25, "split_seed": 0, "folds": None, "fold": 0}
    settings = {"repo": REPO, "revision": "main", "subset": None, **sizes, **split, **changes}
    return HubPhotosConfig(name="hub_photos", root=str(root), download=True, mean=[0.5] * 3, std=[0.5] * 3, **settings)


@pytest.mark.parametrize("files", ["plain_text/{}-00000-of-00001", "data/{}-00000-of-00001", "default/{}/0000", "{}"])
@pytest.mark.parametrize("columns", [("img", "label"), ("image", "labels"), ("image", "fine_label")])
def test_the_layouts_of_the_hub_are_read_like_parquet(cache: Path, files: str, columns: tuple[str, str]) -> None:
    images = [photo(8, 8, "PNG") for _ in range(12)]
    write(cache / f"{files.format('train')}.parquet", images[:9], [0, 1, 2] * 3, columns)
    write(cache / f"{files.format('test')}.parquet", images[9:], [2, 1, 0], columns)
    known = describe(small())
    assert known.class_names == tuple(NAMES) and (known.image_size, known.train, known.test) == (8, 9, 3)
    splits = sources.load(small())
    assert isinstance(splits.test, ImageSet)
    assert (len(splits.train), len(splits.validation)) == (6, 3) and splits.test.labels.tolist() == [2, 1, 0]
    assert splits.test.ids[2] == "hub/test/00002"
    expected = np.asarray(Image.open(io.BytesIO(images[10]))).transpose(2, 0, 1)
    assert np.array_equal(splits.test.images[1].numpy(), expected)


def test_validation_is_reported_where_there_is_no_test_split(cache: Path) -> None:
    write(cache / "data" / "train-0.parquet", [photo(8, 8)] * 6, [0, 1, 2] * 2, ("img", "label"))
    with pytest.raises(UserError, match=r"data.repo=someone/things: no test\*.parquet, nor validation\*.parquet"):
        describe(small())
    write(cache / "data" / "validation-0.parquet", [photo(8, 8)] * 3, [0, 1, 2], ("img", "label"))
    assert describe(small()).test == 3
    write(cache / "data" / "test-0.parquet", [photo(8, 8)] * 2, [0, 1], ("img", "label"))
    assert describe(small()).test == 2


def test_a_split_without_labels_is_not_unpacked(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ("image", "label")
    for split, labels in (("train", [0, 1, 2] * 4), ("validation", [0, 1, 2]), ("test", [-1] * 5)):
        write(cache / "data" / f"{split}-0.parquet", [photo() for _ in labels], labels, columns)
    splits = sources.load(photos(tmp_path))
    assert (len(splits.train) + len(splits.validation), len(splits.test)) == (12, 3)
    assert "no image of test has a label: it is left out" in capsys.readouterr().err


def test_photographs_are_unpacked_once_and_read_like_a_folder(cache: Path, tmp_path: Path) -> None:
    kinds = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]
    train = [photo(40 + number, 30, kinds[number % 6]) for number in range(12)]
    write(cache / "data" / "train-00000-of-00002.parquet", train[:6], [0, 1, 2] * 2, ("image", "label"))
    write(cache / "data" / "train-00001-of-00002.parquet", train[6:], [2, 1, 0] * 2, ("image", "label"))
    write(cache / "data" / "validation-00000-of-00001.parquet", [photo(), b"damaged"], [1, 1], ("image", "label"))
    with pytest.raises(UserError, match=r"an image of 40 x 30 pixels .*data=hub_photos takes any"):
        describe(small())
    known = describe(photos(tmp_path / "root"))
    assert known.class_names == tuple(sorted(NAMES, key=hub_photos._folder_name)) and (known.train, known.test) == (
        12,
        2,
    )
    folder = tmp_path / "root" / "someone" / "things" / COMMIT
    files = sorted(folder.rglob("*.*"))
    assert {path.name for path in folder.iterdir()} == {"train", "val"}
    assert {path.name for path in (folder / "train").iterdir()} == {"T-shirt%2Ftop", "%2Ehidden é", "100%25"}
    assert [path.suffix for path in sorted((folder / "train").glob("*/*"), key=lambda path: path.name)] == [
        *(".jpg", ".png", ".webp", ".gif", ".bmp", ".tif") * 2
    ]
    assert (folder / "train" / "T-shirt%2Ftop" / "0000008.webp").read_bytes() == train[8]
    splits = sources.load(photos(tmp_path / "root"))
    assert isinstance(splits.test, ImageFiles) and splits.test.as_viewed
    assert {known.class_names[label] for label in splits.test.labels.tolist()} == {".hidden é"}
    assert list(splits.test.ids) == [f"hub_photos/val/%2Ehidden é/000000{row}.jpg" for row in range(2)]
    shutil.rmtree(cache.parent)  # all is unpacked
    assert describe(photos(tmp_path / "root", revision=COMMIT)) == known and sorted(folder.rglob("*.*")) == files


def test_every_file_of_the_hub_has_an_order_of_classes_of_its_own(cache: Path, tmp_path: Path) -> None:
    """`test` comes before `train` in the order of their names; training's order rules."""
    columns, others = ("image", "label"), NAMES[::-1]
    kinds = {"JPEG": NAMES[0], "PNG": NAMES[1], "GIF": NAMES[2]}  # the format says the class
    pictures = [photo(8, 8, kind) for kind in kinds]
    write(cache / "train-00000-of-00002.parquet", pictures * 2, [0, 1, 2] * 2, columns)
    write(cache / "train-00001-of-00002.parquet", pictures, [1, 2, 0], columns, [NAMES[2], *NAMES[:2]])
    write(cache / "test-00000-of-00001.parquet", pictures, [2, 1, 0], columns, others)
    assert describe(small()).class_names == tuple(NAMES)
    of_one_size = sources.load(HubConfig(**{**vars(small()), "validation": 0}))
    assert of_one_size.train.labels.tolist() == [0, 1, 2] * 3 and of_one_size.test.labels.tolist() == [0, 1, 2]
    whole = photos(tmp_path / "root")
    splits, names = sources.load(whole), describe(whole).class_names
    extensions = {".jpg": NAMES[0], ".png": NAMES[1], ".gif": NAMES[2]}
    for split in (splits.train, splits.validation, splits.test):
        assert isinstance(split, ImageFiles) and len(split) >= 3
        for image, label in zip(split.ids, split.labels.tolist(), strict=True):
            assert names[label] == extensions[Path(image).suffix]
    write(cache / "test-00000-of-00001.parquet", pictures, [0, 1, 2], columns, ["100%", "x", ".hidden é"])
    for config in (small(), photos(tmp_path / "anew")):
        with pytest.raises(UserError, match=r"test-0.*.parquet: its class 'x' is none of the 3 of .*train-0"):
            describe(config)


def test_a_training_split_alone_is_divided_and_folds_fall_out(cache: Path, tmp_path: Path) -> None:
    write(cache / "data" / "train-0.parquet", [photo() for _ in range(24)], [0, 1, 2] * 8, ("image", "label"))
    parts = hub_photos.divide(photos(tmp_path / "root"))
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [15, 3, 6]
    folds = [hub_photos.divide(photos(tmp_path / "root", folds=4, fold=fold)).test for fold in range(4)]
    assert sorted(position for fold in folds for position in fold.positions) == list(range(24))


def test_a_folder_that_was_half_unpacked_is_made_anew(cache: Path, tmp_path: Path) -> None:
    write(cache / "data" / "train-0.parquet", [photo(), photo(), None], [0, 1, 2], ("image", "label"))
    for _ in range(2):
        with pytest.raises(UserError, match=r"train-0.parquet: row 2: no bytes of an image"):
            describe(photos(tmp_path / "root"))
    place = tmp_path / "root" / "someone" / "things"
    assert not [path for path in place.iterdir() if path.suffix != ".lock"]
    write(cache / "data" / "train-0.parquet", [photo()] * 3, [0, 1, 3], ("image", "label"))
    with pytest.raises(UserError, match="row 2: label 3 is none of the 3 classes"):
        describe(photos(tmp_path / "root"))
    write(cache / "data" / "train-0.parquet", [photo()] * 6, [0, 1, 2] * 2, ("image", "label"))
    killed = place / f".{COMMIT}.partial" / "T-shirt%2Ftop"
    killed.mkdir(parents=True)
    (killed / "0000077.jpg").touch()
    assert describe(photos(tmp_path / "root")).test == 3
    assert len(list((place / COMMIT).rglob("*.jpg"))) == 6


def test_subsets_are_told_apart(cache: Path) -> None:
    for subset, images in (("cropped", 3), ("full", 6)):
        for split in ("train", "test"):
            labels = [0, 1, 2] * (images // 3)
            write(cache / subset / f"{split}-0.parquet", [photo(8, 8)] * images, labels, ("image", "label"))
    with pytest.raises(UserError, match="it holds several sets of pictures, cropped, full: choose one"):
        describe(small())
    assert describe(small(subset="full")).train == 6
    with pytest.raises(UserError, match=r"no train\*.parquet in it under fll, but under cropped, full"):
        describe(small(subset="fll"))


def test_what_cannot_be_had_is_told_in_a_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no parquet file at data.revision=main; .*refs/convert/parquet"):
        describe(small())
    with pytest.raises(UserError, match=r"data.repo=: name a data set as the hub does, OWNER/NAME"):
        describe(small(repo=""))
    with pytest.raises(UserError, match=r"data.repo=a/b: it is not in the hub's cache, and could not be downloaded"):
        describe(small(repo="a/b"))
    write(cache / "data" / "train-00000-of-00002.parquet", [photo(8, 8)] * 3, [0, 1, 2], ("image", "label"))
    with pytest.raises(UserError, match=r"the hub's cache holds 1 of 2 files like train-00000-of-00002.parquet"):
        describe(small())


def test_a_download_asks_the_cache_first_and_for_parquet_files_alone(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def download(repository: str, **options: Any) -> str:
        asked.append((repository, options))
        if options["local_files_only"]:
            raise LocalEntryNotFoundError("not there")
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub_cache.snapshot(small(revision="refs/convert/parquet")) == cache
    assert [options.pop("local_files_only") for _, options in asked] == [True, False]
    wanted = {"repo_type": "dataset", "revision": "refs/convert/parquet", "allow_patterns": hub_cache.PARQUET}
    assert asked == [(REPO, wanted)] * 2
    assert "downloading the parquet files of someone/things" in capsys.readouterr().err
    asked.clear()
    with pytest.raises(UserError, match=r"it is not in the hub's cache, and data.download=false"):
        hub_cache.snapshot(HubConfig(**{**vars(small()), "download": False}))
    assert [options["local_files_only"] for _, options in asked] == [True]


def test_configs_are_told_apart_by_their_keys() -> None:
    from harness.config.compose import schema_of
    from harness.config.data import DATA_SCHEMAS

    for config, schema in ((small(), HubConfig), (photos(Path("x")), HubPhotosConfig)):
        assert schema_of(vars(config), DATA_SCHEMAS.values()) is schema
        assert isinstance(config, DataConfig)
    assert isinstance(photos(Path("x")), FolderConfig)


def write_snapshot(cache: Path) -> None:
    """24 + 6 pictures of three classes, in the hub's cache."""
    write(cache / "train.parquet", [photo(32, 32) for _ in range(24)], [0, 1, 2] * 8, ("image", "label"))
    write(cache / "test.parquet", [photo(32, 32) for _ in range(6)], [0, 1, 2] * 2, ("image", "label"))


def test_a_run_on_photographs_of_the_hub(cache: Path, tmp_path: Path) -> None:
    write_snapshot(cache)
    done = run_script(
        *(
            "train.py",
            "data=hub_photos",
            "recipe=torchvision_v1",
            f"data.repo={REPO}",
            f"data.root={tmp_path / 'photos'}",
            "data.image_size=32",
        ),
        *("data.resize=32", "model=resnet20", "trainer=cpu", "trainer.threads=1", "trainer.max_epochs=1"),
        *("recipe.batch_size=8", f"runs={tmp_path / 'runs'}"),
    )
    assert done.returncode == 0, done.stderr
    assert "hub_photos: 21 images to train on, 3 for validation, 6 to test" in done.stdout
    (path,) = (tmp_path / "runs").rglob("result.json")
    data = json.loads(path.read_text())["data"]
    assert (data["repo"], data["revision"]) == (REPO, COMMIT) and hub_cache.recorded(small()).items() <= data.items()
