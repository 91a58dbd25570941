"""`python -O` removes every assert: none of ours may stand between a wrong number and a record."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FOLDERS = ("models", "harness", "tools", "benchmarks")
SOURCES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])


def narrows_a_type(test: ast.expr) -> bool:
    """Whether a check only tells mypy what is there: `isinstance(x, T)`, `x is not None`, or several with `and`."""
    if isinstance(test, ast.BoolOp):
        return isinstance(test.op, ast.And) and all(map(narrows_a_type, test.values))
    if isinstance(test, ast.Call):
        return isinstance(test.func, ast.Name) and test.func.id == "isinstance"
    if isinstance(test, ast.Compare):
        none = isinstance(test.comparators[-1], ast.Constant) and test.comparators[-1].value is None
        return none and [type(operator) for operator in test.ops] == [ast.IsNot]
    return False


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_assert_only_narrows_a_type(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    others = [f"line {node.lineno}: {ast.unparse(node)}" for node in asserts if not narrows_a_type(node.test)]
    assert not others, "raise an exception instead"
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "__debug__"]


@pytest.mark.parametrize(
    ("check", "narrows"),
    [
        ("isinstance(x, int)", True),
        ("x is not None and isinstance(y.z, int | None)", True),
        ("x == 3", False),
        ("x is None", False),
        ("x", False),
        ("not x", False),
        ("x is not None or y", False),
        ("x is not None and y > 0", False),
        ("isinstance(x, int) == y", False),
        ("torch.equal(x, y)", False),
    ],
)
def test_what_narrows_a_type(check: str, narrows: bool) -> None:
    assert narrows_a_type(ast.parse(check, mode="eval").body) is narrows


PROGRAM = """
import numpy as np
import torch
from types import SimpleNamespace
from harness.config.protocol import ProtocolConfig
from harness.data.images.geometry import centre_crop
from harness.data.loading.loader import Batch
from harness.config.facts import Preprocessing
from harness.data.images.image_set import ImageSet
from harness.evaluation.evaluator import Evaluator
from models.lenet import PartialConvolution

def count(*seen):
    split = ImageSet(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4), list("abcd"))
    evaluator = Evaluator(torch.nn.Flatten(), split, ProtocolConfig("whole_image", 2, "32-true"))
    strategy = SimpleNamespace(reduce=lambda tensor, reduce_op: tensor, root_device=torch.device("cpu"))
    loader = SimpleNamespace(waiting=SimpleNamespace(seconds=0.0))
    evaluator._trainer = SimpleNamespace(strategy=strategy, test_dataloaders=loader, world_size=1)
    evaluator.on_test_start()
    for number, indices in enumerate(seen):
        at = torch.tensor(indices)
        evaluator.test_step(Batch(torch.eye(4).view(4, 1, 2, 2)[at], split.labels[at], at, len(at)), number)
    evaluator.on_test_end()
    return evaluator.counts

def tell(make):
    try:
        print("ACCEPTED", make())
    except (RuntimeError, ValueError) as error:
        print(type(error).__name__, error)

assert False, "python -O removes this"
print(count([0, 1], [2, 3]))
tell(lambda: count([0, 1], [2, 3], [3]))
tell(lambda: count([0, 1], [2]))
tell(lambda: count([0, 1], [2, 2]))
pixels = np.zeros((40, 40, 3), dtype=np.uint8)
tell(lambda: centre_crop(pixels, Preprocessing(3, 32, 31, "bilinear", (0.5,) * 3, (0.5,) * 3), "fast").shape)
tell(lambda: PartialConvolution("X . X\\nX . ."))
"""


def test_checks_of_numbers_stand_without_asserts() -> None:
    done = subprocess.run([sys.executable, "-O", "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Counts(correct_top1=4, correct_top5=4, seen=4)",
        "RuntimeError 5 images were counted in a split of 4: no score",
        "RuntimeError 3 images were counted in a split of 4: no score",
        "RuntimeError an image of the split was counted twice and another one never: no score",
        "ValueError a shorter edge of 31 pixels is too short for a crop of 32",
        "ValueError the table of connections must have equally many X in every row",
    ]
