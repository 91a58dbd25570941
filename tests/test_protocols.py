"""Protocols that see an image more than once: 150 crops, and whole images at one scale or several."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from in_process import call, only
from PIL import Image
from test_file_loader import eval_loader as crops_loader
from test_published import record
from test_training import ALONE, NOWHERE
from torch import nn
from torchvision import transforms

from harness import build
from harness.comparison.records import Record
from harness.comparison.settings import settings_of
from harness.config.facts import Preprocessing
from harness.config.protocol import ProtocolConfig
from harness.data.images import geometry
from harness.data.images.folder import index_folder
from harness.data.images.image_files import ImageFiles
from harness.data.loading.file_loader import EvalFileLoader
from harness.data.loading.loader import Pictures
from harness.data.loading.picture_loader import PictureLoader
from harness.evaluation.dense import dense_logits, logit_map, side_of_features
from harness.evaluation.evaluator import Evaluator, evaluate
from harness.evaluation.published import published_beside
from harness.run.checkpoint import weights_sha256
from models import build_model
from models.keymaps import to_timm

PREPROCESSING = Preprocessing(3, 16, 18, "bilinear", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
SCALES = [18, 21, 32]
IMAGES, CLASSES = 11, 3


class Small(nn.Module):
    """Layers with the names of VGG and AlexNet; the last feature map of an image of 16x16 pixels is 4x4."""

    def __init__(self, average: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=4, padding=1)
        self.average = nn.AdaptiveAvgPool2d(average)
        self.fc6 = nn.Linear(6 * average**2, 12)
        self.fc7 = nn.Linear(12, 8)
        self.fc8 = nn.Linear(8, CLASSES)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(images))

    def forward_head(self, features: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.fc7(F.relu(self.fc6(self.average(features).flatten(1)))))
        logits: torch.Tensor = self.fc8(x)
        return logits

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


def of_type(kind: str, *arguments: int) -> nn.Module:
    torch.manual_seed(4)
    network = Small(*arguments) if kind == "small" else build_model(kind, num_classes=CLASSES)
    return network.eval()


def close(a: torch.Tensor, b: torch.Tensor, share: float = 1e-5) -> bool:
    """Whether the greatest difference is less than this share of the greatest value."""
    return bool((a - b).abs().max() < share * b.abs().max())


def dense(network: nn.Module, image: torch.Tensor, input_size: int) -> torch.Tensor:
    """Logits (2, K) of an image (C, H, W), upright and mirrored."""
    with torch.inference_mode():
        return dense_logits(network, Pictures([[image]], input_size), channels_last=False)


def by_windows(network: Any, images: torch.Tensor, side: int) -> torch.Tensor:
    """Logits (N, K): the mean over all windows of the last feature map of what the layers after it say of each."""
    with torch.inference_mode():
        features = network.forward_features(images)
        height, width = features.shape[-2:]
        said = [
            network.forward_head(features[..., y : y + side, x : x + side])
            for y in range(height - side + 1)
            for x in range(width - side + 1)
        ]
    return torch.stack(said).mean(0)


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    """Pictures of 11 shapes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    generator = np.random.default_rng(0)
    for number in range(IMAGES):
        folder = tmp_path / "images" / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20 + number, 40 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    index = index_folder(tmp_path / "images")
    return ImageFiles(index, np.arange(IMAGES), torch.from_numpy(index.label).long(), "test")


def normalised(image: Image.Image) -> torch.Tensor:
    preset = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(PREPROCESSING.mean, PREPROCESSING.std)],
    )
    finished: torch.Tensor = preset(image)
    return finished


def opened(split: ImageFiles, index: int) -> Image.Image:
    return Image.open(os.fsdecode(split.path(index)))


def pictures(
    split: ImageFiles, batch_size: int = 4, rank: int = 0, devices: int = 1, workers: int = 0, decoder: str = "pil"
) -> PictureLoader:
    settings: dict[str, Any] = {"batch_size": batch_size, "rank": rank, "devices": devices, "workers": workers}
    return PictureLoader(split, PREPROCESSING, SCALES, decoder=decoder, **settings)


def by_index(*loaders: PictureLoader) -> dict[int, list[torch.Tensor]]:
    found: dict[int, list[torch.Tensor]] = {}
    for loader in loaders:
        for batch in loader:
            assert batch.pictures is not None and batch.pictures.input_size == PREPROCESSING.size
            found |= dict(zip(batch.indices.tolist(), batch.pictures.scaled, strict=True))
    return found


def evaluated(
    split: ImageFiles, network: nn.Module, name: str, scales: Sequence[int], batch_size: int = 4, workers: int = 0
) -> Evaluator:
    trainer, how = build.build_trainer(ALONE, NOWHERE, "32-true", []), ProtocolConfig(name, batch_size, "32-true")
    how.scales = [*scales]
    return evaluate(trainer, network, split, PREPROCESSING, how, decoder="pil", workers=workers)


def probabilities(evaluator: Evaluator) -> torch.Tensor:
    """Of the classes in their order, (N, K)."""
    predictions = evaluator.predictions
    assert predictions is not None
    return torch.zeros(len(predictions.labels), CLASSES).scatter_(1, predictions.classes, predictions.probabilities)


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012", "vgg11", "vgg16", "resnet18"])
def test_converted_layers_say_the_same_of_an_image_of_the_inputs_size(name: str) -> None:
    network, image = of_type(name), torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = network(torch.stack((image, image.flip(-1))))
    assert not close(expected[:1], expected[1:]) and close(dense(network, image, 224), expected)


@pytest.mark.parametrize(
    ("name", "side", "size"),
    [
        ("alexnet", 6, (288, 256)),
        ("alexnet_2012", 6, (256, 320)),
        ("vgg11", 7, (256, 288)),
        ("resnet18", 1, (240, 288)),
    ],
)
def test_at_other_sizes_it_is_the_mean_over_windows_of_the_last_feature_map(
    name: str, side: int, size: tuple[int, int]
) -> None:
    """In a ResNet each window is a position, and their mean is the network itself."""
    network, image = of_type(name), torch.randn(3, *size, generator=torch.Generator().manual_seed(2))
    both = torch.stack((image, image.flip(-1)))
    said = dense(network, image, 224)
    assert close(said, by_windows(network, both, side))
    with torch.inference_mode():
        assert close(said, network(both)) == (name == "resnet18")


@pytest.mark.parametrize(("average", "side"), [(4, 4), (2, 4), (7, 4), (3, 5)])
def test_a_network_for_another_size_keeps_the_average_in_front_of_fc6(average: int, side: int) -> None:
    """Its windows are as large as its own feature map: of 16 or 20 pixels 4x4 or 5x5 positions, averaged to others."""
    network, input_size = of_type("small", average), 4 * side
    assert side_of_features(network, Pictures([[torch.zeros(3, 1, 1)]], input_size)) == side
    for size in ((input_size, input_size), (36, 28)):
        image = torch.randn(3, *size)
        expected = by_windows(network, torch.stack((image, image.flip(-1))), side)
        assert close(dense(network, image, input_size), expected)


def test_these_are_no_crops_of_the_image() -> None:
    """Padding puts zeros around a crop: what the layers say of the window above it is something else."""
    network: Any = of_type("alexnet")
    image = torch.randn(1, 3, 288, 288, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        said = logit_map(network, network.forward_features(image), 6)
        crops = torch.cat([network(image[..., y : y + 224, x : x + 224]) for y in (0, 32, 64) for x in (0, 32, 64)])
    assert said.shape == (1, CLASSES, 3, 3)
    differences = (said[0].flatten(1).T - crops).abs().amax(1) / crops.abs().max()
    assert differences.min() > 0.01


@pytest.mark.parametrize("size", [(224, 224), (288, 320)])
def test_timms_vgg_at_larger_sizes_is_the_dense_one(size: tuple[int, int]) -> None:
    network = build_model("vgg11").eval()
    theirs = timm.create_model("vgg11").eval()
    theirs.load_state_dict(to_timm("vgg11", network.state_dict()))
    image = torch.randn(3, *size)
    with torch.inference_mode():
        expected = theirs(torch.stack((image, image.flip(-1))))
    assert close(dense(network, image, 224), expected)


@pytest.mark.parametrize("decoder", ["pil", "fast"])
def test_whole_images_are_torchvisions_at_every_scale(split: ImageFiles, decoder: str) -> None:
    found = by_index(pictures(split, decoder=decoder))
    assert sorted(found) == list(range(IMAGES))
    for index, scaled in found.items():
        for scale, image in zip(SCALES, scaled, strict=True):
            expected = normalised(transforms.Resize(scale)(opened(split, index)))
            assert min(image.shape[1:]) == scale
            level = 1 / 255 / min(PREPROCESSING.std)
            torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-6 if decoder == "pil" else 1.01 * level)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_share_of_whole_images_depends_on_no_other(split: ImageFiles, workers: int) -> None:
    reference = by_index(pictures(split, batch_size=100))
    for loaders in ([pictures(split, 1, workers=workers)], [pictures(split, 2, rank, 3, workers) for rank in range(3)]):
        assert len({len(loader) for loader in loaders}) == 1
        found = by_index(*loaders)
        assert found.keys() == reference.keys()
        assert all(
            torch.equal(mine, theirs)
            for index, scaled in found.items()
            for mine, theirs in zip(scaled, reference[index], strict=True)
        )


def test_many_crops_are_a_grid_at_each_scale_and_all_mirrored(split: ImageFiles) -> None:
    loader = EvalFileLoader(split, PREPROCESSING, batch_size=2, ten_crop=False, decoder="pil", workers=0, scales=SCALES)
    found = {int(i): views for batch in loader for i, views in zip(batch.indices, batch.images, strict=True)}
    for index in range(IMAGES):
        upright = []
        for scale in SCALES:
            resized = transforms.Resize(scale)(opened(split, index))
            for y in range(5):
                for x in range(5):
                    top, left = round(y * (resized.height - 16) / 4), round(x * (resized.width - 16) / 4)
                    upright.append(resized.crop((left, top, left + 16, top + 16)))
            corner = resized.crop((resized.width - 16, resized.height - 16, resized.width, resized.height))
            assert np.array_equal(np.asarray(upright[-1]), np.asarray(corner))
        mirrored = [view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for view in upright]
        expected = torch.stack([normalised(view) for view in [*upright, *mirrored]])
        assert len(expected) == 150
        torch.testing.assert_close(found[index], expected, rtol=1e-5, atol=1e-6)
    assert next(iter(crops_loader(split))).images.shape[1:] == (3, 16, 16)


@pytest.mark.parametrize(("name", "scales"), [("dense", []), ("dense", [32]), ("multi_scale_dense", SCALES)])
@pytest.mark.parametrize("kind", ["small", "resnet20"])
def test_the_score_is_the_mean_softmax_over_scales_and_mirror_images(
    split: ImageFiles, kind: str, name: str, scales: list[int]
) -> None:
    network = of_type(kind)
    before = weights_sha256(network.state_dict())
    found = probabilities(evaluated(split, network, name, scales))
    for index in range(IMAGES):
        mean = torch.zeros(CLASSES)
        for scale in scales or [18]:
            image = normalised(transforms.Resize(scale)(opened(split, index)))
            both = torch.stack((image, image.flip(-1)))
            mean += by_windows(network, both, 4 if kind == "small" else 1).softmax(1).mean(0) / len(scales or [18])
        assert found[index].tolist() == pytest.approx(mean.tolist(), abs=1e-5)
    assert weights_sha256(network.state_dict()) == before


def test_the_score_of_many_crops_is_the_mean_softmax(split: ImageFiles) -> None:
    network = of_type("small")
    found = probabilities(evaluated(split, network, "multi_crop", SCALES, batch_size=3))
    loader = EvalFileLoader(split, PREPROCESSING, batch_size=1, ten_crop=False, decoder="pil", workers=0, scales=SCALES)
    with torch.inference_mode():
        means = torch.stack([network(batch.images[0]).softmax(1).mean(0) for batch in loader])
    torch.testing.assert_close(found, means, rtol=0, atol=1e-5)


@pytest.mark.parametrize("unread", [(), (3, 0, 10), tuple(range(8))], ids=["all-read", "three-unread", "eight-unread"])
def test_scores_of_whole_images_depend_on_neither_batches_nor_workers(
    split: ImageFiles, unread: tuple[int, ...]
) -> None:
    for index in unread:
        Path(os.fsdecode(split.path(index))).write_bytes(b"text")
    network = of_type("small")
    reference = evaluated(split, network, "multi_scale_dense", SCALES, batch_size=1).predictions
    assert reference is not None
    assert (reference.classes[:, 0] < 0).nonzero()[:, 0].tolist() == sorted(unread)
    for batch_size, workers in ((4, 0), (100, 0), (3, 2)):
        other = evaluated(split, network, "multi_scale_dense", SCALES, batch_size, workers)
        assert other.counts.seen == IMAGES and len(other.unreadable) == len(unread)
        assert other.predictions is not None
        assert torch.equal(other.predictions.probabilities, reference.probabilities)
        assert torch.equal(other.predictions.classes, reference.classes)


def test_a_strip_that_is_too_long_to_be_seen_whole_is_counted_and_told(
    split: ImageFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(os.fsdecode(split.path(2)))
    Image.new("RGB", (400, 10)).save(path)
    monkeypatch.setattr(geometry, "MAX_PIXELS", 20_000)
    evaluator = evaluated(split, of_type("small"), "multi_scale_dense", SCALES)
    assert evaluator.counts.seen == IMAGES
    told = "1280 x 32 pixels at a shorter edge of 32: too long to be seen whole"
    assert [(image, reason) for image, reason in evaluator.unreadable] == [(2, told)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Bright and dark pictures, to train on, for validation and to test."""
    generator = np.random.default_rng(1)
    for part, count in (("train", 8), ("val", 4), ("test", 5)):
        for number in range(count):
            for kind, brightest in (("bright", 256), ("dark", 200)):
                folder = tmp_path / "photos" / part / kind
                folder.mkdir(parents=True, exist_ok=True)
                pixels = generator.integers(0, brightest, (40 + number, 60 - 5 * number, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_is_validated_and_evaluated_by_each_protocol(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    quick = ("trainer=cpu", "trainer.threads=1", "trainer.workers=0", "data.decoder=pil", "recipe.epochs=2")
    words = ("model=resnet20", "data=folder", f"data.root={photos}", "recipe=scratch_small", *quick)
    own = ("protocol=multi_scale_dense", "protocol.scales=[32,36,48]", "recipe.warmup_epochs=0", "recipe.batch_size=4")
    assert call("train.py", *words, *own, f"runs={tmp_path / 'runs'}") == 0
    run = only(only(tmp_path / "runs"))
    trained = json.loads((run / "result.json").read_text())
    assert trained["protocol"]["scales"] == [32, 36, 48] == trained["training"]["validated"]["scales"]
    assert "validation_top1_error" in (run / "metrics.csv").read_text()
    shares = {}
    for name, more in {
        "own": (),
        "fewer": ("protocol.scales=[32,36]",),
        "dense": ("protocol=dense",),
        "multi_crop": ("protocol=multi_crop", "protocol.scales=[32,40]"),
        "center_crop": ("protocol=center_crop",),
    }.items():
        assert call("eval.py", f"run={run}", f"runs={tmp_path / name}", "force=true", *more, *quick[1:3]) == 0
        folder = only(only(tmp_path / name))
        result = json.loads((folder / "result.json").read_text())
        assert result["weights"]["sha256"] == trained["weights"]["sha256"] and result["seen"] == 10
        shares[name] = predictions(folder)
        if name == "own":
            assert (folder / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
        else:
            assert shares[name] != shares["own"]
        scales = {"own": [32, 36, 48], "fewer": [32, 36], "multi_crop": [32, 40]}.get(name, [])
        assert result["protocol"]["scales"] == scales
        protocol = "multi_scale_dense" if name in ("own", "fewer") else name
        said = f" scales={json.dumps(scales, separators=(',', ':'))}" if scales else ""
        assert Record(folder / "result.json", result).protocol == f"{protocol} decoder=pil{said}"
    network = build_model("resnet20", num_classes=2).eval()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt")
    network.load_state_dict({k[8:]: v for k, v in checkpoint["state_dict"].items() if k.startswith("network.")})
    mean, std = trained["preprocessing"]["mean"], trained["preprocessing"]["std"]
    finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    for row in shares["own"]:
        image = Image.open(photos / "test" / "/".join(row["image"].split("/")[-2:]))
        views = [finish(transforms.Resize(scale)(image)) for scale in (32, 36, 48)]
        with torch.inference_mode():
            said_of = [network(view[None]).softmax(1)[0] for view in [*views, *(view.flip(-1) for view in views)]]
        best = torch.stack(said_of).mean(0).max()
        assert float(row["probability_1"]) == pytest.approx(float(best), abs=1e-5)


MISTAKES = [
    (
        ("model=lenet5", "protocol=dense"),
        "protocol=dense: lenet5 takes images of one size, and this protocol sees them whole; the networks of AlexNet, "
        "VGG and ResNet take it: choose protocol=center_crop, ",
    ),
    (("model=mlp", "protocol=multi_scale_dense"), "protocol=multi_scale_dense: mlp takes images of one size"),
    (
        ("model=resnet18", "protocol=multi_crop", "protocol.scales=[200,256]"),
        "protocol.scales=[200,256]: a shorter edge of 200 pixels is too short for the network's input of 224",
    ),
    (
        ("model=resnet18", "protocol=ten_crop", "protocol.scales=[256]"),
        "protocol.scales=[256]: protocol=ten_crop has no scales; leave it out, or choose protocol=multi_scale_dense",
    ),
    (
        ("model=resnet18", "protocol=dense", "protocol.scales=[256,384]"),
        "protocol.scales=[256,384]: protocol=dense sees images at one scale; choose protocol=multi_scale_dense",
    ),
    (
        ("model=resnet18", "protocol=dense", "protocol.compile=true"),
        "protocol.compile=true: protocol=dense sees images",
    ),
    (
        ("model=resnet18", "protocol=multi_scale_dense", "protocol.scales=[384,256]"),
        "protocol.scales=[384,256]: must rise from the first to the last",
    ),
    (("data=digits", "protocol.scales=[256]"), "protocol.scales=[256]: protocol=whole_image has no scales"),
    (
        ("data=digits", "protocol=dense"),
        "protocol=dense does not work with data=digits: it resizes, and these are taken whole; choose "
        "protocol=whole_image",
    ),
]


@pytest.mark.parametrize(("words", "line"), MISTAKES)
def test_what_a_protocol_cannot_do_is_a_line(
    words: tuple[str, ...], line: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = () if words[0] == "data=digits" else ("data=folder", f"data.root={photos}", "recipe=scratch_small")
    assert call("train.py", *data, *words, f"runs={tmp_path / 'runs'}") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"train.py: {line}") and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("model", "protocol", "scales", "resize", "top1"),
    [
        ("vgg11", "dense", [], [256, 256], 29.6),
        ("vgg16", "dense", [], [256, 256], 27.0),
        ("vgg16", "dense", [384], [384, 384], 26.8),
        ("vgg16", "dense", [384], [256, 512], 25.6),
        ("vgg16", "multi_scale_dense", [224, 256, 288], [256, 256], 26.6),
        ("vgg16", "multi_scale_dense", [256, 384, 512], [256, 512], 24.8),
        ("vgg19", "multi_crop", [256, 384, 512], [256, 512], 24.6),
        ("resnet50_2015", "multi_scale_dense", [224, 256, 384, 480, 640], [256, 480], 20.74),
    ],
)
def test_published_errors_of_these_protocols_are_comparable(
    model: str, protocol: str, scales: list[int], resize: list[int], top1: float
) -> None:
    def beside(scales: list[int], resize: list[int], **changes: Any) -> dict[str, Any]:
        settings = {"protocol": {"name": protocol, "scales": scales}, "recipe": {"resize_range": resize}, **changes}
        protocol_of = settings.pop("protocol")
        found = published_beside({**record(model, "imagenet", 100, **settings), "protocol": protocol_of})
        assert found is not None
        return found

    found = beside(scales, resize)
    assert (found["top1_error"], found["why"]) == (top1, None)
    assert "it was measured by another protocol" in beside([257], resize)["why"]
    size = {"preprocessing": {"size": 128, "resize": 256}}
    assert "it was measured by another protocol" in beside(scales, resize, **size)["why"]
    if model.startswith("vgg"):
        assert "it was trained on images whose shorter edge was resized to" in beside(scales, [100, 100])["why"]


@pytest.mark.parametrize(("resize", "comparable"), [([256, 256], False), ([384, 384], True), ([256, 512], True)])
def test_a_training_may_begin_where_the_papers_began(resize: list[int], comparable: bool) -> None:
    """At S = 384 and with scale jitter VGG began with weights of another training."""
    scales = {256: [256], 384: [384], 512: [384]}[resize[1]]
    content = record("vgg16", "imagenet", 100, recipe={"resize_range": resize}, pretrained={"name": "last.ckpt"})
    found = published_beside({**content, "protocol": {"name": "dense", "scales": scales}})
    assert found is not None and (found["why"] is None) == comparable
    assert comparable or found["why"] == "this training began with the weights of another one"


def test_a_record_without_scales_is_the_row_of_one_with_none() -> None:
    protocol = {"name": "center_crop", "batch_size": 64, "precision": "32-true", "channels_last": True}
    recipe = {"name": "modern", "patience": 3, "epochs": 5}
    content = {
        **record("resnet18", "imagenet", 100),
        "version": 5,
        "model": {"name": "resnet18", "options": {}, "parameters": 1},
        "protocol": protocol,
        "training": {"recipe": recipe, "epochs": 5, "validated": protocol},
        "trained_on": "imagenet",
        "weights": {"file": "last.ckpt"},
    }
    new = {**protocol, "compile": False, "scales": []}
    newer = {**content, "protocol": new, "training": {"recipe": recipe, "epochs": 5, "validated": new}}
    assert settings_of(content).key == settings_of(newer).key
    other = {**newer, "training": {"recipe": recipe, "epochs": 5, "validated": {**new, "scales": [256]}}}
    assert settings_of(other).key != settings_of(newer).key


def test_half_of_the_views_are_mirror_images() -> None:
    """A network that sees the left half alone says of a picture and its mirror image the same under `dense`."""
    network, image = of_type("small"), torch.randn(3, 24, 32)
    said, turned = dense(network, image, 16), dense(network, image.flip(-1), 16)
    assert torch.equal(said, turned.flip(0)) and not torch.equal(said[0], said[1])
    assert math.isfinite(float(said.sum()))
