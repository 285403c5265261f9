"""Figures of the comparison: true to the results, readable, nothing cut off or overlapping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from readable import assert_readable
from study_results import DATASET, GAINS, KINDS, draws, run, study

from gtgm.errors import ResultError
from gtgm.figures_study import (
    difference_forest,
    draw_pairs,
    label_efficiency,
    study_figures,
    write_study_figures,
)
from gtgm.methods import METHODS
from gtgm.statistics import Setting, compare_all, paired

WHOLE = study()
PAIR = [r for r in WHOLE if r.method in ("random", "gtgm") and r.fold == 0]
FIGURES = {
    "efficiency": lambda results: label_efficiency(results, DATASET),
    "forest": lambda results: difference_forest(results, DATASET, 0.01),
    "draws": lambda results: draw_pairs(results, DATASET, 0.01),
}


@pytest.mark.parametrize("results", [WHOLE, PAIR], ids=["whole study", "two methods"])
@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_large_enough_inside_the_figure_and_apart(name: str, results: list) -> None:
    assert_readable(FIGURES[name](results))


def test_label_efficiency_has_a_panel_per_method_with_random_behind_it() -> None:
    figure = label_efficiency(WHOLE, DATASET)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == [METHODS[name].label for name in KINDS if name != "random"]
    axes = panels["GTGM"]
    assert axes.get_xscale() == "log" and list(axes.get_xticks()) == [2, 21, 208]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["2\n1 %", "21\n10 %", "208\n100 %"]
    behind, line = (c.lines[0] for c in axes.containers)
    for drawn, method in ((behind, "random"), (line, "gtgm")):
        assert drawn.get_color() == METHODS[method].color
        expected = [
            100 * np.mean([r.summary["dice"] for r in WHOLE
                           if (r.method, r.fraction) == (method, fraction)])
            for fraction in (0.01, 0.1, 1.0)
        ]  # fmt: skip
        assert drawn.get_ydata() == pytest.approx(expected)
    dots = sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o")
    assert dots == 2 * 2 * (5 + 2 + 1)


def test_a_single_draw_has_a_dot_and_no_band() -> None:
    results = [run("random", 0.8), run("random", 0.9, fraction=1.0, n_train=208)]
    (axes,) = label_efficiency(results, DATASET).axes
    assert axes.get_title() == METHODS["random"].label
    (bars,) = axes.containers[0].lines[2]
    assert not any(len(segment) for segment in bars.get_segments())
    assert [line.get_xdata() for line in axes.lines[1:]] == [[2 * 1.18], [208 * 1.18]]


def test_the_forest_shows_means_and_intervals_per_fold_in_points() -> None:
    figure = difference_forest(WHOLE, DATASET, 0.01)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["fold 0 (settings chosen here)", "fold 1 (confirms)"]
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == [METHODS[name].label for name in GAINS if name != "random"]
    for fold, axes in enumerate(figure.axes):
        zero, target = (line.get_xdata()[0] for line in axes.lines[:2])
        assert (zero, target) == (0, pytest.approx(2))
        found = compare_all(WHOLE, DATASET, 0.01, fold=fold)
        bars = [line for line in axes.lines[2:] if line.get_linewidth() == 2]
        points = [line for line in axes.lines[2:] if line.get_marker() == "o"]
        for place, (c, bar, point) in enumerate(zip(found, bars, points, strict=True)):
            assert bar.get_xdata() == pytest.approx([100 * c.low, 100 * c.high])
            assert point.get_xdata() == pytest.approx([100 * c.mean])
            assert point.get_ydata() == [place] and point.get_color() == METHODS[c.method].color


def test_one_pair_has_a_point_without_an_interval() -> None:
    (axes,) = difference_forest([run("random", 0.7), run("gtgm", 0.8)], DATASET, 0.01).axes
    points = [list(line.get_xdata()) for line in axes.lines[2:]]
    assert points == [[pytest.approx(10)], [pytest.approx(10)]]  # the mean and its draw


def test_every_draw_is_joined_to_the_baseline_of_the_same_draw() -> None:
    axes = draw_pairs(WHOLE, DATASET, 0.01).axes[1]
    place = [name for name in GAINS if name != "random"].index("gtgm")
    joined = [line.get_ydata() for line in axes.lines
              if line.get_marker() == "None" and line.get_linewidth() == 1
              and abs(np.mean(line.get_xdata()) - place) < 0.01]  # fmt: skip
    found = paired(WHOLE, "gtgm", dataset=DATASET, fraction=0.01, fold=1)
    assert np.array(joined) == pytest.approx(100 * np.array(found.scores))


def test_other_settings_and_phantoms_are_not_drawn() -> None:
    others = [run("gtgm", 0.1, id=s, source=s) for s in ("phantom",)]
    others += draws("gtgm", [0.1] * 5, backbone="swin", id="s")
    bare, more = (difference_forest(r, DATASET, 0.01).axes[0] for r in (PAIR, PAIR + others))
    assert [list(a.get_xdata()) for a in bare.lines] == [list(b.get_xdata()) for b in more.lines]


def test_too_few_results_are_refused_and_left_out_of_the_set() -> None:
    with pytest.raises(ResultError, match="two label fractions"):
        label_efficiency([run("gtgm", 0.8)], DATASET)
    for draw in (difference_forest, draw_pairs):
        with pytest.raises(ResultError, match="in common with random at 1 %"):
            draw([run("gtgm", 0.8), run("random", 0.8, draw=1)], DATASET, 0.01)
    assert study_figures([], DATASET, 0.01) == {}
    assert list(study_figures([run("gtgm", 0.8), run("random", 0.7)], DATASET, 0.01)) == [
        f"differences-{DATASET}",
        f"draws-{DATASET}",
    ]


def test_captions_name_another_setting() -> None:
    results = [run(m, 0.8, backbone="swin", profile="paper") for m in ("random", "gtgm")]
    found = study_figures(results, DATASET, 0.01, Setting(backbone="swin", profile="paper"))
    assert all("(real, corrected, swin, paper)" in caption for caption, _ in found.values())
    assert all(isinstance(draw(), Figure) for _, draw in found.values())


def test_the_set_is_written_with_its_captions(tmp_path: Path) -> None:
    written = write_study_figures(PAIR, DATASET, 0.01, tmp_path)
    assert [p.name for p in written] == [
        f"{kind}-{DATASET}.png" for kind in ("label-efficiency", "differences", "draws")
    ]
    for png in written:
        assert png.with_suffix(".pdf").is_file()
        with Image.open(png) as image:
            assert image.info["Description"].startswith("MSD Hippocampus")
            assert np.asarray(image.convert("L")).std() > 5  # not blank
