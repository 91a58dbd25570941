"""From `python train.py` to its first line, its first optimiser step, its first epoch and its result.

Lines count when they arrive at a reader; what prints no line is watched from outside.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.rounds import machine

ROOT = Path(__file__).parent.parent
MILESTONES = (
    *("config composed", "first line", "torch imported", "lightning imported", "data loaded", "first step"),
    *("first epoch", "result"),
)
LINES = {"training ": "first line", "epoch  1/": "first epoch", "record: ": "result"}  # by how a line begins

# Runs train.py as it is, the README's first command, and notes when it passes each milestone.
PROBE = """
import runpy, sys, time
marks = {}
def mark(name):
    marks.setdefault(name, time.time())
def after(module, name, milestone):
    function = getattr(module, name)
    def wrapped(*arguments, **options):
        result = function(*arguments, **options)
        mark(milestone)
        return result
    setattr(module, name, wrapped)
import harness.config, harness.command.cli
after(harness.command.cli, "compose", "config composed")
import builtins
sources = "harness.data.sources.table"
plain_import = builtins.__import__
def watched(name, *arguments, **options):
    package = name.partition(".")[0]
    first = package not in sys.modules
    module = plain_import(name, *arguments, **options)
    if first and package in ("torch", "lightning"): mark(package + " imported")
    if name == sources and "data loaded" not in marks and not hasattr(sys.modules[name], "_watched"):
        sys.modules[name]._watched = True
        after(sys.modules[name], "load", "data loaded")
    if name == "harness.training.classifier" and not hasattr(sys.modules[name], "_watched"):
        sys.modules[name]._watched = True
        after(sys.modules[name].Classifier, "on_train_batch_end", "first step")
    return module
builtins.__import__ = watched
sys.argv = ["train.py", *sys.argv[1:]]
try:
    runpy.run_path("train.py", run_name="__main__")
finally:
    import json
    print("MARKS " + json.dumps(marks))
"""


def measure(rounds: int) -> dict[str, Any]:
    """Seconds to each milestone, medians over rounds, the same beside `import lightning` alone."""
    found: dict[str, list[float]] = {milestone: [] for milestone in MILESTONES}
    alone = []
    for _ in range(rounds):
        for milestone, seconds in seconds_to_milestones().items():
            found[milestone].append(seconds)
        started = time.time()
        subprocess.run([sys.executable, "-c", "import lightning"], check=True)
        alone.append(time.time() - started)
    medians = {milestone: statistics.median(times) for milestone, times in found.items()}
    return {
        "benchmark": "startup",
        "rounds": rounds,
        "seconds_to": medians,
        "import_lightning_alone": statistics.median(alone),
        "first_step_to_import_lightning": medians["first step"] / statistics.median(alone),
        "machine": machine(),
    }


def seconds_to_milestones(*words: str) -> dict[str, float]:
    """Seconds from the start of `python train.py`, with these words of its command line, to each milestone."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as runs:
        started = time.time()
        command = [sys.executable, "-c", PROBE, f"runs={runs}", *words]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                passed = [milestone for beginning, milestone in LINES.items() if line.startswith(beginning)]
                seconds |= {milestone: time.time() - started for milestone in passed}
                if line.startswith("MARKS "):
                    marks = json.loads(line.removeprefix("MARKS "))
                    seconds |= {milestone: moment - started for milestone, moment in marks.items()}
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds
