"""tools/export.py: every file says what the network says, in its own runtime, or it is not there."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_weights import randomised
from torch import nn

from harness.command import export as export_command
from harness.config.data import DataConfig
from harness.config.facts import Preprocessing
from harness.errors import UserError
from harness.export import formats
from harness.export.endings import ENDINGS
from harness.export.export import Compared, DifferenceError, export
from harness.export.formats import EXTRA_FILE
from harness.prediction.network import Loaded
from harness.prediction.network import load_file as load_network_file
from harness.run.checkpoint import KEY, Provenance, Trained
from harness.weights.load import Weights
from models import MODELS, build_model

GREY = Preprocessing(1, 32, None, None, (0.5,), (0.25,))
NAMES = ("zéro", "one two", *"23456789")
EXACT = ("safetensors", "torchvision")
BY_ONNX = ("lenet5_1998", "lenet5", "alexnet_2012", "alexnet", "vgg11_lrn", "vgg11_bn", "resnet18", "resnet20")
Tool = Callable[..., tuple[int, str, str]]


def need_onnx(format_name: str) -> None:
    if format_name == "onnx":
        for package in ("onnx", "onnxruntime", "onnxscript"):
            pytest.importorskip(package, reason=f"{package} is not installed: pip install 'cnn-zoo[export]'")


def lenet5() -> Loaded:
    data = DataConfig("digits", "/home/somebody/data", False, 0, [0.5], [0.25])
    trained = Trained("lenet5", {}, NAMES, GREY, data, {"seed": 3, "recipe": {"name": "sgd_cosine"}})
    return Loaded(randomised(build_model("lenet5")), trained, "a test")


def of_zoo(name: str, size: int, **options: Any) -> Loaded:
    entry = MODELS[name]
    channels = options.pop("in_channels", entry.in_channels)
    expected = Preprocessing(channels, size, None, None, (0.5,) * channels, (0.25,) * channels)
    trained = Trained(name, options, NAMES, expected, None, None)
    network = build_model(name, num_classes=10, in_channels=channels, image_size=size, **options)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as after training: at 1, fifty untrained blocks overflow
            layer.running_var = torch.full_like(layer.bias, 2.0)
    return Loaded(network.eval(), trained, "a test")


def small_size(name: str) -> int:
    """A side in pixels that is cheap."""
    entry = MODELS[name]
    sizes = {"mlp": 28, "resnet": 64, "resnet_cifar": 8, "vgg": 32, "alexnet": 64}
    return entry.max_size or sizes[entry.family]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """tools/export.py in this process: its exit code, and what it printed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["export.py", *map(str, words)])
        capsys.readouterr()
        return export_command.main(), *capsys.readouterr()

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A network's file, which the tool can start from."""
    (tmp_path / "from").mkdir()
    export(lenet5(), "safetensors", tmp_path / "from" / "lenet5.safetensors")
    return tmp_path / "from" / "lenet5.safetensors"


# ------------------------------------------------------------------------------------------ what other programs read


@pytest.mark.parametrize("format_name", ["safetensors", "torch_export", "onnx"])
def test_any_number_of_images_and_what_is_known_go_along(format_name: str, tmp_path: Path) -> None:
    """Read by the formats' own libraries alone, as a program that knows nothing of this project would."""
    need_onnx(format_name)
    loaded, out = lenet5(), tmp_path / f"lenet5{ENDINGS[format_name]}"
    compared = export(loaded, format_name, out)
    assert [line.images for line in compared] == ["3 random images", "10 handwritten digits"]
    run: Callable[[torch.Tensor], torch.Tensor]
    if format_name == "safetensors":
        with safe_open(out, framework="pt") as opened:
            metadata = opened.metadata()
        network = build_model("lenet5").eval()
        network.load_state_dict(load_file(out))
        text, run = metadata[KEY], network
    elif format_name == "torch_export":
        extra = {EXTRA_FILE: ""}
        run = torch.export.load(out, extra_files=extra).module()
        text = extra[EXTRA_FILE]
    else:
        import onnx
        import onnxruntime

        model = onnx.load(out)
        onnx.checker.check_model(model, full_check=True)
        text = {entry.key: entry.value for entry in model.metadata_props}[KEY]
        session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
        (images,), (logits,) = session.get_inputs(), session.get_outputs()
        assert (images.name, images.shape[1:], logits.name, logits.shape[1:]) == ("images", [1, 32, 32], "logits", [10])
        run = lambda batch: torch.from_numpy(session.run(None, {"images": batch.numpy()})[0])  # noqa: E731
    for size in (1, 2, 7):
        batch = torch.randn(size, 1, 32, 32)
        with torch.no_grad():
            assert torch.allclose(run(batch), loaded.network(batch), rtol=0, atol=0 if format_name in EXACT else 1e-5)
    described = json.loads(text)
    assert (described["model"], described["class_names"]) == ("lenet5", list(NAMES))
    assert Preprocessing.from_plain(described["preprocessing"]) == GREY
    assert described["data"]["name"] == "digits" and "somebody" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name]


@pytest.mark.parametrize(
    "name",
    [
        name if name == "resnet18" else pytest.param(name, marks=pytest.mark.slow)
        for name, entry in MODELS.items()
        if entry.weights
    ],
)
def test_torchvisions_network_loads_its_own_keys(name: str, tmp_path: Path) -> None:
    size, out = small_size(name), tmp_path / f"{name}.pth"
    loaded = of_zoo(name, size)
    randomised(loaded.network)
    compared = export(loaded, "torchvision", out)
    assert all(line.largest_difference == 0 for line in compared)
    network = torchvision.models.get_model(name, num_classes=10).eval()
    network.load_state_dict(torch.load(out, weights_only=True))
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        logits = loaded.network(images)
        assert torch.allclose(network(images), logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
    described = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert described["class_names"] == list(NAMES) and described["preprocessing"]["size"] == size
    again = load_network_file(out)
    assert again.trained.class_names == NAMES and Weights(str(out), name).class_names == NAMES
    with torch.no_grad():
        assert torch.equal(again.network(images), logits)
    torch.save(network.state_dict(), out)  # another file of the same name
    assert Weights(str(out), name).class_names is None
    out.with_suffix(".json").write_text('["another program"]')
    assert Weights(str(out), name).class_names is None


def test_a_file_of_ours_is_read_back_with_names_and_preprocessing(tmp_path: Path) -> None:
    loaded, out = lenet5(), tmp_path / "lenet5.safetensors"
    export(loaded, "safetensors", out)
    again = load_network_file(out)
    assert loaded.trained.data is not None
    without_place = dataclasses.replace(loaded.trained.data, root=".")
    assert again.trained == dataclasses.replace(loaded.trained, data=without_place)
    weights = Weights(str(out), "lenet5")
    assert (weights.class_names, weights.preprocessing) == (NAMES, GREY)
    network = build_model("lenet5")
    provenance = weights.load_into(network, training=False)
    assert isinstance(provenance, Provenance)
    assert (provenance.trained_on, provenance.recipe, provenance.part) == ("digits", "sgd_cosine", "")
    for key, value in loaded.network.state_dict().items():
        assert torch.equal(network.state_dict()[key], value) and torch.equal(again.network.state_dict()[key], value)
    with pytest.raises(UserError, match="these weights belong to lenet5: use model=lenet5"):
        Weights(str(out), "lenet4")


@pytest.mark.parametrize(
    ("described", "line"),
    [
        ("{", r"its description of the network is damaged \(JSONDecodeError\)"),
        ('{"version": 1}', r"its description of the network is damaged \(no 'training'\)"),
        ('{"version": 9}', "checkpoint version 9; this program reads versions 1 to 2"),
    ],
)
def test_a_file_with_a_damaged_description(described: str, line: str, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {KEY: described})
    with pytest.raises(UserError, match=line):
        load_network_file(tmp_path / "a.safetensors")


def test_a_file_whose_numbers_are_of_another_network(file: Path, tmp_path: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(UserError, match="says that it is of lenet5, but its tensors are not"):
        load_network_file(tmp_path / "a.safetensors")


# ----------------------------------------------------------------------------------------------- nothing that is wrong


def wrong(loaded: Loaded) -> Loaded:
    """The same network with one number changed a little."""
    network = loaded.fresh()
    network.load_state_dict(loaded.network.state_dict())
    with torch.no_grad():
        next(iter(network.parameters())).view(-1)[0] += 0.01
    return dataclasses.replace(loaded, network=network)


@pytest.mark.parametrize("format_name", ENDINGS)
def test_a_file_that_says_something_else_is_removed(
    format_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_onnx(format_name)
    loaded = of_zoo("resnet18", 32) if format_name == "torchvision" else lenet5()
    right = formats.FORMATS[format_name]
    bad = dataclasses.replace(right, write=lambda loaded: right.write(wrong(loaded)))
    monkeypatch.setitem(formats.FORMATS, format_name, bad)
    with pytest.raises(DifferenceError, match=r"on 3 random images its logits are up to \S+ from the network's"):
        export(loaded, format_name, tmp_path / f"a{ENDINGS[format_name]}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong_for", [1, 3])
def test_one_image_and_several_are_tried(wrong_for: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is wrong for one length of a batch alone."""
    right = formats.FORMATS["safetensors"]

    def broken(path: Path, loaded: Loaded) -> formats.Runnable:
        return lambda images: loaded.network(images) + (len(images) == wrong_for)

    monkeypatch.setitem(formats.FORMATS, "safetensors", dataclasses.replace(right, run=broken))
    with pytest.raises(DifferenceError, match="up to 1 from the network's"):
        export(lenet5(), "safetensors", tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_with_one_answer_for_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = formats.FORMATS["safetensors"]

    def broken(path: Path, loaded: Loaded) -> formats.Runnable:
        return lambda images: loaded.network(images)[:1]

    monkeypatch.setitem(formats.FORMATS, "safetensors", dataclasses.replace(right, run=broken))
    with pytest.raises(DifferenceError, match=r"logits of shape \(1, 10\) instead of \(3, 10\)"):
        export(lenet5(), "safetensors", tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    out.write_text("mine")
    with pytest.raises(UserError, match="exists; name a new file"):
        export(lenet5(), "safetensors", out)
    assert out.read_text() == "mine"


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    loaded = lenet5()
    with torch.no_grad():
        next(iter(loaded.network.parameters())).fill_(float("nan"))
    with pytest.raises(DifferenceError, match="up to nan from the network's"):
        export(loaded, "safetensors", tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_users_pictures_are_tried(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    paths = [bytes(tmp_path / "broken.jpg")]
    for number in range(13):
        pixels = np.random.default_rng(number).integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        paths.append(bytes(tmp_path / f"{number}.png"))
    compared = export(lenet5(), "safetensors", tmp_path / "a.safetensors", paths)
    assert [line.images for line in compared] == ["3 random images", "12 of your pictures"]
    assert all(isinstance(line, Compared) and line.largest_logit > 0 for line in compared)
    with pytest.raises(UserError, match=r"none of the pictures to compare on can be read: .*broken.jpg: not an image"):
        export(lenet5(), "safetensors", tmp_path / "b.safetensors", paths[:1])
    assert not (tmp_path / "b.safetensors").exists()


# ---------------------------------------------------------------------------------------------------------- the tool


def test_the_tool_says_how_far_the_file_is_from_the_network(file: Path, tool: Tool, tmp_path: Path) -> None:
    code, stdout, stderr = tool(file, "format=torch_export", "--out", tmp_path / "a.pt2")
    assert code == 0 and stderr == ""
    assert re.fullmatch(
        r"3 random images, in batches of 1 and 3: largest difference \S+ of logits up to \S+\n"
        r"10 handwritten digits, in batches of 1 and 3: largest difference \S+ of logits up to \S+\n"
        rf"{tmp_path}/a.pt2: lenet5, [\d,]+ bytes\n",
        stdout,
    )


def test_the_tool_fails_if_the_file_is_wrong(
    file: Path, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = formats.FORMATS["safetensors"]
    bad = dataclasses.replace(right, write=lambda loaded: right.write(wrong(loaded)))
    monkeypatch.setitem(formats.FORMATS, "safetensors", bad)
    code, stdout, stderr = tool(file, "--format", "safetensors", "--out", tmp_path / "a.safetensors")
    assert (code, stdout) == (1, "") and stderr.count("\n") == 1 and "the file was removed" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


BAD = [
    (["--format", "onnx", "--out", "a.onnx"], "name one network: a run folder, a file of one, or model=NAME"),
    (["{file}", "--format", "onnx", "--out", "a.pth"], "out=a.pth: files of format=onnx end in .onnx"),
    (["{file}", "--format", "onnx", "--out", "nowhere/a.onnx"], "there is no folder nowhere"),
    (["{file}", "--format", "tflite", "--out", "a.tflite"], "invalid choice: 'tflite'"),
    (["{file}", "--format", "onnx", "--out", "{kept}"], "exists; name a new file"),
    (["{file}", "--format", "torchvision", "--out", "{beside}"], r"kept.json exists; name a new file"),
    (["{file}", "--format", "torchvision", "--out", "a.pth"], "torchvision has no network that equals lenet5"),
    (["{empty}", "--format", "onnx", "--out", "a.onnx"], "the folder has no checkpoint"),
    (["{file}", "--format", "onnx", "--out", "a.onnx", "--images", "{empty}"], "no image found"),
]


@pytest.mark.parametrize(("words", "line"), BAD, ids=[line for _, line in BAD])
def test_a_mistake_is_one_line(
    words: list[str], line: str, file: Path, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("kept.onnx", "kept.json"):
        (tmp_path / name).write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())
    places = {"file": file, "empty": "empty", "kept": "kept.onnx", "beside": "kept.pth"}
    code, stdout, stderr = tool(*(word.format(**places) for word in words))
    assert code == 2 and stdout == "" and stderr.count("\n") == 1 and stderr.startswith("export.py: "), stderr
    assert re.search(line, stderr), stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "kept.onnx").read_text() == (tmp_path / "kept.json").read_text() == "mine"


@pytest.mark.parametrize("options", [{"shortcut": "A"}, {"shortcut": "C"}, {"in_channels": 1}], ids=str)
def test_torchvision_has_no_network_with_these_options(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="torchvision's resnet18 has other layers or channels: conv"):
        export(of_zoo("resnet18", 32, **options), "torchvision", tmp_path / "a.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_onnx_without_its_packages(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == package else nn)  # what need not be there is never used
    with pytest.raises(UserError, match=rf"format=onnx needs {package}: pip install 'cnn-zoo\[export\]'"):
        export(lenet5(), "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------------------- the zoo


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_network_by_torch_export(name: str, tmp_path: Path) -> None:
    export(of_zoo(name, small_size(name)), "torch_export", tmp_path / "a.pt2")


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_ONNX)
def test_a_network_of_each_kind_by_onnx(name: str, tmp_path: Path) -> None:
    need_onnx("onnx")
    export(of_zoo(name, small_size(name)), "onnx", tmp_path / "a.onnx")
