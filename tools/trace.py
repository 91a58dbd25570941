"""Follow `python train.py` to its first optimiser step, and write what it runs through into CONTRIBUTING.md.

    python tools/trace.py

The page lists, in order, every file of this project in which a function is called, with the functions that are called
there for the first time. It counts the jumps: how often a call, or going on with a generator, leads from one file to
another. Only the main thread is followed. What runs while a file is imported does not count, nor do lambdas and
comprehensions.
"""

from __future__ import annotations

import ast
import json
import os
import runpy
import subprocess
import sys
import tempfile
from itertools import groupby, pairwise
from pathlib import Path
from textwrap import fill
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- begin: python tools/trace.py -->\n", "<!-- end: python tools/trace.py -->\n"
OUT = "CNN_ZOO_TRACE"  # environment variable of the process that is followed: the file that it writes

Call = tuple[str, str]  # a file, relative to the project, and a function in it


def follow(out: Path) -> None:
    """Run `train.py` in this process until its first optimiser step, write the place of every call, and end."""
    places: list[tuple[str, int]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.endswith("torch/optim/sgd.py") and code.co_name == "step":
            sys.setprofile(None)
            out.write_text(json.dumps(places), encoding="utf-8")
            os._exit(0)
        ours = code.co_filename.startswith(str(ROOT)) and not code.co_name.startswith("<")
        if event == "call" and ours and not _while_importing(frame):
            places.append((str(Path(code.co_filename).relative_to(ROOT)), code.co_firstlineno))

    sys.argv = ["train.py"]
    sys.path[0] = str(ROOT)
    sys.setprofile(note)
    runpy.run_path(str(ROOT / "train.py"), run_name="__main__")


def _while_importing(frame: FrameType) -> bool:
    """Whether the body of a file of this project, but for the script's own, is on the way to this call."""
    caller = frame.f_back
    while caller is not None:
        code = caller.f_code
        if code.co_name == "<module>" and code.co_filename.startswith((f"{ROOT}/harness", f"{ROOT}/models")):
            return True
        caller = caller.f_back
    return False


def traced() -> list[Call]:
    """Every call of the default job until its first optimiser step, in order."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "calls.json"
        environment = {**os.environ, OUT: str(out), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run([sys.executable, __file__], env=environment, cwd=place, capture_output=True, text=True)
        if not out.exists():
            raise SystemExit(f"trace.py: train.py made no step: {done.stderr}")
        places = [tuple(found) for found in json.loads(out.read_text(encoding="utf-8"))]
    names = {file: _functions(ROOT / file) for file in {file for file, _ in places}}
    return [(file, names[file][line]) for file, line in places]


def _functions(path: Path) -> dict[int, str]:
    """The functions of a file by the line that they begin in, a method with the name of its class."""
    found = {}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", "")
            if isinstance(child, ast.FunctionDef):
                found[min([child.lineno, *(mark.lineno for mark in child.decorator_list)])] = f"{prefix}{name}"
            visit(child, f"{prefix}{name}." if isinstance(child, ast.ClassDef) else prefix)

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def jumps(calls: list[Call]) -> int:
    """How often two calls behind each other are in different files."""
    return sum(before[0] != after[0] for before, after in pairwise(calls))


def page(calls: list[Call]) -> str:
    """The trace as text: counts, files with the first sentence of each, and functions in the order of first calls."""
    files = list(dict.fromkeys(file for file, _ in calls))
    lines = [f"{len(files)} files, {len(set(calls))} functions, {jumps(calls)} jumps between files.", ""]
    lines += ["| file | what it is |", "| --- | --- |"]
    lines += [f"| `{file}` | {_first_sentence(ROOT / file)} |" for file in files]
    lines += ["", "In order, each function where it is called for the first time:", "", "```"]
    for file, stay in groupby(dict.fromkeys(calls), key=lambda call: call[0]):
        lines.append(fill(f"{file}: {' '.join(function for _, function in stay)}", 120, subsequent_indent="    "))
    return "\n".join([*lines, "```", ""])


def _first_sentence(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(said.split("\n\n")[0].split()).split(". ")[0].rstrip(".")


def main() -> None:
    """Write the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, behind = rest.partition(END)
    text = page(traced())
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{behind}", encoding="utf-8")
    print(text.splitlines()[0])


if __name__ == "__main__":
    if OUT in os.environ:
        follow(Path(os.environ[OUT]))
    else:
        main()
