"""hubconf.py: networks and weights for programs that have neither Lightning nor Hydra, and a `models` of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from conftest import ROOT
from torch import nn

from harness.weights.load import Weights
from models import MODELS, build_model
from models.keymaps import to_torchvision

hub: Any = torch.hub  # its functions have no types


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """torch's cache of weights, in a folder of the test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    yield place
    for name in [name for name in sys.modules if name.startswith("cnn_zoo_models")]:
        del sys.modules[name]


def load(name: str, **options: Any) -> nn.Module:
    network: nn.Module = hub.load(str(ROOT), name, source="local", **options)
    return network


def publish(name: str, weights: str, place: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A file of our numbers where torch looks for torchvision's; its name is all that is known of it there."""
    torch.save(tensors, place / Path(torchvision.models.get_model_weights(name)[weights].url).name)


def randomised(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(3)
    network = build_model(name, **options).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(1, 3)
    return network


def equal(network: nn.Module, other: nn.Module) -> bool:
    ours, theirs = network.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)


# ------------------------------------------------------------------------------------------- in a process of its own

PROGRAM = """
import sys

for name in ("lightning", "hydra", "omegaconf", "torchvision", "harness"):
    sys.modules[name] = None  # an import of it fails
import torch

if BEFORE:
    import models
    assert models.OWN == "the user's"
network = torch.hub.load(ZOO, "resnet20", source="local", num_classes=7)
assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
assert type(network).__name__ == "CifarResNet" and not type(network).__module__.startswith("models")
import models
import models.resnet
assert models.OWN == models.resnet.OWN == "the user's"
assert torch.hub.load(ZOO, "lenet5_1998", source="local")(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
try:
    torch.hub.load(ZOO, "resnet18", source="local", weights="IMAGENET1K_V1")
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("before", [False, True])
def test_without_lightning_and_hydra_and_beside_a_package_called_models(tmp_path: Path, before: bool) -> None:
    (tmp_path / "models").mkdir()
    for file in ("__init__.py", "resnet.py", "builders.py", "catalogue.py"):
        (tmp_path / "models" / file).write_text('OWN = "the user\'s"\n')
    program = PROGRAM.replace("BEFORE", repr(before)).replace("ZOO", repr(str(ROOT)))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "weights=IMAGENET1K_V1 is a file of torchvision's: pip install torchvision\n"


# ------------------------------------------------------------------------------------------------------------ networks


def test_list_and_help(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a repository on GitHub that is in the cache."""
    (cache.parent / "somebody_zoo_main").symlink_to(ROOT)
    (cache.parent / "trusted_list").write_text("somebody_zoo\n")
    github: dict[str, Any] = {"github": "somebody/zoo:main", "skip_validation": True, "trust_repo": True}
    assert sorted(hub.list(**github)) == sorted(MODELS)
    for name, entry in MODELS.items():
        said = str(hub.help(model=name, **github))
        assert f"{entry.parameters:,} parameters" in said and entry.paper in said and f"`{entry.classifier}`" in said
        assert all(weights in said for weights in entry.weights)
        assert f"num_classes={entry.num_classes}, in_channels={entry.in_channels}" in said
    assert "shortcut='B'" in str(hub.help(model="resnet50", **github))
    assert "hidden=(300,)" in str(hub.help(model="mlp", **github))


@pytest.mark.parametrize(
    ("name", "options"), [("lenet5", {}), ("resnet20", {"shortcut": "B"}), ("mlp", {"hidden": (9,), "image_size": 8})]
)
def test_a_fresh_network_is_that_of_build_model(name: str, options: dict[str, Any], cache: Path) -> None:
    torch.manual_seed(0)
    network = load(name, **options)
    torch.manual_seed(0)
    assert equal(network, build_model(name, **options))
    assert network.get_classifier() is network.get_submodule(network.classifier_name)  # type: ignore[operator,arg-type]


def test_two_versions_of_the_zoo_do_not_mix(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "other" / "models").mkdir(parents=True)
    (tmp_path / "other" / "hubconf.py").write_text((ROOT / "hubconf.py").read_text())
    shutil.copytree(ROOT / "models" / "weights", tmp_path / "other" / "models" / "weights")
    for file in (ROOT / "models").glob("*.py"):
        text = file.read_text().replace("class LeNet5(Network):", "class LeNet5(Network):\n    other = True\n")
        (tmp_path / "other" / "models" / file.name).write_text(text)
    assert not hasattr(load("lenet5"), "other")
    assert hasattr(hub.load(str(tmp_path / "other"), "lenet5", source="local"), "other")
    assert not hasattr(load("lenet5"), "other")


# ------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "DEFAULT"])
def test_published_weights_give_what_weights_of_train_and_eval_give(
    weights: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = to_torchvision("resnet18", randomised("resnet18").state_dict())
    publish("resnet18", weights, cache, tensors)
    monkeypatch.setattr("harness.weights.find._sha256", lambda path: path.stem.rpartition("-")[2])  # no true file
    network, other = load("resnet18", weights=weights).eval(), build_model("resnet18").eval()
    Weights(weights, "resnet18").load_into(other, training=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs = torchvision.models.resnet18().eval()
        theirs.load_state_dict(tensors)
        assert torch.equal(network(images), other(images))
        assert torch.equal(network(images), theirs(images))
    assert equal(network, other)


@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_published_weights_of_each_kind_of_key(name: str, cache: Path) -> None:
    own = randomised(name)
    tensors = to_torchvision(name, own.state_dict())
    older = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    publish(name, "IMAGENET1K_V1", cache, older)
    assert equal(load(name, weights="IMAGENET1K_V1"), own)


def test_files_of_this_machine(tmp_path: Path, cache: Path) -> None:
    own = randomised("resnet20")
    torch.save(own.state_dict(), tmp_path / "ours.pt")
    checkpoint = {
        "cnn_zoo": {"model": "resnet20"},
        "state_dict": {f"network.{k}": v for k, v in own.state_dict().items()},
    }
    torch.save(checkpoint, tmp_path / "last.ckpt")
    for file in ("ours.pt", "last.ckpt"):
        assert equal(load("resnet20", weights=tmp_path / file), own)
    with pytest.raises(ValueError, match="these are of resnet20, not of resnet32"):
        load("resnet32", weights=tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"fc.weight is \(10, 64\) in the file and \(3, 64\) in the network"):
        load("resnet20", weights=tmp_path / "ours.pt", num_classes=3)
    with pytest.raises(ValueError, match=r"other keys than the network: conv2_x\.3"):
        load("resnet32", weights=tmp_path / "ours.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="neither a checkpoint nor a state_dict"):
        load("resnet20", weights=tmp_path / "list.pt")


def test_weights_that_do_not_exist_or_hold_nothing(cache: Path) -> None:
    with pytest.raises(ValueError, match="neither a name nor a file; resnet50 has IMAGENET1K_V1, IMAGENET1K_V2"):
        load("resnet50", weights="IMAGENET1K_V3")
    with pytest.raises(ValueError, match="neither a name nor a file; there are no published weights of plain20"):
        load("plain20", weights="DEFAULT")
    with pytest.raises(ValueError, match="model resnet20 has no option 'depth'; it has: shortcut"):
        load("resnet20", depth=32)
    tensors = to_torchvision("resnet18", randomised("resnet18").state_dict())
    tensors["fc.weight"].fill_(torch.nan)  # as in IMAGENET1K_FEATURES, which has no classifier
    publish("resnet18", "IMAGENET1K_V1", cache, tensors)
    with pytest.raises(ValueError, match=r"fc.weight holds numbers that are not finite"):
        load("resnet18", weights="IMAGENET1K_V1")
