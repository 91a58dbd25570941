"""A page in a headless Chromium, as a person with a browser gets it, and what went wrong there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def page(width: int = 1200, height: int = 900) -> Iterator[tuple[Page, list[str]]]:
    """An empty page, and a list that gets what its console says, its errors, and its requests for other places."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        opened = browser.new_page(viewport={"width": width, "height": height})
        wrong: list[str] = []
        opened.on("console", lambda message: wrong.append(message.text))
        opened.on("pageerror", lambda error: wrong.append(str(error)))
        opened.on("request", lambda request: wrong.append(request.url) if request.url[:4] == "http" else None)
        try:
            yield opened, wrong
        finally:
            browser.close()
