"""A real browser for tests: Chromium of the machine, without network beyond it."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

#: Set in CI, where a missing browser is a failure and not a reason to skip.
REQUIRED = "GTGM_REQUIRE_BROWSER"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LOCAL = ("127.0.0.1", "localhost", "::1")


def find_chromium() -> str:
    """Path of Chromium; skips the test, or in CI fails it, where there is none."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found:
        return found
    reason = f"no {', '.join(_NAMES[:2])} or Chrome on the path (Debian: apt-get install chromium)"
    if os.environ.get(REQUIRED):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def open_page(offline: bool = False, **context) -> Iterator[tuple[Page, list[str]]]:
    """A page of a fresh browser, and the addresses outside this machine that it asked for.

    Requests to elsewhere are written down and refused, so that a test needs no network.

    Args:
        offline: refuse this machine's servers, too; files are read in any case.
        context: options of the browser's context, such as ``viewport``.
    """
    chromium = find_chromium()
    outside: list[str] = []
    with sync_playwright() as playwright:
        # Rendering in software, since a test machine has no screen and no graphics card.
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        page = browser.new_context(offline=offline, **context).new_page()

        def check(route) -> None:
            parts = urlsplit(route.request.url)
            if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in _LOCAL:
                outside.append(route.request.url)
                route.abort()
            else:
                route.continue_()

        page.route("**/*", check)
        try:
            yield page, outside
        finally:
            browser.close()


def picture(element: Locator) -> np.ndarray:
    """What an element looks like, (H, W, 3) in 0 … 255."""
    with Image.open(io.BytesIO(element.screenshot())) as image:
        return np.asarray(image.convert("RGB"), float)


def drawn(element: Locator, seconds: float = 60) -> np.ndarray:
    """Wait until an element shows more than one colour; returns what it then looks like."""
    waited = 0.0
    while waited < seconds:
        seen = picture(element)
        if seen.std() > 5:
            return seen
        element.page.wait_for_timeout(500)
        waited += 0.5
    raise AssertionError(f"blank after {seconds:g} s")


def change(element: Locator, before: np.ndarray, seconds: float = 20) -> np.ndarray:
    """Wait until an element looks different; returns what it then looks like."""
    waited = 0.0
    while waited < seconds:
        seen = picture(element)
        if seen.shape != before.shape or np.abs(seen - before).max() > 20:
            return seen
        element.page.wait_for_timeout(250)
        waited += 0.25
    raise AssertionError(f"the same after {seconds:g} s")
