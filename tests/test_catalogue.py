"""The catalogue as a table: for a terminal, and as docs/zoo.md."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from models import MODELS, Name, builders

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


@pytest.mark.parametrize("arguments", [(), ("--markdown",)], ids=["text", "markdown"])
def test_table_has_every_entry_and_every_error(arguments: tuple[str, ...]) -> None:
    table = printed(*arguments)
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
