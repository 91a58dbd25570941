"""The catalogue as a table: for a terminal, and as docs/zoo.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models import MODELS

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
    for column in ("name", "paper", "year", "input", "top-1/top-5 error", "weights"):
        assert column in head
    for name, entry in MODELS.items():
        (line,) = [line for line in lines if line.startswith((f"{name} ", f"| `{name}` "))]
        for fact in (f"{entry.parameters:,}", f"{entry.multiply_adds:,}", str(entry.year), str(entry.input_size)):
            assert fact in line
        assert all(weights in line for weights in entry.weights)
        for known in entry.published:
            assert f"{known.top1_error}/" in table
            assert f"{known.data}, {known.protocol} [{known.source}]" in table


def test_docs_zoo_is_up_to_date() -> None:
    assert (ROOT / "docs/zoo.md").read_text(encoding="utf-8") == printed("--markdown"), (
        "the catalogue has changed: python -m models --markdown > docs/zoo.md"
    )


def test_unknown_argument() -> None:
    done = subprocess.run([sys.executable, "-m", "models", "--html"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "unrecognized arguments: --html" in done.stderr
