"""The manual as a site: it builds without a warning and without a network, and a browser finds nothing wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from browser import page
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "-E",
        "-d",
        str(folder / "doctrees"),
        "docs",
        str(folder / "html"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def test_every_page_opens_without_a_fault(site: Path) -> None:
    names = sorted(path.name for path in site.glob("*.html"))
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} | {"api.html", "search.html"} <= set(names)
    with page() as (browser, wrong):
        for name in names:
            browser.goto(f"file://{site / name}")
            browser.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
            browser.wait_for_function("[...document.images].every(image => image.complete)")
            broken = browser.evaluate("[...document.images].filter(image => !image.naturalWidth).map(i => i.src)")
            assert not broken, f"{name}: {broken}"
            links = browser.evaluate("[...document.querySelectorAll('a[href]')].map(link => link.href)")
            for link in links:
                target = link.removeprefix("file://").partition("#")[0].partition("?")[0]
                assert link.startswith(("http", "data:", "javascript:")) or Path(target).exists(), f"{name}: {link}"
            assert wrong == [], f"{name}: {wrong}"


def test_the_zoo_sorts_by_parameters_with_the_keyboard(site: Path) -> None:
    with page() as (browser, wrong):
        browser.goto(f"file://{site / 'zoo.html'}")
        column = "[...document.querySelector('table.docutils').tBodies[0].rows].map(row => row.cells[3].innerText)"
        before = browser.evaluate(column)
        button = browser.get_by_role("button", name="parameters").first
        for rising, said in ((True, "ascending"), (False, "descending")):
            button.press("Enter")
            now = [int(text.replace(",", "")) for text in browser.evaluate(column)]
            assert now == sorted(now, reverse=not rising) and len(now) == len(before) > 30
            assert browser.evaluate("document.querySelectorAll('th')[3].getAttribute('aria-sort')") == said
        assert wrong == []
