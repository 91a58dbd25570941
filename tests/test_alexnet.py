"""AlexNet: response normalisation, the two groups, 55 positions, and every choice that the file's docstring names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from models import build_model
from models.alexnet import AlexNet, AlexNet2012, ResponseNorm
from models.keymaps import from_torchvision, to_torchvision


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_model(name)


@pytest.fixture(scope="module")
def paper_net() -> AlexNet2012:
    torch.manual_seed(0)
    network = build_model("alexnet_2012", num_classes=10).eval()
    assert isinstance(network, AlexNet2012)
    return network


@pytest.fixture(scope="module")
def one_tower() -> AlexNet:
    torch.manual_seed(0)
    network = build_model("alexnet", num_classes=10).eval()
    assert isinstance(network, AlexNet)
    return network


@pytest.mark.parametrize("name", ["alexnet_2012", "alexnet"])
def test_sides_are_55_27_13_6(name: str) -> None:
    network = on_meta(name).eval()
    sides: list[tuple[int, int]] = []
    for child in ("conv1", "pool1", "pool2", "pool5"):
        network.get_submodule(child).register_forward_hook(lambda _, __, out: sides.append(tuple(out.shape[-2:])))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert sides == [(55, 55), (27, 27), (13, 13), (6, 6)]


def test_conv1_is_padded_right_and_bottom_by_three(paper_net: AlexNet2012) -> None:
    image = torch.randn(1, 3, 224, 224)
    seen: list[torch.Tensor] = []
    hook = paper_net.conv1.register_forward_hook(lambda _, __, out: seen.append(out))
    paper_net(image)
    hook.remove()
    canvas = torch.zeros(1, 3, 227, 227)
    canvas[:, :, :224, :224] = image
    windows = F.unfold(canvas, 11, stride=4)  # (1, 363, 55 * 55)
    maps = paper_net.conv1.weight.flatten(1) @ windows[0]  # conv1 starts without biases
    assert torch.allclose(seen[0][0].flatten(1), maps, atol=1e-5)


def test_conv1_rounds_up_at_every_size(paper_net: AlexNet2012) -> None:
    for side in (64, 65, 66, 67, 68):
        padded = paper_net.conv1(F.pad(torch.zeros(1, 3, side, side), (0, 3, 0, 3)))
        assert padded.shape[-1] == 1 + -(-(side - 11) // 4)  # the original code: 1 + ceil((side - 11) / 4)


def test_response_norm_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    a = 50 * torch.randn(2, 7, 2, 3, dtype=torch.float64)
    b = ResponseNorm()(a)
    k, n, alpha, beta, maps = 2, 5, 1e-4, 0.75, 7
    for i in range(maps):
        for y in range(2):
            for x in range(3):
                window = range(max(0, i - n // 2), min(maps - 1, i + n // 2) + 1)
                total = sum(float(a[1, j, y, x]) ** 2 for j in window)
                expected = float(a[1, i, y, x]) / (k + alpha * total) ** beta
                assert float(b[1, i, y, x]) == pytest.approx(expected, rel=1e-12)
    assert torch.allclose(b, nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)(a))  # torch divides alpha by n
    assert not torch.allclose(b, nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)(a), rtol=0.01)  # the 2012 code


def test_response_norm_has_the_right_gradient() -> None:
    a = (10 * torch.randn(1, 6, 2, 2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(ResponseNorm(), (a,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_response_norm_in_half_precision(dtype: torch.dtype) -> None:
    a = 1000 * torch.randn(1, 96, 4, 4)  # whose squares are beyond half precision
    assert torch.allclose(ResponseNorm()(a.to(dtype)).float(), ResponseNorm()(a), rtol=0.03, atol=0.1)


def test_response_norm_follows_conv1_and_conv2_only(paper_net: AlexNet2012) -> None:
    norms = [name for name, layer in paper_net.named_modules() if isinstance(layer, ResponseNorm)]
    assert norms == ["norm1", "norm2"]
    assert all((n.k, n.n, n.alpha, n.beta) == (2.0, 5, 1e-4, 0.75) for n in (paper_net.norm1, paper_net.norm2))


def test_response_norm_crosses_the_groups(paper_net: AlexNet2012) -> None:
    a = torch.ones(1, 96, 1, 1)
    louder = a.clone()
    louder[:, 47] = 100.0  # the last map of the first half
    changed = (paper_net.norm1(louder) != paper_net.norm1(a)).flatten().nonzero().flatten().tolist()
    assert changed == [45, 46, 47, 48, 49]


def test_two_groups_meet_in_conv3_only(paper_net: AlexNet2012) -> None:
    groups = {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
    for name, count in groups.items():
        layer = paper_net.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        assert layer.groups == count
        x = torch.randn(1, layer.in_channels, 11, 11)
        changed = x.clone()
        changed[:, layer.in_channels // 2 :] += 1  # the second half
        moved = (layer(changed) != layer(x)).flatten(2).any(2)[0]
        assert moved[layer.out_channels // 2 :].all()
        assert moved[: layer.out_channels // 2].any() == (count == 1)


def order_of_layers(network: nn.Module) -> list[str]:
    order: list[str] = []
    for name, layer in network.named_children():
        layer.register_forward_hook(lambda _, __, ___, name=name: order.append(name))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    return order


def test_order_of_layers() -> None:
    assert order_of_layers(on_meta("alexnet_2012")) == [
        *("conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5", "average"),
        *("fc6", "dropout6", "fc7", "dropout7", "fc8"),
    ]
    assert order_of_layers(on_meta("alexnet")) == [
        *("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "average"),
        *("dropout6", "fc6", "dropout7", "fc7", "fc8"),
    ]


@pytest.mark.parametrize("name", ["alexnet_2012", "alexnet"])
def test_dropout_doubles_what_it_keeps(name: str) -> None:
    network = on_meta(name)
    for layer in (network.get_submodule("dropout6"), network.get_submodule("dropout7")):
        assert isinstance(layer, nn.Dropout)
        assert layer.p == 0.5
        assert set(layer(torch.ones(1000)).tolist()) == {0.0, 2.0}
        assert layer.eval()(torch.ones(1000)).eq(1).all()
    with torch.device("meta"):
        other = build_model(name, dropout=0.25).get_submodule("dropout6")
    assert isinstance(other, nn.Dropout) and other.p == 0.25


@pytest.mark.parametrize("name", ["alexnet_2012", "alexnet"])
def test_initialisation_is_that_of_2012(name: str, request: pytest.FixtureRequest) -> None:
    network = request.getfixturevalue("paper_net" if name == "alexnet_2012" else "one_tower")
    layers = {name: layer for name, layer in network.named_children() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    assert list(layers) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    for child, layer in layers.items():
        assert layer.bias is not None
        sample = layer.weight.flatten()[:1_000_000]
        assert sample.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(sample.mean().item()) < 2e-4
        assert sample.abs().max() > 0.03  # normal, not uniform
        assert layer.bias.eq(1.0 if child in ("conv2", "conv4", "conv5", "fc6", "fc7") else 0.0).all()


def test_one_tower_departs_from_2014(one_tower: AlexNet) -> None:
    convolutions = [layer for layer in one_tower.children() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 192, 384, 256, 256]  # the paper's conv4: 384
    assert [layer.groups for layer in convolutions] == [1] * 5
    assert not any(isinstance(layer, ResponseNorm) for layer in one_tower.modules())
    assert one_tower.conv1.padding == (2, 2)
    features = torch.randn(2, 256, 6, 6)
    logits = one_tower.forward_head(features)
    assert logits.min() < 0 < logits.max()  # nothing squashes them, as the paper's logistic units would


@pytest.mark.parametrize(("fixture", "smallest"), [("paper_net", 64), ("one_tower", 63)])
def test_sizes_other_than_224(fixture: str, smallest: int, request: pytest.FixtureRequest) -> None:
    network = request.getfixturevalue(fixture)
    pooled = torch.randn(1, 256, 6, 6)
    assert torch.equal(network.average(pooled), pooled)  # nothing changes at 224
    with torch.no_grad():
        assert network(torch.rand(1, 3, smallest, smallest + 30)).shape == (1, 10)
    for height, width in [(smallest - 1, 224), (224, smallest - 1)]:
        with pytest.raises(ValueError, match=f"at least {smallest} pixels a side, not {height} x {width}"):
            network(torch.rand(1, 3, height, width))


def test_smallest_sizes_are_the_smallest(paper_net: AlexNet2012, one_tower: AlexNet) -> None:
    """One pixel less leaves no whole window for pool5."""
    assert paper_net.conv1(F.pad(torch.zeros(1, 3, 63, 63), (0, 3, 0, 3))).shape[-1] == 14
    assert one_tower.conv1(torch.zeros(1, 3, 62, 62)).shape[-1] == 14
    x = paper_net.pool2(paper_net.pool1(torch.zeros(1, 1, 14, 14)))
    with pytest.raises(RuntimeError, match="Output size is too small"):
        paper_net.pool5(x)


def test_logits_equal_torchvisions() -> None:
    with torch.device("meta"):
        ours, theirs = build_model("alexnet").eval(), torchvision.models.alexnet(weights=None).eval()
    torch.manual_seed(0)
    weights = {key: torch.empty(value.shape, dtype=torch.float64) for key, value in ours.state_dict().items()}
    for value in weights.values():
        value.uniform_(-1, 1).mul_((3 / value[0].numel()) ** 0.5)
    ours.load_state_dict(weights, assign=True)
    theirs.load_state_dict(to_torchvision("alexnet", weights), assign=True)
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        logits = ours(images)
        assert logits.std() > 1e-3
        assert (logits - theirs(images)).abs().max() < 1e-10
    back = from_torchvision("alexnet", theirs.state_dict())
    assert list(back) == list(weights)
    assert all(back[key].data_ptr() == weights[key].data_ptr() for key in weights)
