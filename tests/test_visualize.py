"""tools/visualize.py: the page that a user gets, in a browser too, and one line for each mistake."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from harness.command import visualize as command
from harness.export.export import export
from harness.insight.progress import Progress
from harness.prediction.network import Loaded, load_weights
from harness.run.checkpoint import Trained
from models import build_model

DIGITS = ("--model", "lenet5", "--weights", "DIGITS")
Tool = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """tools/visualize.py in this process: its exit code, and what it printed."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["visualize.py", *map(str, words)])
        capsys.readouterr()
        return command.main(), *capsys.readouterr()

    return run


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder of three digits."""
    folder = tmp_path / "digits"
    folder.mkdir()
    pictures, labels = load_digits(return_X_y=True)
    for position in (-1, -2, -3):
        pixels = (pictures[position].reshape(8, 8) * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).resize((24, 24)).save(folder / f"{-position}_is_{labels[position]}.png")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A colour picture whose name needs care in HTML."""
    path = tmp_path / "<b>&.png"
    Image.effect_noise((50, 40), 80).convert("RGB").save(path)
    return path


class Page(HTMLParser):
    """What stands on a page: its pictures, its headings, the words, and whatever is fetched."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.folds: list[bool] = []
        self.fetched: list[str] = []
        self.words = ""
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.pictures.append(found)
        if tag == "details":
            self.folds.append("open" not in found)
        self.fetched += [value for key in ("src", "href") if (value := found.get(key)) and value[0] != "#"]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_page_of_digits_holds_everything(tool: Tool, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert tool(*DIGITS, digits, f"out={out}", "--top", "2") == (0, f"{out / 'index.html'}\n", "")
    page = Page(out / "index.html")
    stages = ("c1", "s2", "c3", "s4", "c5")
    names = {"filters", "unit_theoretical", "unit_effective", "unit_effective_95"}
    names |= {f"unit_excited_{place + 1}" for place in range(9)}
    for number in ("01", "02", "03"):
        names |= {f"{number}_input", *(f"{number}_maps_{stage}" for stage in stages)}
        names |= {f"{number}_{what}_{place}" for what in ("grad_cam", "occlusion") for place in (1, 2)}
    assert {path.name for path in out.iterdir()} == {"index.html", *(f"{name}.png" for name in names)}
    assert all(link.startswith("data:") for link in page.fetched)
    contents = {path.read_bytes() for path in out.glob("*.png")}
    for picture in page.pictures:
        kind, _, data = str(picture["src"]).partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(data) in contents and picture["alt"]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert (str(image.width), str(image.height)) == (picture["width"], picture["height"])
    assert len(page.pictures) == len(names) and page.folds[:3] == [False] * 3
    for said in ("among all 360 test images of digits", "61,706 parameters and 416,520 multiply-adds", "Selvaraju"):
        assert said in page.words
    assert page.words.count("class ") >= 9 and "1_is_8.png: 8, " in page.words


def test_the_page_says_what_predict_says(digits: Path, tool: Tool, tmp_path: Path) -> None:
    loaded = load_weights("DIGITS", "lenet5", ())
    paths = sorted(digits.iterdir())
    tool(*DIGITS, *paths, f"out={tmp_path / 'out'}")
    words = Page(tmp_path / "out" / "index.html").words
    for path, answer in zip(paths, loaded.predict(paths, top=3), strict=True):
        name, probability = next(iter(answer.items()))
        assert f"{path.name}: {name}, {100 * probability:.1f}%" in words
        assert all(f"{name}, {100 * probability:.1f}%" in words for name, probability in answer.items())


@pytest.mark.parametrize("unit", ["s2:3:4,13", "s2:3", "s2"])
def test_the_unit_is_the_one_that_the_user_names(unit: str, tool: Tool, digits: Path, tmp_path: Path) -> None:
    tool(*DIGITS, digits, "--unit", unit, f"out={tmp_path / 'out'}")
    words = Page(tmp_path / "out" / "index.html").words
    assert f"--unit {unit}" in words and "Theoretical field: the 6 x 6 pixels" in words


def test_a_fully_connected_network_has_no_maps_and_the_page_says_so(tool: Tool, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert tool("--model", "mlp", "--weights", "DIGITS", digits, f"out={out}")[0] == 0
    page = Page(out / "index.html")
    assert "there is no Grad-CAM and no map to show" in page.words and "has no feature maps" in page.words
    assert (out / "01_occlusion_1.png").exists() and not [*out.glob("*cam*"), *out.glob("*maps*"), *out.glob("unit*")]
    assert "The 300 filters of fc1, 32 x 32 pixels each; the 96 of the largest norm" in page.words
    _, _, line = tool("--model", "mlp", "--weights", "DIGITS", digits, "unit=fc1")
    assert line == (
        "visualize.py: unit=fc1: the network has no stage of that name with feature maps; a fully connected network "
        "has none\n"
    )


def colour(tmp_path: Path) -> Path:
    """The file of a network for colour pictures of 32x32 pixels, which was trained on nothing."""
    torch.manual_seed(0)
    network = build_model("resnet20", num_classes=4).eval()
    trained = load_weights("DIGITS", "lenet5", ()).trained
    how = type(trained.preprocessing)(3, 32, 36, "bilinear", (0.5,) * 3, (0.2,) * 3)
    described = Trained("resnet20", {"shortcut": "A"}, ("a", "<i>", "c", "d"), how, None, None)
    export(Loaded(network, described, "a test"), "safetensors", tmp_path / "colour.safetensors")
    return tmp_path / "colour.safetensors"


def test_a_set_is_named_where_nothing_says_which(tool: Tool, photo: Path, tmp_path: Path) -> None:
    network = colour(tmp_path)
    assert tool(network, photo, f"out={tmp_path / 'a'}")[0] == 0
    page = Page(tmp_path / "a" / "index.html")
    assert "Nothing says which set to look in: name one with --data NAME" in page.words
    assert "<b>&.png: " in page.words and "<i>" in page.words and "<i>" not in page.text  # names are text
    assert tool(network, photo, "data=digits", f"out={tmp_path / 'b'}")[0] == 0
    assert "among all 360 test images of digits" in Page(tmp_path / "b" / "index.html").words


def test_a_set_that_is_not_here_is_no_mistake_unless_it_was_named(
    tool: Tool, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MNIST's weights know their data, but not where this user keeps it; and nothing is downloaded unasked."""
    monkeypatch.chdir(tmp_path)
    mnist = ("--model", "lenet5", "--weights", "MNIST", digits)
    assert tool(*mnist)[:2] == (0, "lenet5-visualize/index.html\n")
    words = Page(tmp_path / "lenet5-visualize" / "index.html").words
    assert "The set that the network was trained on could not be read (data=mnist: data.root=. lacks the files" in words
    assert "could not be downloaded" not in words
    code, out, line = tool(*mnist, "data=mnist", "data.root=nowhere", "data.download=false")
    assert (code, out) == (2, "") and re.fullmatch(r"visualize.py: data=mnist: .*nowhere.*\n", line)
    assert not (tmp_path / "lenet5-visualize_2").exists()  # a mistake leaves nothing behind
    assert tool(*mnist)[1] == "lenet5-visualize_2/index.html\n"  # and nothing is overwritten


def test_many_pictures_are_folded(tool: Tool, digits: Path, tmp_path: Path) -> None:
    for position in range(3):
        Image.new("L", (24, 24), 80 * position).save(digits / f"more{position}.png")
    tool(*DIGITS, digits, f"out={tmp_path / 'out'}")
    assert Page(tmp_path / "out" / "index.html").folds == [False] + [True] * 5


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["unit=c4"], "unit=c4: the network has no stage .*; its stages are c1, s2, c3, s4, c5"),
        (["unit=c3:16"], "unit=c3:16: its channels are 0 to 15"),
        (["unit=c3:2:10,0"], "unit=c3:2:10,0: its maps have 10 rows and 10 columns, counted from 0"),
        (["unit=c3:2:0,10"], "unit=c3:2:0,10: its maps have .*"),
        (["unit=c3:-1"], "unit=c3:-1: write STAGE, .*"),
        (["unit=c3:1:2"], "unit=c3:1:2: write STAGE, .*"),
        (["unit="], "unit=: write STAGE, .*"),
        (["missing.png"], "missing.png: No such file .*"),
        (["out=DIGITS"], "out=.*digits: this folder exists; name a new one"),
        (["out=nowhere/out"], "out=nowhere/out: there is no folder nowhere"),
        (["data=nothing"], "data=nothing.*"),
        (["data=cifar10", "data.root=nowhere", "data.download=false"], "data=cifar10: .*"),
        (["--top", "0"], "argument --top: .*"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], line: str, tool: Tool, digits: Path) -> None:
    given = [word.replace("DIGITS", str(digits)) for word in words]
    code, out, error = tool(*DIGITS, digits / "1_is_8.png", *given)
    assert (code, out) == (2, "") and re.fullmatch(f"visualize.py: {line}\n", error), error


def test_what_is_no_picture_is_one_line(tool: Tool, digits: Path) -> None:
    (digits / "4.png").write_bytes(b"broken")
    code, _, line = tool(*DIGITS, digits)
    assert code == 2 and line == f"visualize.py: {digits / '4.png'}: not an image\n"
    for position in range(100):
        (digits / f"x{position}.png").write_bytes(b"broken")
    assert tool(*DIGITS, digits)[2] == "visualize.py: 104 pictures: a page shows at most 100; name fewer\n"
    assert tool(digits.parent)[2].endswith("say which pictures behind it: files, folders, patterns, or -\n")


def test_a_run_has_its_page_beside_it(tmp_path: Path) -> None:
    (tmp_path / "2026").mkdir()
    assert command._place(tmp_path / "2026", "lenet5") == tmp_path / "2026-visualize"
    assert command._place(tmp_path / "last.ckpt", "lenet5") == Path("lenet5-visualize")


def test_progress_without_a_terminal_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.begin("occluding", 3)
    progress.advance(2)
    assert capsys.readouterr() == ("", "")


# --------------------------------------------------------------------------------------------------- in a real browser


def seen(path: Path, width: int) -> None:
    """The page in a browser: nothing is said, nothing is fetched, every picture shows, nothing sticks out."""
    with browser.page(width) as (page, wrong):
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        sizes = page.evaluate("[...document.images].map(one => [one.complete, one.naturalWidth, one.clientWidth])")
        assert sizes and all(complete and own and shown for complete, own, shown in sizes)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
@pytest.mark.parametrize("pictures", [1, 20])
def test_a_page_of_grey_pictures_in_a_browser(
    pictures: int, width: int, tool: Tool, digits: Path, tmp_path: Path
) -> None:
    given = [*sorted(digits.iterdir())] * 7
    assert tool(*DIGITS, *given[:pictures], f"out={tmp_path / 'out'}")[0] == 0
    seen(tmp_path / "out" / "index.html", width)


@pytest.mark.slow
@pytest.mark.parametrize("pictures", [1, 20])
def test_a_page_of_colour_pictures_in_a_browser(pictures: int, tool: Tool, photo: Path, tmp_path: Path) -> None:
    words = [colour(tmp_path), *[photo] * pictures, "data=digits", f"out={tmp_path / 'out'}"]
    assert tool(*words)[0] == 0
    seen(tmp_path / "out" / "index.html", 1200)
