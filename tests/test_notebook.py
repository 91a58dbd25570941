"""The notebook is made from its percent file, and runs."""

from __future__ import annotations

import json
import subprocess
import sys

import jupytext
import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def test_the_notebook_is_what_its_percent_file_makes() -> None:
    made = jupytext.read(NOTEBOOK.with_suffix(".py"))
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == [
        (cell.cell_type, cell.source) for cell in made.cells
    ], "jupytext --to ipynb examples/quickstart.py"
    assert not any(cell.get("outputs") for cell in cells), "clear the outputs"


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    words = ["-m", "pytest", "-n", "0", "-q", "--nbmake", "--nbmake-timeout=300", str(NOTEBOOK)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
