"""data.cache: small pictures made once, for training alone; the same ones however often their making was killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script
from in_process import call, only
from PIL import Image
from test_file_loader import PREPROCESSING, RECIPE, split  # noqa: F401  # a fixture
from test_folder_data import QUICK, classes

from harness.comparison.settings import settings_of
from harness.data.images.batched_crops import resized_windows
from harness.data.images.decode import decode, pixels_of, read
from harness.data.images.geometry import whole
from harness.data.images.image_files import ImageFiles
from harness.data.images.pieces import Small
from harness.data.loading import small_pictures
from harness.data.loading.device_loader import DeviceCropLoader
from harness.data.loading.file_loader import TrainFileLoader
from harness.data.loading.small_pictures import SmallFiles, make_small
from harness.errors import UserError

SIZE = 22  # of pictures whose shorter edge is 20 to 30
HOW = (SIZE, "fast", "bilinear", 0)


def folder(small: SmallFiles) -> Path:
    return Path(os.fsdecode(small.pixels)).parent


def batches(images: ImageFiles, workers: int = 0) -> list[torch.Tensor]:
    loader = TrainFileLoader(images, PREPROCESSING, RECIPE, decoder="fast", workers=workers, seed=5, position=lambda: 0)
    return [tensor for batch in loader for tensor in (batch.images, batch.labels, batch.indices)]


def content(small: SmallFiles) -> bytes:
    return b"".join((folder(small) / name).read_bytes() for name in ("pixels", "index"))


def test_pictures_are_resized_once_to_the_shorter_edge(split: ImageFiles) -> None:  # noqa: F811
    small = make_small(split, *HOW)
    assert len(small) == len(split) and small.listing() == split.listing() and small.ids == split.ids
    for index in range(len(split)):
        place, original = small.place(index), decode(read(split.place(index)), "fast")
        assert isinstance(place, Small)
        found = pixels_of(place, "fast", False)
        edge = min(original.shape[:2])
        how = (small_pictures._preprocessing(SIZE, "bilinear"), SIZE, "fast")
        wanted = original if edge <= SIZE else whole(original, *how)
        assert found.dtype == np.uint8 and min(found.shape[:2]) == min(edge, SIZE) and (found == wanted).all()


def test_training_reads_no_file_again_and_workers_change_nothing(split: ImageFiles) -> None:  # noqa: F811
    small = make_small(split, *HOW)
    for index in range(len(split)):
        Path(os.fsdecode(split.path(index))).unlink()
    alone, by_workers = batches(small), batches(small, workers=2)
    assert len(alone) == len(by_workers) and all(map(torch.equal, alone, by_workers))
    assert {len(tensor) for tensor in alone} and sum(len(labels) for labels in alone[1::3]) == len(split)


@pytest.mark.parametrize("size", [16, 24])  # many crops of 16 pixels have ties, which Pillow resizes
def test_crops_on_the_device_are_those_of_the_workers(size: int, split: ImageFiles) -> None:  # noqa: F811
    small = make_small(split, *HOW)
    how = (dataclasses.replace(PREPROCESSING, size=size), dataclasses.replace(RECIPE, flip=True))
    for rank, position in ((0, 0), (1, 2)):
        options: dict[str, Any] = {
            "decoder": "fast",
            "seed": 5,
            "position": lambda at=position: at,
            "rank": rank,
            "devices": 2,
        }
        workers = TrainFileLoader(small, *how, **options, workers=0)
        device = DeviceCropLoader(small, *how, **options)
        for mine, theirs in zip(device, workers, strict=True):
            assert mine.images.shape[1:] == (3, size, size) and mine.global_size == theirs.global_size
            for name in ("images", "labels", "indices", "keys"):
                assert torch.equal(getattr(mine, name), getattr(theirs, name)), name


@pytest.mark.parametrize(("height", "width"), [(256, 300), (100, 30), (100, 100), (17, 250)])
@pytest.mark.parametrize("size", [100, 128])
def test_windows_resized_at_once_have_the_pixels_of_one_by_one(height: int, width: int, size: int) -> None:
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    boxes = torch.tensor([[3, 5, height, width], [300 - height, 400 - width, height, width], [0, 0, 9, 11]])
    starts, widths = torch.zeros(3, dtype=torch.int64), torch.full((3,), 400)
    found = resized_windows(torch.from_numpy(picture.reshape(-1)), starts, widths, boxes, size)
    for (top, left, h, w), image in zip(boxes.tolist(), found, strict=True):
        window = np.ascontiguousarray(picture[top : top + h, left : left + w])
        expected = torch.ops.aten._upsample_bilinear2d_aa(
            torch.from_numpy(window)[None].permute(0, 3, 1, 2), (size, size), False, None, None
        )[0]
        assert torch.equal(image, expected), (h, w)


def test_an_unchanged_crop_is_the_files_own(split: ImageFiles) -> None:  # noqa: F811
    """With an edge beyond that of every picture nothing is resized, and training sees the pixels of the files."""
    small = make_small(split, 100, "fast", "bilinear", 0)
    assert all(map(torch.equal, batches(small), batches(split)))


def test_it_is_made_once_and_anew_for_all_that_can_change_it(split: ImageFiles) -> None:  # noqa: F811
    first = make_small(split, *HOW)
    with patch.object(small_pictures, "_build", side_effect=AssertionError("made again")):
        assert content(make_small(split, *HOW)) == content(first)
        others: dict[str, Callable[[], SmallFiles]] = {
            "size": lambda: make_small(split, SIZE + 1, "fast", "bilinear", 0),
            "decoder": lambda: make_small(split, SIZE, "pil", "bilinear", 0),
            "interpolation": lambda: make_small(split, SIZE, "fast", "bicubic", 0),
            "as viewed": lambda: make_small(dataclasses.replace(split, as_viewed=True), *HOW),
            "images": lambda: make_small(split.subset(np.arange(5)), *HOW),
        }
        for what, make in others.items():
            with pytest.raises(AssertionError, match="made again"):
                make()
                raise RuntimeError(what)
        with patch.object(small_pictures, "CACHE_VERSION", 2), pytest.raises(AssertionError, match="made again"):
            make_small(split, *HOW)
    path = Path(os.fsdecode(split.path(3)))
    os.utime(path, ns=(10**18, 10**18))
    assert folder(make_small(split, *HOW)) != folder(first)


@pytest.mark.parametrize("cut", ["pixels", "sizes", "nothing"])
def test_a_build_that_was_killed_goes_on_where_it_stopped(
    cut: str,
    split: ImageFiles,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole_cache = content(make_small(split, *HOW))
    monkeypatch.setattr(small_pictures, "BATCH", 4)
    monkeypatch.setattr(small_pictures, "SAFE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ["XDG_CACHE_HOME"] + "2")
    made: list[int] = []
    requests = small_pictures._requests

    def killed(images: ImageFiles, done: int, most: int = 3) -> object:
        for number, request in enumerate(requests(images, done)):
            if number == most:
                raise KeyboardInterrupt
            made.extend(request.indices.tolist())
            yield request

    monkeypatch.setattr(small_pictures, "_requests", killed)
    with pytest.raises(KeyboardInterrupt):
        make_small(split, *HOW)
    assert made == list(range(12))
    (partial,) = Path(os.environ["XDG_CACHE_HOME"], "cnn-zoo").glob("small-*")
    if cut != "nothing":
        os.truncate(partial / cut, (partial / cut).stat().st_size - 5)  # torn while it was written
    made.clear()
    monkeypatch.setattr(small_pictures, "_requests", lambda images, done: killed(images, done, 99))
    assert content(make_small(split, *HOW)) == whole_cache
    assert made == list(range(12 if cut == "nothing" else 11, len(split)))


def test_a_damaged_cache_is_made_again(split: ImageFiles) -> None:  # noqa: F811
    small = make_small(split, *HOW)
    before = content(small)
    for name in ("pixels", "index"):
        os.truncate(folder(small) / name, 40)
        assert content(make_small(split, *HOW)) == before


def test_a_picture_that_cannot_be_read_is_told_as_without_a_cache(split: ImageFiles) -> None:  # noqa: F811
    Path(os.fsdecode(split.path(7))).write_bytes(b"no picture")
    small = make_small(split, *HOW)
    plain, cached = (
        [bad for batch in TrainFileLoader(
            images, PREPROCESSING, RECIPE, decoder="fast", workers=0, seed=5, position=lambda: 0
        ) for bad in batch.unreadable]
        for images in (split, small)
    )  # fmt: skip
    assert plain == cached and [bad.image for bad in cached] == [7]


def test_a_full_disk_and_a_place_that_cannot_be_written(
    split: ImageFiles,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        patch("shutil.disk_usage") as usage,
        pytest.raises(UserError, match=r"needs about .* are free"),
    ):
        usage.return_value.free = 1000
        make_small(split, *HOW)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="XDG_CACHE_HOME names another place"):
        make_small(split, *HOW)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["data.cache=31"], "must be at least data.image_size=32"),
        (["data.cache=40", "recipe=he_2015_imagenet", "data.resize=40"], "the recipe needs a shorter edge of 480"),
        (["data.cache=40", "recipe=linear_probe", "weights=DEFAULT"], "recipe.trains=head reads each picture once"),
    ],
)
def test_a_cache_that_does_not_fit_is_refused(
    words: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["data.image_size=32"] if "recipe=linear_probe" not in words else ["data.image_size=40", "data.resize=40"]
    root = classes(tmp_path / "photos", 4)
    assert call("train.py", "model=resnet18", "data=folder", f"data.root={root}", *size, *words) == 2
    assert line in capsys.readouterr().err


@pytest.mark.slow
def test_the_record_tells_of_the_cache_and_the_evaluation_is_of_the_files(tmp_path: Path) -> None:
    for name in ("train", "val"):
        classes(tmp_path / "photos" / name, 12)
    results = {}
    for cache in ("null", "32", "64"):
        words = (f"data.root={tmp_path / 'photos'}", f"runs={tmp_path / cache}", f"data.cache={cache}")
        done = run_script("train.py", *QUICK, *words, environment={"XDG_CACHE_HOME": str(tmp_path / "cache")})
        assert done.returncode == 0, done.stderr
        results[cache] = json.loads((only(only(tmp_path / cache)) / "result.json").read_text())
    plain, small, large = results.values()
    assert "cache" not in plain["training_data"] and small["training_data"]["cache"] == 32
    assert plain["data"] == small["data"]  # of the evaluation
    assert small["weights"]["sha256"] != plain["weights"]["sha256"] == large["weights"]["sha256"]
    assert plain["predictions"] == large["predictions"]
    keys = [settings_of(result).key for result in results.values()]
    assert len(set(keys)) == 3


@pytest.mark.slow
def test_a_build_is_killed_by_sigkill_again_and_again(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(240):
        path = tmp_path / "photos" / f"c{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import numpy as np, torch\n"
        "from pathlib import Path\n"
        "from harness.data.images.folder import index_folder\n"
        "from harness.data.images.image_files import ImageFiles\n"
        "from harness.data.loading import small_pictures\n"
        "if __name__ == '__main__':\n"
        "    small_pictures.SAFE, small_pictures.BATCH = 1, 8\n"
        "    folder = index_folder(Path(sys.argv[1]))\n"
        "    split = ImageFiles(folder, np.arange(240), torch.zeros(240, dtype=torch.int64), 'x')\n"
        "    made = small_pictures.make_small(split, 200, 'fast', 'bilinear', 1)\n"
        "    print(Path(made.pixels.decode()).parent)\n"
    )
    script = tmp_path / "build.py"
    script.write_text(code)
    contents = []
    for home, kills in (("a", 0), ("b", 4)):
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / home)}
        words = [sys.executable, str(script), str(tmp_path / "photos"), str(ROOT)]
        for number in range(kills):
            process = subprocess.Popen(words, env=environment, start_new_session=True)
            deadline, grown = time.monotonic() + 120, 0
            while time.monotonic() < deadline and process.poll() is None and grown < 2 * (number + 1):
                grown = sum(path.stat().st_size for path in (tmp_path / home).rglob("sizes")) // 64
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        made = Path(done.stdout.split()[-1])
        contents.append([(made / name).read_bytes() for name in ("pixels", "index")])
    assert contents[0] == contents[1]
