"""docs/pictures-at-scale.md: its numbers are the records', and its commands run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from conftest import ROOT, run_script
from test_folder_data import classes

TEXT = (ROOT / "docs" / "pictures-at-scale.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines() if line.strip()
]
RECORDS = ROOT / "benchmarks" / "results"
ROWS = (
    ("shards-cpu", "tars_to_files"),
    ("shards-cpu", "webdataset_to_files"),
    ("cache-imagenet-cpu", "cache_to_preset"),
    ("cache-imagenet-cpu", "files_to_preset"),
    ("cache-imagenette-cpu", "cache_to_preset"),
    ("cache-imagenette-cpu", "files_to_preset"),
    ("cache-imagenette-cpu", "batched_on_the_cpu_to_preset"),
)


def test_its_numbers_are_the_records() -> None:
    (table,) = re.findall(r"<!-- measured -->\n(.*?)\n<!-- /measured -->", TEXT, re.DOTALL)
    rows = table.splitlines()[2:]
    assert len(rows) == len(ROWS) + 1 and rows[-1].endswith("| not measured yet | |")
    for row, (name, key) in zip(rows, ROWS, strict=False):
        found = json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))[key]
        said = f"| {found['median']:.2f}x | {found['lowest']:.2f}x to {found['highest']:.2f}x |"
        assert row.endswith(said), said
    cache = [
        json.loads((RECORDS / f"{name}.json").read_text())["cache_to_preset"]
        for name in ("cache-imagenet-cpu", "cache-imagenette-cpu")
    ]
    assert all(found["lowest"] >= 10 for found in cache)  # what the cache is for


@pytest.mark.slow
def test_its_commands_run_one_after_the_other(tmp_path: Path) -> None:
    classes(tmp_path / "my_photos", 6)
    for command in COMMANDS:
        python, script, *words = shlex.split(command)
        assert python == "python"
        if script == "train.py":
            words += ["data.image_size=32", "data.resize=32", "trainer.max_epochs=1", "trainer.max_batches=2"]
            words += ["recipe.train_size=[]", "recipe.size_ramp=[]", "trainer=cpu", "trainer.threads=1"]
        environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
        done = run_script(script, *words, cwd=tmp_path, environment=environment)
        assert done.returncode == 0, (command, done.stderr)
    assert list((tmp_path / "cache" / "cnn-zoo").glob("small-256-*/pixels"))
