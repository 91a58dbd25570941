"""Every network of the catalogue: equal to the papers' tables, trainable, and at home in PyTorch."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import paper_tables
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import create_feature_extractor

from models import MODELS, build_model
from models.catalogue import Entry
from models.network import Network

TABLES: list[dict[str, Any]] = [
    paper_tables.STAGES,
    paper_tables.PARAMETERS,
    paper_tables.MULTIPLY_ADDS,
    paper_tables.RECEPTIVE_FIELD,
]
NAMES = list(MODELS)
# The smallest of each way to build a network: every block and every forward of the zoo is in one of them.
SMALL = [
    *("mlp", "lenet1", "lenet4", "lenet5_1998", "lenet5", "alexnet_2012", "alexnet", "vgg11_lrn", "vgg11_bn"),
    *("plain18", "resnet18", "resnet50", "resnet50_2015", "plain20", "resnet20", "preact_resnet110"),
    "preact_resnet164",
]
ONE_PER_FAMILY = ["mlp", "lenet5_1998", "alexnet_2012", "vgg11_lrn", "resnet18", "resnet20"]


def deep_is_slow(names: Iterable[str]) -> list[Any]:
    """The names, those of a thousand layers marked slow."""
    deep = ("resnet1202", "preact_resnet1001")
    return [pytest.param(name, marks=pytest.mark.slow) if name in deep else name for name in names]


def on_meta(name: str, **options: Any) -> Network:
    with torch.device("meta"):
        return build_model(name, **options).eval()


def meta_images(entry: Entry, height: int | None = None, width: int | None = None, channels: int = 0) -> torch.Tensor:
    height = height or entry.input_size
    return torch.empty(1, channels or entry.in_channels, height, width or height, device="meta")


def small_size(entry: Entry) -> int:
    """A side in pixels that is cheap and leaves the last stage more than one pixel where it can."""
    return entry.max_size or {"mlp": 28, "resnet": 64, "resnet_cifar": 8, "vgg": 32, "alexnet": 64}[entry.family]


@functools.cache
def built(name: str) -> tuple[Network, torch.Tensor, torch.Tensor]:
    """A network in evaluation, two images, its logits; the test that gets them leaves them as they are."""
    torch.manual_seed(0)
    entry = MODELS[name]
    network = build_model(name, num_classes=10).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and entry.family.startswith("resnet"):
            layer.running_var = torch.full_like(layer.bias, 2.0)  # at 1, fifty untrained blocks overflow half precision
    images = torch.rand(2, entry.in_channels, small_size(entry), small_size(entry))
    with torch.no_grad():
        return network, images, network(images)


def close(value: torch.Tensor, to: torch.Tensor, part: float) -> bool:
    """Whether two batches of logits differ by no more than a part of the largest logit."""
    return bool((value.float() - to).abs().max() <= part * to.abs().max())


# ------------------------------------------------------------------------------------------------------ papers' tables


@pytest.mark.parametrize("table", TABLES, ids=["stages", "parameters", "multiply_adds", "receptive_field"])
def test_every_name_is_in_the_papers_tables(table: dict[str, Any]) -> None:
    missing = {"mlp"} if table is paper_tables.RECEPTIVE_FIELD else set()  # it has no convolution
    assert set(table) == set(MODELS) - missing


@pytest.mark.parametrize("name", deep_is_slow(NAMES))
def test_stages_parameters_and_multiply_adds(name: str) -> None:
    entry, network = MODELS[name], on_meta(name)
    shapes: list[tuple[str, tuple[int, ...]]] = []
    for stage, _ in paper_tables.STAGES[name]:
        network.get_submodule(stage).register_forward_hook(
            lambda _, __, out, stage=stage: shapes.append((stage, tuple(out.shape[1:])))
        )
    with FlopCounterMode(display=False) as counter:
        logits = network(meta_images(entry))
    assert shapes == paper_tables.STAGES[name]  # in the order of the table, too
    assert logits.shape == (1, entry.num_classes)
    parameters = sum(p.numel() for p in network.parameters())
    assert all(p.requires_grad for p in network.parameters())
    assert parameters == paper_tables.PARAMETERS[name] == entry.parameters
    assert counter.get_total_flops() % 2 == 0
    assert counter.get_total_flops() // 2 == paper_tables.MULTIPLY_ADDS[name] == entry.multiply_adds


class StageReachedError(Exception):
    """The stage has its output, and the layers behind it need not run."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


def as_average(layer: nn.MaxPool2d) -> nn.AvgPool2d:
    """A maximum has a gradient at one pixel of its window only."""
    return nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)


def binary(gradient: torch.Tensor) -> torch.Tensor:
    """Ones where there is any gradient, so that none vanishes or overflows on its way down."""
    return (gradient != 0).to(gradient)


def reached_rows(name: str, stage: str, height: int, width: int) -> list[int]:
    """Rows of the image that a unit in the middle of the stage depends on."""
    entry = MODELS[name]
    untouched = entry.family in ("alexnet", "vgg")  # the huge layers behind the stage need no numbers
    network = on_meta(name).to_empty(device="cpu") if untouched else build_model(name).eval()
    for path, layer in list(network.named_modules()):
        if isinstance(layer, nn.MaxPool2d):
            network.set_submodule(path, as_average(layer))
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            nn.init.constant_(layer.weight, 0.1 if "resnet" in name else 1.0)  # sums along shortcuts stay small
            nn.init.zeros_(layer.bias)
        elif not isinstance(layer, nn.Linear):
            for key, value in layer.named_parameters(recurse=False):
                nn.init.constant_(value, 0.0 if key == "bias" else 1.0 if value.ndim == 1 else 1 / value[0].numel())
    network.requires_grad_(False)
    last = network.get_submodule(stage)

    def hook(layer: nn.Module, _: Any, output: torch.Tensor) -> None:
        if output.requires_grad:
            output.register_hook(binary)  # type: ignore[no-untyped-call]
        if layer is last:
            raise StageReachedError(output)

    for layer in network.modules():
        layer.register_forward_hook(hook)
    image = torch.ones(1, entry.in_channels, height, width, requires_grad=True)
    with pytest.raises(StageReachedError) as reached:
        network(image)
    output = reached.value.output
    assert output.isfinite().all()
    (gradient,) = torch.autograd.grad(output[0, 0, output.shape[2] // 2, output.shape[3] // 2], image)
    rows: list[int] = (gradient != 0).any(1).any(2)[0].nonzero().flatten().tolist()
    return rows


@pytest.mark.parametrize("name", deep_is_slow(paper_tables.RECEPTIVE_FIELD))
def test_receptive_field(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = MODELS[name]
    stage, pixels = paper_tables.RECEPTIVE_FIELD[name]
    if entry.family.startswith("resnet"):  # one column is enough, since every window is padded
        monkeypatch.setattr(f"models.{entry.family}.check_size", lambda images: None)
        height, width = pixels + 128, 1
    elif entry.max_size is None:
        height, width = pixels + 128, entry.min_size
    else:
        height, width = entry.max_size, entry.max_size
    rows = reached_rows(name, stage, height, width)
    assert rows == list(range(rows[0], rows[0] + pixels))
    if entry.max_size is None:
        assert rows[0] > 0 and rows[-1] < height - 1  # the image's edges cut nothing off


# ------------------------------------------------------------------------------------------ what timm's users look for


@pytest.mark.parametrize("name", deep_is_slow(NAMES))
def test_features_and_classifier(name: str) -> None:
    entry, network = MODELS[name], on_meta(name)
    images = meta_images(entry)
    features = network.forward_features(images)
    assert features.shape[1] == network.num_features == entry.num_features
    assert features.ndim == (2 if name == "mlp" else 4)
    assert network.forward_head(features).shape == (1, entry.num_classes)
    assert network.classifier_name == entry.classifier == list(dict(network.named_children()))[-1]
    outputs: list[torch.Tensor] = []
    network.get_classifier().register_forward_hook(lambda _, __, output: outputs.append(output))
    logits = network(images)
    assert logits is outputs[-1]
    own = [key for key in network.state_dict() if key.startswith(f"{entry.classifier}.")]
    assert own == ([f"{entry.classifier}.weight", f"{entry.classifier}.bias"] if name != "lenet5_1998" else [own[0]])


@pytest.mark.parametrize("name", SMALL)
def test_head_of_the_features_gives_the_logits(name: str) -> None:
    network, images, logits = built(name)
    with torch.no_grad():
        assert torch.equal(network.forward_head(network.forward_features(images)), logits)


@pytest.mark.parametrize(("hidden", "features"), [((), 784), ((5, 7), 7)])
def test_features_of_another_mlp(hidden: tuple[int, ...], features: int) -> None:
    network = on_meta("mlp", hidden=hidden)
    assert network.num_features == features == network.forward_features(meta_images(MODELS["mlp"])).shape[1]
    assert network.classifier_name == f"fc{len(hidden) + 1}"


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11", "vgg16_bn"])
def test_features_end_where_timms_do(name: str) -> None:
    with torch.device("meta"):
        theirs: Any = timm.create_model(name)
    entry, ours = MODELS[name], on_meta(name)
    assert ours.num_features == (theirs.num_features if entry.family == "resnet" else 512)  # timm's of a VGG is fc6's
    assert ours.forward_features(meta_images(entry)).shape == theirs.forward_features(meta_images(entry)).shape
    mine, other = ours.get_classifier(), theirs.get_classifier()
    assert isinstance(mine, nn.Linear) and mine.weight.shape == other.weight.shape


def test_features_of_alexnet_end_where_torchvisions_do() -> None:
    images = meta_images(MODELS["alexnet"])
    with torch.device("meta"):
        theirs = torchvision.models.alexnet().features(images)
    assert on_meta("alexnet").forward_features(images).shape == theirs.shape


@pytest.mark.parametrize(("name", "shortcut"), [*((name, "") for name in SMALL), ("resnet18", "A")])
def test_own_layers_print_what_they_are_made_with(name: str, shortcut: str) -> None:
    network = on_meta(name, **({"shortcut": shortcut} if shortcut else {}))
    leaves = [layer for layer in network.modules() if next(layer.children(), None) is None]
    bare = {type(layer).__name__ for layer in leaves if type(layer).__module__.startswith("models.")}
    assert not {kind for kind in bare if f"{kind}()" in str(network)}


def test_what_own_layers_print() -> None:
    assert "(c3): PartialConvolution(in_maps=6, out_maps=16, connections=60)" in str(on_meta("lenet5_1998"))
    assert "ZeroPadding(stride=2, before=8, behind=8)" in str(on_meta("resnet20"))
    assert "shares=True" in str(on_meta("preact_resnet164").get_submodule("conv2_x.0"))
    assert "shares=False" in str(on_meta("preact_resnet164").get_submodule("conv2_x.1"))
    assert "(norm1): ResponseNorm(k=2.0, n=5, alpha=0.0001, beta=0.75)" in str(on_meta("alexnet_2012"))


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("name", deep_is_slow(NAMES))
def test_one_step_of_training(name: str) -> None:
    torch.manual_seed(0)
    entry = MODELS[name]
    network = build_model(name, num_classes=10)
    images = torch.randn(4, entry.in_channels, small_size(entry), small_size(entry))
    loss = nn.functional.cross_entropy(network(images), torch.arange(4))
    torch.autograd.backward(loss)
    assert loss.isfinite()
    for key, value in network.named_parameters():
        assert value.grad is not None, key
        largest = value.grad.abs().max()  # NaN and infinity included
        assert 0 < largest < float("inf"), key


@pytest.mark.parametrize(
    ("name", "steps", "rate"),
    [
        ("mlp", 20, 0.05),
        ("lenet5", 60, 0.1),
        pytest.param("alexnet", 20, 0.003, marks=pytest.mark.slow),
        pytest.param("vgg11_bn", 14, 0.01, marks=pytest.mark.slow),
        ("resnet18", 10, 0.01),
        ("resnet20", 20, 0.05),
        ("preact_resnet110", 20, 0.02),
    ],
)
def test_overfits_eight_images(name: str, steps: int, rate: float) -> None:
    """Eight images of noise are told apart, with dropout off, and AlexNet begun at the scale that eight images need."""
    torch.manual_seed(0)
    entry = MODELS[name]
    options: dict[str, Any] = {"dropout": 0.0} if entry.family in ("alexnet", "vgg") else {}
    network = build_model(name, num_classes=8, **options)
    if entry.family == "alexnet":
        for layer in network.children():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
    images, labels = torch.randn(8, entry.in_channels, small_size(entry), small_size(entry)), torch.arange(8)
    optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        torch.autograd.backward(loss)
        optimiser.step()
    with torch.no_grad():
        logits = network(images)
    assert logits.argmax(1).equal(labels)
    assert nn.functional.cross_entropy(logits, labels) < 0.2


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("name", deep_is_slow(NAMES))
def test_any_number_of_classes_and_channels(name: str) -> None:
    entry = MODELS[name]
    for classes in (1, 10, 37):
        if entry.fixed_classes and classes != entry.num_classes:
            with pytest.raises(ValueError, match=f"num_classes must be {entry.num_classes}, not {classes}"):
                on_meta(name, num_classes=classes)
        else:
            assert on_meta(name, num_classes=classes)(meta_images(entry)).shape == (1, classes)
    for channels in (1, 3, 4):
        network = on_meta(name, in_channels=channels)
        assert network(meta_images(entry, channels=channels)).shape == (1, entry.num_classes)


@pytest.mark.parametrize("argument", ["num_classes", "in_channels", "image_size"])
@pytest.mark.parametrize("value", [0, -1, "10", 2.5, True])
def test_what_is_no_number_of_classes_channels_or_pixels(argument: str, value: Any) -> None:
    for name in ("mlp", "lenet5", "vgg11", "resnet20"):
        with pytest.raises(
            ValueError, match=f"{argument} of {name} needs to be a whole number of at least 1, not {value!r}"
        ):
            build_model(name, **{argument: value})
    assert build_model("lenet5", num_classes=np.int64(3))(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("name", SMALL)
def test_an_image_is_not_a_batch(name: str) -> None:
    entry, network = MODELS[name], on_meta(name)
    images = meta_images(entry)
    for wrong in (images[0], images[0, 0], images[None]):
        with pytest.raises(ValueError, match=r"images should be \(N, C, H, W\), not .*; images\[None\] makes a batch"):
            network(wrong)


@pytest.mark.parametrize("name", deep_is_slow(NAMES))
def test_smallest_images(name: str) -> None:
    entry = MODELS[name]
    smallest = entry.min_size
    network = on_meta(name, image_size=smallest)
    assert network(meta_images(entry, smallest)).shape == (1, entry.num_classes)
    minimum = f"{smallest} x {smallest}" if entry.max_size else f"at least {smallest}"
    with pytest.raises(ValueError, match=f"{name} .*({minimum}|at least 1)"):
        build_model(name, image_size=smallest - 1)
    if name == "mlp":
        return  # its smallest image is one pixel
    for height, width in [(smallest - 1, smallest), (smallest, smallest - 1)]:
        with pytest.raises(ValueError, match=f"{minimum} .*not {height} x {width}"):
            network(meta_images(entry, height, width))


# ------------------------------------------------------------------------------------------- PyTorch's own machinery


@pytest.mark.parametrize("name", SMALL)
def test_channels_last(name: str) -> None:
    network, images, logits = built(name)
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert close(network(images.to(memory_format=torch.channels_last)), logits, 1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_autocast(name: str) -> None:
    network, images, logits = built(name)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = network(images)
    assert mixed.dtype == torch.bfloat16
    assert close(mixed, logits, 0.1)


@pytest.mark.parametrize(("dtype", "part"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("name", SMALL)
def test_half_precision(name: str, dtype: torch.dtype, part: float) -> None:
    network, images, logits = built(name)
    network = copy.deepcopy(network).to(dtype)
    with torch.no_grad():
        half = network(images.to(dtype))
    assert half.dtype == dtype
    assert close(half, logits, part)


@pytest.mark.parametrize("name", SMALL)
def test_deepcopy_and_pickled_state_dict(name: str) -> None:
    network, images, logits = built(name)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for value in (*other.parameters(), *other.buffers()):
            value.zero_()
        assert not torch.equal(other(images), logits)  # the copy shares nothing with the network
        assert torch.equal(network(images), logits)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(images), logits)


def torchvisions_name(entry: Entry, stage: str) -> str:
    """The node of a stage: the end of conv1_1 and conv1_2 is taken for a count, which makes them conv1 and conv1_1."""
    base, _, position = stage.partition("_")
    if entry.family != "vgg" or not position:
        return stage
    return base if position == "1" else f"{base}_{int(position) - 1}"


@pytest.mark.parametrize("name", deep_is_slow(NAMES))
def test_export_and_feature_extractor(name: str) -> None:
    """Both trace each network in its own way: torch.export by running it, torch.fx without any numbers."""
    entry, network = MODELS[name], on_meta(name)
    images = meta_images(entry)
    program = torch.export.export(network, (images,))
    assert program.module()(images).shape == (1, entry.num_classes)
    nodes = {torchvisions_name(entry, stage): stage for stage, _ in paper_tables.STAGES[name]}
    features = create_feature_extractor(network, nodes)(images)
    assert [(stage, tuple(value.shape[1:])) for stage, value in features.items()] == paper_tables.STAGES[name]


@pytest.mark.parametrize("name", SMALL)
def test_exported_logits(name: str) -> None:
    network, images, logits = built(name)
    exported = torch.export.export(network, (images,)).module()
    with torch.no_grad():
        assert close(exported(images), logits, 1e-5)


@pytest.mark.parametrize(
    ("name", "backend"),
    [(name, "aot_eager") for name in ONE_PER_FAMILY]
    + [("lenet5", "inductor")]
    + [pytest.param(name, "aot_eager", marks=pytest.mark.slow) for name in NAMES if name not in ONE_PER_FAMILY]
    + [pytest.param(name, "inductor", marks=pytest.mark.slow) for name in ONE_PER_FAMILY],
)
def test_compile(name: str, backend: str) -> None:
    torch.compiler.reset()
    network, images, logits = built(name)
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    with torch.no_grad():
        assert close(compiled(images), logits, 1e-4)
