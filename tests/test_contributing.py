"""CONTRIBUTING.md: its example of a data set is one file, one row and one YAML, and a network trains on it."""

from __future__ import annotations

import importlib.util
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from in_process import call, only

from harness.data.sources import table

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The only one of a language."""
    (found,) = re.findall(rf"^   ```{language}\n(.*?)^   ```$", TEXT, re.DOTALL | re.MULTILINE)
    return textwrap.dedent(found)


def enter_bars(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what the three steps say."""
    (place / "bars.py").write_text(block("python"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("bars", place / "bars.py")
    assert spec is not None and spec.loader is not None
    bars = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bars)
    assert '"bars": bars' in TEXT
    monkeypatch.setitem(table.SOURCES, "bars", bars)
    (place / "data").mkdir()
    (place / "data" / "bars.yaml").write_text(block("yaml"), encoding="utf-8")


def write_bars(path: Path) -> None:
    """Bars across or upright, in noise."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 80), ("test", 20)):
        labels = np.arange(count) % 2
        images = random.integers(0, 60, (count, 1, 16, 16), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            (image[0] if label == 0 else image[0].T)[random.integers(2, 12)] = 255
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(path, allow_pickle=False, **arrays)


def test_a_network_trains_and_is_evaluated_on_the_example_of_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter_bars(tmp_path, monkeypatch)
    words = ("--config-dir", str(tmp_path), "data=bars", "model=lenet5", f"data.root={tmp_path}")
    how = (
        "recipe.epochs=10",
        "recipe.batch_size=10",
        "recipe.learning_rate=0.005",
        "trainer=cpu",
        f"runs={tmp_path / 'runs'}",
    )
    assert call("train.py", *words, *how) == 2
    assert f"data=bars: data.root={tmp_path} holds no bars.npz" in capsys.readouterr().err
    write_bars(tmp_path / "bars.npz")
    assert call("train.py", *words, *how) == 0
    run = only(tmp_path / "runs" / "lenet5-bars")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["class_names"] == ["across", "upright"] and result["top1_error"] < 20
    assert call("eval.py", f"run={run}", f"runs={tmp_path / 'again'}") == 0
    again = only(tmp_path / "again" / "lenet5-bars")
    assert (again / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()
