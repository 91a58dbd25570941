"""ResNet for ImageNet: blocks, shortcut options, v1 and v1.5, and every choice that the file's docstring names."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models import MODELS, build_model
from models.keymaps import from_timm, from_torchvision, to_timm, to_torchvision
from models.resnet import Block, Bottleneck, PlainBlock, ResNet, ZeroPadding

NAMES = [name for name, entry in MODELS.items() if entry.family == "resnet"]
RESIDUAL = [name for name in NAMES if name.startswith("resnet")]


def on_meta(name: str, **options: Any) -> ResNet:
    with torch.device("meta"):
        network = build_model(name, **options)
    assert isinstance(network, ResNet)
    return network.eval()


def stages(network: ResNet) -> list[nn.Sequential]:
    return [network.conv2_x, network.conv3_x, network.conv4_x, network.conv5_x]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def multiply_adds(network: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 224, 224, device="meta"))
    return int(counter.get_total_flops()) // 2


# He 2015, Table 1: blocks of conv2_x to conv5_x
BLOCKS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_table_1(name: str) -> None:
    network = on_meta(name)
    depth = int(name.removeprefix("plain").removeprefix("resnet").removesuffix("_2015"))
    assert [len(stage) for stage in stages(network)] == BLOCKS[depth]
    layers = [m for path, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "short" not in path]
    assert len(layers) == depth
    for stage, maps in zip(stages(network), (64, 128, 256, 512), strict=True):
        for block in stage:
            kernels = [(layer.kernel_size[0], layer.out_channels) for layer in convolutions(block)]
            assert kernels == ([(3, maps)] * 2 if depth < 50 else [(1, maps), (3, maps), (1, 4 * maps)])
    assert all(layer.bias is None for layer in network.modules() if isinstance(layer, nn.Conv2d))
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, layer.momentum, layer.affine) for layer in norms} == {(1e-5, 0.1, True)}


def convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("name", NAMES)
def test_strides(name: str) -> None:
    """conv3_1, conv4_1 and conv5_1 halve the side: v1 in the first layer, v1.5 in the 3x3."""
    for index, stage in enumerate(stages(on_meta(name))):
        for position, block in enumerate(stage):
            strides = [layer.stride[0] for layer in convolutions(block)]
            halving = 2 if index > 0 and position == 0 else 1
            if isinstance(block, PlainBlock):
                assert strides == [halving, 1]
            else:
                assert strides == ([halving, 1, 1] if name.endswith("_2015") else [1, halving, 1])


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_multiply_adds_tell_the_paper_from_v15(depth: int) -> None:
    paper, later = on_meta(f"resnet{depth}_2015"), on_meta(f"resnet{depth}")
    assert parameters(paper) == parameters(later)
    assert list(paper.state_dict()) == list(later.state_dict())
    # In three blocks the first 1x1 sees four times the positions; what the 3x3 sees, and gives, is the same.
    extra = sum(3 * side**2 * seen * maps for side, seen, maps in [(28, 256, 128), (14, 512, 256), (7, 1024, 512)])
    assert multiply_adds(later) - multiply_adds(paper) == extra == 231_211_008
    assert round(multiply_adds(paper) / 1e9, 1) == {50: 3.9, 101: 7.6, 152: 11.3}[depth]  # Table 1: 3.8, 7.6, 11.3


@pytest.mark.parametrize(
    ("name", "option", "expected"),
    [
        ("resnet18", "A", 11_515_688),
        ("resnet18", "B", 11_689_512),
        ("resnet18", "C", 12_043_816),
        ("resnet34", "A", 21_623_848),
        ("resnet34", "B", 21_797_672),
        ("resnet34", "C", 22_716_840),
        ("resnet50", "A", 22_780_456),
        ("resnet50", "B", 25_557_032),
        ("resnet50", "C", 40_128_552),
        ("resnet50_2015", "C", 40_128_552),
    ],
)
def test_options_of_the_shortcut(name: str, option: str, expected: int) -> None:
    network = on_meta(name, shortcut=option)
    assert parameters(network) == expected
    assert network(torch.empty(1, 3, 65, 96, device="meta")).shape == (1, 1000)  # odd sides meet in the addition, too
    projections = {
        path
        for path, layer in network.named_modules()
        if path.endswith("shortcut") and isinstance(layer, nn.Sequential)
    }
    every = {path for path, _ in network.named_modules() if path.endswith("shortcut")}
    change = {f"conv{i}_x.0.shortcut" for i in ((3, 4, 5) if name in ("resnet18", "resnet34") else (2, 3, 4, 5))}
    assert projections == {"A": set(), "B": change, "C": every}[option]
    padded = {path for path, layer in network.named_modules() if isinstance(layer, ZeroPadding)}
    assert padded == (change if option == "A" else set())
    for path in projections:
        projection = network.get_submodule(path)
        assert [type(layer) for layer in projection.children()] == [nn.Conv2d, nn.BatchNorm2d]


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize("shortcut", ["D", "b", "", None])
def test_no_other_option(name: str, shortcut: Any) -> None:
    with pytest.raises(ValueError, match=f"option A, B or C of the paper, not {shortcut!r}"):
        on_meta(name, shortcut=shortcut)


def test_plain_networks_have_no_shortcut() -> None:
    for name, residual in (("plain18", "resnet18"), ("plain34", "resnet34")):
        network = on_meta(name)
        assert not any("shortcut" in path for path, _ in network.named_modules())
        assert parameters(network) == parameters(on_meta(residual, shortcut="A"))  # option A adds none
        with pytest.raises(ValueError, match="no option 'shortcut'"):
            on_meta(name, shortcut="A")
    torch.manual_seed(0)
    block = PlainBlock(4, 4, 1).eval()
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(block(x), block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())).relu())


def test_option_a_pads_with_zeros_on_both_sides() -> None:
    x = torch.randn(2, 4, 5, 6)
    y = ZeroPadding(4, 8, stride=2)(x)
    assert y.shape == (2, 8, 3, 3)
    assert not y[:, :2].any() and not y[:, 6:].any()
    assert torch.equal(y[:, 2:6], x[:, :, [0, 2, 4]][:, :, :, [0, 2, 4]])
    assert list(ZeroPadding(4, 8, 2).parameters()) == []


def test_blocks_add_before_the_last_rectifier() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 5)
    block = Block(8, 8, 1, "B").eval()
    y = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
    assert torch.equal(block(x), (y + x).relu())
    bottleneck = Bottleneck(8, 2, 1, "B", "3x3").eval()
    y = bottleneck.bn1(bottleneck.conv1(x)).relu()
    y = bottleneck.bn3(bottleneck.conv3(bottleneck.bn2(bottleneck.conv2(y)).relu()))
    assert torch.equal(bottleneck(x), (y + x).relu())


@pytest.mark.parametrize("name", ["plain18", "resnet18", "resnet50"])
def test_initialisation_is_he_2015s(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(name)
    count = 0
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            inputs = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / inputs), rel=0.05)  # eq. 10
            assert layer.weight.abs().max() > 3 * math.sqrt(2 / inputs)  # normal, not uniform
            assert layer.bias is None or not layer.bias.any()
            count += 1
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.eq(1).all() and not layer.bias.any()  # the last of a block, too
            count += 1
    assert count >= 35


def test_maximum_is_padded() -> None:
    pool = on_meta("resnet18").pool1
    assert (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) == (3, 2, 1, False)
    assert pool(torch.zeros(1, 1, 112, 112)).shape[-1] == 56


def test_sizes_other_than_224() -> None:
    network = on_meta("resnet18")
    assert network(torch.empty(1, 3, 32, 301, device="meta")).shape == (1, 1000)
    assert network.conv5_x(torch.empty(1, 256, 2, 2, device="meta")).shape[-2:] == (1, 1)  # a 32nd of 32


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_logits_equal_those_of(name: str, library: str) -> None:
    ours = on_meta(name)
    with torch.device("meta"):
        theirs = (
            getattr(torchvision.models, name)(weights=None) if library == "torchvision" else timm.create_model(name)
        )
    forth, back = (to_torchvision, from_torchvision) if library == "torchvision" else (to_timm, from_timm)
    torch.manual_seed(0)
    weights = {}
    for key, value in ours.state_dict().items():
        if value.ndim > 1:
            bound = (6 / value[0].numel()) ** 0.5
            weights[key] = torch.empty(value.shape, dtype=torch.float64).uniform_(-bound, bound)
        elif value.is_floating_point():  # scale, shift, mean and variance of the batch norms, the last layer's bias
            low = -0.5 if key.endswith(("bias", "mean")) else 0.25
            weights[key] = torch.rand(value.shape, dtype=torch.float64) + low
        else:
            weights[key] = torch.tensor(7)  # batches seen
    ours.load_state_dict(weights, assign=True)
    theirs.load_state_dict(forth(name, weights), assign=True)
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        logits, others = ours(images), theirs.eval()(images)
    assert (logits[0] - logits[1]).std() > 0.01
    assert (logits - others).abs().max() < 1e-10
    returned = back(name, theirs.state_dict())
    assert set(returned) == set(weights)
    assert all(returned[key].data_ptr() == weights[key].data_ptr() for key in weights)


@pytest.mark.parametrize("name", ["resnet50_2015", "plain34", "resnet20", "vgg16_c"])
def test_key_maps_refuse_what_is_no_equal(name: str) -> None:
    for library, forth in (("torchvision", to_torchvision), ("timm", to_timm)):
        with pytest.raises(ValueError, match=f"{library} has no network that equals {name}"):
            forth(name, {})


def test_key_maps_refuse_unknown_keys() -> None:
    with pytest.raises(ValueError, match=r"hold 'layer4\.2\.conv1\.weight', which this network does not have"):
        from_torchvision("resnet18", {"layer4.2.conv1.weight": torch.zeros(1)})
