"""What is known of every network without building it: plain data, importable without torch.

The numbers are those of the network that `build_model(name)` gives, at `input_size`, and tests count them.
Multiply-adds are those of the convolutions and fully connected layers alone, without biases, pooling and normalisation.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

# fmt: off
Name = Literal[  # for editors, which complete it; `MODELS` decides
    "mlp", "lenet1", "lenet4", "lenet5_1998", "lenet5", "alexnet_2012", "alexnet",
    "vgg11", "vgg11_lrn", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16_c", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    "plain18", "plain34", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnet50_2015", "resnet101_2015", "resnet152_2015",
    "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet1202",
    "plain20", "plain32", "plain44", "plain56", "preact_resnet110", "preact_resnet164", "preact_resnet1001",
]
# fmt: on


@dataclass(frozen=True)
class Published:
    """An error rate that somebody published.

    Attributes:
        data: data set and split, such as `ImageNet val`.
        protocol: how it was measured, such as `10-crop`.
        top1_error: percent; None where the source does not give it.
        top5_error: percent; None where the source does not give it.
        source: paper and table.
        options: options of our network that make it theirs, by name; others of its options may have any value.
        distorted: whether distorted training images were added.
        other: why a result of ours cannot be compared with it, whatever the protocol; empty if it can.
        note: how our network differs from theirs; empty if it does not.
        recipe: name in `configs/recipe/` of the recipe that the network was trained by, where the error is the recipe's
            as much as the network's; empty otherwise.
        resized: the smallest and largest shorter edge of the training images in pixels, where the source has an error
            for each; None otherwise.
        continued: whether their training began with the weights of another one.
    """

    data: str
    protocol: str
    top1_error: float | None
    top5_error: float | None
    source: str
    options: tuple[tuple[str, object], ...] = ()
    distorted: bool = False
    other: str = ""
    note: str = ""
    recipe: str = ""
    resized: tuple[int, int] | None = None
    continued: bool = False


@dataclass(frozen=True)
class Released:
    """Weights of ours: a safetensors file, with a card beside it in `models/weights/`.

    Attributes:
        model: name of the network.
        name: name of the weights, after their data: `MNIST`.
        file: name of the file.
        sha256: SHA-256 of the file.
        network: SHA-256 over its tensors: a file that is made again from the run has it, whatever else it says.
        bytes: size of the file.
        data: name of the data in `configs/data/`.
        shipped: whether the file comes with the program; a larger one has to be put into `models/weights/`.
    """

    model: str
    name: str
    file: str
    sha256: str
    network: str
    bytes: int
    data: str
    shipped: bool = True


WEIGHTS = Path(__file__).parent / "weights"
RELEASED_FILE = "released.json"  # `tools/release.py` writes it
RELEASED = tuple(Released(**row) for row in json.loads((WEIGHTS / RELEASED_FILE).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Entry:
    """One network of the zoo.

    Attributes:
        name: its name everywhere: in configs, records, and the function in `models/<family>.py` that builds it.
        family: the file that defines it, without `.py`.
        title: what it is, in a few words.
        paper: authors, title and venue.
        year: of the paper.
        parameters: trainable numbers.
        multiply_adds: of one image of `input_size`.
        num_features: channels of what the network's `forward_features` gives.
        classifier: name of the layer that gives the logits, and prefix of its keys in the state_dict.
        input_size: side of the square images in pixels that the paper feeds it.
        min_size: the smallest side in pixels that it accepts.
        max_size: the largest side; None where there is no limit.
        in_channels: channels of an image in the paper.
        num_classes: classes in the paper.
        fixed_classes: whether `num_classes` is part of the definition.
        published: error rates with their protocol.
        weights: names of torchvision's pretrained weights.
    """

    name: str
    family: str
    title: str
    paper: str
    year: int
    parameters: int
    multiply_adds: int
    num_features: int
    classifier: str
    input_size: int
    min_size: int
    max_size: int | None
    in_channels: int
    num_classes: int
    fixed_classes: bool = False
    published: tuple[Published, ...] = ()
    weights: tuple[str, ...] = ()

    @staticmethod
    def named(name: str) -> Entry:
        """The entry called `name`; `ValueError` with the nearest names if there is none."""
        if name not in MODELS:
            near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.4) or sorted(MODELS)
            raise ValueError(f"no model is called {name!r}; did you mean {', '.join(near)}?")
        return MODELS[name]

    @property
    def released(self) -> tuple[Released, ...]:
        """Weights of ours for this network."""
        return tuple(row for row in RELEASED if row.model == self.name)

    def takes(self, image_size: int) -> bool:
        """Return whether the network can take square images of this side, in pixels."""
        return self.min_size <= image_size and (self.max_size is None or image_size <= self.max_size)

    def check_input(self, image_size: int) -> None:
        """Raise `ValueError` if the network cannot take square images of this side, in pixels."""
        if self.min_size == self.max_size and image_size != self.min_size:
            raise ValueError(f"{self.name} takes images of {self.min_size} x {self.min_size} pixels, not {image_size}")
        if image_size < self.min_size:
            raise ValueError(f"{self.name} needs images of at least {self.min_size} pixels a side, not {image_size}")
        if self.max_size is not None and image_size > self.max_size:
            raise ValueError(f"{self.name} takes images of at most {self.max_size} pixels a side, not {image_size}")


_LECUN_1998 = "LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, Proc. IEEE"
_KRIZHEVSKY_2012 = (
    "Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS"
)
_KRIZHEVSKY_2014 = "Krizhevsky: One weird trick for parallelizing convolutional neural networks, arXiv 1404.5997"
_SIMONYAN_2014 = (
    "Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556"
)
_HE_2015 = "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, arXiv 1512.03385"
_HE_2016 = "He, Zhang, Ren, Sun: Identity Mappings in Deep Residual Networks, arXiv 1603.05027"


def _mnist(top1_error: float, row: str, *, distorted: bool = False, other: str = "", note: str = "") -> Published:
    source = f"LeCun 1998, Fig. 9: {row}"
    return Published("MNIST test", "whole image", top1_error, None, source, (), distorted, other, note)


def _fully_connected(top1_error: float, distorted: float, *hidden: int) -> tuple[Published, Published]:
    """A network of these hidden units; trained on MNIST, and with distorted digits as well."""
    row, note = "-".join(map(str, ("28x28", *hidden, 10))), "theirs has units with tanh, ours with ReLU"
    plain = _mnist(top1_error, row, note=note)
    more = _mnist(distorted, f"[dist] {row}", distorted=True, note=note)
    options = (("hidden", hidden),)
    return replace(plain, options=options), replace(more, options=options)


def _torchvision(top1_error: float, top5_error: float, weights: str = "IMAGENET1K_V1", resized: int = 256) -> Published:
    recipe = {"IMAGENET1K_V1": "torchvision_v1", "IMAGENET1K_V2": "torchvision_v2"}[weights]
    source = f"torchvision {weights}, metadata"
    return Published("ImageNet val", f"center crop 224 of {resized}", top1_error, top5_error, source, recipe=recipe)


def _strikes_back(name: str, top1_error: float, top5_error: float) -> Published:
    source, recipe = f"timm results-imagenet.csv, resnet50.{name}_in1k", f"strikes_back_{name}"
    return Published("ImageNet val", "center crop 224 of 235", top1_error, top5_error, source, recipe=recipe)


def _dense(top1_error: float, top5_error: float, train: str, test: str) -> Published:
    """A row of Simonyan 2014: of Table 3 with one test scale, of Table 4 with several."""
    table, scale = ("Table 4", "scales") if "," in test else ("Table 3", "scale")
    source = f"Simonyan 2014, {table}, trained at {train}"
    protocol, edges = f"dense with flips, {scale} {test}", [int(edge) for edge in train.split(" to ")]
    resized, continued = (edges[0], edges[-1]), train != "256"
    return Published("ImageNet val", protocol, top1_error, top5_error, source, resized=resized, continued=continued)


def _crops(top1_error: float, top5_error: float, dense: str = "") -> Published:
    """A row of Simonyan 2014, Table 5, whose networks were trained with scale jitter."""
    protocol, source = f"50 crops, scales 256, 384, 512{dense}", "Simonyan 2014, Table 5, trained at 256 to 512"
    return Published("ImageNet val", protocol, top1_error, top5_error, source, resized=(256, 512), continued=True)


def _he(
    top1_error: float, top5_error: float | None, protocol: str, source: str, shortcut: str | None = None
) -> Published:
    options: tuple[tuple[str, object], ...] = (("shortcut", shortcut),) if shortcut else ()
    option = f", option {shortcut}" if shortcut else ""
    return Published("ImageNet val", protocol, top1_error, top5_error, f"{source}{option}", options)


def _fb_torch(one_crop: tuple[float, float], ten_crop: tuple[float, float]) -> tuple[Published, Published]:
    """Errors (top-1, top-5) of fb.resnet.torch, whose form of the blocks torchvision uses, too."""
    return (
        Published("ImageNet val", "1-crop", *one_crop, "fb.resnet.torch, README"),
        Published("ImageNet val", "10-crop", *ten_crop, "fb.resnet.torch, README"),
    )


def _cifar(top1_error: float, source: str, data: str = "CIFAR-10 test") -> Published:
    return Published(data, "whole image", top1_error, None, source)


_mlp = partial(Entry, family="mlp", paper=_LECUN_1998, year=1998, in_channels=1, num_classes=10)
_lenet = partial(
    Entry, family="lenet", paper=_LECUN_1998, year=1998, in_channels=1, num_classes=10, classifier="output"
)
_alexnet = partial(
    Entry,
    family="alexnet",
    num_features=256,
    classifier="fc8",
    input_size=224,
    max_size=None,
    in_channels=3,
    num_classes=1000,
)
_vgg = partial(
    Entry,
    family="vgg",
    paper=_SIMONYAN_2014,
    year=2014,
    num_features=512,
    classifier="fc8",
    input_size=224,
    min_size=32,
    max_size=None,
    in_channels=3,
    num_classes=1000,
)
_resnet = partial(
    Entry,
    family="resnet",
    paper=_HE_2015,
    year=2015,
    classifier="fc",
    input_size=224,
    min_size=32,
    max_size=None,
    in_channels=3,
    num_classes=1000,
)
_resnet_cifar = partial(
    Entry,
    family="resnet_cifar",
    classifier="fc",
    input_size=32,
    min_size=4,
    max_size=None,
    in_channels=3,
    num_classes=10,
)
# Depth: parameters where the shortcuts have none, and multiply-adds.
_CIFAR_COUNTS = {
    20: (269_722, 40_551_040),
    32: (464_154, 68_862_592),
    44: (658_586, 97_174_144),
    56: (853_018, 125_485_696),
    110: (1_727_962, 252_887_680),
    1202: (19_421_274, 2_829_238_912),
}


def _he_cifar(depth: int, *published: Published, plain: bool = False) -> Entry:
    parameters, multiply_adds = _CIFAR_COUNTS[depth]
    return _resnet_cifar(
        name=f"plain{depth}" if plain else f"resnet{depth}",
        title=f"{depth} layers for 32x32 without shortcuts" if plain else f"ResNet-{depth} for 32x32, option A",
        paper=_HE_2015,
        year=2015,
        parameters=parameters,
        multiply_adds=multiply_adds,
        num_features=64,
        published=published,
    )


_ENTRIES = (
    _mlp(
        name="mlp",
        title="fully connected baseline, 784-300-10 unless told otherwise",
        parameters=238_510,
        multiply_adds=238_200,
        num_features=300,
        classifier="fc2",
        input_size=28,
        min_size=1,
        max_size=None,
        published=(
            *_fully_connected(4.7, 3.6, 300),
            *_fully_connected(4.5, 3.8, 1000),
            *_fully_connected(3.05, 2.5, 300, 100),
            *_fully_connected(2.95, 2.45, 500, 150),
        ),
    ),
    _lenet(
        name="lenet1",
        title="LeNet-1 in its form of 1989 (NIPS 2): connection table, trainable sub-sampling",
        parameters=2_578,
        multiply_adds=91_520,
        num_features=12,
        input_size=28,
        min_size=28,
        max_size=28,
        published=(_mnist(1.7, "LeNet-1 on digits reduced to 16x16", other="its digits were reduced to 16x16"),),
    ),
    _lenet(
        name="lenet4",
        title="LeNet-4 as far as it was published; C3's connection table is ours",
        parameters=50_698,
        multiply_adds=247_600,
        num_features=16,
        input_size=32,
        min_size=32,
        max_size=32,
        published=(_mnist(1.1, "LeNet-4", note="its connections from S2 to C3 were not published"),),
    ),
    _lenet(
        name="lenet5_1998",
        title="LeNet-5 of the paper: C3's connection table, trainable sub-sampling, radial basis output",
        parameters=60_000,
        multiply_adds=326_520,
        num_features=120,
        input_size=32,
        min_size=32,
        max_size=32,
        fixed_classes=True,
        published=(_mnist(0.95, "LeNet-5"), _mnist(0.8, "[dist] LeNet-5", distorted=True)),
    ),
    _lenet(
        name="lenet5",
        title="LeNet-5 as it is taught today: full C3, average pooling, softmax",
        parameters=61_706,
        multiply_adds=416_520,
        num_features=120,
        input_size=32,
        min_size=32,
        max_size=32,
        published=(
            _mnist(0.95, "LeNet-5", other="it is the paper's network, and this is the one that is taught today"),
            _mnist(
                0.8, "[dist] LeNet-5", distorted=True, other="it is the paper's network, and this is the one of today"
            ),
        ),
    ),
    _alexnet(
        name="alexnet_2012",
        title="AlexNet of the paper: two groups, response normalisation",
        paper=_KRIZHEVSKY_2012,
        year=2012,
        parameters=60_965_224,
        multiply_adds=724_406_816,
        min_size=64,
        published=(
            Published("ImageNet val", "10-crop", 40.7, 18.2, "Krizhevsky 2012, Table 2: 1 CNN"),
            Published("ILSVRC-2010 test", "10-crop", 37.5, 17.0, "Krizhevsky 2012, Table 1"),
            Published("ILSVRC-2010 test", "center crop", 39.0, 18.3, "Krizhevsky 2012, footnote 5"),
        ),
    ),
    _alexnet(
        name="alexnet",
        title="AlexNet on one tower, as in the ecosystem's weights",
        paper=_KRIZHEVSKY_2014,
        year=2014,
        parameters=61_100_840,
        multiply_adds=714_188_480,
        min_size=63,
        published=(_torchvision(43.478, 20.934),),
        weights=("IMAGENET1K_V1",),
    ),
    _vgg(
        name="vgg11",
        title="configuration A",
        parameters=132_863_336,
        multiply_adds=7_609_090_048,
        published=(_dense(29.6, 10.4, "256", "256"), _torchvision(30.980, 11.372)),
        weights=("IMAGENET1K_V1",),
    ),
    _vgg(
        name="vgg11_lrn",
        title="configuration A-LRN: response normalisation after conv1_1",
        parameters=132_863_336,
        multiply_adds=7_609_090_048,
        published=(_dense(29.7, 10.5, "256", "256"),),
    ),
    _vgg(
        name="vgg11_bn",
        title="configuration A with batch normalisation",
        parameters=132_868_840,
        multiply_adds=7_609_090_048,
        published=(_torchvision(29.630, 10.190),),
        weights=("IMAGENET1K_V1",),
    ),
    _vgg(
        name="vgg13",
        title="configuration B",
        parameters=133_047_848,
        multiply_adds=11_308_466_176,
        published=(
            _dense(28.7, 9.9, "256", "256"),
            _dense(28.2, 9.6, "256", "224, 256, 288"),
            _torchvision(30.072, 10.754),
        ),
        weights=("IMAGENET1K_V1",),
    ),
    _vgg(
        name="vgg13_bn",
        title="configuration B with batch normalisation",
        parameters=133_053_736,
        multiply_adds=11_308_466_176,
        published=(_torchvision(28.414, 9.626),),
        weights=("IMAGENET1K_V1",),
    ),
    _vgg(
        name="vgg16_c",
        title="configuration C: the last convolution of stages 3 to 5 is 1x1",
        parameters=133_638_952,
        multiply_adds=11_770_888_192,
        published=(
            _dense(28.1, 9.4, "256", "256"),
            _dense(28.1, 9.3, "384", "384"),
            _dense(27.3, 8.8, "256 to 512", "384"),
            _dense(27.7, 9.2, "256", "224, 256, 288"),
            _dense(27.8, 9.2, "384", "352, 384, 416"),
            _dense(26.3, 8.2, "256 to 512", "256, 384, 512"),
        ),
    ),
    _vgg(
        name="vgg16",
        title="configuration D",
        parameters=138_357_544,
        multiply_adds=15_470_264_320,
        published=(
            _dense(27.0, 8.8, "256", "256"),
            _dense(26.8, 8.7, "384", "384"),
            _dense(25.6, 8.1, "256 to 512", "384"),
            _dense(26.6, 8.6, "256", "224, 256, 288"),
            _dense(26.5, 8.6, "384", "352, 384, 416"),
            _dense(24.8, 7.5, "256 to 512", "256, 384, 512"),
            _crops(24.6, 7.5),
            _crops(24.4, 7.2, dense=", and dense"),
            _torchvision(28.408, 9.618),
        ),
        weights=("IMAGENET1K_V1", "IMAGENET1K_FEATURES"),
    ),
    _vgg(
        name="vgg16_bn",
        title="configuration D with batch normalisation",
        parameters=138_365_992,
        multiply_adds=15_470_264_320,
        published=(_torchvision(26.640, 8.484),),
        weights=("IMAGENET1K_V1",),
    ),
    _vgg(
        name="vgg19",
        title="configuration E",
        parameters=143_667_240,
        multiply_adds=19_632_062_464,
        published=(
            _dense(27.3, 9.0, "256", "256"),
            _dense(26.9, 8.7, "384", "384"),
            _dense(25.5, 8.0, "256 to 512", "384"),
            _dense(26.9, 8.7, "256", "224, 256, 288"),
            _dense(26.7, 8.6, "384", "352, 384, 416"),
            _dense(24.8, 7.5, "256 to 512", "256, 384, 512"),
            _crops(24.6, 7.4),
            _crops(24.4, 7.1, dense=", and dense"),
            _torchvision(27.624, 9.124),
        ),
        weights=("IMAGENET1K_V1",),
    ),
    _vgg(
        name="vgg19_bn",
        title="configuration E with batch normalisation",
        parameters=143_678_248,
        multiply_adds=19_632_062_464,
        published=(_torchvision(25.782, 8.158),),
        weights=("IMAGENET1K_V1",),
    ),
    _resnet(
        name="plain18",
        title="18 layers without shortcuts",
        parameters=11_515_688,
        multiply_adds=1_794_805_760,
        num_features=512,
        published=(_he(27.94, None, "10-crop", "He 2015, Table 2"),),
    ),
    _resnet(
        name="plain34",
        title="34 layers without shortcuts",
        parameters=21_623_848,
        multiply_adds=3_644_493_824,
        num_features=512,
        published=(_he(28.54, 10.02, "10-crop", "He 2015, Table 3"),),
    ),
    _resnet(
        name="resnet18",
        title="ResNet-18, option B",
        parameters=11_689_512,
        multiply_adds=1_814_073_344,
        num_features=512,
        published=(
            _he(27.88, None, "10-crop", "He 2015, Table 2", shortcut="A"),
            *_fb_torch((30.43, 10.76), (28.22, 9.42)),
            _torchvision(30.242, 10.922),
        ),
        weights=("IMAGENET1K_V1",),
    ),
    _resnet(
        name="resnet34",
        title="ResNet-34, option B",
        parameters=21_797_672,
        multiply_adds=3_663_761_408,
        num_features=512,
        published=(
            _he(24.52, 7.46, "10-crop", "He 2015, Table 3", shortcut="B"),
            _he(25.03, 7.76, "10-crop", "He 2015, Table 3", shortcut="A"),
            _he(24.19, 7.40, "10-crop", "He 2015, Table 3", shortcut="C"),
            _he(21.84, 5.71, "fully convolutional, scales 224, 256, 384, 480, 640", "He 2015, Table 4", shortcut="B"),
            _he(21.53, 5.60, "fully convolutional, scales 224, 256, 384, 480, 640", "He 2015, Table 4", shortcut="C"),
            *_fb_torch((26.73, 8.74), (24.76, 7.35)),
            _torchvision(26.686, 8.580),
        ),
        weights=("IMAGENET1K_V1",),
    ),
    _resnet(
        name="resnet50",
        title="ResNet-50 v1.5: stride on the 3x3",
        parameters=25_557_032,
        multiply_adds=4_089_184_256,
        num_features=2048,
        published=(
            *_fb_torch((24.01, 7.02), (22.24, 6.08)),
            _torchvision(23.870, 7.138),
            _torchvision(19.142, 4.566, "IMAGENET1K_V2", 232),
            _strikes_back("a1", 19.618, 5.402),
            _strikes_back("a2", 20.172, 5.440),
            _strikes_back("a3", 21.948, 6.220),
        ),
        weights=("IMAGENET1K_V1", "IMAGENET1K_V2"),
    ),
    _resnet(
        name="resnet101",
        title="ResNet-101 v1.5: stride on the 3x3",
        parameters=44_549_160,
        multiply_adds=7_801_405_440,
        num_features=2048,
        published=(
            *_fb_torch((22.44, 6.21), (21.08, 5.35)),
            _torchvision(22.626, 6.454),
            _torchvision(18.114, 4.220, "IMAGENET1K_V2", 232),
        ),
        weights=("IMAGENET1K_V1", "IMAGENET1K_V2"),
    ),
    _resnet(
        name="resnet152",
        title="ResNet-152 v1.5: stride on the 3x3",
        parameters=60_192_808,
        multiply_adds=11_513_626_624,
        num_features=2048,
        published=(
            *_fb_torch((22.16, 6.16), (20.69, 5.21)),
            _torchvision(21.688, 5.954),
            _torchvision(17.716, 3.998, "IMAGENET1K_V2", 232),
        ),
        weights=("IMAGENET1K_V1", "IMAGENET1K_V2"),
    ),
    _resnet(
        name="resnet50_2015",
        title="ResNet-50 of the paper: stride on the first 1x1",
        parameters=25_557_032,
        multiply_adds=3_857_973_248,
        num_features=2048,
        published=(
            _he(22.85, 6.71, "10-crop", "He 2015, Table 3"),
            _he(20.74, 5.25, "fully convolutional, scales 224, 256, 384, 480, 640", "He 2015, Table 4"),
            _he(24.7, 7.8, "1-crop", "KaimingHe/deep-residual-networks, README"),
        ),
    ),
    _resnet(
        name="resnet101_2015",
        title="ResNet-101 of the paper: stride on the first 1x1",
        parameters=44_549_160,
        multiply_adds=7_570_194_432,
        num_features=2048,
        published=(
            _he(21.75, 6.05, "10-crop", "He 2015, Table 3"),
            _he(19.87, 4.60, "fully convolutional, scales 224, 256, 384, 480, 640", "He 2015, Table 4"),
            _he(23.6, 7.1, "1-crop", "KaimingHe/deep-residual-networks, README"),
        ),
    ),
    _resnet(
        name="resnet152_2015",
        title="ResNet-152 of the paper: stride on the first 1x1",
        parameters=60_192_808,
        multiply_adds=11_282_415_616,
        num_features=2048,
        published=(
            _he(21.43, 5.71, "10-crop", "He 2015, Table 3"),
            _he(19.38, 4.49, "fully convolutional, scales 224, 256, 384, 480, 640", "He 2015, Table 4"),
            _he(23.0, 6.7, "1-crop", "KaimingHe/deep-residual-networks, README"),
        ),
    ),
    _he_cifar(20, _cifar(8.75, "He 2015, Table 6")),
    _he_cifar(32, _cifar(7.51, "He 2015, Table 6")),
    _he_cifar(44, _cifar(7.17, "He 2015, Table 6")),
    _he_cifar(56, _cifar(6.97, "He 2015, Table 6")),
    _he_cifar(
        110,
        _cifar(6.43, "He 2015, Table 6: best of five"),
        _cifar(6.61, "He 2015, Table 6: mean of five, deviation 0.16"),
    ),
    _he_cifar(1202, _cifar(7.93, "He 2015, Table 6")),
    _he_cifar(20, plain=True),
    _he_cifar(32, plain=True),
    _he_cifar(44, plain=True),
    _he_cifar(56, plain=True),
    _resnet_cifar(
        name="preact_resnet110",
        title="ResNet-110 with pre-activation, option A",
        paper=_HE_2016,
        year=2016,
        parameters=1_727_962,
        multiply_adds=252_887_680,
        num_features=64,
        published=(_cifar(6.37, "He 2016, Table 2"),),
    ),
    _resnet_cifar(
        name="preact_resnet164",
        title="ResNet-164 with pre-activation, three-layer blocks",
        paper=_HE_2016,
        year=2016,
        parameters=1_703_258,
        multiply_adds=244_500_992,
        num_features=256,
        published=(
            _cifar(5.46, "He 2016, Table 2"),
            _cifar(24.33, "He 2016, Table 3", data="CIFAR-100 test"),
        ),
    ),
    _resnet_cifar(
        name="preact_resnet1001",
        title="ResNet-1001 with pre-activation, three-layer blocks",
        paper=_HE_2016,
        year=2016,
        parameters=10_327_706,
        multiply_adds=1_487_849_984,
        num_features=256,
        published=(
            _cifar(4.92, "He 2016, Table 3"),
            _cifar(4.62, "He 2016, Table 4: batches of 64"),
            _cifar(22.71, "He 2016, Table 3", data="CIFAR-100 test"),
        ),
    ),
)

MODELS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def model_names() -> list[str]:
    """Every name that `build_model` accepts, in the catalogue's order."""
    return list(MODELS)
