"""Every notebook runs from its own folder and from the root, in each program that people use.

nbval executes every notebook in its own folder as part of the tests. Here some of those that read
and do not train are executed, each in another of four ways; with GTGM_ALL_NOTEBOOKS=1
(`make notebooks`) every notebook is executed in all of them, and run in JupyterLab.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_browser_lab import open_lab, run_all

from gtgm.paths import NOTEBOOKS, ROOT

EVERYTHING = "GTGM_ALL_NOTEBOOKS"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
READERS = [n for n in NAMES if n == "index" or n.startswith(("table_", "figure_"))]
READERS.remove("figure_method")  # it captions a phantom
#: papermill's kernel runs in the folder that it is called from, that of `jupyter execute` beside
#: the notebook.
WAYS = {
    "papermill, root": ("-m", "papermill", "--no-progress-bar", "notebooks/{name}.ipynb", "{out}"),
    "jupyter execute, own folder": ("-m", "jupyter", "execute", "{name}.ipynb"),
    "papermill, own folder": ("-m", "papermill", "--no-progress-bar", "{name}.ipynb", "{out}"),
    "jupyter execute, root": ("-m", "jupyter", "execute", "notebooks/{name}.ipynb"),
}
everything = pytest.mark.skipif(
    EVERYTHING not in os.environ, reason=f"takes long; set {EVERYTHING}=1, or `make notebooks`"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all: what the first way trains, the others read."""
    return tmp_path_factory.mktemp("runs")


def execute(name: str, way: str, runs: Path, out: Path) -> None:
    """Execute a notebook; the committed file stays as it is."""
    before = (NOTEBOOKS / f"{name}.ipynb").read_bytes()
    words = [word.format(name=name, out=out / f"{name}.ipynb") for word in WAYS[way]]
    environment = os.environ | {"GTGM_RUNS": str(runs), "TQDM_DISABLE": "1"}
    folder = ROOT if way.endswith("root") else NOTEBOOKS
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (NOTEBOOKS / f"{name}.ipynb").read_bytes() == before


@pytest.mark.parametrize(("name", "way"), zip(READERS[::3], WAYS, strict=False))
def test_a_notebook_that_reads_runs_anywhere(
    name: str, way: str, runs: Path, tmp_path: Path
) -> None:
    execute(name, way, runs, tmp_path)


@everything
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_runs_anywhere(name: str, way: str, runs: Path, tmp_path: Path) -> None:
    execute(name, way, runs, tmp_path)


@everything
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_runs_in_jupyterlab(
    name: str, runs: Path, tmp_path: Path, free_port: int
) -> None:
    config = str(NOTEBOOKS / ".jupyter")
    (tmp_path / "runs").symlink_to(runs)
    with open_lab(tmp_path, NOTEBOOKS / f"{name}.ipynb", free_port, config) as (page, outside):
        run_all(page)
        assert outside == []
