"""The report: offline, complete, escaped, with every licence notice."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import os
import re
from dataclasses import replace
from pathlib import Path

import hostile
import nbformat
import numpy as np
import pytest

from gtgm import report
from gtgm.datasets import registry
from gtgm.figures import save_figure, similarity_matrix
from gtgm.references import HEADING, reference_table
from gtgm.report import build_report
from gtgm.results import Result, load_results

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(html.parser.HTMLParser):
    """Tags in balance, and the addresses that the page names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]
        self.ids |= {value for name, value in attrs if name == "id"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


STUDY = {"backbone": "unet", "protocol": "corrected", "profile": "cpu", "fold": 0, "seed": 0}
RESULTS = [
    Result("pre", "pretrain", ["Task02_Heart", "Task04_Hippocampus"], "real", "gtgm",
           curves={"total": [[0, 3.0], [10, 1.0]]}, hardware={"cpu": "A & B", "cores": 2},
           wall_seconds=61.0, peak_memory_gb=1.5, commit="abc"),
    Result("hip-10", "finetune", "Task04_Hippocampus", "real", "gtgm", fraction=0.1, draw=0,
           n_train=21, n_test=52, summary={"dice": 0.85, "dice/anterior": 0.86}, **STUDY),
    Result("hip-100", "finetune", "Task04_Hippocampus", "real", "gtgm", fraction=1.0, draw=0,
           n_train=208, n_test=52, summary={"dice": 0.86}, command="gtgm <b>&", **STUDY),
    Result("liver", "finetune", "Task03_Liver", "phantom", "random", fraction=0.1, draw=0,
           n_train=2, n_test=2, summary={"dice": 0.5}),
]  # fmt: skip


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    figure = similarity_matrix(np.eye(4), np.eye(4))
    save_figure(
        figure, run / "pretrain" / "a" / "figures" / "sim", "Before <i>and</i> after", "MSD"
    )
    (run / "executed").mkdir()
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Heading"),
        nbformat.v4.new_code_cell("x = 1"),
    ]
    nbformat.write(notebook, run / "executed" / "unit-1.ipynb")
    nbformat.write(notebook, run / "executed" / "unit-2.failed.ipynb")
    nbformat.write(notebook, run / "executed" / ".unit-3.running.ipynb")
    return run


def test_the_page_is_complete_and_needs_no_network(run_folder: Path) -> None:
    out = build_report(run_folder, RESULTS, run_folder / "report" / "index.html")
    page, text = read(out), out.read_text(encoding="utf-8")
    assert out.stat().st_size < report.MAX_BYTES
    assert {"table-CT", "table-MRI", "table-EM", "figures", "notebooks", "runs", "data"} <= page.ids
    local = [a for a in page.addresses if not a.startswith(("data:", "https://arxiv.org/"))]
    for address in local:
        if address.startswith("#"):
            assert address[1:] in page.ids
        else:
            assert (out.parent / address).is_file(), address
    assert "@import" not in text and "<script src" not in text and "url(" not in text
    # one curve, one label-efficiency figure, one saved by a notebook
    assert sum(a.startswith("data:image/png") for a in page.addresses) == 3
    assert "prefers-color-scheme: dark" in text
    for name in registry.names(in_paper=True):
        assert registry.get(name).title in text


def test_measured_values_lead_to_the_file_and_the_notebook_of_each_run(run_folder: Path) -> None:
    units = {"hip-10": "executed/unit-1.ipynb", "hip-100": "executed/unit-2.ipynb"}
    results = [replace(r, notebook=units.get(r.id)) for r in RESULTS]
    text = build_report(run_folder, results, run_folder / "r" / "index.html").read_text("utf-8")
    cells = re.findall(r"<td>([^<]*)<details><summary>1 run</summary><ul>(.*?)</ul>", text)
    links = {value: re.findall(r"href='([^']*)'", listed) for value, listed in cells}
    assert links["85.0"] == ["results/hip-10.json", "notebooks/unit-1.html"]
    assert links["86.0"] == ["results/hip-100.json"]  # its notebook failed
    assert links["50.0"] == ["results/liver.json"]


def test_each_table_is_followed_by_reference_systems_under_a_heading_of_their_own(
    run_folder: Path,
) -> None:
    text = build_report(run_folder, RESULTS, run_folder / "r" / "index.html").read_text("utf-8")
    for modality in ("CT", "MRI", "EM"):
        section = text.split(f'<section id="table-{modality}">')[1].split("</section>")[0]
        measured, references = section.split(HEADING)
        assert measured.count("<table") == references.count("<table") == 1
        first = reference_table(modality).notes()[0]
        assert first in references and first not in measured
    assert text.count("<mark>phantom</mark>") == 1


def test_everything_is_escaped(run_folder: Path) -> None:
    text = build_report(run_folder, RESULTS, run_folder / "r" / "index.html").read_text("utf-8")
    assert "Before &lt;i&gt;and&lt;/i&gt; after" in text and "gtgm &lt;b&gt;&amp;" in text
    assert "A &amp; B" in text


def test_texts_of_others_are_shown_and_do_not_run(run_folder: Path) -> None:
    nbformat.write(hostile.notebook(), run_folder / "executed" / "unit-1.ipynb")
    script = hostile.FRAGMENTS["a script"]
    figure = similarity_matrix(np.eye(2), np.eye(2))
    save_figure(figure, run_folder / "figures" / "one", f"Caption {script}", f"Credit {script}")
    bad = replace(RESULTS[1], commit=script, hardware={"cpu": f"{script}", "cores": 1},
                  command=f"gtgm {script}", summary={"dice": 0.5, script: 0.5})  # fmt: skip
    out = build_report(run_folder, [bad], run_folder / "r" / "index.html")
    text = out.read_text("utf-8")
    assert text.count("<script") == 1 and text.count(html.escape(script)) >= 6
    page = (out.parent / "notebooks" / "unit-1.html").read_text("utf-8")
    # As Markdown, HTML and Markdown of an output, LaTeX, plain text and printed.
    assert "<script" not in page and page.count(html.escape(script, quote=False)) >= 6
    assert "the last words" in page
    for tag, attributes in hostile.Seen(page).tags:
        for name in ("href", "src"):
            address = attributes.get(name) or ""
            if (tag, name) == ("iframe", "src"):  # nbconvert's own, of an output that asks for one
                kind, _, frame = address.partition(",")
                assert kind == "data:text/html;base64" and b"<" not in base64.b64decode(frame)
                continue
            assert re.match(r"data:image/|https?://|mailto:|[^:]*$", address), address


def test_pages_name_what_may_run(run_folder: Path) -> None:
    out = build_report(run_folder, RESULTS, run_folder / "r" / "index.html")
    text = out.read_text("utf-8")
    (code,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}';" in text.split("<title>")[0]
    page = (out.parent / "notebooks" / "unit-1.html").read_text("utf-8").split("<title>")[0]
    assert "default-src 'none'" in page and "script-src" not in page


def test_real_data_has_its_notice_and_phantoms_their_warning(run_folder: Path) -> None:
    out = run_folder / "r" / "index.html"
    text = html.unescape(build_report(run_folder, RESULTS, out).read_text("utf-8"))
    for name in ("Task02_Heart", "Task04_Hippocampus"):
        info = registry.get(name)
        assert info.attribution in text and info.licence in text
    liver = registry.get("Task03_Liver")
    assert liver.attribution not in text
    assert re.search(r'class="warning".*?MSD Liver\.', text, re.S)
    only_real = [r for r in RESULTS if r.source == "real"]
    assert 'class="warning"' not in build_report(run_folder, only_real, out).read_text("utf-8")


def test_runs_that_read_held_out_cases_are_named(run_folder: Path) -> None:
    out = run_folder / "r" / "index.html"
    assert "include_test" not in build_report(run_folder, RESULTS, out).read_text("utf-8")
    leaky = Result("leaky-1", "pretrain", "Task02_Heart", "real", settings={"include_test": True})
    text = build_report(run_folder, [*RESULTS, leaky], out).read_text("utf-8")
    assert re.search(
        r"by settings\sof these runs: leaky-1 \(pretrain\.include_test\)\.", text, re.S
    )


def test_notebooks_are_pages_without_network_and_failures_are_marked(run_folder: Path) -> None:
    out = build_report(run_folder, RESULTS, run_folder / "r" / "index.html")
    pages = sorted(p.name for p in (out.parent / "notebooks").iterdir())
    assert pages == ["unit-1.html", "unit-2.failed.html"]
    text = (out.parent / "notebooks" / "unit-1.html").read_text("utf-8")
    assert "Heading" in text and "<script" not in text and "cdn" not in text
    assert out.read_text("utf-8").count('class="failed"') == 1
    before = (out.parent / "notebooks" / "unit-1.html").stat().st_mtime_ns
    build_report(run_folder, RESULTS, out)
    assert (out.parent / "notebooks" / "unit-1.html").stat().st_mtime_ns == before
    old = Path(report.foreign_html.__file__).stat().st_mtime - 1  # of older code, not yet cleaned
    os.utime(out.parent / "notebooks" / "unit-1.html", (old, old))
    build_report(run_folder, RESULTS, out)
    assert (out.parent / "notebooks" / "unit-1.html").stat().st_mtime > old + 1


def test_the_copied_results_are_the_results(run_folder: Path) -> None:
    out = build_report(run_folder, RESULTS, run_folder / "r" / "index.html")
    assert sorted(load_results([out.parent / "results"]), key=lambda r: r.id) == sorted(
        RESULTS, key=lambda r: r.id
    )


def test_figures_beyond_the_limit_are_linked(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_BYTES", 1000)
    out = build_report(run_folder, RESULTS[3:], run_folder / "r" / "index.html")
    assert "../pretrain/a/figures/sim.png" in read(out).addresses


def test_a_report_without_anything(tmp_path: Path) -> None:
    text = build_report(tmp_path, [], tmp_path / "r" / "index.html").read_text("utf-8")
    assert "No figure was made yet" in text and "No notebook was executed yet" in text
