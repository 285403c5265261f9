"""Several runs in one execution."""

from __future__ import annotations

import re

import nbformat
import pytest

from gtgm.errors import SettingsError
from gtgm.paths import NOTEBOOKS
from gtgm.stages.several import RunsFailed, label_draws, run_all


def test_draws_are_counted_or_named():
    assert label_draws([0.1, 1.0], [2, 1]) == [(0.1, 0), (0.1, 1), (1.0, 0)]
    assert label_draws([0.01, 0.1], [[3, 1], 1]) == [(0.01, 3), (0.01, 1), (0.1, 0)]
    with pytest.raises(SettingsError, match="draws: has 1 entries.*2"):
        label_draws([0.1, 1.0], [1])


def test_every_run_is_tried_in_order():
    calls = run_all(lambda *run: run, ["random", "gtgm"], [(0.1, 0), (0.1, 1)])
    assert calls == [("random", 0.1, 0), ("gtgm", 0.1, 0), ("random", 0.1, 1), ("gtgm", 0.1, 1)]


def test_a_run_that_fails_stops_no_other_and_is_named_at_the_end(capsys):
    tried = []

    def run(method: str, fraction: float, draw: int) -> str:
        tried.append((method, draw))
        if draw == 1:
            raise ValueError(f"no loss for {method}.")
        return method

    with pytest.raises(RunsFailed) as caught:
        run_all(run, ["random", "gtgm"], [(0.01, 0), (0.01, 1), (0.01, 2)])
    assert tried == [(m, d) for d in range(3) for m in ("random", "gtgm")]
    assert str(caught.value) == (
        "2 of 6 runs failed: random at 0.01, draw 1 (ValueError: no loss for random.); "
        "gtgm at 0.01, draw 1 (ValueError: no loss for gtgm.)."
    )
    assert isinstance(caught.value.__cause__, ValueError)
    assert capsys.readouterr().err.count("ValueError: no loss for") == 2


def test_a_reader_who_interrupts_stops_everything():
    def run(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(run, ["random"], [(1.0, 0)])


@pytest.mark.parametrize("name", ["03_finetuning", "04_neuron_segmentation"])
def test_the_notebooks_take_draws_by_number(name):
    """The batch names single draws; a notebook that only counts them would train others."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    (line,) = re.findall(r"^wanted = .*$", code, re.M)
    values = {"fractions": [0.1, 1.0], "draws": [[4], 1], "label_draws": label_draws}
    assert eval(line.removeprefix("wanted = "), values) == [(0.1, 4), (1.0, 0)]
    assert "run_all(" in code
