"""The lecture: its program holds what it claims, and its pages are what the program gives."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, run_script
from lecture_figures import COLOURS
from render_lecture import DOCS, IMAGES, LECTURE, MARKDOWN, PAGE, cells_of, checked, close, differences, html_of
from torch import nn

from benchmarks.shift import DIRECTIONS, DISTANCES, errors_by_shift, ink_lost, shifted
from harness.config.facts import Preprocessing
from harness.data.images.image_set import ImageSet
from harness.run.checkpoint import KEY
from models.catalogue import MODELS, RELEASED, WEIGHTS

CELLS = cells_of(LECTURE.read_text(encoding="utf-8"))
TEXT = (DOCS / MARKDOWN).read_text(encoding="utf-8")
RECORD: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / "shift.json").read_text(encoding="utf-8"))
WEB = (DOCS / PAGE).read_text(encoding="utf-8")
(PIECES,) = re.findall(r"<!-- pieces -->\n(.*?)\n<!-- /pieces -->", WEB, re.DOTALL)  # to make them takes seconds
PICTURES = {path.stem: path.read_bytes() for path in (DOCS / IMAGES).glob("*.png")}
FENCE = re.compile(r"^```(?:python|text[^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def fifty_blocks() -> list[str]:
    """Derivatives of one block `x + w x`, of fifty, and the zeros behind the point of fifty times `w x`."""
    x = torch.ones((), dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(50):
        y = y + 0.01 * y
    (slope,) = torch.autograd.grad(y, x)
    without = f"{0.01**50:.110f}"
    return [f"{1 + 0.01:.2f}", f"{slope.item():.2f}", str(len(without.split(".")[1].split("1")[0]))]


def resnet50_wrong() -> list[str]:
    (row,) = [row for row in MODELS["resnet50"].published if row.source == "torchvision IMAGENET1K_V1, metadata"]
    assert row.top5_error is not None
    return [f"{round(50_000 * row.top5_error / 100):,}"]


def side(layer: nn.Module, size: int, channels: int = 1) -> int:
    return int(layer(torch.zeros(1, channels, size, size)).shape[-1])


def seen_side() -> int:
    """The pixels that can change one number behind a pooling and two layers of 3x3, by their gradient."""
    image = torch.rand(1, 1, 40, 40, requires_grad=True)
    ones = torch.ones(1, 1, 3, 3)
    pooled = nn.functional.avg_pool2d(image, 2)
    unit = nn.functional.conv2d(nn.functional.conv2d(pooled, ones), ones)[0, 0, 8, 8]
    (gradient,) = torch.autograd.grad(unit, image)
    return len(gradient[0, 0].sum(1).nonzero())


ANSWERS: dict[int, Callable[[], list[str]]] = {
    1: lambda: [f"{sum(a * b + b for a, b in ((3 * 1024**2, 16), (16, 16), (16, 10))):,}"],
    2: lambda: [", ".join(map(str, np.correlate([0, 1, 2, 3, 4, 0], [1, 0, -1], "valid")))],
    3: lambda: [str(side(nn.Conv2d(1, 1, 7, 2, padding), 224)) for padding in (3, 0)],
    4: lambda: [f"{sum(p.numel() for p in nn.Conv2d(64, 64, 3).parameters()):,}"],
    5: lambda: [str(nn.MaxPool2d(3, 2)(torch.zeros(1, 96, 55, 55)).shape[1]), str(side(nn.MaxPool2d(3, 2), 55)), "0"],
    6: lambda: [str(seen_side())],
    7: fifty_blocks,
    8: resnet50_wrong,
}


def test_the_file_is_a_notebook_in_the_percent_format() -> None:
    lines = LECTURE.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# ---" and "#       format_name: percent" in lines
    for line in (line for line in lines if line.startswith("# %%")):
        assert re.fullmatch(r'# %%( \[markdown\]| tags=\["(percent|loss|record)"\])?', line), line
    for cell, following in zip(CELLS, [*CELLS[1:], None], strict=True):
        body = lines[cell.line + 1 : following.line if following else None]
        if cell.markdown:
            assert all(line.startswith("#") or not line for line in body), f"line {cell.line + 1}: text without #"
        else:
            ast.parse(cell.source)
            assert cell.source.count("\n") < 50, f"line {cell.line + 1}: a cell that is too long to read"


@pytest.mark.parametrize("number", ANSWERS)
def test_the_answer_of_an_exercise_is_right(number: int) -> None:
    (cell,) = [cell.source for cell in CELLS if cell.markdown and f"**Exercise {number}.**" in cell.source]
    question, _, answer = cell.partition("<details>")
    assert "?" in question
    found = re.findall(r"\*\*(.+?)\*\*", answer.partition("</details>")[0])
    assert found == ANSWERS[number]()


def test_every_section_ends_in_an_exercise() -> None:
    assert re.findall(r"\*\*Exercise (\d)\.\*\*", TEXT) == [str(number) for number in ANSWERS]
    assert re.findall(r"^## (\d)\. ", TEXT, re.MULTILINE) == [str(number) for number in ANSWERS]


def test_every_number_of_the_text_is_in_the_code_or_its_output() -> None:
    """But for those of exercises, which have their own test, and for single digits."""
    code = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", "".join(FENCE.findall(TEXT)))
    known = set(re.findall(r"\d+(?:\.\d+)?", code))
    text = re.sub(r"\*\*Exercise.*?</details>", "", FENCE.sub("", TEXT), flags=re.DOTALL)
    text = re.sub(r"\]\(.*?\)|<.*?>", "", text)
    numbers = {number.replace(",", "").rstrip(".") for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}
    assert {"2904074", "61706", "1797", "4.49"} <= numbers
    assert sorted(number for number in numbers - known if len(number) > 1) == []


def test_pictures_are_those_of_the_page_and_have_words() -> None:
    shown = re.findall(rf"^!\[(.+)\]\({IMAGES}/(\w+)\.png\)$", TEXT, re.MULTILINE)
    assert sorted(name for _, name in shown) == sorted(PICTURES)
    assert len(shown) >= 12 and all(len(alt) > 40 for alt, _ in shown)
    assert len(set(COLOURS)) == 6


def test_the_interactive_page_is_the_static_one_in_one_file() -> None:
    assert html_of(TEXT, PICTURES, PIECES) == WEB
    page = WEB.replace(PIECES, "") if PIECES else WEB  # a browser shows that these load nothing
    assert "lecture.html" not in page and "{{" not in page
    loaded = re.findall(r"""(?:src|srcset|poster|action|data)\s*=\s*["']?([^"'\s>]+)|url\(([^)]+)\)|@import""", page)
    assert loaded and all("".join(place).startswith(("data:", "'data:", '"data:')) for place in loaded)
    assert not re.findall(r"<(?:link|script|iframe|object|embed)[^>]*https?:", page)


def test_the_pieces_have_their_places() -> None:
    place = r'<div class="piece" data-piece="(\w+)"></div>'
    assert re.findall(place, TEXT) == ["windows", "stride_padding", "shift", "draw"]
    assert re.findall(place, WEB.partition("<!-- pieces -->")[0]) == re.findall(place, TEXT)


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"(?<!!)\[[^\]]+\]\(([^)#]+)\)", FENCE.sub("", TEXT)):
        assert (DOCS / link).exists(), link


@pytest.mark.parametrize(
    ("was", "now", "tag", "same"),
    [
        ("0.93 of 360", "0.93 of 360", "", True),
        ("error 0.93", "error 0.94", "", True),
        ("error 0.93", "error 0.96", "", False),
        ("2,904,074 parameters", "2,904,075 parameters", "", True),  # within a thousandth; `assert` has it exactly
        ("2,904,074 parameters", "2,804,074 parameters", "", False),
        (" 9.4% wrong", "12.0% wrong", "percent", True),
        (" 9.4% wrong", "19.0% wrong", "percent", False),
        ("loss 0.12", "loss 0.20", "loss", True),
        ("loss 0.12", "loss 2.30", "loss", False),
        ("mlp 0.12", "lenet 0.12", "loss", False),
        ("1 2 3", "1 2", "loss", False),
        ("shift -0.07", "shift 0.07", "", False),
    ],
)
def test_numbers_are_compared_with_a_tolerance(was: str, now: str, tag: str, same: bool) -> None:
    assert close(was, now, tag) == same
    page = "Text\n\n```text {}\n{}\n```\n"
    assert (differences(page.format(tag, was), page.format(tag, now)) == []) == same


def test_text_and_code_are_compared_exactly() -> None:
    page = "A claim of 1.00.\n\n```python\nx = 1.00\n```\n\n```text percent\n1.00\n```\n\nMore.\n"
    assert differences(page, page) == []
    assert differences(page, page.replace("claim of 1.00", "claim of 1.01"))[0].startswith("line 1 has")
    assert differences(page, page.replace("x = 1.00", "x = 1.01"))[0].startswith("line 4 has")
    assert differences(page, page.replace("\n1.00\n```", "\n1.01\n```")) == []
    assert differences(page, page + "\nA line.\n")[0] == "it has 11 lines, and should have 13"


def test_a_picture_that_is_missing_or_another_page_is_told() -> None:
    assert checked(TEXT, PICTURES, PIECES) == []
    assert checked(TEXT, {**PICTURES, "new": b""}, PIECES) == [f"docs/{IMAGES}/new.png: missing or left over"]
    assert checked(TEXT, PICTURES, "others") == [f"docs/{PAGE}: not what docs/{MARKDOWN} and its pictures make"]


def trained_on_mnist() -> list[tuple[str, str, str]]:
    return [(row.model, row.name, row.sha256) for row in RELEASED if row.data == "mnist"]


def test_the_record_of_shifts_is_of_the_weights_that_ship() -> None:
    measured = [(row["model"], row["weights"], row["sha256"]) for row in RECORD["networks"]]
    assert measured == trained_on_mnist(), "python tools/shift.py makes the record anew; then render the lecture"
    assert RECORD["distances"] == list(DISTANCES) and RECORD["data"]["images"] == 10_000


@pytest.mark.parametrize("row", RECORD["networks"], ids=lambda row: f"{row['model']}-{row['weights']}")
def test_errors_without_a_shift_are_those_of_the_released_record(row: dict[str, Any]) -> None:
    from safetensors import safe_open

    (released,) = [one for one in RELEASED if (one.model, one.name) == (row["model"], row["weights"])]
    with safe_open(WEIGHTS / released.file, framework="pt") as content:
        known = json.loads(content.metadata()[KEY])["release"]["record"]
    assert row["top1_error"][0] == pytest.approx(known["top1_error"], abs=0.021)  # two images may be a tie
    assert known["data"]["fingerprint"] == RECORD["data"]["fingerprint"]
    assert row["training"]["crop_padding"] == known["training"]["recipe"]["crop_padding"]


def test_the_page_shows_the_record_of_shifts() -> None:
    (block,) = re.findall(r"^```text record\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    shown = [line.split()[-len(DISTANCES) :] for line in block.splitlines()[: len(RECORD["networks"])]]
    assert shown == [[f"{error:.1f}" for error in row["top1_error"]] for row in RECORD["networks"]]


def test_a_shift_moves_the_image_and_black_comes_in() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3)
    assert shifted(image, 1, 0)[0, 0].tolist() == [[0, 0, 0], [1, 2, 3], [4, 5, 6]]
    assert shifted(image, 0, -1)[0, 0].tolist() == [[2, 3, 0], [5, 6, 0], [8, 9, 0]]
    assert torch.equal(shifted(image, 0, 0), image)
    assert sorted(DIRECTIONS) == [(-1, 0), (0, -1), (0, 1), (1, 0)]


def test_errors_by_shift_are_means_over_the_four_directions() -> None:
    """A network that looks for ink in the upper and in the lower half; two images with one pixel of ink each."""

    class Halves(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.stack((images[:, 0, :4].sum((1, 2)), images[:, 0, 4:].sum((1, 2))), 1)

    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    images[0, 0, 3, 3], images[1, 0, 6, 6] = 255, 255
    test = ImageSet(images, torch.tensor([0, 1]), ["a", "b"])
    errors = errors_by_shift(Halves(), test, Preprocessing(1, 8, None, None, (0.0,), (1.0,)), (0, 1, 2))
    # One down moves the first out of its half; two down lose the second, and two right as well: a tie is class 0.
    assert errors == [0.0, 12.5, 37.5]
    assert [ink_lost(test, 8, distance) for distance in (0, 1, 2)] == [0.0, 0.0, 25.0]
    assert [ink_lost(test, 10, distance) for distance in (0, 1, 2)] == [0.0, 0.0, 0.0]  # padded first


def test_an_image_is_padded_before_it_is_shifted() -> None:
    """Ink at the border of an image of 4x4 stays within the 8x8 pixels that the network takes."""

    class Ink(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            ink = images.flatten(1).sum(1)
            return torch.stack((ink, 0.5 - ink), 1)

    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    images[0, 0, 3, 3] = 255
    test = ImageSet(images, torch.tensor([0]), ["a"])
    assert errors_by_shift(Ink(), test, Preprocessing(1, 8, None, None, (0.0,), (1.0,)), (0, 2, 3)) == [0.0, 0.0, 50.0]


@pytest.mark.slow
def test_the_lecture_holds_and_its_pages_are_what_it_gives() -> None:
    done = run_script("examples/render_lecture.py", "--check", timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == done.stderr == ""


@pytest.mark.slow
def test_the_lecture_is_also_a_plain_script(tmp_path: Path) -> None:
    done = run_script("examples/cnn_lecture.py", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "2,904,074 parameters" in done.stdout and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_lecture_opens_and_runs_as_a_notebook() -> None:
    """Its first two sections."""
    needed = ("jupytext", "nbclient", "ipykernel")
    jupytext, nbclient, _ = (pytest.importorskip(package, reason="no Jupyter on this machine") for package in needed)
    notebook = jupytext.read(LECTURE)
    assert [cell.cell_type == "markdown" for cell in notebook.cells] == [cell.markdown for cell in CELLS]
    end = next(n for n, cell in enumerate(notebook.cells) if cell.source.startswith("## 3."))
    notebook.cells = notebook.cells[:end]
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(LECTURE.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4


@pytest.mark.slow
def test_a_browser_loads_the_page_without_a_network_and_without_a_word() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright on this machine")
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    requests: list[str] = []
    said: list[str] = []
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=arguments)
        for width in (390, 1100):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.goto((DOCS / PAGE).as_uri())
            page.wait_for_load_state("load")
            assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            assert page.evaluate("[...document.images].every(image => image.alt.length > 0)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator("nav a").count() == 9 and page.locator("details[open]").count() == 0
            for link in page.locator("nav a").all():
                assert page.locator(f"[id='{str(link.get_attribute('href')).removeprefix('#')}']").count() == 1
        browser.close()
    assert said == []
    assert {url for url in requests if not url.startswith("data:")} == {(DOCS / PAGE).as_uri()}
