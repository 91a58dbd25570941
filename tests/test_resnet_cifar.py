"""ResNet for CIFAR: blocks, option A, pre-activation's order, third-party weights, and what the docstring names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import MODELS, build_model
from models.keymaps import from_akamaster, to_akamaster
from models.resnet_cifar import (
    Block,
    CifarResNet,
    PlainBlock,
    PreactBlock,
    PreactBottleneck,
    PreactResNet,
    ZeroPadding,
)

NAMES = [name for name, entry in MODELS.items() if entry.family == "resnet_cifar"]
CHECKPOINT = Path(__file__).parents[2] / "shared/data/checkpoints/akamaster-cifar10-resnet20-12fca82f.th"


def on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, **options).eval()


def depth_of(name: str) -> int:
    return int(name.removeprefix("preact_").removeprefix("resnet").removeprefix("plain"))


@pytest.mark.parametrize("name", NAMES)
def test_layers(name: str) -> None:
    """6n + 2 layers of two-layer blocks, 9n + 2 of three-layer blocks, besides the projections."""
    network = on_meta(name)
    layers = [
        layer
        for path, layer in network.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and "shortcut" not in path
    ]
    assert len(layers) == depth_of(name)
    assert all(layer.bias is None for layer in layers if isinstance(layer, nn.Conv2d))
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(layer.eps, layer.momentum, layer.affine) for layer in norms} == {(1e-5, 0.1, True)}
    three = name in ("preact_resnet164", "preact_resnet1001")
    kinds = {
        type(block) for stage in ("conv2_x", "conv3_x", "conv4_x") for block in network.get_submodule(stage).children()
    }
    plain = PlainBlock if name.startswith("plain") else Block
    assert kinds == {PreactBottleneck if three else PreactBlock if name.startswith("preact") else plain}
    for layer in layers[:-1]:
        assert isinstance(layer, nn.Conv2d) and layer.bias is None
    halving = [layer.kernel_size[0] for layer in layers[:-1] if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    assert halving == ([1, 1] if three else [3, 3])  # three-layer blocks: in the first 1x1


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("resnet20", 269_722, 272_474),
        ("resnet32", 464_154, 466_906),
        ("resnet44", 658_586, 661_338),
        ("resnet56", 853_018, 855_770),
        ("resnet110", 1_727_962, 1_730_714),
        ("resnet1202", 19_421_274, 19_424_026),
        ("preact_resnet110", 1_727_962, 1_727_962 + 16 * 32 + 32 * 64),
        ("preact_resnet164", 1_703_258 - 16 * 64 - 64 * 128 - 128 * 256, 1_703_258),
    ],
)
def test_options_of_the_shortcut(name: str, a: int, b: int) -> None:
    for option, expected in (("A", a), ("B", b)):
        network = on_meta(name, shortcut=option)
        assert sum(p.numel() for p in network.parameters()) == expected
        padded = [path for path, layer in network.named_modules() if isinstance(layer, ZeroPadding)]
        first = "conv2_x.0.shortcut"
        changes = [*([first] if "164" in name else []), "conv3_x.0.shortcut", "conv4_x.0.shortcut"]
        assert padded == (changes if option == "A" else [])
        if "1202" not in name:
            assert network(torch.empty(1, 3, 9, 13, device="meta")).shape == (1, 10)  # odd sides meet, too


@pytest.mark.parametrize("name", [name for name in NAMES if "resnet" in name])
@pytest.mark.parametrize("shortcut", ["C", "a", None])
def test_no_other_option(name: str, shortcut: Any) -> None:
    with pytest.raises(ValueError, match=f"option A or B of the paper, not {shortcut!r}"):
        on_meta(name, shortcut=shortcut)


def test_plain_networks_have_no_shortcut() -> None:
    for depth in (20, 32, 44, 56):
        network = on_meta(f"plain{depth}")
        assert not any("shortcut" in path for path, _ in network.named_modules())
        assert list(network.state_dict()) == list(on_meta(f"resnet{depth}").state_dict())
        with pytest.raises(ValueError, match="no option 'shortcut'"):
            on_meta(f"plain{depth}", shortcut="A")


def test_option_a_pads_with_zeros_on_both_sides() -> None:
    network = build_model("resnet20")
    assert isinstance(network, CifarResNet)
    x = torch.randn(2, 16, 7, 8)
    shortcut = network.conv3_x[0].get_submodule("shortcut")
    y = shortcut(x)
    assert y.shape == (2, 32, 4, 4)
    assert not y[:, :8].any() and not y[:, 24:].any()
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])


def test_block_adds_before_the_last_rectifier() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 5)
    for block, expected in ((Block(4, 4, 1, "A").eval(), x), (PlainBlock(4, 4, 1).eval(), torch.zeros_like(x))):
        y = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
        assert torch.equal(block(x), (y + expected).relu())


def order(network: PreactResNet, images: torch.Tensor) -> list[str]:
    """The layers with numbers, in the order in which a forward pass calls them."""
    calls: list[str] = []
    for path, layer in network.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            layer.register_forward_hook(lambda _, __, ___, path=path: calls.append(path))
    network(images)
    return calls


@pytest.mark.parametrize(("name", "layers"), [("preact_resnet110", 2), ("preact_resnet164", 3)])
def test_preactivation_order(name: str, layers: int) -> None:
    network = on_meta(name)
    assert isinstance(network, PreactResNet)
    calls = order(network, torch.empty(1, 3, 32, 32, device="meta"))
    assert calls[:2] == ["conv1", "conv2_x.0.bn1"]  # no batch norm between them, the first block's is the first
    assert calls[-2:] == ["bn", "fc"]  # an activation after the last addition
    body = [call.rpartition(".")[2] for call in calls if call.startswith("conv3_x.1.")]
    assert body == [f"{kind}{layer}" for layer in range(1, layers + 1) for kind in ("bn", "conv")]


def test_preactivated_blocks() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 6, 6)
    for first in (False, True):  # the first block's shortcut starts behind its activation
        block = PreactBlock(8, 8, 1, "A", first).eval()
        a = block.bn1(x).relu()
        y = block.conv2(block.bn2(block.conv1(a)).relu())
        assert torch.equal(block(x), y + (a if first else x))  # nothing after the addition
    zeros = PreactBlock(8, 16, 2, "A", first=False).eval()
    y = zeros.conv2(zeros.bn2(zeros.conv1(zeros.bn1(x).relu())).relu())
    assert torch.equal(zeros(x), y + ZeroPadding(8, 16, 2)(x))  # option A pads what is not activated
    three = PreactBottleneck(8, 4, 2, "B", first=False).eval()  # a projection sees what is activated
    a = three.bn1(x).relu()
    y = three.conv3(three.bn3(three.conv2(three.bn2(three.conv1(a)).relu())).relu())
    assert torch.equal(three(x), y + three.shortcut(a))
    assert isinstance(three.shortcut, nn.Conv2d)  # without a batch norm
    same = PreactBottleneck(16, 4, 1, "B", first=False).eval()
    x = torch.randn(2, 16, 6, 6)
    y = same.conv3(same.bn3(same.conv2(same.bn2(same.conv1(same.bn1(x).relu())).relu())).relu())
    assert torch.equal(same(x), y + x)


@pytest.mark.parametrize("name", ["preact_resnet110", "preact_resnet164"])
def test_only_the_first_block_and_projections_share_the_activation(name: str) -> None:
    for option in ("A", "B"):
        network = on_meta(name, shortcut=option)
        shared = [
            path for path, m in network.named_modules() if isinstance(m, (PreactBlock, PreactBottleneck)) and m.shares
        ]
        assert shared == (["conv2_x.0"] if option == "A" else ["conv2_x.0", "conv3_x.0", "conv4_x.0"])


def test_activation_after_the_last_addition() -> None:
    torch.manual_seed(0)
    network = build_model("preact_resnet110").eval()
    assert isinstance(network, PreactResNet)
    image = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        x = network.conv4_x(network.conv3_x(network.conv2_x(network.conv1(image))))
        assert x.min() < 0  # not rectified yet
        assert torch.allclose(network(image), network.fc(network.bn(x).relu().mean((2, 3))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet20", "plain20", "preact_resnet110", "preact_resnet164"])
def test_initialisation_is_he_2015s(name: str) -> None:
    torch.manual_seed(0)
    for layer in build_model(name).modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            deviation = math.sqrt(2 / layer.weight[0].numel())  # eq. 10
            assert layer.weight.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(layer.weight.numel()))
            assert layer.bias is None or not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.eq(1).all() and not layer.bias.any()


def test_sizes_other_than_32() -> None:
    assert on_meta("resnet20")(torch.empty(1, 3, 4, 29, device="meta")).shape == (1, 10)
    assert on_meta("preact_resnet164")(torch.empty(1, 3, 28, 28, device="meta")).shape == (1, 10)


# ------------------------------------------------------------------------------------------------ third-party weights


def test_akamasters_checkpoint_loads() -> None:
    if not CHECKPOINT.exists():
        pytest.skip("the third party's checkpoint is not in ../shared/data/checkpoints")
    saved = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
    network = build_model("resnet20").eval()
    network.load_state_dict(from_akamaster("resnet20", saved["state_dict"]))
    returned = to_akamaster("resnet20", network.state_dict())
    assert all(torch.equal(returned[key], value) for key, value in saved["state_dict"].items())
    assert {key.rpartition(".")[2] for key in set(returned) - set(saved["state_dict"])} == {"num_batches_tracked"}
    torch.manual_seed(0)
    with torch.no_grad():
        logits = network(torch.randn(4, 3, 32, 32))
    assert logits.isfinite().all() and logits.std() > 0.5


@pytest.mark.parametrize("name", ["resnet20", "resnet110"])
def test_akamasters_keys_there_and_back(name: str) -> None:
    ours = on_meta(name).state_dict()
    theirs = to_akamaster(name, ours)
    last = {"resnet20": 2, "resnet110": 17}[name]
    assert {"module.conv1.weight", f"module.layer3.{last}.bn2.running_var", "module.linear.bias"} <= set(theirs)
    assert all(key.startswith("module.") for key in theirs)
    for keys in (theirs, {key.removeprefix("module."): value for key, value in theirs.items()}):
        back = from_akamaster(name, keys)
        assert set(back) == set(ours) and all(back[key] is ours[key] for key in ours)


def test_akamaster_has_no_other_networks() -> None:
    for name in ("plain20", "preact_resnet110", "resnet18"):
        with pytest.raises(ValueError, match=f"akamaster has no network that equals {name}"):
            from_akamaster(name, {})
    with pytest.raises(ValueError, match=r"hold 'layer1\.3\.conv1\.weight'"):
        from_akamaster("resnet20", {"module.layer1.3.conv1.weight": torch.zeros(1)})
