"""tools/errors.py: what the page says is what the record says, beside the very pictures that were evaluated."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import browser
import numpy as np
import pytest
from in_process import call, only
from made_records import OLDER, Answer, write_record
from PIL import Image
from test_hub_data import REPO, cache, write_snapshot  # noqa: F401  # a fixture

from harness.command import errors as command
from harness.comparison import errors
from harness.comparison.answers import Answers, read_answers
from harness.comparison.paired import mcnemar
from harness.config.compose import compose_groups
from harness.config.data import DataConfig
from harness.data.sources import table
from harness.data.sources.packing import pack
from harness.data.sources.table import describe, load_test
from harness.evaluation.intervals import wilson
from harness.mistakes.calibration import expected_calibration_error
from harness.mistakes.pictures import size_in_head
from harness.mistakes.thumbnails import thumbnail
from harness.run.files import CHOOSING_VARIABLE
from harness.stories.ending import tell_worst

Tool = Callable[..., tuple[int, str, str]]
DIGITS = OLDER / "finished-eval"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """tools/errors.py in this process: its exit code, and what it printed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["errors.py", *map(str, words)])
        capsys.readouterr()
        return command.main(), *capsys.readouterr()

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cards(text: str, name: str) -> list[str]:
    """The items of a gallery."""
    inside = re.search(rf'<ul class="gallery[^"]*" id="{name}">(.*?)</ul>', text, re.DOTALL)
    assert inside is not None
    return re.findall(r"<li.*?</li>", inside[1], re.DOTALL)


def crafted(count: int, classes: int, seed: int = 0, right: float = 0.7) -> list[Answer]:
    """Answers that are drawn."""
    draws = np.random.default_rng(seed)
    made: list[Answer] = []
    for index in range(count):
        label = int(draws.integers(classes))
        best = [label, *draws.permutation([c for c in range(classes) if c != label])[:4].tolist()]
        if draws.random() > right:
            best[0], best[1] = best[1], best[0]
        shares = np.sort(draws.dirichlet(np.ones(len(best))))[::-1]
        made.append((f"made/{index:05d}", label, [(c, round(float(p), 6)) for c, p in zip(best, shares, strict=True)]))
    return made


# ----------------------------------------------------------------------------------------------------- what is computed


def test_errors_by_class_and_confusions_are_those_counted_by_hand(tmp_path: Path) -> None:
    made = crafted(400, 5)
    made[7] = ("made/unread", made[7][1], [])  # counts as wrong, and was taken for nothing
    found = read_answers(write_record(tmp_path, made, "abcde"))
    pairs = Counter((label, best[0][0]) for _, label, best in made if best and best[0][0] != label)
    assert {(one.label, one.answer): one.times for one in errors.confusions(found)} == pairs
    assert [one.times for one in errors.confusions(found)] == sorted(pairs.values(), reverse=True)
    for one in errors.by_class(found):
        images = sum(label == one.label for _, label, _ in made)
        wrong = sum(label == one.label and (not best or best[0][0] != label) for _, label, best in made)
        assert (one.images, one.wrong, one.interval) == (images, wrong, wilson(wrong, images))
        assert one.taken == sum(times for (_, answer), times in pairs.items() if answer == one.label)
        assert one.times == max(times for (label, _), times in pairs.items() if label == one.label)
    order = errors.most_confident_mistakes(found).tolist()
    assert not found.right[order].any() and len(order) == int((~found.right).sum()) and order[-1] == 7
    assert (np.diff(found.confidence[order[:-1]]) <= 0).all()
    assert (np.diff(found.confidence[errors.least_confident_hits(found)]) >= 0).all()


def test_the_calibration_error_of_torchmetrics_is_that_of_the_bins_shown(tmp_path: Path) -> None:
    made = crafted(600, 8)
    made[0] = (made[0][0], made[0][1], [(made[0][1], 1.0)])  # torchmetrics alone gives 1 a bin of its own
    found = read_answers(write_record(tmp_path, made, "abcdefgh"))
    bins = errors.reliability(found)
    assert sum(one.images for one in bins) == 600 and len(bins) > 8
    by_hand = sum(one.images / 600 * abs(one.confidence - one.right) for one in bins)
    assert expected_calibration_error(found) == pytest.approx(by_hand, abs=1e-5)
    assert all(one.low <= one.confidence <= one.high for one in bins)


def test_groups_of_like_value_hold_every_picture_once() -> None:
    draws = np.random.default_rng(0)
    values, right = draws.integers(60, 500, 1_000).astype(float), draws.random(1_000) < 0.8
    values[3] = np.nan
    found = errors.by_value(values, right)
    assert len(found) == errors.GROUPS and sum(group.images for group in found) == 999
    assert sum(group.wrong for group in found) == int((~right[~np.isnan(values)]).sum())
    assert all(one.high < other.low for one, other in pairwise(found))
    assert max(group.images for group in found) < 1.3 * min(group.images for group in found)
    assert errors.by_value(np.full(9, 224.0), right[:9]) == []
    assert len(errors.by_value(np.array([1.0] * 90 + [2.0] * 10), right[:100])) == 2  # equal values stay together


def test_the_line_at_the_end_of_a_training(tmp_path: Path) -> None:
    best = [(0, 1, "a"), (1, 1, "b"), (1, 1, "b"), (2, 1, "c"), (2, 2, "d"), (2, 1, "e"), (3, 0, "f"), (3, 3, "g")]
    made: list[Answer] = [(image, label, [(answer, 0.9)]) for label, answer, image in best]
    found = read_answers(write_record(tmp_path / "a", made, ("ant", "bee", "cat", "dog")))
    line = errors.in_one_line(found, lambda label: found.class_names[label])
    assert line == (
        "worst classes: ant (100.0% of 1), cat (66.7% of 3), dog (50.0% of 2); "
        "most frequent confusion: cat taken for bee (2 images)"
    )
    two = read_answers(write_record(tmp_path / "b", made[:3], ("ant", "bee")))
    assert errors.in_one_line(two, str) is None  # of two classes the error says it all
    none = read_answers(write_record(tmp_path / "c", [one for one in made if one[1] == one[2][0][0]], "abcd"))
    assert errors.in_one_line(none, str) is None


def test_where_two_networks_differ(tmp_path: Path) -> None:
    one, other = crafted(300, 6, seed=1), crafted(300, 6, seed=1)
    for index in range(0, 300, 7):  # another order, and other answers
        image, label, best = other[index]
        other[index] = (image, label, [best[1], best[0], *best[2:]])
    first = read_answers(write_record(tmp_path / "a", one, "abcdef"))
    second = read_answers(write_record(tmp_path / "b", other[::-1], "abcdef"))
    found = errors.difference(first, second)
    right = [{image: best[0][0] == label for image, label, best in made} for made in (one, other)]
    wanted = [image for image in right[0] if right[0][image] and not right[1][image]]
    assert [first.images[index] for index in found.only_first] == wanted and len(wanted) > 10
    wanted = [image for image in right[0] if right[1][image] and not right[0][image]]
    assert [first.images[index] for index in found.only_second] == wanted and wanted
    assert found.both + found.neither + len(found.only_first) + len(found.only_second) == 300
    assert found.p == mcnemar(len(found.only_first), len(found.only_second))
    assert [second.images[index] for index in found.second] == list(first.images)


# ------------------------------------------------------------------------------------------------------------- the page


def test_the_page_of_digits_shows_the_very_pictures(tool: Tool, tmp_path: Path) -> None:
    run = shutil.copytree(DIGITS, tmp_path / "run")
    assert tool(run) == (0, f"{tmp_path / 'run-errors' / 'index.html'}\n", "")
    text = (tmp_path / "run-errors" / "index.html").read_text(encoding="utf-8")
    answers = read_answers(run)
    assert "Top-1 error 50.28%" in text and "All pictures have one size, 32 x 32 pixels." in text
    mistakes = cards(text, "mistakes")
    assert len(mistakes) == 181 and sum("hidden" in card for card in mistakes) == 181 - 48
    digits = load_test(DataConfig("digits", "", False, 0, [0.5], [0.5]))
    listed = rows(tmp_path / "run-errors" / "mistakes.csv")
    assert len(listed) == 181 and float(listed[0]["probability"]) == np.nanmax(answers.confidence[~answers.right])
    for card, row in zip(mistakes, listed, strict=True):
        (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', card)
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            shown = np.asarray(image)
        where = list(digits.ids).index(row["image"])
        assert (shown == digits.images[where, 0].numpy()).all()  # type: ignore[union-attr]
        label, answer = int(row["label"]), int(row["answer"])
        assert label == int(digits.labels[where]) and f"<b>{label}</b><br>taken for <b>{answer}</b>" in card
        assert row["image"] in card and f'data-classes="{label} {answer}"' in card
    assert len(cards(text, "hits")) == 179
    assert tool(run)[1] == f"{tmp_path / 'run-errors_2' / 'index.html'}\n"  # nothing is overwritten


def test_the_matrix_is_that_of_the_record(tool: Tool, tmp_path: Path) -> None:
    tool(DIGITS, f"out={tmp_path / 'out'}")
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    (matrix,) = re.findall(r'<table class="matrix">(.*?)</table>', text, re.DOTALL)
    body = matrix.partition("<tbody>")[2]
    shown = [
        [int(n) for n in re.findall(r"<td[^>]*>([\d,]+)</td>", row)] for row in body.split("</tr>") if "<td" in row
    ]
    answers, wanted = read_answers(DIGITS), np.zeros((10, 10), dtype=int)
    np.add.at(wanted, (answers.labels, answers.answer), 1)
    assert (np.array(shown) == wanted).all()
    assert matrix.count('scope="row"') == 10 and matrix.count('scope="col"') == 11 and "<caption>" in matrix


def test_more_than_thirty_classes_have_no_matrix(tool: Tool, tmp_path: Path) -> None:
    for classes, matrices in ((30, 1), (31, 0)):
        run = write_record(tmp_path / str(classes), crafted(300, classes), [f"c{i}" for i in range(classes)])
        tool(run, f"out={run}-out")
        assert Path(f"{run}-out/index.html").read_text().count('class="matrix"') == matrices


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of pictures of two species and many sizes, one with a name that needs care, and a record of it."""
    root, draws = tmp_path / "photos", np.random.default_rng(0)
    for index in range(60):
        place = root / ("ant", "bee", "cow")[index % 3] / ("50% #1?é.jpg" if index == 4 else f"{index:02d}.jpg")
        place.parent.mkdir(parents=True, exist_ok=True)
        size = (int(draws.integers(70, 300)), int(draws.integers(70, 300)))
        Image.effect_noise(size, 60).convert("RGB").save(place)
    return root, record_of(root, tmp_path / "run")


def record_of(root: Path, folder: Path, source: str = "folder") -> Path:
    """A record of crafted answers on all pictures of a folder, or of tars."""
    data, split = all_of(root, source)
    names = describe(data).class_names
    count, draws = len(names), np.random.default_rng(0)
    made: list[Answer] = []
    for image, label in zip(split.ids, split.labels.tolist(), strict=True):
        answer = label if draws.random() < 0.6 else (label + 1) % count
        made.append((image, label, [(answer, round(0.5 + float(draws.random()) / 2, 6))]))
    facts = {"name": source, "split": "test", "fingerprint": split.fingerprint()}
    return write_record(folder, made, names, vars(data), **facts)


def all_of(root: Path, source: str = "folder") -> tuple[DataConfig, Any]:
    (data,) = compose_groups("eval", [f"data={source}", f"data.root={root}", "data.test=100"], "data")
    return data, load_test(data)


def test_a_folder_has_links_that_open_and_errors_by_size(photos: tuple[Path, Path], tool: Tool, tmp_path: Path) -> None:
    root, run = photos
    assert tool(run, f"out={tmp_path / 'out'}")[0] == 0
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    links = {unquote_to_bytes(html.unescape(link)).decode() for link in re.findall(r'href="file://([^"]*)"', text)}
    assert links == {str(path) for path in root.rglob("*.jpg")}
    assert "/ant/50%25%20%231%3F" in text or "/bee/50%25%20%231%3F" in text
    assert {row["path"] for row in rows(tmp_path / "out" / "mistakes.csv")} <= links
    sizes = rows(tmp_path / "out" / "sizes.csv")
    for kind in ("shorter edge", "width over height"):
        groups = [row for row in sizes if row["grouped_by"] == kind]
        assert len(groups) > 1 and sum(int(row["images"]) for row in groups) == 60
    assert text.count('<svg class="chart"') == 3 and text.count('role="img" aria-label="') == 3
    assert text.count("data:image/jpeg") == len(links)


def test_pictures_in_tars_are_shown_as_those_in_files(
    photos: tuple[Path, Path], tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, run = photos
    pack(all_of(root)[0], tmp_path / "tars", 1_000_000)
    for name, record in (("files", run), ("tars", record_of(tmp_path / "tars", tmp_path / "of tars", "shards"))):
        assert tool(record, f"out={tmp_path / name}.out")[0] == 0
    pages = [(tmp_path / f"{name}.out" / "index.html").read_text(encoding="utf-8") for name in ("files", "tars")]
    files, tars = (re.findall(r'src="(data:image/jpeg[^"]*)"', page) for page in pages)
    assert files == tars and len(tars) == 60
    assert "file://" in pages[0] and "file://" not in pages[1]
    sizes = [(tmp_path / f"{name}.out" / "sizes.csv").read_text(encoding="utf-8") for name in ("files", "tars")]
    assert sizes[0] == sizes[1]


def test_pictures_that_have_moved_are_found_by_root_and_others_are_never_shown(
    photos: tuple[Path, Path], tool: Tool, tmp_path: Path
) -> None:
    root, run = photos
    root.rename(tmp_path / "moved")
    code, _, said = tool(run, f"out={tmp_path / 'a'}")
    text = (tmp_path / "a" / "index.html").read_text(encoding="utf-8")
    assert code == 0 and said.count("\n") == 1 and "--root" in said and html.escape(said.strip()) in text
    assert "<img" not in text and len(cards(text, "mistakes")) > 10  # everything else is there
    assert tool(run, f"out={tmp_path / 'b'}", "--root", tmp_path / "moved")[2] == ""
    assert "<img" in (tmp_path / "b" / "index.html").read_text(encoding="utf-8")
    (victim,) = (tmp_path / "moved").glob("ant/00.jpg")
    victim.write_bytes(victim.read_bytes() + b"0")  # another picture of the same name
    code, out, said = tool(run, "--root", tmp_path / "moved", f"out={tmp_path / 'c'}")
    assert (code, out) == (2, "") and said.count("\n") == 1 and "other images" in said
    assert not (tmp_path / "c").exists()
    code, _, said = tool(run, "--root", tmp_path / "nowhere")
    assert code == 2 and "there is no such folder" in said and said.count("\n") == 1


def test_a_data_set_of_the_hub(cache: Path, tool: Tool, tmp_path: Path) -> None:  # noqa: F811
    write_snapshot(cache)
    (data,) = compose_groups("eval", ["data=hub", f"data.repo={REPO}"], "data")
    split = load_test(data)
    made: list[Answer] = [
        (image, label, [((label + 1) % 2, 0.9)]) for image, label in zip(split.ids, split.labels.tolist(), strict=True)
    ]
    names = table.describe(data).class_names
    facts = {"name": "hub", "fingerprint": split.fingerprint(), "repo": REPO}
    run = write_record(tmp_path / "run", made, names, vars(data), **facts)
    assert tool(run, f"out={tmp_path / 'out'}")[::2] == (0, "")
    assert (tmp_path / "out" / "index.html").read_text(encoding="utf-8").count("<img") == len(split)


def test_two_runs_on_one_page(tool: Tool, tmp_path: Path) -> None:
    first, second = crafted(200, 4, seed=2), crafted(200, 4, seed=2)
    second[:40] = [(image, label, [best[1], best[0], *best[2:]]) for image, label, best in second[:40]]
    runs = [write_record(tmp_path / str(n), made, "abcd") for n, made in enumerate((first, second))]
    code, out, _ = tool(*runs, f"out={tmp_path / 'out'}")
    found = errors.difference(*map(read_answers, runs))
    assert (
        code == 0 and f"only the first on {len(found.only_first)}, only the second on {len(found.only_second)}" in out
    )
    listed = rows(tmp_path / "out" / "differing.csv")
    assert Counter(row["right"] for row in listed) == {
        "first": len(found.only_first),
        "second": len(found.only_second),
    }
    assert all(row[row["right"]] == row["label"] for row in listed)
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert len(cards(text, "only-first")) == len(found.only_first)
    assert len(cards(text, "only-second")) == len(found.only_second)


def damage(text: str) -> Callable[[Path], None]:
    """Replace the predictions by other text that fits the record's SHA-256."""

    def change(run: Path) -> None:
        import hashlib

        (run / "predictions.csv").write_text(text)
        content = json.loads((run / "result.json").read_text())
        content["predictions"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        (run / "result.json").write_text(json.dumps(content))

    return change


HEADER = (DIGITS / "predictions.csv").read_text().partition("\n")[0]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda run: (run / "result.json").unlink(), "no folder of a run or an evaluation that has ended"),
        (lambda run: (run / "result.json").write_text("{"), "damaged, not JSON"),
        (lambda run: (run / "result.json").write_text("{}"), "not a record that can be used"),
        (lambda run: (run / "predictions.csv").unlink(), "file of predictions is missing"),
        (lambda run: (run / "predictions.csv").write_text("image\n"), "has changed since the record was written"),
        (damage(""), "not the 360 predictions"),
        (damage(HEADER + "\n" + "a,0,zero,,,,,,,,,\n" * 360), "damaged, not the predictions"),
        (damage(HEADER + "\n" + "a,0,10,0.5,,,,,,,,\n" * 360), "has a class that is none of the record's 10"),
        (damage(HEADER + "\n" + "a,-1,1,0.5,,,,,,,,\n" * 360), "has a class that is none of the record's 10"),
        (damage(HEADER + "\n" + "a,0,1,7,,,,,,,,\n" * 360), "has a probability that is not between 0 and 1"),
        (damage(HEADER + "\n" + "a,0,1,0.5\n" * 360), "not the 360 predictions"),
    ],
)
def test_a_record_that_cannot_be_used_is_one_line(
    change: Callable[[Path], Any], line: str, tool: Tool, tmp_path: Path
) -> None:
    run = shutil.copytree(DIGITS, tmp_path / "run")
    change(run)
    code, out, said = tool(run)
    assert (code, out) == (2, "") and said.startswith("errors.py: ") and said.count("\n") == 1 and line in said
    assert not (tmp_path / "run-errors").exists()


def test_other_mistakes_are_one_line(tool: Tool, tmp_path: Path) -> None:
    other = write_record(tmp_path / "other", crafted(360, 10), "0123456789", name="mnist")
    assert "digits test and mnist test; only the same" in tool(DIGITS, other)[2]
    images = write_record(tmp_path / "images", crafted(360, 10), "0123456789")
    assert "predictions are of other images" in tool(DIGITS, images)[2]
    assert "3 runs: name one, or two" in tool(DIGITS, DIGITS, DIGITS)[2]
    assert "this folder exists" in tool(DIGITS, f"out={tmp_path}")[2]
    assert "there is no folder" in tool(DIGITS, f"out={tmp_path / 'a' / 'b'}")[2]
    assert "required: RUN" in tool()[2]


def test_the_size_in_a_head_is_that_of_the_pixels_as_a_viewer_shows_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "text.jpg").write_text("no picture")
    place = bytes(tmp_path / "turned.jpg")
    assert size_in_head(place, as_viewed=True) == (30, 40) and size_in_head(place, as_viewed=False) == (40, 30)
    assert size_in_head(bytes(tmp_path / "text.jpg"), True) is None and size_in_head(bytes(tmp_path), True) is None


@pytest.mark.parametrize("shape", [(8, 8), (32, 32, 3), (300, 200, 3), (4_000, 50, 3), (1, 400)])
def test_a_thumbnail_is_small_and_a_small_picture_keeps_its_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    small = thumbnail(pixels)
    with Image.open(io.BytesIO(base64.b64decode(small.address.partition(",")[2]))) as image:
        if max(shape[:2]) <= 64:
            assert (np.asarray(image) == pixels).all() and small.width % shape[1] == 0
        else:
            assert image.size == (small.width, small.height) and image.format == "JPEG"
    assert 96 <= min(small.width, small.height) <= 128 and max(small.width, small.height) <= 300


# ------------------------------------------------------------------------------------------ at the end of an evaluation


def test_an_evaluation_ends_with_the_command_that_makes_the_page(
    tmp_path: Path, tool: Tool, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "a b"
    assert call("eval.py", "model=lenet5", "weights=DIGITS", "data=digits", f"runs={runs}", "trainer=cpu") == 0
    folder = only(only(runs))
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    assert lines[-1].endswith(f"why it is wrong: python tools/errors.py '{folder}'")
    assert tool(folder)[0] == 0


def test_a_training_names_its_worst_classes(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.run.log import spoken

    with spoken(True):
        tell_worst(DIGITS)
    assert re.fullmatch(
        r"worst classes: \d \(\d+\.\d% of \d+\), .*; most frequent confusion: \d taken for \d \(\d+ images\)\n",
        capsys.readouterr().out,
    )


def test_a_run_among_which_a_choice_will_be_made_does_not_tell_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHOOSING_VARIABLE, "1")
    from harness.run.log import spoken

    with spoken(True):
        tell_worst(DIGITS)
    assert capsys.readouterr().out == ""


# -------------------------------------------------------------------------------------------------------- in a browser


@pytest.mark.slow
def test_the_page_in_a_browser(photos: tuple[Path, Path], tool: Tool, tmp_path: Path) -> None:
    """Nothing in the console, every picture loads, sorting sorts, the filter filters, and the keyboard does all."""
    tool(photos[1], f"out={tmp_path / 'out'}")
    tool(DIGITS, f"out={tmp_path / 'digits'}")
    with browser.page() as (page, wrong):
        page.goto(f"file://{tmp_path / 'digits' / 'index.html'}")
        loaded = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
        assert len(loaded) == 360 and all(loaded)

        def column(number: int) -> list[str]:
            cells = page.locator(f"#classes tbody tr > :nth-child({number})")
            return [text.strip() for text in cells.all_inner_texts()]

        images = page.locator("#classes th button", has_text="images")
        images.focus()
        page.keyboard.press("Enter")
        assert page.locator("#classes th[aria-sort=descending]").inner_text().strip() == "images"
        assert column(2) == sorted(column(2), key=int, reverse=True)
        page.keyboard.press("Space")
        assert page.locator("#classes th[aria-sort=ascending]").count() == 1
        assert column(2) == sorted(column(2), key=int) and len(column(2)) == 10
        page.locator("#classes thead button", has_text="most often").click()
        assert column(8) == sorted(column(8))
        assert page.locator("#classes th[aria-sort]").count() == 1

        def shown(gallery: str) -> list[str]:
            return [text for text in page.locator(f"#{gallery} li").all_inner_texts() if text]

        visible = page.locator("#mistakes li:visible")
        assert visible.count() == 48
        page.locator("#class").focus()
        page.keyboard.press("3")  # a list takes the letters that are typed
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('#class').value === '3'")
        answers = read_answers(DIGITS)
        of_class = ~answers.right & ((answers.labels == 3) | (answers.answer == 3))
        assert visible.count() == int(of_class.sum())
        assert page.locator("#hits li:visible").count() == int((answers.right & (answers.labels == 3)).sum())
        assert page.locator("#classes tbody tr:visible").count() == 1
        assert page.locator("#told").inner_text().startswith("3: ") and page.locator("[role=status]").count() == 1
        page.locator("#all").focus()
        page.keyboard.press("Enter")
        assert visible.count() == 48 and page.evaluate("document.activeElement.id") == "class"
        page.locator("#confusions button[data-class]").first.click()
        assert page.locator("#class").input_value() != ""
        outline = page.evaluate("document.activeElement.matches(':focus-visible') || true")
        assert outline and not wrong
        page.goto(f"file://{tmp_path / 'out' / 'index.html'}")
        link = page.locator("#mistakes a", has_text="50%").or_(page.locator("#hits a", has_text="50%")).first
        with page.context.expect_page() as opened:
            link.click(modifiers=["Control"])
        assert opened.value.evaluate("document.images[0].naturalWidth") > 0  # a path that opens
        page.emulate_media(color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        page.set_viewport_size({"width": 360, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert not wrong


@pytest.mark.slow
def test_a_thousand_classes_and_fifty_thousand_images(tool: Tool, tmp_path: Path) -> None:
    """In under a minute, and on a page under 15 MB."""
    pool = []
    for index in range(40):
        noise = np.random.default_rng(index).integers(0, 256, (400, 480 + index, 3), dtype=np.uint8)
        pool.append(tmp_path / f"{index}.jpg")
        Image.fromarray(noise).save(pool[-1], quality=60)  # noise needs more room than any photograph
    for label in range(1_000):
        folder = tmp_path / "photos" / f"class {label:04d}"
        folder.mkdir(parents=True)
        for index in range(50):
            (folder / f"{index:02d}.jpg").hardlink_to(pool[(label + index) % len(pool)])
    run = record_of(tmp_path / "photos", tmp_path / "run")
    start = time.monotonic()
    assert tool(run, f"out={tmp_path / 'out'}")[0] == 0
    assert time.monotonic() - start < 60
    page = tmp_path / "out" / "index.html"
    assert page.stat().st_size < 15_000_000
    text = page.read_text(encoding="utf-8")
    classes = {label for found in re.findall(r'<li data-classes="(\d+) \d+" data-later', text) for label in [found]}
    assert len(classes) > 900  # nearly every class has a mistake to look at
    with browser.page() as (opened, wrong):
        opened.goto(f"file://{page}")
        assert opened.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        opened.select_option("#class", "977")
        assert opened.locator("#classes tbody tr:visible").count() == 1 and not wrong


def test_answers_of_all_folds_are_those_of_each(tmp_path: Path) -> None:
    from harness.comparison.answers import together
    from harness.errors import UserError

    def fold(number: int, folds: int = 3, division: str = "d") -> Answers:
        made = [(f"{number}/{image}", label, best) for image, label, best in crafted(30, 4, seed=number)]
        facts: dict[str, Any] = {"fold": number, "folds": folds, "division": division}
        return read_answers(write_record(tmp_path / f"{number}-{folds}-{division}", made, "abcd", **facts))

    parts = [fold(2), fold(0), fold(1)]
    whole = together(parts)
    assert len(whole) == 90 and (whole.right == np.concatenate([part.right for part in parts])).all()
    assert whole.images == tuple(image for part in parts for image in part.images)
    for odd, line in (
        ([fold(0), fold(1)], "each is wanted once"),
        ([fold(0), fold(1), fold(1)], "each is wanted once"),
        ([fold(0), fold(1), fold(2, division="e")], "a fold of other images"),
        ([fold(0), read_answers(DIGITS)], "no fold of a cross-validation"),
    ):
        with pytest.raises(UserError, match=line):
            together(odd)
