"""What stands on the terminal: it fits, it is printed once, it says something, and any encoding can show it."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from conftest import ROOT
from in_process import call, only
from matplotlib.axes import Axes
from PIL import Image
from rich.console import Console
from test_compare import IMAGES, write_record

from harness.command.results import RECORDS
from harness.comparison.chart import draw_comparisons
from harness.comparison.records import compare, find_records
from harness.comparison.tables import markdown, show
from harness.run import streams
from harness.run.bar import line_of_progress
from harness.run.console import show_table
from harness.run.history import Counts, Epoch
from harness.run.log import log, spoken
from harness.run.progress import ProgressBar
from harness.stories.model_card import card
from harness.training.curves import draw_curves
from harness.training.early_stopping import reported_epoch

FACTS = "loss 0.4149  lr 3.7e-05  19,786 images/s  12.3 GiB"


def terminal(width: int, encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    shown = io.BytesIO()
    file = io.TextIOWrapper(shown, encoding=encoding, errors=streams.ERRORS, write_through=True)
    return Console(file=file, force_terminal=True, width=width, color_system=None, legacy_windows=False), shown


def drawn(width: int, facts: str, encoding: str = "utf-8") -> str:
    console, shown = terminal(width, encoding)
    bar = line_of_progress(console)
    bar.update(bar.add_task("epoch 100/300", total=1000, facts=facts), completed=400)
    console.print(bar.get_renderable())
    return shown.getvalue().decode()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
@pytest.mark.parametrize("facts", ["", FACTS])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_bar_yields_before_the_facts_and_the_facts_before_the_time(width: int, facts: str, encoding: str) -> None:
    line = drawn(width, facts, encoding)
    assert line.count("\n") == 1 and len(line) <= width and line.endswith(" -:--:--\n")
    bar = len(re.findall("[━#-]", line.removesuffix("-:--:--\n").replace("3.7e-05", "")))
    if width >= 80:
        assert facts in line
    if facts and width <= 60:
        assert bar == 0
    if width >= 120:
        assert 0 < bar <= 24


def test_a_line_above_the_bar_is_broken_by_the_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hard newline would be in what is copied from there, and stays where the window becomes wider."""
    console, shown = terminal(60)
    monkeypatch.setattr("harness.run.progress.get_console", lambda: console)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    line = f"epoch 1/3  [loss] 2.2274{'  error 68.50%' * 10}"
    with spoken(True):
        bar = ProgressBar(True)
        bar._start(cast(Any, SimpleNamespace(is_global_zero=True)), "training", 10)
        log.info(line)
        bar._stop()
        log.info("below")
    assert line in shown.getvalue().decode() and "below" not in shown.getvalue().decode()


def test_signs_that_an_encoding_lacks_are_spelt() -> None:
    ascii_, utf8 = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for encoding in ("ascii", "utf-8"))
    assert streams.fitting("0.61 ± 0.05 é", ascii_) == "0.61 +/- 0.05 \\xe9"
    assert streams.fitting("0.61 ± 0.05 é", utf8) == "0.61 ± 0.05 é"
    latin = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert streams.fitting("± … \u2603", latin) == "± ... \\u2603"


def test_a_table_in_ascii_is_as_even_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    file = io.TextIOWrapper(shown, encoding="ascii", errors=streams.ERRORS, write_through=True)
    monkeypatch.setattr(sys, "stdout", file)
    show_table("a ± b", ("name", "error (%)"), [("é" * 3, "0.61 ± 0.05"), (["a", "b"], "1.00")])
    title, *lines = shown.getvalue().decode("ascii").splitlines()
    assert "a +/- b" in title and len({len(line) for line in lines}) == 1
    assert any("0.61 +/- 0.05" in line for line in lines) and not any("?" in line for line in lines)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_streams_of_a_script_show_any_sign(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="ascii") as file, os.fdopen(reader, "rb") as end:
        other = io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="ascii")
        monkeypatch.setattr(sys, "stdout" if name == "stderr" else "stderr", other)
        monkeypatch.setattr(sys, name, file)
        streams.prepare_streams()
        print("± é", file=getattr(sys, name), flush=True)
        assert os.read(end.fileno(), 100) == b"+/- \\xe9\n"


def test_nothing_is_folded_where_the_output_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(None, ("a", "b"), [("x" * 500, "y z " * 500)])
    assert any("x" * 500 in line and ("y z " * 500).strip() in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("classes", [5, 6])
def test_the_top_5_of_five_classes_is_not_shown(
    classes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = list("abcdefgh")[:classes]
    for model in ("m", "n"):
        write_record(tmp_path / model, model, {1}, class_names=names)
    comparisons = compare(find_records([str(tmp_path)])[0])
    show(comparisons)
    texts = [capsys.readouterr().out, markdown(comparisons)]
    content = json.loads((ROOT / RECORDS / "digits_zoo" / "lenet5-seed0.json").read_text(encoding="utf-8"))
    row = {
        "model": "lenet5",
        "name": "DIGITS",
        "file": "a.safetensors",
        "bytes": 1,
        "sha256": "0",
        "data": "digits",
        "shipped": True,
    }
    texts.append(card(row, "half precision", [{**content, "class_names": names}], []))
    assert [("top-5" in text, "top-1" in text) for text in texts] == [(classes == 6, True)] * 3
    assert len(compare(find_records([str(tmp_path)])[0])[0].tests) == 1 and IMAGES
    draw_comparisons(tmp_path, comparisons)


def test_the_chart_of_five_classes_has_one_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    set_title = Axes.set_title

    def heard(axes: Axes, label: str, **look: Any) -> Any:
        drawn.append(label)
        return set_title(axes, label, **look)

    monkeypatch.setattr(Axes, "set_title", heard)
    few = {"name": "few", "split": "test", "images": IMAGES, "fingerprint": "g"}
    write_record(tmp_path / "m", "m", {1}, class_names=list("abcdefgh"))
    write_record(tmp_path / "n", "n", {1}, class_names=list("abc"), data=few)
    draw_comparisons(tmp_path, compare(find_records([str(tmp_path)])[0]))
    errors = [title.rpartition(": ")[2] for title in drawn if title.endswith("(%)")]
    assert errors == ["top-1 error (%)", "top-5 error (%)", "top-1 error (%)"]


def test_a_run_on_slow_pictures_of_two_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Advice on input is given once in all epochs and the report; a top-5 error is not told."""
    for module in ("harness.training.recorder", "harness.evaluation.record"):
        monkeypatch.setattr(f"{module}.advice", lambda *_: "input: slow")
    for number in range(40):
        folder = tmp_path / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((32, 32), 10 + number).convert("RGB").save(folder / f"{number}.png")
    words = ("model=lenet5", "data=folder", f"data.root={tmp_path / 'data'}", "data.image_size=32", "data.resize=32")
    recipe = ("recipe=torchvision_v1", "recipe.epochs=3", "recipe.batch_size=8", "recipe.milestones=[]")
    how = ("recipe.schedule=constant", "trainer=cpu", "trainer.threads=1", "trainer.workers=0")
    with spoken(True):
        assert call("train.py", *words, *recipe, *how, f"runs={tmp_path / 'runs'}") == 0
    said = capsys.readouterr().out
    run = only(only(tmp_path / "runs"))
    assert (run / "log.txt").read_text(encoding="utf-8").count("input: slow") == 1
    assert "test top-1 error" in said and "top-5" not in said


def test_a_linear_probe_has_ten_lines_and_a_table_of_all_epochs(tmp_path: Path) -> None:
    words = ("recipe=linear_probe", "weights=DIGITS", "recipe.epochs=25", "trainer=cpu", "trainer.threads=1")
    assert call("train.py", *words, f"runs={tmp_path}") == 0
    run = only(only(tmp_path))
    lines = [line for line in (run / "log.txt").read_text(encoding="utf-8").splitlines() if line.startswith("epoch ")]
    assert [int(re.findall(r"\d+", line)[0]) for line in lines] == [*range(2, 25, 2), 25]
    assert len((run / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 26


def history(*errors: tuple[int, int]) -> list[Epoch]:
    """Epochs with so many wrong answers of 1000 in training and validation."""
    counts = [(Counts(1000 - train, 1000, 1000), Counts(1000 - other, 1000, 1000)) for train, other in errors]
    return [Epoch(n, n, 0.1, 1 / n, train, 1.5 / n, other) for n, (train, other) in enumerate(counts, 1)]


FALLING = ((900, 800), (100, 9), (5, 10))


@pytest.mark.parametrize(
    ("errors", "reported", "scale", "marked"),
    [
        (FALLING, 3, "log", ["reported: epoch 3", "best on validation: epoch 2"]),
        (FALLING, 2, "log", ["reported: epoch 2, the best on validation"]),
        (FALLING, None, "log", ["best on validation: epoch 2"]),
        ((*FALLING, (0, 0)), 4, "symlog", ["reported: epoch 4, the best on validation"]),
        (((900, 800), (700, 600)), None, "linear", ["best on validation: epoch 2"]),
        (((0, 0),), 1, "linear", ["reported: epoch 1, the best on validation"]),
    ],
)
def test_curves_say_which_epoch_counts_on_a_scale_that_can_be_read(
    errors: tuple[tuple[int, int], ...],
    reported: int | None,
    scale: str,
    marked: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panels: list[tuple[str, list[str], tuple[float, float]]] = []
    legend = Axes.legend

    def heard(axes: Axes, **look: Any) -> Any:
        panels.append((axes.get_yscale(), axes.get_legend_handles_labels()[1], axes.get_ylim()))
        return legend(axes, **look)

    monkeypatch.setattr(Axes, "legend", heard)
    draw_curves(tmp_path / "curves.png", history(*errors), reported)
    (_, said, _), (found, also, (low, high)) = panels
    assert found == scale and said[2:] == also[2:] == marked
    train, validation = (number / 10 for number in errors[-1])
    assert also[:2] == [f"training: {train:.2f} at the end", f"validation: {validation:.2f} at the end"]
    assert low <= min(train, validation) and high >= max(max(pair) for pair in errors) / 10


def test_which_epoch_a_run_reports() -> None:
    epochs = history(*FALLING)
    assert reported_epoch(epochs, None, 4) is None and reported_epoch(epochs, None, 3) == 3
    assert reported_epoch(epochs, 2, 4) is None and reported_epoch(epochs, 1, 4) == 2
    assert reported_epoch(epochs, 5, 3) == 2
