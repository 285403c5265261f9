"""Figures of all datasets: drawn from what there is, credited where images are real."""

from __future__ import annotations

from pathlib import Path

from readable import assert_readable
from study_results import study
from test_figures_segmentations import example, pair

from gtgm.figure_data import write_figure_data
from gtgm.figures_across import across_figures


def test_both_figures_with_the_credit_of_what_is_shown(tmp_path: Path) -> None:
    for values, credit in (
        *((e, "someone") for e in pair()),
        (example("gtgm", dataset="Task02_Heart", id="alone"), "someone else"),
    ):
        write_figure_data(tmp_path / "a" / f"example-{values['id']}.npz", values, "", credit)
    found = across_figures(study(), tmp_path)
    assert list(found) == ["gains-gtgm", "segmentations"]
    assert [credit for _, credit, _ in found.values()] == ["", "someone"]
    for _, _, draw in found.values():
        assert_readable(draw())


def test_what_there_is_not_enough_for_is_left_out(tmp_path: Path) -> None:
    assert across_figures([], tmp_path) == {}
    write_figure_data(tmp_path / "example-x.npz", example("gtgm"))
    assert list(across_figures(study(), tmp_path)) == ["gains-gtgm"]
