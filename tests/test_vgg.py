"""VGG: Table 1, and every choice that the file's docstring names."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torchvision
from torch import nn

from models import MODELS, build_model
from models.keymaps import from_timm, from_torchvision, to_timm, to_torchvision
from models.vgg import VGG, ResponseNorm

NAMES = [name for name, entry in MODELS.items() if entry.family == "vgg"]

# Simonyan 2014, Table 1, as it is printed, from the image to the last maximum
TABLE_1 = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg11_lrn": "64 LRN M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16_c": "64 64 M 128 128 M 256 256 1x256 M 512 512 1x512 M 512 512 1x512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


def on_meta(name: str, dropout: float = 0.5) -> VGG:
    with torch.device("meta"):
        network = build_model(name, dropout=dropout)
    assert isinstance(network, VGG)
    return network


def layers_in_order(network: VGG) -> list[tuple[str, nn.Module]]:
    """The layers with the order in which a forward pass calls them."""
    order: list[tuple[str, nn.Module]] = []
    for name, layer in network.named_children():
        layer.register_forward_hook(lambda layer, _, __, name=name: order.append((name, layer)))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    return order


def test_every_configuration_is_here() -> None:
    assert set(NAMES) == {*TABLE_1, "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"}


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_those_of_table_1(name: str) -> None:
    plain = name.removesuffix("_bn")
    symbols, calls = [], []
    for child, layer in layers_in_order(on_meta(name)):
        calls.append(type(layer).__name__)
        if isinstance(layer, nn.Conv2d):
            side = layer.kernel_size[0]
            assert (layer.stride, layer.padding) == ((1, 1), (side // 2, side // 2))
            symbols.append(f"{layer.out_channels}" if side == 3 else f"{side}x{layer.out_channels}")
        elif isinstance(layer, nn.MaxPool2d):
            assert (layer.kernel_size, layer.stride, layer.padding) == (2, 2, 0)
            symbols.append("M")
        elif isinstance(layer, ResponseNorm):
            assert child == "norm1"
            symbols.append("LRN")
    assert " ".join(symbols) == TABLE_1[plain]
    weights = sum(call in ("Conv2d", "Linear") for call in calls)
    assert weights == int(plain.removesuffix("_c").removesuffix("_lrn").removeprefix("vgg"))
    after_convolution = {
        tuple(calls[i + 1 : i + (3 if name.endswith("_bn") else 2)]) for i, call in enumerate(calls) if call == "Conv2d"
    }
    assert after_convolution == {("BatchNorm2d", "ReLU") if name.endswith("_bn") else ("ReLU",)}
    assert calls.count("BatchNorm2d") == (calls.count("Conv2d") if name.endswith("_bn") else 0)


def test_a_lrn_normalises_the_rectified_conv1_1() -> None:
    names = [name for name, _ in layers_in_order(on_meta("vgg11_lrn"))]
    assert names[:4] == ["conv1_1", "relu1_1", "norm1", "pool1"]


def test_response_norm_is_krizhevskys_formula() -> None:
    torch.manual_seed(0)
    a = 50 * torch.randn(1, 7, 1, 2, dtype=torch.float64)
    b = ResponseNorm()(a)
    for i in range(7):
        for x in range(2):
            total = sum(float(a[0, j, 0, x]) ** 2 for j in range(max(0, i - 2), min(6, i + 2) + 1))
            assert float(b[0, i, 0, x]) == pytest.approx(float(a[0, i, 0, x]) / (2 + 1e-4 * total) ** 0.75, rel=1e-12)
    assert torch.allclose(b, nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)(a))  # torch divides alpha by n


@pytest.mark.parametrize("name", NAMES)
def test_classifier_and_dropout(name: str) -> None:
    network = on_meta(name)
    order = [child for child, _ in layers_in_order(network)]
    assert order[-6:] == ["average", "fc6", "dropout6", "fc7", "dropout7", "fc8"]
    for layer in (network.dropout6, network.dropout7):
        assert layer.p == 0.5
        assert set(layer(torch.ones(1000)).tolist()) == {0.0, 2.0}
    assert on_meta(name, dropout=0.25).dropout7.p == 0.25


def test_deeper_networks_start_by_glorot_and_a_from_a_narrow_normal() -> None:
    torch.manual_seed(0)
    for name in ("vgg11", "vgg13"):
        for layer in build_model(name, num_classes=10).children():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                assert layer.bias is not None and not layer.bias.any()
                sample = layer.weight.flatten()[:1_000_000]
                if name == "vgg11":
                    assert sample.std().item() == pytest.approx(0.01, rel=0.05)
                    assert sample.abs().max() > 0.03  # normal, not uniform
                else:
                    fan_in, fan_out = layer.weight[0].numel(), layer.weight[:, 0].numel()
                    bound = math.sqrt(6 / (fan_in + fan_out))  # Glorot 2010, eq. 16
                    assert 0.98 * bound < sample.abs().max() <= bound
                    assert sample.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_which_initialisation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name calls the initialisation that the docstring gives its configuration, and no other."""
    called = set()
    monkeypatch.setattr(nn.init, "normal_", lambda weight, mean=0.0, std=1.0: called.add(f"normal {std}"))
    monkeypatch.setattr(nn.init, "xavier_uniform_", lambda weight, gain=1.0: called.add("Glorot"))
    on_meta(name)
    assert called == {"normal 0.01" if name.startswith("vgg11") else "Glorot"}


def test_sizes_other_than_224() -> None:
    network = on_meta("vgg11").eval()
    pooled = torch.randn(1, 512, 7, 7)
    assert torch.equal(network.average(pooled), pooled)  # nothing changes at 224
    assert network(torch.empty(1, 3, 32, 50, device="meta")).shape == (1, 1000)
    for height, width in [(31, 224), (224, 31)]:
        with pytest.raises(ValueError, match=f"at least 32 pixels a side, not {height} x {width}"):
            network(torch.empty(1, 3, height, width, device="meta"))


@pytest.fixture(scope="module")
def full_weights() -> dict[str, torch.Tensor]:
    """Numbers for fc6 to fc8, whose shapes all configurations share: a gigabyte in float64, drawn once."""
    torch.manual_seed(0)
    shapes = {"fc6": (4096, 512 * 7 * 7), "fc7": (4096, 4096), "fc8": (1000, 4096)}
    weights = {}
    for layer, shape in shapes.items():
        weights[f"{layer}.weight"] = torch.empty(shape, dtype=torch.float64).uniform_(-1, 1).mul_(shape[1] ** -0.5)
        weights[f"{layer}.bias"] = torch.randn(shape[0], dtype=torch.float64)
    return weights


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.family == "vgg" and entry.weights])
def test_logits_equal_those_of(name: str, library: str, full_weights: dict[str, torch.Tensor]) -> None:
    ours = on_meta(name).eval()
    with torch.device("meta"):
        theirs = (
            getattr(torchvision.models, name)(weights=None) if library == "torchvision" else timm.create_model(name)
        )
    forth, back = (to_torchvision, from_torchvision) if library == "torchvision" else (to_timm, from_timm)
    weights = {}
    for key, value in ours.state_dict().items():
        if key in full_weights:
            weights[key] = full_weights[key]
        elif value.ndim == 4:
            weights[key] = torch.randn(value.shape, dtype=torch.float64) * (2 / value[0].numel()) ** 0.5
        elif value.is_floating_point():  # biases, and scale, mean and variance of the batch norms
            weights[key] = torch.rand(value.shape, dtype=torch.float64) + 0.5
        else:
            weights[key] = torch.tensor(7)  # batches seen
    ours.load_state_dict(weights, assign=True)
    theirs.load_state_dict(forth(name, weights), assign=True)
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)  # pool5 gives 2x3, so fc6 sees 7x7 unequal places
    with torch.no_grad():
        logits = ours(images)
        assert logits.std() > 1e-3
        assert (logits - theirs.eval()(images)).abs().max() < 1e-10
    returned = back(name, theirs.state_dict())
    assert list(returned) == list(weights)
    assert all(returned[key].shape == weights[key].shape for key in weights)
    assert all(returned[key].data_ptr() == weights[key].data_ptr() for key in weights)
