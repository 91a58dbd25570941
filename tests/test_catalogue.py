"""The catalogue as a table: for a terminal, and as docs/zoo.md."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from models import MODELS, Name, builders
from models.__main__ import main as catalogue_page
from models.layers import layers_of

ROOT = Path(__file__).parent.parent
# Print the catalogue in a fresh process, and fail if anything heavy was imported on the way.
WATCHED = """
import runpy, sys
sys.argv = ["models", *sys.argv[1:]]
runpy.run_module("models", run_name="__main__")
heavy = {"torch", "torchvision", "numpy"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def printed(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_table_has_every_entry_and_every_error() -> None:
    table = printed("--markdown")
    lines = table.splitlines()
    (head,) = [line for line in lines if "multiply-adds" in line and "parameters" in line]
    for column in ("name", "paper", "year", "input", "features", "classifier", "top-1/top-5 error", "weights"):
        assert column in head
    for name, entry in MODELS.items():
        (line,) = [line for line in lines if line.startswith((f"{name} ", f"| `{name}` "))]
        facts = (f"{entry.parameters:,}", f"{entry.multiply_adds:,}", str(entry.year), str(entry.input_size))
        for fact in (*facts, f" {entry.num_features:,} ", f" {entry.classifier} "):
            assert fact in line
        assert all(weights in line for weights in entry.weights)
        for known in entry.published:
            assert f"{known.top1_error}/" in table
            assert not known.other or f"[{known.source}]; not comparable: {known.other}" in table
            assert f"{known.data}, {known.protocol} [{known.source}]" in table


def test_docs_zoo_is_up_to_date() -> None:
    assert (ROOT / "docs/zoo.md").read_text(encoding="utf-8") == printed("--markdown"), (
        "the catalogue has changed: python -m models --markdown > docs/zoo.md"
    )


def test_program_of_docs_zoo_does_what_its_comments_say() -> None:
    program = (ROOT / "docs/zoo.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    there: dict[str, Any] = {}
    exec(program, there)
    network, features, logits = there["network"], there["features"], there["logits"]
    assert "# (1, network.num_features, 8, 8)" in program and features.shape == (1, network.num_features, 8, 8)
    assert "# (1, 10), what network(images) gives" in program and logits.shape == (1, 10)
    assert there["classifier"] is network.fc


def test_unknown_argument() -> None:
    done = subprocess.run([sys.executable, "-m", "models", "--html"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "unrecognized arguments: --html" in done.stderr


def test_the_package_imports_without_torch_and_builds_by_a_relative_import() -> None:
    program = "import models, sys; sys.exit('torch' in sys.modules or models.model_names() != list(models.MODELS))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_editors_complete_every_name() -> None:
    """Type checkers and editors read these two lists; the catalogue decides which names there are."""
    assert list(get_args(Name)) == list(MODELS)
    assert sorted(builders.__all__) == sorted(MODELS)
    assert set(MODELS) <= set(dir(builders))


@pytest.mark.parametrize("name", list(MODELS))
def test_builders_tell_their_parameters_and_their_options(name: str) -> None:
    builder, entry = getattr(builders, name), MODELS[name]
    assert f"{entry.parameters:,} parameters" in str(inspect.getdoc(builder))
    known = inspect.signature(builder).parameters
    assert list(known)[:2] == ["num_classes", "in_channels"]
    assert (known["num_classes"].default, known["in_channels"].default) == (entry.num_classes, entry.in_channels)
    assert all(option.annotation not in (inspect.Parameter.empty, "object") for option in known.values())
    assert getattr(sys.modules[f"models.{entry.family}"], name) is builder


def test_the_catalogue_fits_a_terminal() -> None:
    lines = printed().splitlines()
    assert max(map(len, lines)) <= 110 and [line.split()[0] for line in lines[1:-1]] == list(MODELS)
    assert all(f"{entry.parameters:,}" in line for entry, line in zip(MODELS.values(), lines[1:-1], strict=True))
    starred = [line.split()[0] for line in lines[1:-1] if "test* " in line]
    assert starred == ["lenet1", "lenet5"] and lines[-1].startswith("* of another network or other images: ")


def test_a_family_is_listed_with_every_published_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["models", "vgg*"])
    assert catalogue_page() == 0
    said = capsys.readouterr().out
    for entry in MODELS.values():
        listed = entry.family == "vgg"
        assert (f"\n{entry.name}: {entry.title}\n" in said) == listed
        assert not listed or all(rate.source in said for rate in entry.published)
    monkeypatch.setattr("sys.argv", ["models", "resnte50"])
    assert catalogue_page() == 2 and "did you mean resnet50" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["mlp", "lenet1", "lenet5_1998", "lenet5", "alexnet_2012", "vgg11_bn", "resnet18", "resnet20"]
)
def test_a_network_is_printed_layer_by_layer(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["models", name])
    assert catalogue_page() == 0
    said, entry, layers = capsys.readouterr().out, MODELS[name], layers_of(name)
    assert layers[-1].shape == (entry.num_classes,) and layers[-1].name == entry.classifier
    assert sum(layer.parameters for layer in layers) == entry.parameters
    assert sum(layer.multiply_adds for layer in layers) == entry.multiply_adds
    assert len(said.splitlines()) == len(layers) + 6 and f"{entry.multiply_adds:,}" in said.splitlines()[-1]
