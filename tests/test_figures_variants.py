"""The figure of variants: true to the runs, readable, nothing cut off or overlapping."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.text import Text

from gtgm.deviations import AS_RELEASED, DEFAULT, DEVIATIONS
from gtgm.figures_variants import variant_differences
from gtgm.variants import RANDOM

LAST = DEVIATIONS[2].against.label
LONG = [DEFAULT.label, *(d.variant.label for d in DEVIATIONS), LAST, AS_RELEASED.label]
SHORT = ["temperature 0.07 (default)", "temperature 0.0175", RANDOM.label]


def frame(labels: list[str], draws: int, seed: int = 0) -> pd.DataFrame:
    """Invented runs; row 5 is compared with its own reference."""
    rng = np.random.default_rng(seed)
    scores = {label: 0.8 + rng.normal(0, 0.02, draws) for label in labels}
    rows = []
    for label in labels:
        against = LAST if label == DEVIATIONS[2].variant.label else labels[0]
        for draw in range(draws):
            dice = scores[label][draw]
            rows.append({"label": label, "against": against, "fold": 0, "draw": draw, "dice": dice,
                         "difference": dice - scores[against][draw], "seconds": 1.0})  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("draws", [1, 5])
@pytest.mark.parametrize("labels", [SHORT, LONG], ids=["three", "twelve with long labels"])
def test_texts_are_large_enough_inside_the_figure_and_apart(labels, draws):
    figure = variant_differences(frame(labels, draws), "MSD Hippocampus, 1 % of the labels")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = figure.bbox
    outside = {
        id(text)
        for axes in figure.axes
        for tick in axes.xaxis.get_major_ticks()
        for text in (tick.label1, tick.label2)
        if not axes.get_xlim()[0] <= tick.get_loc() <= axes.get_xlim()[1]
    }
    texts = [
        t
        for t in figure.findobj(Text)
        if t.get_text().strip() and t.get_visible() and id(t) not in outside
    ]
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    assert min(t.get_fontsize() for t in texts) >= 9
    for text, box in zip(texts, boxes, strict=True):
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text.get_text()
    for (a, one), (b, other) in combinations(zip(texts, boxes, strict=True), 2):
        assert not one.shrunk(0.95, 0.95).overlaps(other), (a.get_text(), b.get_text())


def test_it_shows_the_runs_and_their_paired_differences():
    data = frame(SHORT, 4)
    left, right = variant_differences(data).axes
    places = dict(zip(SHORT, left.get_yticks(), strict=True))
    table = data.pivot(index="label", columns="draw", values="dice").loc[SHORT]
    for label, place in places.items():
        drawn = [line for line in left.lines if set(line.get_ydata()) == {place}]
        dots, mean = (100 * table.loc[label], [100 * table.loc[label].mean()])
        assert [list(line.get_xdata()) for line in drawn] == [
            pytest.approx(list(dots)),
            pytest.approx(mean),
        ]
    differences = 100 * (table - table.loc[SHORT[0]])
    for label in SHORT[1:]:
        expected = differences.loc[label]
        drawn = [line for line in right.lines if set(line.get_ydata()) == {places[label]}]
        spread, mean = (list(line.get_xdata()) for line in drawn)
        sd = expected.std(ddof=1)
        assert mean == pytest.approx([expected.mean()])
        assert spread == pytest.approx([expected.mean() - sd, expected.mean() + sd])
        (ticks,) = [
            line.get_xdata()
            for line in right.lines
            if len(line.get_xdata()) == 4
            and places[label] < line.get_ydata()[0] < places[label] + 0.9
        ]
        assert list(ticks) == pytest.approx(list(expected))
    assert not [line for line in right.lines if set(line.get_ydata()) == {places[SHORT[0]]}]


def test_references_are_grey_and_named_where_they_are_not_the_first():
    figure = variant_differences(frame(LONG, 2))
    left = figure.axes[0]
    labels = [t.get_text().replace("\n", " ") for t in left.get_yticklabels()]
    assert labels[3] == f"{DEVIATIONS[2].variant.label} (against: {LAST})"
    assert sum("(against:" in label for label in labels) == 1
    for place, label in zip(left.get_yticks(), LONG, strict=True):
        colors = [line.get_color() for line in left.lines if set(line.get_ydata()) == {place}]
        grey = label in (DEFAULT.label, LAST)
        assert all(same_color(color, "0.35") == grey for color in colors)


def test_one_draw_has_no_spread():
    figure = variant_differences(frame(SHORT, 1))
    assert not figure.legends
    assert all(len(line.get_xdata()) == 1 for line in figure.axes[1].lines[1:])
