"""The report in a real browser: offline, sorted by a click, figures enlarged, accessible."""

from __future__ import annotations

import json

import hostile
import nbformat
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import drawn, open_page
from study_results import study

from gtgm import foreign_html
from gtgm import report as report_module
from gtgm.figures import save_figure, similarity_matrix
from gtgm.report import build_report

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_figure(similarity_matrix(np.eye(4), np.eye(4)), folder / "figures" / "similarity", "Eyes")
    return build_report(folder, study(), folder / "report" / "index.html")


def column(page, title):
    """Texts of a column of the MRI table, and its place."""
    return page.evaluate(
        """(title) => {
          const table = document.querySelector("#table-MRI table.results");
          const place = [...table.tHead.rows[0].cells].findIndex(
            (cell) => cell.textContent.trim() === title);
          return [...table.tBodies[0].rows].map((row) => row.cells[place].firstChild.textContent);
        }""",
        title,
    )


def numbers(texts):
    """Leading numbers of the cells that have one."""
    return [float(t.split("±")[0].replace("−", "-")) for t in texts if t.strip() not in ("", "–")]


def test_a_click_sorts_a_table_and_a_second_one_turns_it_round(report):
    with open_page(offline=True) as (page, outside):
        page.goto(report.as_uri())
        head = page.locator("#table-MRI th[scope=col]", has_text="measured").first
        button = head.get_by_role("button")
        button.click()
        up = column(page, "measured")
        assert head.get_attribute("aria-sort") == "ascending"
        assert len(numbers(up)) > 10 and numbers(up) == sorted(numbers(up))
        button.click()
        down = column(page, "measured")
        assert numbers(down) == sorted(numbers(up), reverse=True)
        missing = [text.strip() == "–" for text in down]
        assert missing == sorted(missing), "what has no value is not last"
        methods = page.locator("#table-MRI th[scope=col]", has_text="method").first
        methods.get_by_role("button").click()
        names = [name.lower() for name in column(page, "method")]
        assert names == sorted(names) and len(column(page, "dataset")) == len(names)
        assert all(text.strip() for text in column(page, "dataset"))
        assert outside == []


def test_a_number_leads_to_its_run_and_a_figure_grows(report):
    with open_page(offline=True, viewport=PHONE) as (page, outside):
        page.goto(report.as_uri())
        cell = page.locator("#table-MRI td:has(details)").first
        cell.locator("summary").click()
        link = cell.get_by_role("link").first
        file = report.parent / link.get_attribute("href")
        assert json.loads(file.read_text())["summary"]["dice"]
        figure = page.locator("figure").last
        narrow = figure.locator("img").bounding_box()["width"]
        figure.get_by_role("button").click()
        shown = page.locator("dialog[open] img")
        assert shown.get_attribute("alt") == "Eyes"
        assert shown.bounding_box()["width"] > narrow
        page.get_by_role("button", name="Close").click()
        assert page.locator("dialog[open]").count() == 0
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], "a phone would have to scroll sideways"
        link.click()
        page.wait_for_url("**/results/*.json")
        assert outside == []


@pytest.mark.parametrize("cleaned", [True, False])
def test_nothing_of_a_hostile_notebook_runs(tmp_path, monkeypatch, cleaned):
    """Twice: cleaned as it is, and with nothing between it and the page's own prohibition."""
    if not cleaned:
        monkeypatch.setattr(foreign_html, "clean", lambda html: html)
    (tmp_path / "executed").mkdir()
    nbformat.write(hostile.notebook(), tmp_path / "executed" / "unit.ipynb")
    script = hostile.FRAGMENTS["a script"]
    save_figure(similarity_matrix(np.eye(4), np.eye(4)), tmp_path / "figures" / "x", script)
    out = build_report(tmp_path, study(), tmp_path / "report" / "index.html")
    notebook = out.parent / "notebooks" / "unit.html"
    with open_page() as (page, outside):
        for file, shown in ((out, "figcaption"), (notebook, "body")):
            page.goto(file.as_uri())
            assert hostile.WORDS in page.locator(shown).last.inner_text()
            page.evaluate("document.querySelectorAll('.click').forEach((e) => e.click())")
            page.wait_for_timeout(300)
            assert page.url.partition("?")[0] == file.as_uri()
            assert page.evaluate("window.ran") is None and outside == []
        if cleaned:
            assert "the last words" in page.locator("body").inner_text()
            assert script in page.locator("body").inner_text()


def test_a_page_without_the_prohibition_would_run_it(tmp_path):
    (tmp_path / "page.html").write_text(f"<body>{hostile.FRAGMENTS['a script']}")
    with open_page() as (page, _):
        page.goto((tmp_path / "page.html").as_uri())
        assert page.evaluate("window.ran") == 1


def test_a_linked_figure_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "MAX_BYTES", 1000)
    save_figure(similarity_matrix(np.eye(4), np.eye(4)), tmp_path / "figures" / "x", "Eyes")
    out = build_report(tmp_path, [], tmp_path / "report" / "index.html")
    with open_page(offline=True) as (page, _):
        page.goto(out.as_uri())
        image = page.locator("figure img[alt=Eyes]")
        assert image.get_attribute("src").startswith("../figures/")
        drawn(image, seconds=30)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_accessible(report, scheme):
    with open_page(offline=True, color_scheme=scheme) as (page, _):
        page.goto(report.as_uri())
        found = Axe().run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
