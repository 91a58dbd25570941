"""The interactive pieces of the lecture, in a browser: what they show is what PyTorch computes."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lecture_pieces
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from scipy.signal import correlate2d
from sklearn.datasets import load_digits

from harness import load
from models.lenet import LENET5_TABLE, PartialConvolution

SLIDES = [[12, 12, 17], [10, 17, 19], [9, 6, 14]]  # the lecture's output
CLOSE = 1e-4
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

slow = pytest.mark.slow
each_network = pytest.mark.parametrize(
    ("model", "weights"),
    [(model, weights) for model, weights, _ in lecture_pieces.NETWORKS],
    ids=lambda name: name,
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def text() -> str:
    return lecture_pieces.bare_page()


@pytest.fixture
def page(browser: Browser, text: str, tmp_path: Path) -> Iterator[Page]:
    """A page with all pieces; a test fails if it said something in the console, or asked for another file."""
    file, said, asked = tmp_path / "page.html", [], []
    file.write_text(text, encoding="utf-8")
    context = browser.new_context(viewport={"width": 1200, "height": 900}, has_touch=True)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert (said, set(asked)) == ([], {file.as_uri()})


def shown(page: Page, piece: str, caption: str) -> list[list[float | None]]:
    """The numbers in the grid with this caption; None for an empty square."""
    cells: list[tuple[int, int, str]] = page.evaluate(
        """([piece, caption]) => {
            const figures = [...document.querySelectorAll(`[data-piece=${piece}] figure`)];
            const figure = figures.find((figure) => figure.querySelector("figcaption").textContent === caption);
            return [...figure.querySelectorAll(".cell")].map(({ style, textContent }) =>
                [Number(style.gridRowStart), Number(style.gridColumnStart), textContent]);
        }""",
        [piece, caption],
    )
    rows: list[list[float | None]] = [[] for _ in range(max((row for row, _, _ in cells), default=0))]
    for row, _, number in cells:
        rows[row - 1].append(float(number.replace("\N{MINUS SIGN}", "-")) if number else None)
    return rows


def frame(page: Page, piece: str, caption: str, kind: str = "window") -> list[int] | None:
    """First row and column and size of the frame over a grid, counted from 0."""
    place: list[int] | None = page.evaluate(
        """([piece, caption, kind]) => {
            const figures = [...document.querySelectorAll(`[data-piece=${piece}] figure`)];
            const figure = figures.find((figure) => figure.querySelector("figcaption").textContent === caption);
            const style = figure.querySelector(`.frame.${kind}`)?.style;
            const size = style && Number(style.gridRowEnd.replace("span ", ""));
            return style ? [Number(style.gridRowStart) - 1, Number(style.gridColumnStart) - 1, size] : null;
        }""",
        [piece, caption, kind],
    )
    return place


def canvas(page: Page, piece: str, name: str) -> npt.NDArray[np.uint8]:
    """The red of a picture, which is its grey where it is grey; uint8 (H, W)."""
    found = page.locator(f'[data-piece={piece}] canvas[aria-label="{name}"]')
    url: str = found.evaluate("(canvas) => canvas.toDataURL()")  # PNG
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        return np.array(image.convert("RGB"))[..., 0]


def sample(page: Page, digit: int) -> npt.NDArray[np.uint8]:
    """A digit that was drawn for the page, as the networks see it."""
    pixels = page.evaluate("(digit) => lecture.asMnist(lecture.drawStrokes(lecture.SAMPLES[digit]))", digit)
    return np.array(pixels, dtype=np.uint8)


def settled(page: Page) -> None:
    """Wait until the next picture is on the screen."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pictures(page: Page) -> list[npt.NDArray[np.uint8]]:
    """Noise, black, white, people's digits and the page's own, uint8 (28, 28)."""
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (28, 28), dtype=np.uint8) for _ in range(4)]
    plain = [np.full((28, 28), level, dtype=np.uint8) for level in (0, 255)]
    scanned = [np.pad((image * 15).astype(np.uint8).repeat(3, 0).repeat(3, 1), 2) for image in load_digits().images[:5]]
    return [*noise, *plain, *scanned, *(sample(page, digit) for digit in range(10))]


@slow
@each_network
def test_logits_are_pytorchs(page: Page, model: str, weights: str) -> None:
    loaded = load(model, weights=weights)
    images = pictures(page)
    forward = "([name, images]) => images.map((pixels) => lecture.NETWORKS[name].forward(pixels).output)"
    ours = page.evaluate(forward, [f"{model}-{weights}", [image.tolist() for image in images]])
    inputs = torch.stack([loaded.preprocess(image) for image in images])
    if model == "lenet5_1998":  # its logits reach -170, which float32 rounds by as much as is allowed
        loaded.network.double()
        inputs = inputs.double()
    with torch.no_grad():
        theirs = loaded.network(inputs)
    assert (torch.tensor(ours, dtype=torch.float64) - theirs).abs().max() < CLOSE


@slow
def test_the_maps_are_those_of_lenet5(page: Page) -> None:
    loaded = load("lenet5", weights="MNIST")
    pixels = sample(page, 5)
    ours = page.evaluate("(pixels) => lecture.NETWORKS['lenet5-MNIST'].forward(pixels)", pixels.tolist())
    network = loaded.network
    with torch.no_grad():
        c1 = torch.tanh(network.get_submodule("c1")(loaded.preprocess(pixels)[None]))
        s2 = F.avg_pool2d(c1, 2)
        c3 = torch.tanh(network.get_submodule("c3")(s2))
    for name, maps in {"c1": c1, "s2": s2, "c3": c3, "s4": F.avg_pool2d(c3, 2)}.items():
        torch.testing.assert_close(torch.tensor(ours[name])[None], maps, atol=CLOSE, rtol=0)
    for name, count, size in (("C1", 6, 28), ("S2", 6, 14), ("C3", 16, 10), ("S4", 16, 5)):
        drawn = page.locator(f"[data-piece=draw] canvas.{name.lower()}")
        assert drawn.count() == count
        assert canvas(page, "draw", f"{name}, map {count}").shape == (size, size)


@slow
def test_a_map_is_blue_below_zero_and_red_above(page: Page) -> None:
    page.locator("[data-piece=draw] button", has_text="5").click()
    settled(page)
    values = np.array(
        page.evaluate("(p) => lecture.NETWORKS['lenet5-MNIST'].forward(p).c1[0]", sample(page, 5).tolist())
    )
    red = canvas(page, "draw", "C1, map 1").astype(int)  # 255 at 0, 33 at -1, 178 at +1
    expected = np.where(values < 0, 255 + values * (255 - 33), 255 - values * (255 - 178))
    np.testing.assert_allclose(red, expected, atol=1)


@slow
def test_stepping_fills_the_lectures_output(page: Page) -> None:
    place, following = (
        page.locator("[data-piece=windows] .sum"),
        page.locator("[data-piece=windows] button", has_text="Next"),
    )
    for step in range(9):
        flat = [value for row in shown(page, "windows", "output") for value in row]
        assert flat == [*np.ravel(SLIDES)[: step + 1], *[None] * (8 - step)]
        assert frame(page, "windows", "input") == [step // 3, step % 3, 3]
        products, _, total = place.inner_text().partition(":")[2].partition("=")
        factors = [pair.split("\N{MULTIPLICATION SIGN}") for pair in products.split("+")]
        assert len(factors) == 9
        assert sum(int(a) * int(b) for a, b in factors) == int(total) == np.ravel(SLIDES)[step]
        following.press("Enter")
    assert frame(page, "windows", "input") == [2, 2, 3]  # there is no tenth window
    page.keyboard.press("ArrowLeft")
    assert frame(page, "windows", "input") == [2, 1, 3]
    page.locator("[data-piece=windows] button", has_text="Previous").press("Enter")
    assert frame(page, "windows", "input") == [2, 0, 3]
    page.locator("[data-piece=windows] .cell").nth(25 + 9).click()  # the first of the output
    assert frame(page, "windows", "input") == [0, 0, 3]


@slow
def test_play_goes_to_the_end_and_stops(page: Page) -> None:
    page.clock.install()
    page.reload()
    play = page.locator("[data-piece=windows] button", has_text="Play")
    play.click()
    page.clock.run_for(1500)
    assert frame(page, "windows", "input") == [0, 2, 3]
    assert page.locator("[data-piece=windows] button", has_text="Stop").count() == 1
    page.clock.run_for(60_000)
    assert shown(page, "windows", "output") == SLIDES
    assert play.count() == 1


@slow
def test_a_kernel_slides_over_a_persons_digit(page: Page) -> None:
    page.locator("[data-piece=windows] select").nth(0).select_option("4")
    page.locator("[data-piece=windows] select").nth(1).select_option("horizontal edges")
    digit = canvas(page, "windows", "the digit")
    output = correlate2d(digit / 255, [[-1, -2, -1], [0, 0, 0], [1, 2, 1]], "valid")
    red = canvas(page, "windows", "what the kernel makes of it").astype(int)
    part = np.abs(output) / np.abs(output).max()
    np.testing.assert_allclose(red, np.where(output < 0, 255 - part * (255 - 33), 255 - part * (255 - 178)), atol=1)


def set_sliders(page: Page, piece: str, *values: int) -> None:
    for position, value in enumerate(values):
        page.locator(f"[data-piece={piece}] input").nth(position).fill(str(value))


@slow
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_sizes_and_maps_are_those_of_conv2d(page: Page, stride: int, padding: int) -> None:
    combinations = [(size, kernel) for size in range(3, 9) for kernel in range(1, 6)]
    for size, kernel in combinations:
        set_sliders(page, "stride_padding", size, kernel, stride, padding)
        words = page.locator("[data-piece=stride_padding] .size").inner_text()
        padded = torch.tensor(shown(page, "stride_padding", "input with padding"))
        weight = torch.tensor(shown(page, "stride_padding", "kernel"))
        if kernel > size + 2 * padding:
            assert words.startswith("No output: the window of")
            assert shown(page, "stride_padding", "output") == []
            continue
        image = F.pad(padded, [-padding] * 4)
        assert image.shape == (size, size) and weight.shape == (kernel, kernel)
        expected = F.conv2d(image[None], weight[None, None], stride=stride, padding=padding)[0]
        assert shown(page, "stride_padding", "output") == expected.tolist()
        assert f"+ 1 = {len(expected)}. " in words
        check_windows(page, padded, kernel, stride, len(expected), words)


def check_windows(page: Page, padded: torch.Tensor, kernel: int, stride: int, count: int, words: str) -> None:
    """The chosen window is where it is read, what no window reads is hatched, and one that does not fit is dashed."""
    page.locator("[data-piece=stride_padding] figure").nth(2).locator(".cell").last.click()
    last = stride * (count - 1)
    assert frame(page, "stride_padding", "input with padding") == [last, last, kernel]
    ones = torch.ones(1, count, count)
    read = F.conv_transpose2d(ones, torch.ones(1, 1, kernel, kernel), stride=stride)[0]
    left = len(padded) - len(read)
    unread = F.pad(read, [0, left, 0, left]) == 0
    classes = page.locator("[data-piece=stride_padding] figure").nth(0).locator(".cell")
    hatched = classes.evaluate_all("(cells) => cells.map((cell) => cell.classList.contains('unread'))")
    assert hatched == unread.flatten().tolist()
    assert ("Hatched" in words) is bool(unread.any())
    missing = frame(page, "stride_padding", "input with padding", "missing")
    assert missing == ([last, last + stride, kernel] if left else None)
    if left:
        assert f"does not fit: {stride - left} column" in words


@slow
def test_the_lectures_strides_and_paddings(page: Page) -> None:
    for stride, padding, expected in (
        (1, 0, SLIDES),
        (2, 0, [[12, 17], [9, 14]]),
        (2, 1, [[6, 17, 3], [8, 17, 13], [6, 4, 4]]),
    ):
        set_sliders(page, "stride_padding", 5, 3, stride, padding)
        assert shown(page, "stride_padding", "output") == expected


def answer(page: Page) -> str:
    settled(page)
    return page.locator("[data-piece=draw] .answer").inner_text()


@slow
def test_drawing_changes_maps_and_answer(page: Page) -> None:
    paper = page.locator("[data-piece=draw] canvas.paper")
    page.locator("[data-piece=draw] button", has_text="Clear").click()
    assert answer(page) == "Draw a digit, or take one of the ten."
    assert canvas(page, "draw", "what the network sees").max() == 0
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 60, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 180, steps=5)
    page.mouse.up()
    assert answer(page).startswith("The answer: 1 (")
    before = [canvas(page, "draw", f"{layer}, map 1") for layer in ("C1", "S2", "C3", "S4")]
    page.mouse.move(box["x"] + 160, box["y"] + 180)  # the pen is up
    assert answer(page).startswith("The answer: 1 (")
    touch(page, [(box["x"] + x, box["y"] + y) for x, y in ((60, 30), (150, 30), (150, 180), (60, 180))])
    assert answer(page).startswith("The answer: 0 (")
    after = [canvas(page, "draw", f"{layer}, map 1") for layer in ("C1", "S2", "C3", "S4")]
    assert not any(np.array_equal(old, new) for old, new in zip(before, after, strict=True))


def touch(page: Page, points: list[tuple[float, float]]) -> None:
    """Draw with a finger."""
    session = page.context.new_cdp_session(page)
    kinds = ["touchStart", *["touchMove"] * (len(points) - 1)]
    for kind, (x, y) in zip(kinds, points, strict=True):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


@slow
def test_a_digit_is_chosen_by_keyboard(page: Page) -> None:
    page.locator("[data-piece=draw] button", has_text="8").focus()
    page.keyboard.press("Enter")
    assert answer(page).startswith("The answer: 8 (")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert answer(page).startswith("The answer: 7 (")


@slow
@pytest.mark.parametrize(
    ("strokes", "tall"),
    [
        ([[[20, 20], [60, 40]]], False),  # in a corner
        ([[[100, 10], [104, 190]]], True),
        ([[[90, 100], [100, 110], [100, 112]]], True),  # small: it is enlarged
        ([[[30, 30], [30, 170], [170, 170]]], True),  # more ink at one side
    ],
)
def test_a_drawing_is_prepared_as_mnist_was(page: Page, strokes: list[Any], tall: bool) -> None:
    pixels = np.array(page.evaluate("(strokes) => lecture.asMnist(lecture.drawStrokes(strokes))", strokes))
    assert pixels.shape == (28, 28) and pixels.max() == 255 and pixels.min() == 0
    rows, columns = (np.flatnonzero(pixels.any(axis)) for axis in (1, 0))
    high, wide = (int(line[-1] - line[0] + 1) for line in (rows, columns))
    assert max(high, wide) == 20 and (high == 20 or not tall)
    for axis in (0, 1):
        mean = np.average(np.arange(28), weights=pixels.sum(1 - axis))
        assert abs(mean - 13.5) <= 0.51


@slow
def test_ink_is_scaled_by_area(page: Page) -> None:
    ink = np.zeros((200, 200))
    ink[40:140, 60:140] = 1  # 100 x 80: 20 x 16
    ink[40:50, 60:63] = 0  # of five pixels that become one
    pixels = np.array(page.evaluate("(ink) => lecture.asMnist(ink)", ink.tolist()))
    expected = np.zeros((28, 28))
    expected[4:24, 6:22] = 255
    expected[4:6, 6] = 102
    np.testing.assert_array_equal(pixels, expected)


@slow
@pytest.mark.parametrize(("right", "down"), [(0, 0), (4, 0), (-6, 5), (1, -6)])
def test_every_network_answers_for_the_shifted_digit(page: Page, right: int, down: int) -> None:
    set_sliders(page, "shift", right, down)
    page.locator("[data-piece=shift] button", has_text="2").click()
    pixels, seen = sample(page, 2), canvas(page, "shift", "the shifted digit")
    expected = np.pad(pixels, 6)[6 - down : 34 - down, 6 - right : 34 - right]
    np.testing.assert_array_equal(seen, expected)
    told = f"{abs(right)} {'left' if right < 0 else 'right'}, {abs(down)} {'up' if down < 0 else 'down'}"
    assert page.locator("[data-piece=shift] .summary").inner_text().startswith(f"Digit 2, {told}. Answers: ")
    witnesses = page.locator("[data-piece=shift] .witness")
    assert witnesses.count() == len(lecture_pieces.NETWORKS)
    for position, (model, weights, title) in enumerate(lecture_pieces.NETWORKS):
        loaded = load(model, weights=weights)
        with torch.no_grad():
            probabilities = loaded.network(loaded.preprocess(expected)[None]).softmax(1)[0]
        best = int(probabilities.argmax())
        certain = f"{100 * probabilities[best]:.1f}%" if probabilities[best] <= 0.9995 else "> 99.9%"
        mark = "\N{CHECK MARK}" if best == 2 else "\N{BALLOT X}"
        witness = witnesses.nth(position)
        assert witness.locator("h4").inner_text() == title
        assert witness.locator(".answer").inner_text() == f"{mark} {best}, {certain}"


@slow
def test_the_drawn_digits_are_recognised_where_they_were_drawn(page: Page) -> None:
    for digit in range(10):
        page.locator("[data-piece=shift] button", has_text=str(digit)).click()
        for text in page.locator("[data-piece=shift] .witness .answer").all_inner_texts():
            assert text.startswith(f"\N{CHECK MARK} {digit},")


@slow
def test_back_to_the_middle(page: Page) -> None:
    set_sliders(page, "shift", 3, -2)
    page.locator("[data-piece=shift] button", has_text="middle").click()
    assert page.locator("[data-piece=shift] input").nth(0).input_value() == "0"
    np.testing.assert_array_equal(canvas(page, "shift", "the shifted digit"), sample(page, 3))


@slow
def test_two_of_a_kind_do_not_disturb_each_other(browser: Browser, tmp_path: Path) -> None:
    place = '<div class="piece" data-piece="windows">for those without JavaScript</div>'
    file = tmp_path / "two.html"
    file.write_text(f"<body>{place}{place}{lecture_pieces.pieces()}</body>", encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.locator("button", has_text="Next").nth(1).click()
    assert [text.partition(":")[0] for text in page.locator(".sum").all_inner_texts()] == [
        "Window 1 of 9",
        "Window 2 of 9",
    ]
    assert "without JavaScript" not in page.inner_text("body")
    assert page.locator("[id]").count() == 0
    page.close()


@slow
@pytest.mark.parametrize("width", [320, 360, 1200])
def test_nothing_is_wider_than_the_page(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    set_sliders(page, "stride_padding", 8, 4, 3, 2)  # the widest grid, and a window that does not fit
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@slow
def test_every_control_and_picture_has_a_name(page: Page) -> None:
    nameless = """() => [...document.querySelectorAll("canvas, .grid, input, select, button, section, [role=group]")]
        .filter((element) => !element.ariaLabel && !element.labels?.length && !element.textContent)
        .map((element) => element.outerHTML)"""
    assert page.evaluate(nameless) == []
    assert page.locator("[aria-live=polite]").count() == 5


def test_the_text_is_whole_and_loads_nothing(text: str) -> None:
    assert (
        re.findall(r"https?:|\bsrc\s*=|\bhref\s*=|url\(|@import|\bimport\b|fetch\(|XMLHttpRequest|console\.", text)
        == []
    )
    assert text.count("</script") == text.count("<script") == 1
    written = {path.stem for path in (ROOT / "examples" / "lecture").glob("*.js")}
    assert written == set(lecture_pieces.SCRIPTS)
    for name in lecture_pieces.PIECES:
        assert f'data-piece="{name}"' in text and f"function {name}(root)" in text


def embedded(text: str) -> dict[str, Any]:
    line = next(line for line in text.splitlines() if line.startswith("const EMBEDDED = "))
    content: dict[str, Any] = json.loads(line.removeprefix("const EMBEDDED = ").removesuffix(";"))
    return content


def test_the_lectures_example_is_embedded(text: str) -> None:
    example = embedded(text)["example"]
    assert correlate2d(example["image"], example["kernel"], "valid").tolist() == SLIDES


def test_a_networks_training_is_told(text: str) -> None:
    assert embedded(text)["networks"]["lenet5-MNIST"]["training"] == "trained on digits shifted by up to 2 pixels"
    told = [lecture_pieces.training_in_words({"distortion": d, "crop_padding": 0}) for d in ([], [2.0, 0.15, 0.1, 0.2])]
    assert told == [
        "trained on digits as they are, in the middle",
        "trained on digits shifted by up to 2 pixels, scaled, squeezed and sheared",
    ]


def test_full_kernels_of_a_partial_convolution() -> None:
    torch.manual_seed(0)
    layer = PartialConvolution(LENET5_TABLE)
    kernels = lecture_pieces.full_kernels(layer)
    assert kernels.count_nonzero() <= 60 * 25  # Table I has 60 connections
    images = torch.randn(2, 6, 14, 14)
    with torch.no_grad():
        torch.testing.assert_close(F.conv2d(images, kernels, layer.bias), layer(images))
    assert set(kernels.flatten().tolist()) == {0.0, *layer.weight.flatten().tolist()}  # not rounded


def test_a_page_is_written_once(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    monkeypatch.setattr(lecture_pieces, "bare_page", lambda: text)
    monkeypatch.setattr("sys.argv", ["lecture_pieces.py", str(page)])
    assert lecture_pieces.main() == 0
    assert page.read_text(encoding="utf-8").count('\n<div class="piece"') == len(lecture_pieces.PIECES)
    assert lecture_pieces.main() == 2
    assert capsys.readouterr().err == f"lecture_pieces.py: {page}: this file exists; name a new one\n"
    monkeypatch.setattr("sys.argv", ["lecture_pieces.py", str(tmp_path / "none" / "page.html")])
    assert lecture_pieces.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
