"""Training at sizes of its own: what each epoch crops, what an evaluation does, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_file_loader import PREPROCESSING, RECIPE, same
from test_finetune import Run, Small
from test_resume_in_process import assert_equal
from test_settings import refused

from harness.config.compose import compose
from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.config.recipe import RecipeConfig
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.loading.file_loader import TrainFileLoader
from harness.run.checkpoint import LAST, read_checkpoint
from models.resnet_cifar import CifarResNet

RAMP = {"train_size": [32, 96], "size_ramp": [0, 2]}
CENTRE = ProtocolConfig("center_crop", 7, "32-true")


def with_changes(**changes: object) -> RecipeConfig:
    return RecipeConfig(**{**vars(RECIPE), **changes})


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    """19 pictures of random pixels in three classes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    for number in range(19):
        folder = tmp_path / "images" / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    index = index_folder(tmp_path / "images")
    return ImageFiles(index, np.arange(19), torch.from_numpy(index.label).long(), "test")


def loader(
    split: ImageFiles, recipe: RecipeConfig, step: int, size: int = PREPROCESSING.size, **options: int
) -> TrainFileLoader:
    preprocessing = Preprocessing(3, size, size + 2, "bilinear", PREPROCESSING.mean, PREPROCESSING.std)
    options = {"workers": 0, **options}
    return TrainFileLoader(split, preprocessing, recipe, decoder="fast", seed=5, position=lambda: step, **options)  # type: ignore[arg-type]


def pixels(batches: TrainFileLoader) -> dict[int, torch.Tensor]:
    return {int(index): image for batch in batches for index, image in zip(batch.indices, batch.images, strict=True)}


@pytest.mark.parametrize(("epochs", "ramp"), [(16, (11, 13)), (24, (17, 20)), (88, (65, 76)), (40, (1, 39))])
def test_the_size_of_every_epoch_is_ffcvs(epochs: int, ramp: tuple[int, int]) -> None:
    """[ffcv-imagenet, train_imagenet.py, get_resolution]."""
    recipe = with_changes(epochs=epochs, train_size=[160, 192], size_ramp=list(ramp))
    for epoch in range(epochs):
        expected = 160 if epoch <= ramp[0] else 192
        if ramp[0] < epoch < ramp[1]:
            expected = int(np.round(np.interp([epoch], ramp, [160, 192])[0] / 32)) * 32
        assert recipe.size_at(epoch, 224) == expected


def test_sizes_that_are_no_multiples_of_32_bound_the_ramp() -> None:
    recipe = with_changes(epochs=9, train_size=[100, 150], size_ramp=[0, 8])
    assert [recipe.size_at(epoch, 224) for epoch in range(9)] == [100, 100, *[128] * 6, 150]
    assert [with_changes(train_size=[176]).size_at(epoch, 224) for epoch in (0, 5)] == [176, 176]
    assert with_changes().size_at(3, 224) == 224


@pytest.mark.parametrize("changes", [{}, {"crop_area": [], "crop_aspect": [], "resize_range": [96, 100]}], ids=str)
def test_an_epoch_has_the_crops_of_a_network_of_its_size(changes: dict[str, object], split: ImageFiles) -> None:
    """For any number of workers and devices, and from the middle of an epoch on."""
    recipe = with_changes(epochs=3, auto_augment="trivial_augment_wide", erasing=0.5, **changes, **RAMP)
    plain = with_changes(epochs=3, auto_augment="trivial_augment_wide", erasing=0.5, **changes)
    for epoch, size in enumerate((32, 64, 96)):
        found = pixels(loader(split, recipe, 3 * epoch))
        assert len(found) == 19 and {image.shape for image in found.values()} == {(3, size, size)}
        assert same(found, pixels(loader(split, plain, 3 * epoch, size)))
        shares = [pixels(loader(split, recipe, 3 * epoch, rank=rank, devices=2, workers=rank)) for rank in range(2)]
        assert same(found, {**shares[0], **shares[1]})
        late = pixels(loader(split, recipe, 3 * epoch + 1))
        assert len(late) == 11 and same(late, {index: found[index] for index in late})


class Seeing(Small):
    """Remembers the sides of the images that it was trained on and evaluated on."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(3)
        self.sides: dict[bool, list[int]] = {True: [], False: []}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sides[self.training].append(x.shape[-1])
        return super().forward(x)


def test_validation_and_checkpoint_have_the_networks_own_size(split: ImageFiles, tmp_path: Path) -> None:
    preprocessing = Preprocessing(3, 100, 110, "bilinear", PREPROCESSING.mean, PREPROCESSING.std)
    settings = with_changes(epochs=3, mixup=0.2, cutmix=1.0, **RAMP)
    network = Seeing()
    run = Run(
        tmp_path / "run",
        settings,
        train=split,
        validation=split.subset(np.arange(7)),
        preprocessing=preprocessing,
        protocol=CENTRE,
        network=network,
    )
    assert network.sides == {True: [32] * 3 + [64] * 3 + [96] * 3, False: [100] * 3}
    saved = read_checkpoint(run.folder / "checkpoints" / LAST).trained
    assert saved.preprocessing == preprocessing and saved.training is not None


@pytest.mark.slow
def test_a_run_with_all_of_it_goes_on_bit_for_bit(split: ImageFiles, tmp_path: Path) -> None:
    """Sizes by epoch, repeats, skipped layers, mixing, random operations: cut off in the middle of two epochs."""
    settings = with_changes(
        epochs=2,
        train_size=[16, 24],
        size_ramp=[0, 1],
        repeats=2,
        stochastic_depth=0.5,
        mixup=0.2,
        cutmix=1.0,
        auto_augment="trivial_augment_wide",
        learning_rate=0.01,
    )
    preprocessing = Preprocessing(3, 24, 26, "bilinear", PREPROCESSING.mean, PREPROCESSING.std)

    def run(name: str, cut: int | None = None) -> Run:
        torch.manual_seed(1)
        given = {"train": split, "validation": split.subset(np.arange(7)), "network": CifarResNet(8, num_classes=3)}
        return Run(tmp_path / name, settings, preprocessing=preprocessing, protocol=CENTRE, cut_at=cut, **given)  # type: ignore[arg-type]

    run("cut", 2)
    run("cut", 4)
    assert_equal(run("cut"), run("whole"))


def test_the_ramp_goes_with_the_epochs() -> None:
    words = ["data=imagenet", "model=resnet18", "recipe=fast"]
    assert compose("train", words).recipe.size_ramp == [11, 13]
    assert compose("train", [*words, "recipe.epochs=88"]).recipe.size_ramp == [60.5, 71.5]
    assert compose("train", [*words, "recipe.epochs=88", "recipe.size_ramp=[65,76]"]).recipe.size_ramp == [65, 76]
    assert compose("train", [*words, "recipe.epochs=1"]).recipe.size_at(0, 224) == 160


V1 = "data=imagenet recipe=torchvision_v1"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (f"{V1} model=resnet18 recipe.train_size=[256]", "larger than the network's input of 224 pixels"),
        (f"{V1} model=resnet18 recipe.train_size=[16]", "needs images of at least 32 pixels a side, not 16"),
        (f"{V1} model=alexnet recipe.train_size=[32]", "alexnet needs images of at least 63 pixels a side, not 32"),
        (f"{V1} model=mlp recipe.train_size=[176]", "mlp has weights for 224 x 224 pixels, and takes no others"),
        (f"{V1} model=lenet5 data.image_size=32 recipe.train_size=[28]", "lenet5 takes images of 32 x 32 pixels"),
        (f"{V1} model=resnet18 recipe.train_size=[160,192]", "two sizes need the two epochs between which the first"),
        (f"{V1} model=resnet18 recipe.size_ramp=[1,2]", "two sizes need the two epochs between which the first"),
        (f"{V1} model=resnet18 recipe.train_size=[192,160] recipe.size_ramp=[1,2]", "must rise from the first"),
        ("data=digits recipe.train_size=[28]", "is for random crops of images in files, and this recipe has none"),
        (
            "data=digits recipe=torchvision_v1 recipe.crop_padding=2 recipe.train_size=[28]",
            "is for images in files, and those of data=digits are in memory",
        ),
        (
            f"{V1} model=resnet18 recipe.crop_area=[] recipe.crop_aspect=[] recipe.resize_range=[150,300] "
            "recipe.train_size=[176]",
            "a shorter edge of 150 pixels is too short for the random crop of 176",
        ),
        ("recipe.train_crop_size=176", "it is called recipe.train_size"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(words: str, line: str) -> None:
    said = refused(*words.split())
    assert said is not None and line in said and "\n" not in said


@pytest.mark.parametrize(
    "words",
    [
        f"{V1} model=alexnet recipe.train_size=[160]",
        f"{V1} model=vgg16 recipe.train_size=[32,224] recipe.size_ramp=[10,80]",
        f"{V1} model=resnet18 recipe.crop_area=[] recipe.crop_aspect=[] recipe.resize_range=[180,300] "
        "recipe.train_size=[176]",
    ],
)
def test_what_fits_is_taken(words: str) -> None:
    assert refused(*words.split()) is None
