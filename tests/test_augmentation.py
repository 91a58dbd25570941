"""Augmentation beside crop and flip equals torchvision's, Pillow's, SciPy's and NumPy's; each image's draws its own."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy.ndimage import affine_transform
from scipy.stats import ks_2samp
from test_finetune import Run, copies
from test_finetune import changed as changed_weights
from test_settings import refused
from test_training import RECIPE
from timm.data import auto_augment as timms
from torchvision.transforms import v2

from harness.config.facts import Preprocessing
from harness.config.recipe import RecipeConfig
from harness.data.images import rand_augment
from harness.data.images.augmentation import (
    DISTORTION_DRAWS,
    EIGENVALUES,
    EIGENVECTORS,
    ERASING_DRAWS,
    LIGHTING_DRAWS,
    Operations,
    colour_noise,
    distort,
    erase,
    erased_box,
)
from harness.data.images.folder import index_folder
from harness.data.images.geometry import SCALE_DRAWS, random_scale_crop
from harness.data.images.image_files import ImageFiles
from harness.data.images.image_set import ImageSet
from harness.data.images.pixels import Normalise
from harness.data.images.rand_augment import BACKGROUND, RandAugmentIncreasing
from harness.data.loading import stateless
from harness.data.loading.file_loader import TrainFileLoader
from harness.data.loading.loader import Batch, TrainLoader
from harness.data.loading.stateless import Stream

IMAGES, SEED = 19, 5
STATISTICS = ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
OF_FILES = Preprocessing(3, 16, 18, "bilinear", *STATISTICS)
IN_MEMORY = Preprocessing(3, 12, None, None, *STATISTICS)
FILES = dataclasses.replace(RECIPE, epochs=2, crop_padding=None, resize_range=[18, 30])
OPERATIONS: list[dict[str, Any]] = [
    {"auto_augment": "trivial_augment_wide"},
    {"auto_augment": "rand_augment", "rand_augment_ops": 3, "rand_augment_magnitude": 20},
    {"auto_augment": "rand_augment_increasing", "rand_augment_magnitude": 7},
    {"color_jitter": [0.4, 0.4, 0.4, 0.1]},
    {"color_jitter": [0.4, 0.4, 0.4]},
]
EVERYTHING: dict[str, Any] = {"lighting": 0.1, "erasing": 0.5}


def torchvisions(changes: dict[str, Any]) -> Callable[[Image.Image], Image.Image]:
    """The transform that these settings stand for."""
    transforms: dict[str, Callable[[Image.Image], Image.Image]] = {
        "trivial_augment_wide": v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
        "rand_augment": v2.RandAugment(3, 20, interpolation=v2.InterpolationMode.BILINEAR),
        "rand_augment_increasing": RandAugmentIncreasing(2, 7),
        "None": v2.ColorJitter(*changes.get("color_jitter", [])),
    }
    return transforms[str(changes.get("auto_augment"))]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        folder = tmp_path / "images" / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + number, 40 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    index = index_folder(tmp_path / "images")
    return ImageFiles(index, np.arange(IMAGES), torch.from_numpy(index.label).long(), "test")


def in_memory(channels: int = 3) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, channels, 10, 10), dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(IMAGES) % 5, [f"image/{i}" for i in range(IMAGES)])


def file_loader(
    split: ImageFiles, recipe: RecipeConfig, *, step: int = 0, rank: int = 0, devices: int = 1, workers: int = 0
) -> TrainFileLoader:
    return TrainFileLoader(
        split,
        OF_FILES,
        recipe,
        decoder="pil",
        workers=workers,
        seed=SEED,
        position=lambda: step,
        rank=rank,
        devices=devices,
    )


def memory_loader(
    split: ImageSet, recipe: RecipeConfig | None, *, batch_size: int = 8, step: int = 0, rank: int = 0, devices: int = 1
) -> TrainLoader:
    channels = split.images.shape[1]
    preprocessing = dataclasses.replace(
        IN_MEMORY, channels=channels, mean=STATISTICS[0][:channels], std=STATISTICS[1][:channels]
    )
    return TrainLoader(
        split,
        preprocessing,
        batch_size=batch_size,
        crop_padding=2,
        mirror=True,
        seed=SEED,
        position=lambda: step,
        rank=rank,
        devices=devices,
        recipe=recipe,
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


def changed(a: dict[int, torch.Tensor], b: dict[int, torch.Tensor]) -> int:
    return sum(not torch.equal(a[index], b[index]) for index in a)


def as_pixels(image: torch.Tensor) -> npt.NDArray[np.uint8]:
    """A normalised image (C, H, W) as uint8 (H, W, C)."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in STATISTICS)
    levels = (image * std + mean) * 255
    assert (levels - levels.round()).abs().max() < 1e-3
    return levels.round().to(torch.uint8).permute(1, 2, 0).numpy()


# ----------------------------------------------------------------------------------------- an image's draws are its own


@pytest.mark.parametrize("changes", [OPERATIONS[0], OPERATIONS[2], OPERATIONS[3]])
def test_files_do_not_depend_on_workers_devices_or_position(files: ImageFiles, changes: dict[str, Any]) -> None:
    recipe = dataclasses.replace(FILES, **EVERYTHING, **changes)
    reference, plain = by_index(file_loader(files, recipe)), by_index(file_loader(files, FILES))
    assert changed(reference, plain) > IMAGES // 2
    assert same(reference, by_index(*(file_loader(files, recipe, rank=rank, devices=2) for rank in range(2))))
    late = by_index(file_loader(files, recipe, step=2))
    assert len(late) == 3 and all(torch.equal(image, reference[index]) for index, image in late.items())
    assert same(reference, by_index(file_loader(files, dataclasses.replace(recipe, batch_size=5))))
    assert not same(reference, by_index(file_loader(files, recipe, step=3))), "every epoch has the same draws"
    for workers in (1, 2):
        assert same(reference, by_index(file_loader(files, recipe, workers=workers)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", OPERATIONS[:4])
def test_images_in_memory_do_not_depend_on_devices_or_position(channels: int, operation: dict[str, Any]) -> None:
    split = in_memory(channels)
    noise = EVERYTHING if channels == 3 else {"erasing": 0.5}
    recipe = dataclasses.replace(RECIPE, distortion=[1.0, 0.1, 0.1, 0.2], **noise, **operation)
    reference = by_index(memory_loader(split, recipe))
    assert changed(reference, by_index(memory_loader(split, None))) == IMAGES
    assert same(reference, by_index(*(memory_loader(split, recipe, rank=rank, devices=2) for rank in range(2))))
    assert same(reference, by_index(*(memory_loader(split, recipe, rank=rank, devices=4) for rank in range(4))))
    assert same(reference, by_index(memory_loader(split, recipe, batch_size=7)))
    late = by_index(memory_loader(split, recipe, step=2))
    assert len(late) == 3 and all(torch.equal(image, reference[index]) for index, image in late.items())
    assert changed(reference, by_index(memory_loader(split, recipe, step=3))) == IMAGES


def test_a_neighbour_that_cannot_be_read_changes_no_other(files: ImageFiles) -> None:
    recipe = dataclasses.replace(FILES, **EVERYTHING, **OPERATIONS[0])
    reference = by_index(file_loader(files, recipe))
    Path(os.fsdecode(files.path(7))).write_bytes(b"text")
    reference.pop(7)
    assert same(reference, by_index(file_loader(files, recipe)))


def test_torchs_generator_is_left_alone(files: ImageFiles) -> None:
    before = torch.get_rng_state()
    for _ in file_loader(files, dataclasses.replace(FILES, **EVERYTHING, **OPERATIONS[0])):
        assert torch.equal(torch.get_rng_state(), before)
    for _ in memory_loader(in_memory(), dataclasses.replace(RECIPE, **EVERYTHING, **OPERATIONS[1])):
        assert torch.equal(torch.get_rng_state(), before)


def test_a_run_that_is_cut_off_in_an_epoch_goes_on_with_the_same_images(tmp_path: Path) -> None:
    augmented = dataclasses.replace(
        RECIPE, epochs=2, distortion=[1.0, 0.1, 0.1, 0.2], erasing=0.5, auto_augment="trivial_augment_wide"
    )
    plain, whole = Run(tmp_path / "plain", dataclasses.replace(RECIPE, epochs=2)), Run(tmp_path / "whole", augmented)
    Run(tmp_path / "broken", augmented, cut_at=7, checkpoint_every=1)
    broken = Run(tmp_path / "broken", augmented)
    assert broken.classifier.history == whole.classifier.history != plain.classifier.history
    assert not changed_weights(copies(whole.network), broken.network)


def test_without_augmentation_nothing_changes() -> None:
    assert same(by_index(memory_loader(in_memory(), None)), by_index(memory_loader(in_memory(), RECIPE)))


# ------------------------------------------------------------------------------------------------ random operations


@pytest.mark.parametrize("changes", OPERATIONS)
def test_operations_on_files_are_torchvisions_after_crop_and_flip(files: ImageFiles, changes: dict[str, Any]) -> None:
    transform, epoch, everything = torchvisions(changes), 1, torch.arange(IMAGES)
    seeds = stateless.bits(SEED, epoch, Stream.OPERATIONS, everything).tolist()
    mirrored = stateless.integers(2, SEED, epoch, Stream.FLIP, everything).tolist()
    assert len(set(seeds)) == IMAGES and 0 < sum(mirrored) < IMAGES
    plain = by_index(file_loader(files, dataclasses.replace(FILES, flip=False), step=3))
    for flip in (True, False):
        recipe = dataclasses.replace(FILES, flip=flip, **changes)
        for index, image in by_index(file_loader(files, recipe, step=3)).items():
            window = as_pixels(plain[index])
            upright = np.ascontiguousarray(window[:, ::-1]) if flip and mirrored[index] else window
            torch.manual_seed(seeds[index])
            assert np.array_equal(as_pixels(image), np.asarray(transform(Image.fromarray(upright))))


@pytest.mark.parametrize("changes", OPERATIONS)
def test_operations_in_memory_are_torchvisions_after_crop_and_flip(changes: dict[str, Any]) -> None:
    seeds = stateless.bits(SEED, 0, Stream.OPERATIONS, torch.arange(IMAGES)).tolist()
    plain = by_index(memory_loader(in_memory(), RECIPE))
    for index, image in by_index(memory_loader(in_memory(), dataclasses.replace(RECIPE, **changes))).items():
        torch.manual_seed(seeds[index])
        expected = torchvisions(changes)(Image.fromarray(as_pixels(plain[index])))
        assert np.array_equal(as_pixels(image), np.asarray(expected))


def test_the_policies_are_the_published_ones() -> None:
    """14 operations in 31 bins [Müller and Hutter 2021, Table 1, wide; Cubuk 2020 as torchvision has it]."""
    greatest = {  # of each operation that has magnitudes: TrivialAugmentWide's, then RandAugment's for a side of 331
        "ShearX": (0.99, 0.3),
        "ShearY": (0.99, 0.3),
        "TranslateX": (32.0, 150.0),
        "TranslateY": (32.0, 150.0),
        "Rotate": (135.0, 30.0),
        "Brightness": (0.99, 0.9),
        "Color": (0.99, 0.9),
        "Contrast": (0.99, 0.9),
        "Sharpness": (0.99, 0.9),
        "Posterize": (2.0, 4.0),
        "Solarize": (0.0, 0.0),
    }
    for column, name in enumerate(("trivial_augment_wide", "rand_augment")):
        policy = Operations(dataclasses.replace(RECIPE, auto_augment=name)).transform
        assert policy.num_magnitude_bins == 31 and policy.interpolation is v2.InterpolationMode.BILINEAR
        assert set(policy._AUGMENTATION_SPACE) == {"Identity", "AutoContrast", "Equalize", *greatest}
        for operation, values in greatest.items():
            magnitudes, signed = policy._AUGMENTATION_SPACE[operation]
            bins = magnitudes(31, 331, 331)
            assert len(bins) == 31 and float(bins[-1]) == pytest.approx(values[column])
            assert signed == (operation not in ("Posterize", "Solarize"))
    policy = Operations(dataclasses.replace(RECIPE, auto_augment="rand_augment")).transform
    assert (policy.num_ops, policy.magnitude) == (2, 9)


@pytest.mark.parametrize("name", list(rand_augment.OPERATIONS))
def test_each_increasing_operation_is_timms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (31, 44, 3), dtype=np.uint8))
    for magnitude in (0.0, 3.3, 7.0, 9.9, 10.0):
        for sign, coin in ((1, 0.1), (-1, 0.9)):
            monkeypatch.setattr("random.random", lambda coin=coin: coin)
            settings = {"img_mean": BACKGROUND, "interpolation": Image.Resampling.BICUBIC}
            ours = rand_augment.OPERATIONS[name](image, magnitude / 10, sign)
            if name == "PosterizeIncreasing" and magnitude == 10:  # timm asks for 0 bits, which Pillow 13 refuses
                assert not np.asarray(ours).any()
                continue
            theirs = timms.AugmentOp(name, prob=1.0, magnitude=magnitude, hparams=settings)(image)  # type: ignore[no-untyped-call]
            assert np.array_equal(np.asarray(ours), np.asarray(theirs)), (magnitude, sign)


def test_increasing_operations_are_chosen_as_timm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """`rand-m7-mstd0.5-inc1`: two of 15 with repetition, each with probability 1/2, magnitude 7 with deviation 0.5."""
    names = list(rand_augment.OPERATIONS)
    policy = timms.rand_augment_transform("rand-m7-mstd0.5-inc1", {"img_mean": BACKGROUND})
    assert names == [op.name for op in policy.ops]
    (prob,), (magnitude,) = {op.prob for op in policy.ops}, {op.magnitude for op in policy.ops}
    assert policy.num_layers == 2 and policy.ops[0].magnitude_std == rand_augment.NOISE and magnitude == 7
    assert prob == rand_augment.PROBABILITY
    seen: list[tuple[str, float, int]] = []

    def recorder(name: str) -> rand_augment.Operation:
        def record(image: Image.Image, level: float, sign: int) -> Image.Image:
            seen.append((name, level, sign))
            return image

        return record

    monkeypatch.setattr(rand_augment, "OPERATIONS", {name: recorder(name) for name in names})
    torch.manual_seed(0)
    for _ in range(6000):
        RandAugmentIncreasing(2, 7)(Image.new("RGB", (2, 2)))
    levels = np.array([level for _, level, _ in seen])
    assert abs(len(seen) / 12_000 - 0.5) < 0.02 and abs(levels.mean() - 0.7) < 0.003
    assert abs(levels.std() - 0.05) < 0.003 and abs(np.mean([sign for *_, sign in seen])) < 0.05
    counts = [sum(name == other for other, *_ in seen) for name in names]
    assert min(counts) > 320 and max(counts) < 480
    for extreme in (0, 10):
        seen.clear()
        for _ in range(50):
            RandAugmentIncreasing(2, extreme)(Image.new("RGB", (2, 2)))
        assert all(0 <= level <= 1 for _, level, _ in seen)


# ------------------------------------------------------------------------------------------------- colour and erasing


def uniform(count: int, images: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((images, count)))


def test_colour_noise_is_the_papers_formula() -> None:
    draws, sigma = uniform(LIGHTING_DRAWS, 40_000), 0.1
    found = colour_noise(draws, sigma).numpy()
    first, second = draws[:, ::2].numpy(), draws[:, 1::2].numpy()
    alphas = sigma * np.sqrt(-2 * np.log(1 - first)) * np.cos(2 * np.pi * second)
    vectors, values = np.array(EIGENVECTORS), np.array(EIGENVALUES)
    np.testing.assert_allclose(found, (alphas * values) @ vectors.T, rtol=1e-5, atol=1e-7)
    assert np.abs(alphas.mean(0)).max() < 0.002 and np.abs(alphas.std(0) - sigma).max() < 0.002
    assert np.abs(np.corrcoef(alphas.T) - np.eye(3)).max() < 0.02
    assert np.abs(vectors.T @ vectors - np.eye(3)).max() < 1e-3, "the eigenvectors are no columns of length one"
    assert 255 * found.std(0).max() == pytest.approx(0.1 * 0.2175 * 0.5836 * 255, rel=0.02)  # 3.2 levels


def test_colour_noise_is_added_to_pixels_between_0_and_1_before_normalisation(files: ImageFiles) -> None:
    plain = by_index(file_loader(files, FILES))
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in STATISTICS)
    draws = stateless.uniform(LIGHTING_DRAWS, SEED, 0, Stream.LIGHTING, torch.arange(IMAGES))
    noise = colour_noise(draws, 0.5)
    assert len(set(noise[:, 0].tolist())) == IMAGES
    for index, image in by_index(file_loader(files, dataclasses.replace(FILES, lighting=0.5))).items():
        pixels = torch.from_numpy(as_pixels(plain[index])).permute(2, 0, 1) / 255
        torch.testing.assert_close(image, (pixels + noise[index].view(3, 1, 1) - mean) / std)


def test_erased_rectangles_are_set_to_the_mean_and_nothing_else(files: ImageFiles) -> None:
    plain = by_index(file_loader(files, FILES))
    draws = stateless.uniform(ERASING_DRAWS, SEED, 0, Stream.ERASING, torch.arange(IMAGES)).tolist()
    found = by_index(file_loader(files, dataclasses.replace(FILES, erasing=0.5)))
    boxes = {index: erased_box(16, 16, draws[index], 0.5) for index in found}
    assert 0 < sum(box[2] == 0 for box in boxes.values()) < IMAGES
    for index, (top, left, height, width) in boxes.items():
        expected = v2.functional.erase(plain[index], top, left, height, width, torch.zeros(3, 1, 1))
        assert torch.equal(found[index], expected)


def test_erased_rectangles_are_spread_like_torchvisions() -> None:
    count, images = 3000, torch.zeros(3, 40, 60)
    theirs = v2.RandomErasing(p=1.0)
    torch.manual_seed(0)
    drawn = [theirs.make_params([images]) for _ in range(count)]
    expected = np.array([[params[key] for key in "ijhw"] for params in drawn], dtype=float)
    found = np.array([erased_box(40, 60, row, 1.0) for row in uniform(ERASING_DRAWS, count).tolist()], dtype=float)
    for column in range(4):
        assert ks_2samp(found[:, column], expected[:, column]).pvalue > 0.001
    areas = [boxes[:, 2] * boxes[:, 3] for boxes in (found, expected)]
    assert ks_2samp(*areas).pvalue > 0.001
    assert ks_2samp(found[:, 2] / found[:, 3], expected[:, 2] / expected[:, 3]).pvalue > 0.001
    some = [erased_box(40, 60, row, 0.25) for row in uniform(ERASING_DRAWS, count).tolist()]
    assert abs(sum(box[2] > 0 for box in some) / count - 0.25) < 0.03


def test_an_empty_share_of_a_batch_is_no_error() -> None:
    nothing = torch.zeros(0, 3, 8, 8)
    assert erase(nothing, uniform(ERASING_DRAWS, 0), 0.5).shape == nothing.shape
    assert colour_noise(uniform(LIGHTING_DRAWS, 0), 0.1).shape == (0, 3)
    assert distort(nothing.to(torch.uint8), uniform(DISTORTION_DRAWS, 0), [1, 0.1, 0.1, 0.1]).shape == nothing.shape


# ------------------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("size", [(50, 40), (40, 50), (64, 64), (33, 90)])
@pytest.mark.parametrize("decoder", ["pil", "fast"])
def test_scale_jitter_is_torchvisions_resize_and_crop_at_the_size_that_was_drawn(
    size: tuple[int, int], decoder: str
) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    for edge, y, x in uniform(SCALE_DRAWS, 20).tolist():
        shorter = 18 + int(edge * 13)
        whole = v2.functional.resize(image, [shorter], v2.InterpolationMode.BILINEAR, antialias=True)
        top, left = int(y * (whole.height - 16 + 1)), int(x * (whole.width - 16 + 1))
        expected = np.asarray(v2.functional.crop(whole, top, left, 16, 16))
        found = random_scale_crop(np.asarray(image), np.array([edge, y, x]), OF_FILES, [18, 30], decoder)
        assert found.shape == (1, 16, 16, 3)
        difference = np.abs(found[0].astype(int) - expected).max()
        assert difference == 0 if decoder == "pil" else difference <= 1


def test_every_shorter_edge_and_place_of_the_range_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int | None, tuple[int, int]]] = []

    def windows(
        image: npt.NDArray[np.uint8], preprocessing: Preprocessing, corners: list[tuple[int, int]], decoder: str
    ) -> npt.NDArray[np.uint8]:
        seen.append((preprocessing.resize, corners[0]))
        return image

    monkeypatch.setattr("harness.data.images.geometry._windows", windows)
    square = np.zeros((50, 50, 3), np.uint8)
    for draws in uniform(SCALE_DRAWS, 2000).numpy():
        random_scale_crop(square, draws, OF_FILES, [16, 19], "pil")
    edges = [edge for edge, _ in seen]
    assert {edge: edges.count(edge) // 100 for edge in set(edges)}.keys() == {16, 17, 18, 19}
    assert min(edges.count(edge) for edge in range(16, 20)) > 420
    for edge in range(16, 20):
        places = {corner for seen_edge, corner in seen if seen_edge == edge}
        assert len(places) == (edge - 15) ** 2 and max(places) == (edge - 16, edge - 16)


def test_one_edge_twice_is_a_fixed_scale(files: ImageFiles) -> None:
    recipe = dataclasses.replace(FILES, resize_range=[20, 20], flip=False)
    draws = stateless.uniform(SCALE_DRAWS, SEED, 0, Stream.WINDOW, torch.arange(IMAGES)).tolist()
    for index, image in by_index(file_loader(files, recipe)).items():
        whole = v2.functional.resize(Image.open(os.fsdecode(files.path(index))), [20], antialias=True)
        _, y, x = draws[index]
        box = int(y * (whole.height - 15)), int(x * (whole.width - 15)), 16, 16
        assert np.array_equal(as_pixels(image), np.asarray(v2.functional.crop(whole, *box)))


def test_no_distortion_is_the_same_picture() -> None:
    images = in_memory().images
    assert torch.equal(distort(images, uniform(DISTORTION_DRAWS, IMAGES), [0, 0, 0, 0]), images)


@pytest.mark.parametrize(
    "strengths", [(3, 0, 0, 0), (0, 0.3, 0, 0), (0, 0, 0.3, 0), (0, 0, 0, 0.4), (2, 0.2, 0.2, 0.3)]
)
def test_distortion_is_scipys_affine_transform(strengths: tuple[float, ...]) -> None:
    """Forward: squeeze and scale about the middle, after a shear across, then translate."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 2, 12, 15), dtype=torch.uint8, generator=generator)
    draws = uniform(DISTORTION_DRAWS, IMAGES)
    found = distort(images, draws, strengths).numpy().astype(int)
    middle = np.array([(12 - 1) / 2, (15 - 1) / 2])
    for index, (across, down, scale, squeeze, shear) in enumerate((2 * draws - 1).tolist()):
        factor, ratio = 1 + strengths[1] * scale, 1 + strengths[2] * squeeze
        sheared = np.array([[1, 0], [strengths[3] * shear, 1]])  # rows and columns are y and x
        forward = np.diag([factor / ratio, factor * ratio]) @ sheared
        shift = strengths[0] * np.array([down, across])
        back = np.linalg.inv(forward)
        offset = middle - back @ (middle + shift)
        for channel in range(2):
            expected = affine_transform(
                images[index, channel].double().numpy(), back, offset, order=1, mode="grid-constant", cval=0
            )
            assert np.abs(found[index, channel] - expected).max() < 0.51


def test_distortion_comes_before_the_crop_and_its_background_is_black() -> None:
    white = dataclasses.replace(in_memory(), images=torch.full((IMAGES, 3, 10, 10), 255, dtype=torch.uint8))
    black = Normalise(IN_MEMORY, "cpu")(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))[0]
    recipe = dataclasses.replace(RECIPE, distortion=[4.0, 0.0, 0.0, 0.0])
    for image in by_index(memory_loader(white, recipe)).values():
        assert torch.equal(image.amin((1, 2)), black[:, 0, 0])


# ------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "data=folder recipe=torchvision_v1 recipe.resize_range=[256,480]",
            "a random crop has one of them: leave recipe.resize_range out",
        ),
        (
            "data=imagenet model=alexnet recipe=torchvision_v1 recipe.crop_area=[] recipe.crop_aspect=[] "
            "recipe.resize_range=[100,480]",
            "recipe.resize_range=[100,480]: a shorter edge of 100 pixels is too short for the network's input of 224",
        ),
        ("recipe.resize_range=[480,256]", "recipe.resize_range=[480,256]: must rise from the first to the last"),
        ("recipe.distortion=[1,1,0,0]", "the second to the fourth, must be below 1"),
        ("recipe.distortion=[1]", "recipe.distortion=[1.0]: must be 0 or 4 numbers"),
        ("recipe.color_jitter=[0.4,0.4,0.4,0.6]", "the strength of hue, the fourth, must be at most 0.5"),
        ("recipe.auto_augment=rand_augment recipe.color_jitter=[0.4,0.4,0.4]", "choose one of them; auto_augment"),
        (
            "recipe.auto_augment=rand_augment_increasing recipe.rand_augment_magnitude=20",
            "recipe.rand_augment_magnitude=20: must be at most 10 with",
        ),
        ("recipe.rand_augment_ops=3", "need recipe.auto_augment=rand_augment"),
        ("recipe.auto_augment=trivialaugment", "no such choice; the nearest are: trivial_augment_wide"),
        ("data=digits recipe.lighting=0.1", "changes the colours of RGB images, and data=digits has 1 channel"),
        (
            "data=imagenet model=alexnet recipe=torchvision_v1 recipe.distortion=[1,0.1,0.1,0.1]",
            "is for images in memory, and those of data=imagenet are decoded from files",
        ),
        ("recipe.aa=rand_augment", "recipe.aa: no such key; it is called recipe.auto_augment"),
        ("reprob=0.1", "reprob: no such key; it is called recipe.erasing"),
        ("jitter=[0.4]", "jitter: no such key; it is called recipe.color_jitter"),
        ("random_erase=0.1", "random_erase: no such key; it is called recipe.erasing"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(words: str, line: str) -> None:
    said = refused(*words.split())
    assert said is not None and line in said and "\n" not in said


@pytest.mark.parametrize(
    "words",
    [
        "data=imagenet model=alexnet recipe=torchvision_v1 recipe.crop_area=[] recipe.crop_aspect=[] "
        "recipe.resize_range=[256,480] recipe.lighting=0.1",
        "data=digits recipe.distortion=[2,0.1,0.1,0.1] recipe.auto_augment=trivial_augment_wide recipe.erasing=0.1",
    ],
)
def test_what_goes_together_is_taken(words: str) -> None:
    assert refused(*words.split()) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"lighting": 0.1},
        {"erasing": 0.1},
        {"auto_augment": "rand_augment"},
        {"color_jitter": [0.1, 0.1, 0.1]},
        {"distortion": [1.0, 0.0, 0.0, 0.0]},
        {"resize_range": [256, 480]},
    ],
)
def test_a_head_on_features_is_not_trained_with_augmentation(changes: dict[str, Any]) -> None:
    plain = dataclasses.replace(RECIPE, trains="head", crop_padding=None, flip=False)
    with pytest.raises(ValueError, match="computes the features of each image once"):
        dataclasses.replace(plain, **changes)
