"""JupyterLab in a real browser: the quickstart runs, its view is drawn, and all stays local."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from browser import change, drawn, find_chromium, open_page
from playwright.sync_api import Page

from gtgm import paths
from gtgm.viewer.itk import WAIT

NOTEBOOKS = paths.ROOT / "notebooks"
TOKEN = "only-this-test"
SIZE = {"width": 1400, "height": 1000}
#: Milliseconds for all cells of a notebook, on a slow machine that does other things as well.
LONG = 600_000
_ITK = (
    "import time; from gtgm.stages import Study; from gtgm.viewer import overlay\n"
    "study = Study(('Task04_Hippocampus',), 'tiny')\n"
    "volume = study.volume(study.name, study.split(study.name).test(0)[0])",
    "start = time.time(); overlay(volume, viewer='itk')",
    "print(f'waited {time.time() - start:.1f} s')",
)


@contextmanager
def open_lab(
    folder: Path, notebook: Path, port: int, config: str = ""
) -> Iterator[tuple[Page, list[str]]]:
    """A page of JupyterLab on a copy of a notebook, and the addresses it asked for elsewhere."""
    find_chromium()
    shutil.copy(notebook, folder)
    environment = {k: v for k, v in os.environ.items() if k != "GTGM_DATA"}
    environment |= {
        "GTGM_RUNS": str(folder / "runs"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_CONFIG_PATH": config,
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"),
        *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"),
        *("--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"),
    ]
    log = folder / "lab.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=folder)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, log)
            with open_page(viewport=SIZE) as (page, outside):
                page.goto(f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token={TOKEN}")
                yield page, outside
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail("JupyterLab does not answer: " + log.read_text()[-2000:])


def run_all(page: Page) -> None:
    """Run every cell of the notebook that is open, and wait until the last one is done."""
    page.wait_for_function(
        """window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status
          === "idle" """,
        timeout=120_000,
    )
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")
    page.wait_for_function(
        """() => {
          const notebook = jupyterapp.shell.currentWidget;
          const code = notebook.content.widgets.filter((cell) => cell.model.type === 'code');
          return code.every((cell) => cell.model.executionCount !== null)
            && notebook.sessionContext.session.kernel.status === 'idle';
        }""",
        timeout=LONG,
    )
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0


@pytest.mark.timeout(900)
def test_the_quickstart_runs_and_its_view_is_drawn_and_can_be_changed(tmp_path, free_port):
    config = str(NOTEBOOKS / ".jupyter")
    with open_lab(tmp_path, NOTEBOOKS / "00_quickstart.ipynb", free_port, config) as (
        page,
        outside,
    ):
        run_all(page)
        views = page.locator(".jp-OutputArea-output:has(canvas)")
        assert views.count() == 2
        view = views.last
        view.locator(".widget-slider").last.scroll_into_view_if_needed()
        canvas = view.locator("canvas")
        first = drawn(canvas)
        slider = view.locator(".noUi-handle").first
        slider.focus()
        for _ in range(8):
            slider.press("ArrowLeft")
        pale = change(canvas, first)
        view.get_by_text("truth", exact=True).click()
        change(canvas, pale)
        assert outside == []


@pytest.mark.skipif(
    "GTGM_ALL_NOTEBOOKS" not in os.environ, reason="waits long; `make notebooks` runs it"
)
@pytest.mark.timeout(900)
def test_where_itkwidgets_cannot_load_its_app_cells_go_on_and_niivue_is_drawn(tmp_path, free_port):
    cells = [nbformat.v4.new_code_cell(source) for source in _ITK]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    source = tmp_path / "source" / "itk.ipynb"
    source.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), source)
    with open_lab(tmp_path, source, free_port) as (page, outside):
        run_all(page)
        said = page.locator(".jp-OutputArea-output", has_text="waited").inner_text()
        assert float(said.split()[1]) < WAIT + 40
        canvas = page.locator(".jp-OutputArea canvas")
        canvas.scroll_into_view_if_needed()
        drawn(canvas)
        assert outside  # its app and its extension come from the web, and were refused
