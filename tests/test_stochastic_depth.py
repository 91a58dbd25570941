"""Stochastic depth: equal to timm's, the same draws on any number of devices, and nothing of it in an evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from test_settings import refused
from test_training import fit, images, recipe
from timm.layers.drop import DropPath
from torch import nn

from harness.data.loading import stateless
from harness.data.loading.stateless import Stream
from harness.training.classifier import Classifier
from harness.training.stochastic_depth import StochasticDepth
from models.resnet import Block, Bottleneck, PlainNet, ResNet
from models.resnet_cifar import Block as CifarBlock
from models.resnet_cifar import CifarResNet, PreactBlock, PreactBottleneck, PreactResNet

BLOCKS: dict[str, Callable[[], nn.Module]] = {
    "two layers": lambda: Block(8, 8, 1, "B"),
    "projection": lambda: Block(8, 12, 2, "B"),
    "three layers": lambda: Bottleneck(8, 2, 1, "C", "3x3"),
    "cifar": lambda: CifarBlock(8, 8, 1, "A"),
    "preact": lambda: PreactBlock(8, 8, 1, "A", first=False),
    "preact of three": lambda: PreactBottleneck(8, 2, 1, "B", first=True),
}


def branch(block: Any, x: torch.Tensor) -> Any:
    """What the layers of a block add to its shortcut."""
    if isinstance(block, (PreactBlock, PreactBottleneck)):
        y = block.conv2(F.relu(block.bn2(block.conv1(F.relu(block.bn1(x))))))
        return block.conv3(F.relu(block.bn3(y))) if isinstance(block, PreactBottleneck) else y
    y = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
    return block.bn3(block.conv3(F.relu(y))) if isinstance(block, Bottleneck) else y


def residual(block: Any, x: torch.Tensor, added: torch.Tensor) -> Any:
    """A block whose layers add this to its shortcut."""
    if isinstance(block, (PreactBlock, PreactBottleneck)):
        return added + block.shortcut(F.relu(block.bn1(x)) if block.shares else x)
    return F.relu(added + block.shortcut(x))


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_skips_what_timms_drop_path_drops(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm has it after the last layer of a block, before the addition."""
    torch.manual_seed(0)
    block = BLOCKS[kind]().train()
    x, keys = torch.randn(16, 8, 6, 6), torch.arange(100, 116)
    stays = stateless.uniform(2, 7, 3, Stream.DEPTH, keys)[:, 1] < 0.75
    assert 4 < stays.sum() < 16
    monkeypatch.setattr(torch.Tensor, "bernoulli_", lambda self, _: self.copy_(stays.float().view(-1, 1, 1, 1)))
    expected = residual(block, x, DropPath(0.25).train()(branch(block, x)))
    depth = StochasticDepth(nn.Sequential(BLOCKS[kind](), block), 0.25, seed=7)
    with depth.skipping(3, keys):
        found = block(x)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, block(x))


@pytest.mark.parametrize(
    "network",
    [
        lambda: ResNet(18),
        lambda: ResNet(50),
        lambda: CifarResNet(20),
        lambda: PreactResNet(20, PreactBlock, 10, 3, "A"),
        lambda: PreactResNet(29, PreactBottleneck, 10, 3, "B"),
    ],
)
def test_rates_rise_evenly_with_depth(network: Any) -> None:
    """timm: drop_path_rate * block / (blocks - 1)."""
    with torch.device("meta"):
        built = network()
    depth = StochasticDepth(built, 0.3, seed=0)
    blocks = {ResNet: 8 if built.num_features == 512 else 16}.get(type(built), 9)
    assert len(depth.branches) == blocks
    skipped = torch.zeros(blocks)
    with depth.skipping(0, torch.arange(20_000)):
        for number, one in enumerate(depth.branches):
            assert one.factor is not None
            rate = 0.3 * number / (blocks - 1)
            skipped[number] = (one.factor == 0).sum()
            assert set(one.factor.tolist()) <= {0.0, float(torch.tensor(1 / (1 - rate)))}
            assert scipy.stats.binomtest(int(skipped[number]), 20_000, rate).pvalue > 0.001
    assert skipped[0] == 0 and all(one.factor is None for one in depth.branches)


def test_draws_are_functions_of_seed_epoch_and_key_whatever_the_batch() -> None:
    def factors(seed: int, epoch: int, keys: torch.Tensor) -> torch.Tensor:
        depth = StochasticDepth(CifarResNet(20), 0.5, seed)
        with depth.skipping(epoch, keys):
            return torch.stack([one.factor for one in depth.branches if one.factor is not None])

    keys = torch.arange(64)
    whole = factors(1, 2, keys)
    for rank in range(3):
        assert torch.equal(factors(1, 2, keys[rank::3]), whole[:, rank::3])
    others = [factors(2, 2, keys), factors(1, 3, keys), factors(1, 2, keys + 64)]
    assert not any(torch.equal(whole, other) for other in others)
    assert len({tuple(row.tolist()) for row in whole[1:]}) == 8


def test_an_evaluation_and_the_tensors_are_as_without() -> None:
    torch.manual_seed(0)
    network = CifarResNet(20)
    plain, x = copy.deepcopy(network), torch.randn(4, 3, 16, 16)
    depth = StochasticDepth(network, 0.9, seed=0)
    assert network.state_dict().keys() == plain.state_dict().keys() and repr(network) == repr(plain)
    with depth.skipping(0, torch.arange(4)):
        assert torch.equal(network.eval()(x), plain.eval()(x))  # what does not train skips nothing
        assert not torch.equal(network.train()(x), plain.train()(x))
    for one in (network, copy.deepcopy(network)):
        one.load_state_dict(plain.state_dict())
        assert torch.equal(one.train()(x), copy.deepcopy(plain).train()(x))


def test_a_rate_of_0_adds_nothing() -> None:
    network = CifarResNet(20)
    assert Classifier(network, recipe(), 5, seed=0).depth is None
    assert not any(layer._forward_hooks for layer in network.modules())


class Wide(CifarResNet):
    """On grey images of 6 x 6 pixels."""

    def __init__(self) -> None:
        torch.manual_seed(2)
        super().__init__(8, num_classes=3, in_channels=1)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_skips_by_the_keys_of_its_images_and_validation_nothing(
    compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        compile_it = nn.Module.compile
        monkeypatch.setattr(nn.Module, "compile", lambda self, mode: compile_it(self, backend="eager"))
    seen: list[tuple[int, list[int]]] = []
    skipping = StochasticDepth.skipping
    monkeypatch.setattr(
        StochasticDepth,
        "skipping",
        lambda self, epoch, keys: seen.append((epoch, keys.tolist())) or skipping(self, epoch, keys),  # type: ignore[func-returns-value]
    )
    settings = recipe(stochastic_depth=0.5, repeats=2, learning_rate=0.01, epochs=2, compile=compiled)
    network = Wide()
    history = fit(network, tmp_path, settings).history
    assert [epoch for epoch, _ in seen] == [0] * 5 + [1] * 5
    assert all(len({key for e, keys in seen if e == epoch for key in keys}) == 37 for epoch in (0, 1))
    assert max(key for _, keys in seen for key in keys) >= 37, "of the second repeat, too"
    held_out = images(10, 1)
    with torch.no_grad():
        logits = network.eval()((held_out.images.float() / 255 - 0.5) / 0.5)
    assert history[-1].validation_loss == pytest.approx(float(F.cross_entropy(logits, held_out.labels)), rel=1e-4)
    plain = fit(Wide(), tmp_path, recipe(repeats=2, learning_rate=0.01, epochs=2)).history
    assert plain[0].train_loss != history[0].train_loss


def test_a_network_without_residual_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a network of residual blocks"):
        StochasticDepth(PlainNet(18), 0.1, seed=0)
    for model in ("plain20", "vgg11_bn", "lenet5"):
        said = refused("data=cifar10", f"model={model}", "recipe.stochastic_depth=0.1")
        assert said == (
            f"recipe.stochastic_depth=0.1: {model} has no residual blocks to skip; leave it out, or set it to 0"
        )
    assert refused("data=cifar10", "model=preact_resnet110", "recipe.stochastic_depth=0.1") is None
    assert "it is called recipe.stochastic_depth" in str(refused("recipe.drop_path=0.1"))
