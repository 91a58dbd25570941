"""A record, a class, a file or a setting may be called anything: at every exit one hostile name does no harm."""

from __future__ import annotations

import argparse
import ast
import csv
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from in_process import call
from made_records import Answer, write_record
from matplotlib.figure import Figure
from PIL import Image

from harness.command import arguments, predict, sweep, visualize, zoo
from harness.command import audit as audit_command
from harness.command import errors as errors_command
from harness.command.jobs import Job
from harness.command.results import RECORDS
from harness.comparison import results_chart
from harness.comparison.experiments import Section, lines_of
from harness.comparison.results_page import page, short_table
from harness.config.commands import SweepConfig
from harness.config.data import FolderConfig
from harness.config.plain import made
from harness.data.sources.table import load_test
from harness.errors import UserError
from harness.insight import report as insight_report
from harness.prediction.output import Names, as_csv, as_json_lines, show
from harness.prediction.predict import Prediction
from harness.run.history import Counts, Epoch
from harness.run.log import log, spoken
from harness.run.printable import json_line, markdown_code, printable
from harness.stories.model_card import card
from harness.training.curves import draw_curves

HOSTILE = "x\x1b[31m\n|<script>`a``b\u202e\x9b2J$y"
RECORD = ROOT / RECORDS / "digits_zoo" / "lenet5-seed0.json"
HARMLESS = re.compile(r"(`+) ?.*? ?\1(?!`)")  # code in a line of Markdown


def is_harmless(text: str) -> bool:
    """Whether text has no character that steers a terminal, but for the ends of its lines."""
    return text.replace("\n", "").isprintable()


def is_plain_markdown(text: str) -> bool:
    return is_harmless(text) and "<script" not in HARMLESS.sub("", text)


def test_a_model_card() -> None:
    content = json.loads(RECORD.read_text(encoding="utf-8"))
    row = {
        "model": "lenet5",
        "name": "DIGITS",
        "file": "a.safetensors",
        "bytes": 1,
        "sha256": "0",
        "data": "digits",
        "shipped": True,
    }
    plain = card(row, "half precision", [content], ["seed=0"])
    content["data"]["name"] = content["training"]["recipe"]["name"] = HOSTILE
    content["model"]["options"] = {HOSTILE: HOSTILE}
    row |= {"model": HOSTILE, "name": HOSTILE, "file": HOSTILE}
    content["published"] = {"top1_error": 1.0, "top5_error": None, "source": HOSTILE, "note": HOSTILE}
    content["published"] |= {"verdict": HOSTILE, "why": HOSTILE}
    hostile = card(row, "half precision", [content], [f"data.root={HOSTILE}"])
    own = [line for line in hostile.splitlines() if not line.startswith("    ")]  # indented lines are code
    assert is_harmless(hostile) and is_plain_markdown("\n".join(own))
    assert len(hostile.splitlines()) == len(plain.splitlines()) + 2  # the published error


def test_the_page_of_results_and_its_picture(tmp_path: Path) -> None:
    jobs = [["experiment=digits_zoo", "model=lenet5", f"seed={seed}"] for seed in (0, 1, 2)]
    records = tmp_path / "digits_zoo"
    records.mkdir()
    for path in RECORD.parent.glob("lenet5-seed*.json"):
        (records / path.name).write_bytes(path.read_bytes())
    (line,) = lines_of("digits_zoo", jobs, tmp_path)
    published = {"top1_error": 1.0, "source": HOSTILE, "verdict": HOSTILE, "why": HOSTILE, "note": HOSTILE}
    line = dataclasses.replace(line, label=HOSTILE, command=HOSTILE, state=HOSTILE, published=published)
    section = Section(HOSTILE, (line,), ())
    text = page([section], {}, {}, "records")
    assert is_plain_markdown(text) and is_plain_markdown(short_table(section))
    (row,) = [found for found in text.splitlines() if found.startswith("| x")]
    assert row.count("|") - row.count("\\|") == 9
    results_chart.draw(tmp_path / "a.png", results_chart.drawn(section), "title")  # a $ begins no formula
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width < 2000


def test_the_lines_of_a_sweep(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(sweep, "_run_job", lambda *_: 1)
    failed = sweep._run_jobs([Job(f"data.root={HOSTILE}", ("train.py",), {}, True)], 1)
    sweep._report("compare", SweepConfig(), [], f"{1 - len(failed)} of 1 jobs done")
    out, error = capfd.readouterr()
    assert is_harmless(out) and is_harmless(error)
    assert out.splitlines() == [f"job 1 of 1: data.root={printable(HOSTILE)}", "0 of 1 jobs done"]
    assert error.splitlines() == [f"failed: data.root={printable(HOSTILE)}"]


def test_predictions_on_a_terminal_for_spreadsheets_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    names = Names((HOSTILE, "b"), {HOSTILE: HOSTILE})
    answered = Prediction(printable(HOSTILE), (0, 1), (0.75, 0.25))
    unread = Prediction("b.jpg", (), (), f"={HOSTILE}")
    show([answered, unread], names)
    assert is_harmless(table := capsys.readouterr().out) and len(table.splitlines()) == 6
    text = as_csv([answered, unread], names)
    first, second = csv.DictReader(text.splitlines())
    assert is_harmless(text) and first["class_1"] == printable(HOSTILE) and second["problem"].startswith("'=x")
    lines = as_json_lines([answered, unread], names)
    assert is_harmless(lines) and len(lines.splitlines()) == 2
    assert json.loads(lines.splitlines()[0])["classes"][0]["class"] == HOSTILE  # programs get the name itself


@pytest.mark.parametrize("error", [UserError(HOSTILE), FileNotFoundError(2, "gone", f"/{HOSTILE}")], ids=type)
def test_a_mistake_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    def task(_: argparse.Namespace) -> int:
        raise error

    assert arguments.main(arguments.Parser(prog="predict.py"), task) == 2
    said = capsys.readouterr().err
    assert is_harmless(said) and said.count("\n") == 1


@pytest.mark.parametrize("word", [f"resume={HOSTILE}", f"data.root={HOSTILE}", f"weights={HOSTILE}", HOSTILE])
def test_a_mistake_in_a_setting_is_one_line(
    word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with spoken(True):
        assert call("train.py", "data=folder", word, "trainer=smoke") == 2
    out, error = capsys.readouterr()
    assert is_harmless(out + error) and len((out + error).splitlines()) == 1


def test_a_command_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cnn-zoo", HOSTILE])
    assert zoo.main() == 2
    assert is_harmless(said := capsys.readouterr().err) and said.count("\n") == 1


def test_a_network_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from models.__main__ import main

    monkeypatch.setattr(sys, "argv", ["python -m models", HOSTILE])
    assert main() == 2
    assert is_harmless(said := capsys.readouterr().err) and said.count("\n") == 1


def test_the_log_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A message is one line; several are a list, of which each is one."""
    with spoken(True):
        log.info(f"classes: {HOSTILE}")
        log.info(["first", HOSTILE])
    assert capsys.readouterr().out.splitlines() == [f"classes: {printable(HOSTILE)}", "first", printable(HOSTILE)]


def test_a_page_of_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By the names of pictures and of classes, and by the place of the weights."""
    pictures = tmp_path / HOSTILE
    pictures.mkdir()
    for number in range(2):  # one name in two folders: the page shows the whole paths
        (pictures / str(number)).mkdir()
        Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(pictures / str(number) / f"{HOSTILE}.png")
    names = Names([f"{HOSTILE}{number}" for number in range(10)], {})
    monkeypatch.setattr(visualize, "Names", lambda *_: names)
    searched: Callable[..., Any] = vars(insight_report)["look_at_unit"]

    def hostile(*given: Any) -> Any:
        unit = searched(*given)
        found = dataclasses.replace(unit.searched, name=HOSTILE, labels=[HOSTILE] * len(unit.searched.labels))
        return dataclasses.replace(unit, searched=found)

    monkeypatch.setattr(insight_report, "look_at_unit", hostile)
    out = tmp_path / "out"
    words = ["--model", "lenet5", "--weights", "DIGITS", str(pictures), f"out={out}"]
    monkeypatch.setattr(sys, "argv", ["visualize.py", *words])
    assert visualize.main() == 0
    text = (out / "index.html").read_text(encoding="utf-8")
    assert is_harmless(text) and "<script" not in text
    assert text.count("&lt;script&gt;") > 20
    said = capsys.readouterr()
    assert is_harmless(said.out + said.err)


def test_predict_prints_paths_and_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / HOSTILE
    folder.mkdir()
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(folder / "a.png")
    (folder / f"{HOSTILE}.png").write_bytes(b"no picture")
    (folder / f"{HOSTILE}.txt").touch()
    words = ["--model", "lenet5", "--weights", "DIGITS", str(folder)]
    monkeypatch.setattr(sys, "argv", ["predict.py", *words])
    assert predict.main() == 0
    out, error = capsys.readouterr()
    assert is_harmless(out + error) and len(error.splitlines()) == 2
    monkeypatch.setattr(sys, "argv", ["predict.py", *words, f"out={folder / 'a.csv'}"])
    assert predict.main() == 0
    assert is_harmless("".join(capsys.readouterr())) and is_harmless((folder / "a.csv").read_text())


def test_the_title_of_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    suptitle = Figure.suptitle

    def heard(figure: Figure, text: str, **look: Any) -> Any:
        titles.append(text)
        return suptitle(figure, text, **look)

    monkeypatch.setattr(Figure, "suptitle", heard)
    folder = tmp_path / f"{HOSTILE}-$digits" / "$2026"
    folder.mkdir(parents=True)
    draw_curves(folder / "curves.png", [Epoch(1, 1, 0.1, 1.0, Counts(1, 1, 2), None, None)])
    assert titles == [printable(f"{HOSTILE}-$digits/$2026")]


@pytest.mark.parametrize("text", ["a", "`", "a`b", "``a", HOSTILE])
def test_code_in_markdown_ends_where_it_should(text: str) -> None:
    made = markdown_code(text)
    fence = re.match("`+", made)
    assert fence and made.endswith(fence[0]) and fence[0] not in made[len(fence[0]) : -len(fence[0])]
    assert made.strip("`").strip() == printable(text).strip("`").strip() or "`" in text


def test_json_is_the_same_value_when_it_is_read() -> None:
    value = {"a": [HOSTILE, "é ±", 1.5, None], HOSTILE: 1}
    assert json.loads(json_line(value)) == value and is_harmless(json_line(value)) and "é ±" in json_line(value)


PRINT = {  # files that may call `print`: the one function, the log, whose lines it made, and pages of our own words
    *("harness/run/printable.py", "harness/run/log.py", "harness/command/cli.py", "harness/command/zoo.py"),
    *("harness/command/tune.py", "harness/command/lr_range.py"),
    "harness/weights/find.py",  # the address of published weights, and torch's folder
}


def test_nothing_else_prints() -> None:
    printing = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "harness").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= PRINT


@pytest.mark.parametrize("name", ["errors", "audit", "two"])
def test_the_pages_on_errors_and_labels(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the names of classes, images, data, networks and folders, on the page and in its tables."""
    root = tmp_path / HOSTILE
    for label, index in [(label, index) for label in range(3) for index in range(12)]:
        place = root / f"{HOSTILE}{label}" / f"{index}{HOSTILE}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0 if index == 5 else 100 * label + index).integers(0, 256, (9, 9), np.uint8)
        Image.fromarray(pixels).resize((90, 80)).save(place)
    runs = [hostile_record(root, tmp_path / f"{HOSTILE}-{fold}", fold, name == "audit") for fold in range(2)]
    out = tmp_path / "out"
    chosen = runs[:1] if name == "errors" else runs
    main = audit_command.audit if name == "audit" else errors_command.errors
    assert main(argparse.Namespace(runs=chosen, root=None, out=out)) == 0
    said = capsys.readouterr()
    assert is_harmless(said.out + said.err) and len(said.out.splitlines()) == 1 + (name != "errors")
    text = (out / "index.html").read_text(encoding="utf-8")
    assert is_harmless(text) and text.count("<script") == 1 and text.count("&lt;script&gt;") > 10
    assert "<img" in text and "<b>x" in text
    for table in out.glob("*.csv"):
        content = table.read_text(encoding="utf-8")
        assert is_harmless(content)
        assert not [cell for row in csv.reader(content.splitlines()) for cell in row if cell.startswith("=")]


def hostile_record(root: Path, folder: Path, fold: int, folds: bool) -> Path:
    """A record of a folder of hostile names: of all its pictures, or of one fold of two."""
    plain: dict[str, Any] = {"name": "folder", "root": str(root), "download": False, "validation": 0, "split_seed": 0}
    plain |= {"image_size": 32, "resize": 32, "interpolation": "bilinear", "decoder": "fast", "mean": [0.5], "std": [1]}
    plain |= {"test": 100, "folds": 2 if folds else None, "fold": fold if folds else 0}
    split = load_test(made(FolderConfig, plain))
    answers: list[Answer] = []
    for index, (image, label) in enumerate(zip(split.ids, split.labels.tolist(), strict=True)):
        best = (label + (index % 5 == fold)) % 3
        answers.append((image, label, [(best, 0.98), ((best + 1) % 3, 0.01)]))
    facts: dict[str, Any] = {"name": "folder", "split": "test", "fingerprint": "0"}
    facts |= {"folds": 2, "fold": fold, "division": "d"} if folds else {}
    write_record(folder, answers, [path.name for path in sorted(root.iterdir())], plain, **facts)
    content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    content["data"]["fingerprint"] = split.fingerprint()
    content["model"]["name"] = content["protocol"]["name"] = HOSTILE
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
