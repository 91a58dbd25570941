"""CONTRIBUTING.md shows what a training run goes through, and the way is short."""

from __future__ import annotations

import sys

import pytest

from tools import trace


@pytest.fixture(scope="module")
def calls() -> list[trace.Call]:
    return trace.traced()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python's profiler passes generators by")
def test_the_page_is_what_happens(calls: list[trace.Call]) -> None:
    written = trace.PAGE.read_text(encoding="utf-8").partition(trace.BEGIN)[2].partition(trace.END)[0]
    assert written.strip() == trace.page(calls).strip(), "python tools/trace.py writes it anew"


def test_the_way_from_train_to_the_optimiser_step_is_short(calls: list[trace.Call]) -> None:
    """Before it had rooms, a program of fewer recipes had 126 jumps."""
    assert trace.jumps(calls) < 126
    files = {file for file, _ in calls}
    assert not [file for file in files if "own_pictures" in file or "file_loader" in file or "weights" in file]


def test_the_way_begins_at_the_script_and_ends_in_the_step(calls: list[trace.Call]) -> None:
    ways = [f"{file}:{function}" for file, function in calls]
    assert ways[0] == "harness/run/interruption.py:listen"
    story, step = (
        ways.index("harness/stories/train.py:train"),
        ways.index("harness/training/classifier.py:Classifier.training_step"),
    )
    assert ways.index("harness/command/cli.py:main") < story < step < len(ways) - 3


def test_a_function_is_named_by_its_class_and_by_the_line_of_its_decorator() -> None:
    names = trace._functions(trace.ROOT / "harness" / "run" / "interruption.py")
    text = (trace.ROOT / "harness" / "run" / "interruption.py").read_text().splitlines()
    assert "_Listener.run" in names.values()
    (line,) = [line for line, name in names.items() if name == "doing"]
    assert text[line - 1] == "@contextmanager"
