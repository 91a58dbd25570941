"""Weights: named, found, verified, never executed, converted to the last digit, and never loaded in part."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import pickle
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import torchvision
from conftest import ROOT
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import nn

from harness.config.data import DataConfig
from harness.config.facts import Preprocessing
from harness.config.fit import preprocessing_for
from harness.config.weights import check_name
from harness.data.sources.table import describe
from harness.errors import UserError
from harness.run.checkpoint import Provenance
from harness.weights.adapt import adapt
from harness.weights.find import find
from harness.weights.load import Weights
from harness.weights.read import read_tensors
from models import MODELS, build_model
from models.keymaps import to_akamaster, to_torchvision

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def randomised(network: nn.Module) -> nn.Module:
    """With batch norms that are not those of a fresh network, so that each of their numbers counts."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                tensor.uniform_(0.5, 1.5)
    return network.eval()


def resnet20(**options: Any) -> nn.Module:
    return randomised(build_model("resnet20", **options))


def loaded(weights: Path | str, model: str = "resnet20", training: bool = False, **options: Any) -> nn.Module:
    network = build_model(model, **options).eval()
    Weights(str(weights), model).load_into(network, training=training)
    return network


def equal(network: nn.Module, other: Mapping[str, torch.Tensor]) -> bool:
    own = network.state_dict()
    return own.keys() == other.keys() and all(torch.equal(own[key], other[key]) for key in own)


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("model", "weights", "line"),
    [
        ("alexnet_2012", "IMAGENET1K_V1", "IMAGENET1K_V1 belongs to alexnet, the 2014 form: use model=alexnet"),
        ("resnet50_2015", "DEFAULT", "belongs to resnet50, ResNet-50 v1.5: stride on the 3x3: use model=resnet50"),
        ("vgg16_c", "IMAGENET1K_FEATURES", "IMAGENET1K_FEATURES belongs to vgg16, configuration D: use model=vgg16"),
        (
            "resnet18",
            "IMAGENET1K_V2",
            "belongs to other networks: resnet50, resnet101, resnet152; resnet18 has IMAGENET1K_V1",
        ),
        ("plain20", "IMAGENET1K_V2", "IMAGENET1K_V2 belongs to other networks: resnet50, resnet101, resnet152$"),
        ("plain20", "DIGITS", "DIGITS belongs to other networks: "),
        ("resnet50", "IMAGENET1K_V3", "the nearest are: IMAGENET1K_V2, IMAGENET1K_V1; a file ends in .pth, "),
        ("plain20", "imagenet", "no weights have this name; the nearest are: IMAGENETTE"),
        ("resnet20", "timm:resnet50.a1_in1k", "these weights belong to resnet50: use model=resnet50"),
        ("resnet50", "timm:resnet50d.a1_in1k", "this zoo has no network 'resnet50d'; write timm:resnet50.<tag>"),
        ("resnet20", "nowhere/weights.pth", "weights=nowhere/weights.pth: there is no such file"),
    ],
)
def test_weights_that_do_not_exist(model: str, weights: str, line: str) -> None:
    with pytest.raises(UserError, match=line.replace("(", r"\(")) as caught:
        check_name(weights, model)
    assert f"weights={weights}" in str(caught.value)


def test_a_misspelt_name_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    program = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('HEAVY', sorted({'torch', 'torchvision'} & set(sys.modules))))\n"
        "sys.argv = ['train.py', 'model=resnet50', 'data=cifar10', 'weights=IMAGENET1K_V3', 'runs=' + sys.argv[1]]\n"
        "runpy.run_path('train.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "runs")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "weights=IMAGENET1K_V3: no weights have this name; the nearest are: IMAGENET1K_V2" in done.stderr
    assert done.stdout == "HEAVY []\n" and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.weights])
def test_the_catalogue_has_torchvisions_names_and_numbers(name: str) -> None:
    entries = torchvision.models.get_model_weights(name)
    assert set(MODELS[name].weights) == {entry.name for entry in entries}
    assert entries["DEFAULT"].name in MODELS[name].weights
    published = {known.source: known for known in MODELS[name].published}
    for entry in entries:
        known = published.get(f"torchvision {entry.name}, metadata")
        if known is not None:
            accuracy = entry.meta["_metrics"]["ImageNet-1K"]
            assert (known.top1_error, known.top5_error) == pytest.approx(
                (100 - accuracy["acc@1"], 100 - accuracy["acc@5"])
            )
        else:
            assert entry.name == "IMAGENET1K_FEATURES"


# --------------------------------------------------------------------------------------------------------- torchvision


class Entry:
    """One of torchvision's, with a file of our own."""

    def __init__(self, real: Any, url: str) -> None:
        self.name, self.url, self.meta, self.transforms = real.name, url, real.meta, real.transforms


@pytest.fixture
def torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, bytes], Path]:
    """Makes torchvision's entry of a model lead to a file of this content; gives the file's place in torch's cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def publish(model: str, name: str, content: bytes) -> Path:
        digest = hashlib.sha256(content).hexdigest()
        published = tmp_path / "server" / f"{model}-{digest[:8]}.pth"
        published.parent.mkdir(exist_ok=True)
        published.write_bytes(content)
        real = torchvision.models.get_model_weights(model)
        entry = Entry(real[name], published.as_uri())
        monkeypatch.setattr("torchvision.models.get_model_weights", lambda _: {name: entry, "DEFAULT": entry})
        return tmp_path / "torch" / "hub" / "checkpoints" / published.name

    return publish


def test_torchvisions_weights_are_downloaded_verified_and_give_its_logits(
    tmp_path: Path, torchvisions: Callable[[str, str, bytes], Path]
) -> None:
    theirs = randomised(torchvision.models.resnet18())
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    cached = torchvisions("resnet18", "IMAGENET1K_V1", (tmp_path / "x.pth").read_bytes())
    ours = build_model("resnet18").eval()
    weights = Weights("DEFAULT", "resnet18")
    provenance = weights.load_into(ours, training=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    assert provenance == Provenance(
        name="IMAGENET1K_V1",
        file=cached.name,
        sha256=hashlib.sha256(cached.read_bytes()).hexdigest(),
        source=(tmp_path / "server" / cached.name).as_uri(),
        recipe="https://github.com/pytorch/vision/tree/main/references/classification#resnet",
        published={"ImageNet-1K": {"top1_error": 30.242, "top5_error": 10.922}},
        trained_on="ImageNet-1K",
        part="",
        adapted=(),
    )
    assert weights.preprocessing == Preprocessing(3, 224, 256, "bilinear", *IMAGENET)
    assert Provenance.from_plain(json.loads(json.dumps(provenance.as_plain()))) == provenance


def test_a_file_put_into_the_cache_by_hand_is_used_and_a_damaged_one_is_named(
    torchvisions: Callable[[str, str, bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    cached = torchvisions("resnet50", "IMAGENET1K_V2", b"good")
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(UserError) as caught:
        find("IMAGENET1K_V2", "resnet50")
    assert f"{cached.name} is not in {cached.parent} and could not be downloaded (Name or service" in str(caught.value)
    assert "without a network, put the file there by hand, from file://" in str(caught.value)
    assert list(cached.parent.iterdir()) == []
    cached.write_bytes(b"good")
    found = find("IMAGENET1K_V2", "resnet50")
    assert found.file == cached and found.preprocessing == Preprocessing(3, 224, 232, "bilinear", *IMAGENET)
    assert found.published == {"ImageNet-1K": {"top1_error": 19.142, "top5_error": 4.566}}
    cached.write_bytes(b"goo")
    with pytest.raises(UserError, match=r"is damaged or another file: its SHA-256 begins with .* delete it") as caught:
        find("IMAGENET1K_V2", "resnet50")
    assert str(cached) in str(caught.value) and cached.read_bytes() == b"goo"


def test_a_download_that_is_damaged_leaves_nothing(
    tmp_path: Path, torchvisions: Callable[[str, str, bytes], Path]
) -> None:
    cached = torchvisions("resnet18", "IMAGENET1K_V1", b"good")
    (tmp_path / "server" / cached.name).write_bytes(b"truncated")
    with pytest.raises(UserError, match=r"could not be downloaded \(invalid hash value"):
        find("IMAGENET1K_V1", "resnet18")
    assert list(cached.parent.iterdir()) == []


def test_the_backbone_of_vgg16_is_known_as_one(torchvisions: Callable[[str, str, bytes], Path]) -> None:
    torchvisions("vgg16", "IMAGENET1K_FEATURES", b"any")
    found = find("IMAGENET1K_FEATURES", "vgg16")
    assert found.backbone and found.published is None and found.preprocessing is not None
    assert found.preprocessing.mean == (0.48235, 0.45882, 0.40784) and found.preprocessing.std == (1 / 255,) * 3
    with torch.device("meta"):
        network, tensors = build_model("vgg16", num_classes=7), build_model("vgg16").state_dict()
    adapted, lines = adapt(network, tensors, backbone=True)
    assert lines == ("fc6 is new, with 4,096 outputs", "fc7 is new, with 4,096 outputs", "fc8 is new, with 7 outputs")
    kept = {key for key in tensors if adapted[key] is tensors[key]}
    assert kept == {key for key in tensors if key.startswith("conv")}


@pytest.mark.slow
def test_the_backbone_of_vgg16_is_trained_and_not_evaluated(
    tmp_path: Path, torchvisions: Callable[[str, str, bytes], Path]
) -> None:
    theirs = torchvision.models.vgg16()
    for tensor in theirs.classifier.parameters():
        nn.init.constant_(tensor, torch.nan)  # as in the published file
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    torchvisions("vgg16", "IMAGENET1K_FEATURES", (tmp_path / "x.pth").read_bytes())
    network = loaded("IMAGENET1K_FEATURES", "vgg16", training=True, num_classes=10)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert network(images).isfinite().all()
    assert torch.equal(network.state_dict()["conv5_3.weight"], theirs.state_dict()["features.28.weight"])
    with pytest.raises(UserError, match=r"an evaluation changes no weights, .*: fc6 is new"):
        loaded("IMAGENET1K_FEATURES", "vgg16")


# ---------------------------------------------------------------------------------------------------------------- timm


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of timm's in the layout of the hub's cache, which is all that there is: no network."""
    snapshot = tmp_path / "hub" / "snapshots" / "0"
    snapshot.mkdir(parents=True)

    def download(repository: str, name: str, local_files_only: bool = False) -> str:
        assert repository == "timm/resnet18.a1_in1k"
        assert local_files_only or not (snapshot / name).exists(), "the cache is asked first"
        if not (snapshot / name).exists():
            raise LocalEntryNotFoundError("no network")
        return str(snapshot / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return snapshot


def test_timms_weights_and_preprocessing(hub: Path) -> None:
    with pytest.raises(
        UserError, match=r"model.safetensors of timm/resnet18.a1_in1k is not in the hub's cache .*=FILE"
    ):
        find("timm:resnet18.a1_in1k", "resnet18")
    theirs = randomised(timm.create_model("resnet18.a1_in1k"))
    blob = hub.parent.parent / "blob"
    save_file(theirs.state_dict(), blob)
    digest = hashlib.sha256(blob.read_bytes()).hexdigest()
    blob = blob.rename(blob.with_name(digest))
    (hub / "model.safetensors").symlink_to(blob)
    config = {"architecture": "resnet18", "num_classes": 1000, "pretrained_cfg": theirs.pretrained_cfg}
    (hub / "config.json").write_text(json.dumps(config))
    weights = Weights("timm:resnet18.a1_in1k", "resnet18")
    ours = build_model("resnet18").eval()
    provenance = weights.load_into(ours, training=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))
    assert (provenance.sha256, provenance.recipe, provenance.file) == (digest, "a1_in1k", "model.safetensors")
    assert provenance.source == "https://huggingface.co/timm/resnet18.a1_in1k"
    expected = resolve_data_config({}, model=theirs, use_test_size=True)  # type: ignore[no-untyped-call]
    transform: Any = create_transform(**expected)
    assert weights.preprocessing == Preprocessing(
        3, expected["input_size"][1], transform.transforms[0].size, "bicubic", expected["mean"], expected["std"]
    )
    (hub / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config.json of timm/resnet18.a1_in1k is damaged"):
        find("timm:resnet18.a1_in1k", "resnet18")
    blob.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"{digest} is damaged; delete it"):
        find("timm:resnet18.a1_in1k", "resnet18")


# --------------------------------------------------------------------------------------------------------- local files


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


WRAPPINGS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "bare": lambda t: t,
    "module.": lambda t: prefixed("module.", t),
    "model.": lambda t: {"state_dict": prefixed("model.", t), "epoch": 3, "pytorch-lightning_version": "2"},
    "_orig_mod.": lambda t: {"model": prefixed("_orig_mod.module.", t), "args": argparse.Namespace(lr=0.1)},
    "module._orig_mod.": lambda t: {"model_state_dict": prefixed("module._orig_mod.", t), "best": 0.5},
    "nested": lambda t: {"model": {"state_dict": t}},
    "akamaster": lambda t: {"state_dict": to_akamaster("resnet20", t), "best_prec1": 91.0},
    "without counters": lambda t: {key: value for key, value in t.items() if "num_batches" not in key},
    "half precision": lambda t: {key: value.half() if value.is_floating_point() else value for key, value in t.items()},
}


@pytest.mark.parametrize("ending", [".pth", ".pt", ".th", ".ckpt"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_files(tmp_path: Path, wrapping: str, ending: str) -> None:
    network = resnet20()
    tensors = network.state_dict()
    if wrapping == "half precision":
        tensors = {key: value.half().to(value.dtype) for key, value in tensors.items()}
    path = tmp_path / f"a file{ending}"
    torch.save(WRAPPINGS[wrapping](network.state_dict()), path)
    assert equal(loaded(path), tensors)


def test_safetensors(tmp_path: Path) -> None:
    network = resnet20()
    save_file(prefixed("module.", network.state_dict()), tmp_path / "a.safetensors")
    assert equal(loaded(tmp_path / "a.safetensors"), network.state_dict())
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a.safetensors: damaged or not a file of safetensors"):
        loaded(tmp_path / "a.safetensors")


@pytest.mark.parametrize("key", ["model_ema", "state_dict_ema"])
def test_of_averaged_and_plain_weights_the_averaged_are_taken(tmp_path: Path, key: str) -> None:
    network = resnet20()
    averaged = torch.optim.swa_utils.AveragedModel(network)
    with torch.no_grad():
        network.get_parameter("fc.bias").add_(1)
    torch.save({"model": network.state_dict(), key: averaged.state_dict(), "epoch": 1}, tmp_path / "a.pth")
    weights = Weights(str(tmp_path / "a.pth"), "resnet20")
    fresh = build_model("resnet20")
    provenance = weights.load_into(fresh, training=False)
    assert equal(fresh, averaged.module.state_dict()) and not equal(fresh, network.state_dict())
    assert provenance.part == key and f"its {key}" in str(provenance)


def test_a_checkpoint_of_ours(trained_run: Path) -> None:
    path = trained_run / "checkpoints" / "last.ckpt"
    weights = Weights(str(path), "lenet5")
    network = build_model("lenet5")
    provenance = weights.load_into(network, training=False)
    assert (provenance.recipe, provenance.trained_on, provenance.source) == ("sgd_cosine", "digits", "local file")
    assert weights.class_names == tuple("0123456789")
    assert weights.preprocessing is not None and weights.preprocessing.mean == (0.1716,)
    assert provenance.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="these weights belong to lenet5: use model=lenet5"):
        Weights(str(path), "lenet4")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("with_torch", [True, False])
@pytest.mark.parametrize("ending", [".pth", ".ckpt"])
def test_code_in_a_file_never_runs(tmp_path: Path, with_torch: bool, ending: str) -> None:
    made, path = tmp_path / "made", tmp_path / f"evil{ending}"
    content = {"state_dict": resnet20().state_dict(), "args": Malicious(made)}
    if with_torch:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(made)))
    with pytest.raises(UserError, match="may hold code and was not loaded"):
        loaded(path)
    assert not made.exists()
    with path.open("rb") as file:  # the file is a real attack: it works on a reader that trusts it
        torch.load(file, weights_only=False) if with_torch else pickle.load(file)
    assert made.exists()


def test_files_without_weights(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    contents: list[Any] = [{}, {"epoch": 1}, [1, 2], torch.zeros(3), {"state_dict": {}}, {"model": {"lr": 0.1}}]
    for content in (*contents, endless):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(UserError, match=r"a.pth: holds no weights: neither tensors nor a dictionary of them under"):
            read_tensors(tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match=r"a.pth: "):
        read_tensors(tmp_path / "a.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(UserError, match="not the folder of a run"):
        loaded(tmp_path / "folder.pth")


# ------------------------------------------------------------------------------------------------------------ mismatch


def save(tmp_path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    torch.save(dict(tensors), tmp_path / "a.pth")
    return tmp_path / "a.pth"


@pytest.mark.parametrize("foreign", [False, True])
def test_the_network_that_the_weights_are_of_is_named(tmp_path: Path, foreign: bool) -> None:
    tensors = build_model("resnet32", num_classes=7).state_dict()
    path = save(tmp_path, to_akamaster("resnet32", tensors) if foreign else tensors)
    with pytest.raises(UserError, match=r"72 unexpected: .*these weights fit resnet32.*: use model=resnet32") as caught:
        loaded(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_torchvisions_form_is_told_from_the_papers(tmp_path: Path) -> None:
    theirs = to_torchvision("resnet50", build_model("resnet50", num_classes=2).state_dict())
    with pytest.raises(UserError, match=r"these weights fit resnet50: use model=resnet50$"):
        loaded(save(tmp_path, theirs), "resnet50_2015")


def test_options_that_do_not_fit_are_told(tmp_path: Path) -> None:
    path = save(tmp_path, to_akamaster("resnet20", resnet20().state_dict()))
    with pytest.raises(
        UserError, match=r"missing: conv3_x.0.shortcut.*with the options of configs/model/resnet20.yaml"
    ):
        loaded(path, shortcut="B")


def test_the_likely_cause_of_weights_of_no_network(tmp_path: Path) -> None:
    projections = save(tmp_path, resnet20(shortcut="B").state_dict())
    with pytest.raises(
        UserError, match=r"12 unexpected: .*most like resnet20 \(116 of 128 tensors fit\): a variant of"
    ):
        loaded(projections)
    wide = build_model("mlp", hidden=[20]).state_dict()
    with pytest.raises(UserError, match=r"the layers of mlp in other sizes: set the options that configs/model"):
        loaded(save(tmp_path, wide), "mlp")
    foreign = {f"blocks.{number}.weight": torch.zeros(1) for number in range(200)}
    with pytest.raises(
        UserError, match=r"200 unexpected: blocks.0.weight, .*these weights fit no network of this zoo$"
    ):
        loaded(save(tmp_path, foreign))


@pytest.mark.parametrize("house", ["ours", "akamaster"])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("missing", r"resnet20 weights=a.pth: 1 missing: conv1.weight; these weights are most like resnet20 "),
        (
            "unexpected",
            r"resnet20 weights=a.pth: 1 unexpected: (module.)?(linear|fc).extra; these weights are most like resnet20 ",
        ),
        ("shape", r"1 of another shape: conv2_x.0.conv1.weight \(16, 16, 5, 5\) instead of \(16, 16, 3, 3\)"),
    ],
)
def test_no_weights_are_loaded_in_part(tmp_path: Path, house: str, change: str, line: str) -> None:
    tensors = resnet20().state_dict()
    if change == "missing":
        del tensors["conv1.weight"]
    if change == "shape":
        tensors["conv2_x.0.conv1.weight"] = torch.zeros(16, 16, 5, 5)
    if house == "akamaster":
        tensors = to_akamaster("resnet20", tensors)
    if change == "unexpected":
        tensors["fc.extra" if house == "ours" else "module.linear.extra"] = torch.zeros(1)
    network = resnet20()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    weights = Weights(str(save(tmp_path, tensors)), "resnet20")
    with pytest.raises(match=line):
        weights.load_into(network, training=True)
    assert equal(network, before)


def test_weights_of_no_network_of_the_zoo(tmp_path: Path) -> None:
    tensors = {"conv1.weight": torch.zeros(16, 3, 3, 3), "norm.weight": torch.zeros(16)}
    with pytest.raises(UserError, match=r"1 unexpected: norm.weight; these weights fit no network of this zoo$"):
        loaded(save(tmp_path, tensors))


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    tensors = resnet20().state_dict()
    tensors["bn1.running_var"][3] = torch.nan
    with pytest.raises(UserError, match=r"bn1.running_var has numbers that are not finite; use another file"):
        loaded(save(tmp_path, tensors), training=True)


# ---------------------------------------------------------------------------------------------------------- adaptation


def test_other_classes_replace_the_classifier_in_training_alone(tmp_path: Path) -> None:
    network = resnet20()
    path = save(tmp_path, network.state_dict())
    torch.manual_seed(1)
    drawn = build_model("resnet20", num_classes=7).state_dict()["fc.weight"]
    torch.manual_seed(1)
    fresh = build_model("resnet20", num_classes=7)
    provenance = Weights(str(path), "resnet20").load_into(fresh, training=True)
    assert provenance.adapted == ("fc is new, with 7 outputs instead of 10",)
    assert "fc is new, with 7 outputs instead of 10" in str(provenance)
    assert torch.equal(fresh.state_dict()["fc.weight"], drawn)
    others = {key: value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    assert all(torch.equal(fresh.state_dict()[key], value) for key, value in others.items())
    with pytest.raises(UserError, match=r"an evaluation changes no weights, .*fc is new, .* train.py adapts them"):
        loaded(path, num_classes=7)


def test_a_classifier_that_is_missing_is_new_in_training_alone(tmp_path: Path) -> None:
    tensors = resnet20().state_dict()
    path = save(tmp_path, {key: value for key, value in tensors.items() if not key.startswith("fc.")})
    network = build_model("resnet20")
    drawn = network.state_dict()["fc.weight"].clone()
    provenance = Weights(str(path), "resnet20").load_into(network, training=True)
    assert provenance.adapted == ("fc is new, with 10 outputs",)
    assert equal(network, tensors | {"fc.weight": drawn, "fc.bias": network.state_dict()["fc.bias"]})
    with pytest.raises(UserError, match=r"an evaluation changes no weights, .*fc is new"):
        loaded(path)
    half = save(tmp_path, {key: value for key, value in tensors.items() if key != "fc.bias"})
    with pytest.raises(UserError, match=r"1 missing: fc.bias"):
        loaded(half, training=True)


def test_other_channels_adapt_conv1_in_training_alone(tmp_path: Path) -> None:
    network = resnet20()
    path = save(tmp_path, network.state_dict())
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = network(grey.expand(2, 3, 32, 32))
        one, six = (loaded(path, training=True, in_channels=channels) for channels in (1, 6))
        assert torch.allclose(one(grey), expected, atol=1e-4)
        colour = torch.randn(2, 3, 32, 32)
        assert torch.allclose(six(torch.cat((colour, colour), 1)), network(colour), atol=1e-4)
    theirs = network.state_dict()["conv1.weight"]
    four = loaded(path, training=True, in_channels=4).state_dict()["conv1.weight"]
    assert torch.allclose(four, theirs[:, [0, 1, 2, 0]] * 0.75)
    for channels in (1, 4):
        with pytest.raises(UserError, match=r"an evaluation changes no weights, .*: conv1 takes "):
            loaded(path, in_channels=channels)
    assert (
        adapt(build_model("resnet20", in_channels=1), network.state_dict(), False)[1][0]
        == "conv1 takes 1 channel: the sum over 3"
    )


def test_preprocessing_of_the_weights_comes_before_the_datas() -> None:
    data = DataConfig("cifar10", "", False, 0, [0.5] * 3, [0.5] * 3)
    own = preprocessing_for("resnet20", data, describe(data))
    assert own == Preprocessing(3, 32, None, None, (0.5,) * 3, (0.5,) * 3)
    weights = Preprocessing(3, 224, 256, "bilinear", *IMAGENET)
    assert preprocessing_for("resnet20", data, describe(data), weights) == dataclasses.replace(
        own, mean=IMAGENET[0], std=IMAGENET[1]
    )
    grey = dataclasses.replace(weights, channels=1, mean=(0.1,), std=(0.2,))
    assert preprocessing_for("resnet20", data, describe(data), grey) == own


# --------------------------------------------------------------------------------------------- what people's files hold


def beside(state: dict[str, Any]) -> dict[str, Any]:
    """Plain values of every kind that people save."""
    return {
        "net": state,
        "acc": 93.1,
        "best": np.float64(93.1),
        "history": np.arange(3.0),
        "file": Path("/data/x"),
        "windows": pathlib.PureWindowsPath("c:/x"),
        "log": defaultdict(list, loss=[0.1]),
        "when": datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
        "args": argparse.Namespace(lr=0.1),
        "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    }


FORMS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "beside other values": beside,
    "mixed with other values": lambda state: {**state, "epoch": 5, "when": datetime.date(2020, 1, 2)},
    "deep": lambda state: {"checkpoint": {"weights": state}, "optimizer": {"state": {}}},
    "beside a criterion": lambda state: {
        **{f"model.{key}": value for key, value in state.items()},
        "criterion.weight": torch.ones(10),
    },
    "net": lambda state: {f"net.{key}": value for key, value in state.items()},
    "backbone beside a head": lambda state: {
        **{f"encoder.backbone.{key}": value for key, value in state.items()},
        **{f"projector.{layer}.weight": torch.ones(2, 2) for layer in range(3)},
    },
    "parallel inside": lambda state: {key.replace(".", ".module.", 1): value for key, value in state.items()},
    "parallel outside and in": lambda state: {
        f"module.{key.replace('.', '.module.', 1)}": value for key, value in state.items()
    },
    "counted by thop": lambda state: {
        **state,
        **{f"{key.rpartition('.')[0]}.total_ops": torch.zeros(1) for key in state},
        **{"total_ops": torch.zeros(1), "total_params": torch.zeros(1)},
    },
    "arrays": lambda state: {key: value.numpy() for key, value in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_in_which_people_have_weights(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = build_model("resnet20")
    state = dict(randomised(build_model("resnet20")).state_dict())
    torch.save(FORMS[form](state), tmp_path / "a.pth")
    with caplog.at_level("INFO", "cnn_zoo"):
        Weights(str(tmp_path / "a.pth"), "resnet20").load_into(network, training=False)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    others = ("mixed with other values", "beside a criterion", "backbone beside a head")
    said = [record.message for record in caplog.records if "not the network's, and ignored: " in record.message]
    assert bool(said) == (form in (*others, "counted by thop"))


class Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch hacked",)


def test_only_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"net": build_model("lenet5").state_dict(), "extra": Code()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"it may hold code and was not loaded: it names .*system"):
        Weights("a.pth", "lenet5")
    assert not (tmp_path / "hacked").exists()


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path))


NO_WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a page": (lambda path: path.write_text("\n<!DOCTYPE html><html>sign in"), "an HTML page in place of weights"),
    "a pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "a pointer of Git LFS in place of the file: git lfs pull",
    ),
    "ONNX": (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(99)), "an ONNX file, which onnxruntime"),
    "TorchScript": (scripted, "a TorchScript file, which is a program"),
}


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_a_file_that_is_something_else_is_called_what_it_is(kind: str, ending: str, tmp_path: Path) -> None:
    write, line = NO_WEIGHTS[kind]
    write(tmp_path / f"a.{ending}")
    with pytest.raises(UserError, match=f"a.{ending}: {line}"):
        read_tensors(tmp_path / f"a.{ending}")
