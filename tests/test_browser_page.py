"""The page of a case in a real browser: drawn, interactive, offline, accessible."""

from __future__ import annotations

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import change, drawn, open_page

from gtgm.viewer import overlay


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    z, y, x = np.ogrid[:24, :28, :26]
    ball = ((z - 12) ** 2 + (y - 14) ** 2 + (x - 13) ** 2 < 64).astype(int)
    grey = np.random.default_rng(0).normal(0, 0.2, ball.shape) + ball
    view = overlay(grey, ball, np.roll(ball, 5, 2), spacing=(1, 1, 1), names=["ball"], title="ball")
    return view.save(tmp_path_factory.mktemp("page") / "case.html")


def test_a_double_click_shows_a_view_that_can_be_changed_and_turned(page_file):
    with open_page(offline=True) as (page, outside):
        page.goto(page_file.as_uri())
        canvas = page.locator("#view canvas")
        first = drawn(canvas)
        assert page.locator("#status").inner_text() == ""
        page.locator("#image").fill("0.2")
        pale = change(canvas, first)
        page.get_by_label("truth").check()
        other = change(canvas, pale)
        box = canvas.bounding_box()
        x, y = box["x"] + 0.88 * box["width"], box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - 60, y + 20, steps=4)
        page.mouse.up()
        turned = change(canvas, other)
        page.locator("#objects").fill("0")
        change(canvas, turned)
        assert outside == []


def test_without_webgl_the_picture_stands_alone(page_file):
    with open_page(offline=True) as (page, _):
        page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        page.goto(page_file.as_uri())
        page.get_by_text("No interactive view").wait_for()
        assert page.locator("#view").count() == 0 and page.locator("form").count() == 0
        assert page.locator("img").evaluate("image => image.naturalWidth") > 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(page_file, scheme):
    with open_page(offline=True, color_scheme=scheme) as (page, _):
        page.goto(page_file.as_uri())
        drawn(page.locator("#view canvas"))
        found = Axe().run(page).response["violations"]
        serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
        assert serious == []
