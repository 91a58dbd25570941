"""Weights under other keys: what a file lacks is counted as it is, shapes in order are told, a map is taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file
from torch import nn

from harness import compose, load
from harness.command import arguments
from harness.config.weights import check_map
from harness.errors import UserError
from harness.stories.check import check
from harness.weights.adapt import adapt
from harness.weights.load import Weights
from models import build_model

MAP = "conv1: c1\nconv2: c3\nfc1: c5\nfc2: f6\nfc3: output\n"
ONE_LINE = "{conv1: c1, conv2: c3, fc1: c5, fc2: f6, fc3: output}"


class Lesson(nn.Module):
    """LeNet as lessons write it, with this many values before its first fully connected layer."""

    def __init__(self, inputs: int = 400, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(inputs, 120), nn.Linear(120, 84), nn.Linear(84, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.avg_pool2d(self.conv1(images).tanh(), 2)
        x = nn.functional.avg_pool2d(self.conv2(x).tanh(), 2).flatten(1)
        logits: torch.Tensor = self.fc3(self.fc2(self.fc1(x).tanh()).tanh())
        return logits


def fully_connected() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10))


def saved(tmp_path: Path, network: nn.Module) -> str:
    torch.save(network.state_dict(), tmp_path / "a.pth")
    return str(tmp_path / "a.pth")


def key_map(tmp_path: Path, text: str) -> str:
    (tmp_path / "map.yaml").write_text(text, encoding="utf-8")
    return str(tmp_path / "map.yaml")


def refused(weights: str, model: str, weights_map: str | None = None, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        Weights(weights, model, weights_map).load_into(build_model(model, **options), training=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------ counted first


@pytest.mark.parametrize(
    ("network", "model", "counts"),
    [
        (Lesson(), "lenet5", "10 missing: c1.weight, c1.bias, c3.weight, ...; 10 unexpected: conv1.weight, "),
        (fully_connected(), "mlp", "4 missing: fc1.weight, fc1.bias, fc2.weight, ...; 4 unexpected: 1.weight, "),
        (fully_connected(), "lenet5", "10 missing: c1.weight, c1.bias, c3.weight, ...; 4 unexpected: 1.weight, "),
    ],
)
def test_what_is_missing_is_counted_before_any_layer_is_replaced(
    tmp_path: Path, network: nn.Module, model: str, counts: str
) -> None:
    assert refused(saved(tmp_path, network), model).startswith(f"model={model} weights=a.pth: {counts}")


def test_weights_of_which_nothing_would_be_left_do_not_fit(tmp_path: Path) -> None:
    torch.save({"total_ops": torch.ones(1)}, tmp_path / "a.pth")  # of which a reader takes nothing
    assert "4 missing: fc1.weight, fc1.bias, fc2.weight, ..." in refused(str(tmp_path / "a.pth"), "mlp")
    other = {"fc1.weight": torch.ones(7, 784), "fc1.bias": torch.ones(7)}
    linear = build_model("mlp", hidden=[])  # one layer: replaced, none of the file is left
    assert adapt(linear, other, backbone=False) == (other, ())
    two = build_model("mlp", num_classes=5)
    assert adapt(two, build_model("mlp").state_dict(), backbone=False)[1] == (
        "fc2 is new, with 5 outputs instead of 10",
    )


# ---------------------------------------------------------------------------------------------------- shapes in order


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "network", [Lesson(), Lesson(classes=7), Lesson(channels=3)], ids=["same", "classes", "channels"]
)
def test_shapes_that_fit_in_order_are_told_with_a_map(tmp_path: Path, network: nn.Module, ending: str) -> None:
    file = tmp_path / f"a.{ending}"
    torch.save(network.state_dict(), file) if ending == "pth" else save_file(network.state_dict(), file)
    said = refused(str(file), "lenet5")
    assert "its 10 tensors have the shapes of lenet5 in order, under other keys: if they mean the same" in said
    assert said.endswith(f"use weights_map=FILE with this line in FILE: {ONE_LINE}")
    said = refused(str(file), "resnet20")
    assert (
        "shapes of lenet5 in order" in said
        and f"use model=lenet5 and weights_map=FILE with this line in FILE: {ONE_LINE}" in said
    )


def test_a_proposed_map_is_taken_as_it_is(tmp_path: Path) -> None:
    network = build_model("resnet20")
    theirs = {
        key.replace("conv", "c").replace("bn", "norm"): value
        for key, value in network.state_dict().items()
        if "num_batches" not in key
    }
    torch.save(theirs, tmp_path / "a.pth")
    line = refused(str(tmp_path / "a.pth"), "resnet20").rpartition("in FILE: ")[2]
    fresh = build_model("resnet20")
    Weights(str(tmp_path / "a.pth"), "resnet20", key_map(tmp_path, line)).load_into(fresh, training=False)
    own = network.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in fresh.state_dict().items() if "num_batches" not in key)


@pytest.mark.parametrize("change", ["one more", "one less", "another shape", "another order"])
def test_shapes_that_do_not_fit_propose_nothing(tmp_path: Path, change: str) -> None:
    tensors = dict(Lesson().state_dict())
    if change == "one more":
        tensors["extra"] = torch.ones(1)
    elif change == "one less":
        del tensors["fc3.bias"]
    elif change == "another shape":
        tensors["fc2.weight"] = torch.ones(84, 121)
    else:
        tensors = {key: tensors[key] for key in (*list(tensors)[2:], *list(tensors)[:2])}
    torch.save(tensors, tmp_path / "a.pth")
    assert "weights_map" not in refused(str(tmp_path / "a.pth"), "lenet5")


@pytest.mark.parametrize("model", ["lenet5", "lenet5_1998", "lenet1"])
def test_the_lenet_without_padding_is_called_that(tmp_path: Path, model: str) -> None:
    said = refused(saved(tmp_path, Lesson(256)), model)
    assert "a LeNet-5 without padding, for 28 x 28 pixels: its first fully connected layer has 16 x 4 x 4 = 256" in said
    assert "no network of this zoo takes them: train model=lenet5" in said and "weights_map" not in said


# --------------------------------------------------------------------------------------------------------- a key map


def test_a_key_map_gives_their_logits_and_is_recorded(tmp_path: Path) -> None:
    theirs, ours = Lesson().eval(), build_model("lenet5").eval()
    weights_map = key_map(tmp_path, MAP)
    provenance = Weights(saved(tmp_path, theirs), "lenet5", weights_map).load_into(ours, training=False)
    images = torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))
    digest = hashlib.sha256(Path(weights_map).read_bytes()).hexdigest()
    assert provenance.adapted == (f"its keys are called as weights_map=map.yaml says, SHA-256 {digest}",)


MISTAKES = {
    "fc9: fc1": "the weights have no fc9; the nearest are: 1.bias, 1.weight, 3.bias",
    "1: fc1\n3: fc9": "mlp has no fc9.weight, for 3.weight; the nearest are: fc2.weight, fc1.weight",
    "1: fc1\n3: fc1": "both 1 and 3 are called fc1; drop one",
    "1: fc1\n3: fc2\n3.bias: fc2.bias": "fc2.bias is given twice, once by 3.bias",
    "1: fc1": "2 of the weights' 4 keys are not in it, such as 3.bias; give each our name, or null to leave it out",
    "1: fc1\n3.weight: fc2.weight\n3.bias: ~": "1 missing: fc2.bias; weights_map=",
    "1.weight: fc1.bias\n1.bias: fc1.weight\n3: fc2": r"2 of another shape: fc1.bias \(300, 784\) instead of \(300,\)",
    "1: fc1\n1: fc2": "line 1: the key '1' stands there twice",
    "[1, 2]": "must be YAML with a line for each key: theirs: ours",
    "": "must be YAML with a line for each key",
    "1: [fc1]": r"\['fc1'\] is not the name of a key",
    "1: fc1\n3: {": "not YAML that can be read",
    "1: fc1\n3: \x00": "not YAML that can be read",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_key_map_is_one_line(tmp_path: Path, text: str) -> None:
    weights_map = key_map(tmp_path, text)
    with pytest.raises(UserError, match=MISTAKES[text]) as caught:
        Weights(saved(tmp_path, fully_connected()), "mlp", weights_map).load_into(build_model("mlp"), training=True)
    assert "\n" not in str(caught.value) and "map.yaml" in str(caught.value)


def test_null_leaves_a_tensor_out_and_training_makes_a_new_one(tmp_path: Path) -> None:
    theirs = fully_connected()
    weights = Weights(saved(tmp_path, theirs), "mlp", key_map(tmp_path, "1: fc1\n3: null"))
    network = build_model("mlp")
    assert weights.load_into(network, training=True).adapted[0] == "fc2 is new, with 10 outputs"
    assert torch.equal(network.get_parameter("fc1.weight"), theirs.get_parameter("1.weight"))


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        (None, "belongs with weights=FILE"),
        ("IMAGENET1K_V1", "is for a file, and weights=IMAGENET1K_V1 is none"),
        ("a.pth", "map.yaml: there is no such file"),
    ],
)
def test_a_map_without_its_file_is_told_before_torch_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str | None, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").touch()
    with pytest.raises(UserError, match=line):
        check_map("map.yaml", weights)


def test_a_file_that_names_its_network_takes_no_map(tmp_path: Path) -> None:
    released = str(ROOT / "models" / "weights" / "lenet5-DIGITS.safetensors")
    with pytest.raises(
        UserError, match=r"lenet5-DIGITS.safetensors says which network it is of: leave weights_map out"
    ):
        Weights(released, "lenet5", key_map(tmp_path, MAP))


def by_training(tmp_path: Path, weights: str, weights_map: str) -> str:
    config = compose("train", model="lenet5", weights=weights, weights_map=weights_map)
    check(config)
    return str(config.weights_map)


def by_evaluation(tmp_path: Path, weights: str, weights_map: str) -> str:
    config = compose("eval", model="lenet5", data="digits", weights=weights, weights_map=weights_map)
    check(config)
    return str(config.weights_map)


def by_tools(tmp_path: Path, weights: str, weights_map: str) -> str:
    parser = arguments.Parser()
    arguments.add_network(parser)
    given = parser.parse_args(["model=lenet5", f"weights={weights}", f"weights_map={weights_map}"])
    arguments.check_network(given, None)
    return str(given.weights_map)


@pytest.mark.parametrize("way", [by_training, by_evaluation, by_tools])
def test_every_command_takes_a_map_and_checks_it(tmp_path: Path, way: Callable[[Path, str, str], str]) -> None:
    weights, weights_map = saved(tmp_path, Lesson()), key_map(tmp_path, MAP)
    assert way(tmp_path, weights, weights_map) == weights_map
    with pytest.raises(UserError, match="there is no such file"):
        way(tmp_path, weights, str(tmp_path / "nowhere.yaml"))
    key_map(tmp_path, "conv1: c1\nconv2: c1")
    with pytest.raises(UserError, match="both conv1 and conv2 are called c1"):
        way(tmp_path, weights, weights_map)


def test_a_library_loads_with_a_map(tmp_path: Path) -> None:
    theirs = Lesson().eval()
    ours = load("lenet5", weights=saved(tmp_path, theirs), data="digits", weights_map=key_map(tmp_path, MAP))
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.network(images), theirs(images))
    assert "map.yaml" in ours.source
