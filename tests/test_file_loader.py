"""Images in files: order, pixels and counts do not depend on workers, devices, position, or bad neighbours."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from test_training import RECIPE as IN_MEMORY
from torchvision import transforms

from harness.config.facts import Preprocessing
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.images.pixels import Normalise
from harness.data.loading import stateless
from harness.data.loading.file_loader import EvalFileLoader, TrainFileLoader
from harness.data.loading.loader import Batch
from harness.data.loading.stateless import Stream
from harness.data.loading.waiting import Waiting, advice
from harness.data.loading.workers import WindowDecoder, decoding, workers_at_hand
from harness.errors import UserError

PREPROCESSING = Preprocessing(3, 16, 18, "bilinear", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
IMAGES = 19
RECIPE = dataclasses.replace(IN_MEMORY, epochs=2, crop_padding=None, crop_area=[0.08, 1.0], crop_aspect=[0.75, 4 / 3])


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        folder = tmp_path / "images" / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + number, 40 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.jpg", quality=95)
    folder_index = index_folder(tmp_path / "images")
    return ImageFiles(folder_index, np.arange(IMAGES), torch.from_numpy(folder_index.label).long(), "test")


def train_loader(
    split: ImageFiles, step: int = 0, rank: int = 0, devices: int = 1, workers: int = 0
) -> TrainFileLoader:
    return TrainFileLoader(
        split,
        PREPROCESSING,
        RECIPE,
        decoder="fast",
        workers=workers,
        seed=5,
        position=lambda: step,
        rank=rank,
        devices=devices,
    )


def eval_loader(
    split: ImageFiles, batch_size: int = 4, rank: int = 0, devices: int = 1, workers: int = 0, ten_crop: bool = False
) -> EvalFileLoader:
    return EvalFileLoader(
        split,
        PREPROCESSING,
        batch_size=batch_size,
        ten_crop=ten_crop,
        decoder="pil",
        workers=workers,
        rank=rank,
        devices=devices,
    )


def by_index(*loaders: Iterable[Batch]) -> dict[int, torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for loader in loaders:
        for batch in loader:
            for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
                assert index not in found
                found[index] = image
    return found


def same(a: dict[int, torch.Tensor], b: dict[int, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[index], b[index]) for index in a)


def test_training_does_not_depend_on_workers_devices_or_position(split: ImageFiles) -> None:
    alone = list(train_loader(split))
    assert [len(batch.labels) for batch in alone] == [8, 8, 3] and len(train_loader(split)) == 3
    assert [batch.global_size for batch in alone] == [8, 8, 3]
    order = stateless.order(5, 0, IMAGES)
    assert torch.equal(torch.cat([batch.indices for batch in alone]), order)
    assert torch.equal(torch.cat([batch.labels for batch in alone]), split.labels[order])
    reference = by_index(alone)
    assert same(reference, by_index(train_loader(split, workers=2)))
    assert same(reference, by_index(*(train_loader(split, rank=rank, devices=3) for rank in range(3))))
    late = list(train_loader(split, step=2))
    assert len(late) == 1 and torch.equal(late[0].images, alone[2].images)
    second = by_index(train_loader(split, step=3))
    assert second.keys() == reference.keys() and not same(reference, second)
    assert list(second) == stateless.order(5, 1, IMAGES).tolist() != order.tolist()


def test_one_loader_serves_epoch_after_epoch(split: ImageFiles) -> None:
    steps = iter([0, 3])
    loader = train_loader(split, workers=1)
    loader.order.position = lambda: next(steps)
    assert same(by_index(loader), by_index(train_loader(split)))
    assert same(by_index(loader), by_index(train_loader(split, step=3)))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_batch_stays_what_it_is_until_the_next_is_asked_for(split: ImageFiles, workers: int) -> None:
    """Its memory is used again; here the workers have all the time to do that too soon."""
    expected = [decoded.images.clone() for decoded in eval_loader(split, batch_size=1).decoded]
    for decoded, images in zip(eval_loader(split, batch_size=1, workers=workers).decoded, expected, strict=True):
        time.sleep(0.02)
        assert torch.equal(decoded.images, images)


def test_a_users_own_pictures_are_trained_and_reported_on_as_a_viewer_shows_them(split: ImageFiles) -> None:
    for index in range(IMAGES):  # nothing but transparent, and black below it
        path = Path(os.fsdecode(split.path(index)))
        Image.new("RGBA", (30, 20), (0, 0, 0, 0)).save(path, "PNG")
    for make in (train_loader, eval_loader):
        for as_viewed, level in ((True, 255), (False, 0)):
            shown = torch.stack([*by_index(make(dataclasses.replace(split, as_viewed=as_viewed))).values()])
            wanted = Normalise(PREPROCESSING, "cpu")(torch.full(shown.shape, level, dtype=torch.uint8))
            assert len(shown) == IMAGES and torch.equal(shown, wanted)


def test_ten_views_of_colour_become_grey_ones(split: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PREPROCESSING", Preprocessing(1, 16, 18, "bilinear", (0.5,), (0.5,)))
    views, middle = next(iter(eval_loader(split, ten_crop=True))).images, next(iter(eval_loader(split))).images
    assert views.shape == (4, 10, 1, 16, 16) and torch.equal(views[:, 4], middle)


def test_workers_are_no_copies_of_a_process_with_threads(split: ImageFiles) -> None:
    """A copy can hang on a lock that a thread of torch's process group held when it was made."""
    copies: list[int] = []
    os.register_at_fork(before=lambda: copies.append(1))
    assert same(by_index(train_loader(split, workers=2)), by_index(train_loader(split)))
    assert not copies


def test_workers_end_with_a_main_process_that_is_killed(split: ImageFiles) -> None:
    program = (
        "import os, pickle, signal, sys\n"
        "from multiprocessing import active_children\n"
        "sys.path[:0] = ['.', 'tests']\n"
        "from test_file_loader import eval_loader\n"
        "batches = iter(eval_loader(pickle.load(sys.stdin.buffer), workers=2))\n"
        "next(batches)\n"
        "print(*(child.pid for child in active_children()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=pickle.dumps(split), stdout=subprocess.PIPE, cwd=ROOT, timeout=100)
    workers = [int(word) for word in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL and len(workers) == 2
    deadline = time.monotonic() + 20
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.kill(worker, 0)
                time.sleep(0.1)


def test_ctrl_c_in_the_terminal_does_not_reach_the_workers(split: ImageFiles) -> None:
    batches = iter(eval_loader(split, batch_size=1, workers=1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == IMAGES - 1


def test_a_signal_for_all_processes_of_a_job_does_not_reach_the_workers(split: ImageFiles) -> None:
    """As a scheduler's, or that of `timeout`; the main process ends workers by the same signal."""
    program = (
        "import pickle, sys\n"
        "from multiprocessing import active_children, forkserver, resource_tracker\n"
        "sys.path[:0] = ['.', 'tests']\n"
        "from test_file_loader import eval_loader\n"
        "batches = iter(eval_loader(pickle.load(sys.stdin.buffer), batch_size=1, workers=1))\n"
        "next(batches)\n"
        "(worker,) = active_children()\n"
        "helpers = forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid\n"
        "import subprocess\n"
        "for name in ('TERM', 'USR1', 'USR2', 'INT'):\n"
        "    subprocess.run(['kill', f'-{name}', *map(str, (worker.pid, *helpers))], check=True)\n"
        "print(len(list(batches)), *(open(f'/proc/{pid}/stat').read().split()[2] for pid in helpers))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, input=pickle.dumps(split), stdout=subprocess.PIPE, cwd=ROOT, timeout=100)
    batches_left, *states = done.stdout.decode().split()
    assert done.returncode == 0 and int(batches_left) == IMAGES - 1 and "Z" not in states and len(states) == 2


def test_the_main_process_ends_a_worker(split: ImageFiles) -> None:
    batches = iter(eval_loader(split, batch_size=1, workers=1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


@pytest.mark.parametrize("epoch", [0, 1])
def test_half_of_the_training_images_are_mirrored(split: ImageFiles, epoch: int) -> None:
    whole = TrainFileLoader(
        split,
        PREPROCESSING,
        dataclasses.replace(RECIPE, flip=False),
        decoder="fast",
        workers=0,
        seed=5,
        position=lambda: 3 * epoch,
    )
    mirrored = stateless.integers(2, 5, epoch, Stream.FLIP, torch.arange(IMAGES)).bool().tolist()
    assert 0 < sum(mirrored) < IMAGES
    plain = by_index(whole)
    for index, image in by_index(train_loader(split, step=3 * epoch)).items():
        assert torch.equal(image, plain[index].flip(-1) if mirrored[index] else plain[index])
    whole.order.position = lambda: 3 * (epoch + 1)
    assert not any(torch.equal(image, plain[index]) for index, image in by_index(whole).items()), "the same windows"


@pytest.mark.parametrize("ten_crop", [False, True])
def test_evaluation_gives_torchvisions_input(split: ImageFiles, ten_crop: bool) -> None:
    crop = transforms.TenCrop(16) if ten_crop else transforms.CenterCrop(16)
    preset = transforms.Compose([transforms.Resize(18), crop])
    finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(PREPROCESSING.mean, PREPROCESSING.std)])
    for index, image in by_index(eval_loader(split, ten_crop=ten_crop)).items():
        made = preset(Image.open(os.fsdecode(split.path(index))))
        expected = torch.stack([finish(view) for view in made]) if ten_crop else finish(made)
        torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2, 3, 40])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_evaluation_sees_every_image_once(split: ImageFiles, devices: int, batch_size: int) -> None:
    loaders = [eval_loader(split, batch_size, rank, devices) for rank in range(devices)]
    shares = [list(loader) for loader in loaders]
    assert {len(share) for share in shares} == {len(loaders[0])} == {math.ceil(IMAGES / (devices * batch_size))}
    assert sorted(i for share in shares for batch in share for i in batch.indices.tolist()) == list(range(IMAGES))
    assert same(by_index(*shares), by_index(eval_loader(split)))


def test_what_cannot_be_read_is_named_and_changes_no_other(split: ImageFiles) -> None:
    reference, training = by_index(eval_loader(split)), by_index(train_loader(split))
    for index in (0, 7, 8):
        Path(os.fsdecode(split.path(index))).write_bytes(b"text")
    for workers in (0, 2):
        batches = list(eval_loader(split, workers=workers))
        assert [(u.image, u.reason) for b in batches for u in b.unreadable] == [(i, "not an image") for i in (0, 7, 8)]
        assert [b.global_size for b in batches] == [4, 4, 4, 4, 3]
        left = {index: image for index, image in reference.items() if index not in (0, 7, 8)}
        assert same(by_index(batches), left)
        batches = list(train_loader(split, workers=workers))
        assert sorted(u.image for b in batches for u in b.unreadable) == [0, 7, 8]
        assert [b.global_size for b in batches] == [8, 8, 3]
        left = {index: image for index, image in training.items() if index not in (0, 7, 8)}
        assert same(by_index(batches), left)


def test_the_global_generator_is_left_alone(split: ImageFiles) -> None:
    before = torch.get_rng_state()
    list(train_loader(split, workers=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_uniform_numbers_are_uniform_and_each_indexs_own() -> None:
    drawn = stateless.uniform(40, 1, 2, Stream.WINDOW, torch.arange(1000))
    assert drawn.shape == (1000, 40) and drawn.dtype == torch.float64
    assert drawn.min() >= 0 and drawn.max() < 1 and len(set(drawn.flatten().tolist())) == 40_000
    assert abs(drawn.mean() - 0.5) < 5 * (1 / 12 / 40_000) ** 0.5
    assert torch.equal(stateless.uniform(40, 1, 2, Stream.WINDOW, torch.tensor([7]))[0], drawn[7])


@pytest.mark.parametrize(
    ("cores", "devices", "on_cpu", "batch_bytes", "memory", "workers"),
    [
        (16, 1, False, 1, 2**40, 16),
        (16, 4, False, 1, 2**40, 4),
        (2, 8, False, 1, 2**40, 1),
        (128, 1, False, 1, 2**40, 16),
        (2, 1, True, 1, 2**40, 1),
        (16, 1, False, 2**20, 64 * 2**20, 10),  # 64 MiB, as in a container: 32 for batches, 3 MiB a worker
        (16, 1, False, 2**26, 64 * 2**20, 0),
    ],
)
def test_workers_come_from_cores_and_memory(
    cores: int, devices: int, on_cpu: bool, batch_bytes: int, memory: int, workers: int
) -> None:
    assert workers_at_hand(cores, devices, on_cpu, batch_bytes, memory) == workers


def test_waiting_is_the_time_until_the_next_batch() -> None:
    def slow() -> Iterable[int]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    waiting = Waiting("cpu")
    seen = []
    for number in waiting.over(iter(slow())):
        time.sleep(0.05)
        seen.append(number)
    assert seen == [0, 1, 2] and 0.055 < waiting.seconds < 0.12
    assert not list(waiting.over(iter(()))) and waiting.seconds < 0.01  # those before are forgotten


def test_advice_is_given_when_more_than_a_tenth_is_waiting() -> None:
    assert advice(0.1, 2, 4, "fast") is None
    assert "30% of the time went by waiting for images; trainer.workers=4 would" in str(advice(0.3, 2, 4, "fast"))
    assert "data.decoder=fast" in str(advice(0.3, 2, 4, "pil"))
    assert "every core decodes already" in str(advice(0.3, 4, 4, "fast"))


class Full:
    """The memory of a worker where /dev/shm has no room; torch's words."""

    def next(self, shape: tuple[int, ...]) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


class Deadly:
    """The memory of a worker that the system kills when it asks for some."""

    def next(self, shape: tuple[int, ...]) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.mark.parametrize(("memory", "line"), [(Full(), "trainer.workers=0 decodes without"), (Deadly(), "was killed")])
def test_what_workers_die_of_is_one_line(memory: object, line: str, split: ImageFiles) -> None:
    loader = train_loader(split, workers=1)
    windows = WindowDecoder(PREPROCESSING, "fast", memory=memory)  # type: ignore[arg-type]
    loader.decoded = decoding(windows, loader.decoded.sampler, 1, pinned=False)
    with pytest.raises(UserError, match=line) as told:
        list(loader)
    assert "\n" not in str(told.value)
