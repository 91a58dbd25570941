"""tools/audit.py: flipped labels and planted copies are found, and the documentation has the record's numbers."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanlab.filter import find_label_issues
from conftest import ROOT
from made_records import OLDER, Answer, write_record
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from benchmarks import audit as measured
from benchmarks import audit_report
from harness.command import audit as command
from harness.comparison.answers import read_answers
from harness.config.compose import compose_groups
from harness.data.images.image_set import ImageSet
from harness.data.sources.table import load_test
from harness.mistakes import duplicates, labels

Tool = Callable[..., tuple[int, str, str]]
RECORD = ROOT / "benchmarks" / "results" / "audit.json"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """tools/audit.py in this process: its exit code, and what it printed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["audit.py", *map(str, words)])
        capsys.readouterr()
        return command.main(), *capsys.readouterr()

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def unseen() -> tuple[np.ndarray, np.ndarray, list[int], np.ndarray]:
    """Digits, labels of which 3% are flipped, which ones, and all probabilities by a network that has not seen them."""
    images, right = load_digits(return_X_y=True)
    draws = np.random.default_rng(0)
    flipped = np.sort(draws.choice(len(right), 54, replace=False))
    given = right.copy()
    given[flipped] = (right[flipped] + draws.integers(1, 10, 54)) % 10
    shares = cross_val_predict(LogisticRegression(max_iter=200), images / 16, given, cv=5, method="predict_proba")
    return images, given, flipped.tolist(), shares


def record_of(unseen: tuple[np.ndarray, np.ndarray, list[int], np.ndarray], folder: Path) -> Path:
    _, given, _, shares = unseen
    made: list[Answer] = []
    for index, (label, row) in enumerate(zip(given.tolist(), shares, strict=True)):
        best = np.argsort(-row, kind="stable")[:5].tolist()
        made.append((f"digits/{index:04d}", label, [(one, round(float(row[one]), 6)) for one in best]))
    return write_record(folder, made, "0123456789")


def test_flipped_labels_are_found_and_five_probabilities_are_enough(
    unseen: tuple[np.ndarray, np.ndarray, list[int], np.ndarray], tmp_path: Path
) -> None:
    _, given, flipped, shares = unseen
    answers = read_answers(record_of(unseen, tmp_path))
    found = labels.suspects(answers).tolist()
    assert len(set(found) & set(flipped)) > 0.8 * len(flipped) and len(set(found) & set(flipped)) > 0.8 * len(found)
    whole = find_label_issues(
        given, shares, filter_by="low_self_confidence", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    assert set(found) == set(whole.tolist())  # what the record leaves out changes nothing
    spread = labels.probabilities(answers, np.arange(10))
    assert np.allclose(spread.sum(axis=1), 1) and np.abs(spread - shares).max() < 0.1
    assert (spread.argmax(axis=1) == answers.answer).all()


def test_images_without_an_answer_and_classes_without_images_do_no_harm(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    made: list[Answer] = []
    for index in range(200):
        label = index % 2
        sure = 0.99 if index == 20 else 0.9 + draws.random() / 20
        made.append((f"{index}", 1 - label if index == 20 else label, [(label, sure), (5, 0.01)]))
    made[7] = ("7", 1, [])
    answers = read_answers(write_record(tmp_path, made, "abcdefgh"))
    assert labels.suspects(answers).tolist() == [20]
    assert labels.likely_label(answers, 20) == 0


def test_a_page_on_a_run_of_digits(tool: Tool, tmp_path: Path) -> None:
    code, out, said = tool(OLDER / "finished", f"out={tmp_path / 'out'}")
    assert (code, said) == (0, "") and out.endswith(f"{tmp_path / 'out' / 'index.html'}\n")
    found = labels.suspects(read_answers(OLDER / "finished"))
    assert f"{len(found)} of 360 labels are probably wrong; 0 pairs of near-duplicates" in out
    listed = rows(tmp_path / "out" / "label_errors.csv")
    assert len(listed) == len(found) and all(row["label"] != row["likely_label"] for row in listed)
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "360 test" in text and "1,257 train, 180 validation" in text
    assert text.count("<li data-classes") == len(found) and text.count("<img") == len(found)


def folder_of(root: Path) -> Path:
    """Photographs in two classes, one of them twice under two labels, one of them mirrored in the other fold."""
    for index in range(40):
        noise = np.random.default_rng(index).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((90, 80), Image.Resampling.BICUBIC)
        place = root / ("ant", "bee")[index % 2] / f"{index:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture.save(place)
        if index == 4:
            picture.save(root / "again.png")
    (root / "bee").mkdir(exist_ok=True)
    (root / "again.png").rename(root / "bee" / "again.png")
    return root


def test_all_folds_of_a_folder_and_copies_across_them(tool: Tool, tmp_path: Path) -> None:
    root, runs = folder_of(tmp_path / "photos"), []
    for fold in range(2):
        words = ["data=folder", f"data.root={root}", "data.folds=2", f"data.fold={fold}"]
        (data,) = compose_groups("eval", words, "data")
        split = load_test(data)
        made: list[Answer] = [
            (image, label, [(0 if "again" in image else label, 0.97), (1 if "again" in image else 1 - label, 0.03)])
            for image, label in zip(split.ids, split.labels.tolist(), strict=True)
        ]
        facts = {"name": "folder", "fingerprint": split.fingerprint(), "folds": 2, "fold": fold, "division": "d"}
        runs.append(write_record(tmp_path / str(fold), made, ("ant", "bee"), vars(data), **facts))
    code, out, _ = tool(*runs, f"out={tmp_path / 'out'}")
    assert code == 0 and out.startswith("1 of 41 labels are probably wrong; ")
    (wrong,) = rows(tmp_path / "out" / "label_errors.csv")
    assert wrong["path"] == str(root / "bee" / "again.png") and wrong["likely_label"] == "ant"
    pairs = rows(tmp_path / "out" / "duplicates.csv")
    held = [(run / "predictions.csv").read_text() for run in runs]
    assert ("ant/04.png" in held[0]) != ("bee/again.png" in held[0])  # they lie in different folds
    (pair,) = pairs
    assert {Path(pair["path_1"]).name, Path(pair["path_2"]).name} == {"again.png", "04.png"}
    assert {pair["label_1"], pair["label_2"]} == {"ant", "bee"} and pair["distance"] == "0.0000"
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "two labels" in text and text.count("<img") == 3


def test_copies_across_splits_are_found_and_nothing_else() -> None:
    draws = np.random.default_rng(0)

    def split(images: list[np.ndarray], name: str) -> ImageSet:
        stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return ImageSet(stack, torch.zeros(len(images), dtype=torch.int64), [f"{name}/{i}" for i in range(len(images))])

    photos = [
        np.asarray(Image.fromarray(draws.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((64, 64)))
        for _ in range(60)
    ]
    flat = [np.full((64, 64, 3), level, dtype=np.uint8) for level in (10, 200)]
    darker = (photos[2] * 0.8).astype(np.uint8)
    copies = [photos[0], photos[1][:, ::-1], darker, *photos[30:], flat[1]]
    seen = {"train": duplicates.see(split([*photos[:30], *flat], "a")), "test": duplicates.see(split(copies, "b"))}
    found = {(pair.first[1], pair.second[1]): pair for pair in duplicates.across(seen)}
    assert set(found) == {(0, 0), (1, 1), (2, 2), (31, len(copies) - 1)}  # a flat one only where it is the same
    assert found[0, 0].distance == 0 and not found[0, 0].mirrored and found[1, 1].mirrored
    assert found[2, 2].distance < duplicates.NEAR


@pytest.mark.parametrize("kind", measured.COPIES)
def test_planted_copies_of_digits_are_found(kind: str) -> None:
    pictures = measured.of_digits()[:100]
    found = measured.planted(pictures, kind)
    assert found["precision"] in (None, 100) and found["recall"] == (0 if kind == "cut by 5%" else 100)


def test_the_flips_are_the_seeds(tmp_path: Path) -> None:
    pictures = measured.of_digits()
    flips = measured.flip(pictures, 0)
    assert len(flips) == 54 and flips == measured.flip(pictures, 0) != measured.flip(pictures, 1)
    given = {picture.name: picture.label for picture in pictures}
    assert all(given[name] != label for name, label in flips.items())


@pytest.mark.parametrize("name", ["flipped", "copies"])
def test_the_numbers_in_the_documentation_are_the_records(name: str) -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    shown = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    assert shown is not None and shown[1] == getattr(audit_report, name)(record)


def test_mistakes_are_one_line(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = OLDER / "finished"
    assert "no fold of a cross-validation" in tool(done, done)[2]
    assert "this folder exists" in tool(done, f"out={tmp_path}")[2]
    assert "required: RUN" in tool()[2]
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    code, out, said = tool(done, f"out={tmp_path / 'out'}")
    assert (code, out) == (2, "") and "pip install 'cnn-zoo[audit]'" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
