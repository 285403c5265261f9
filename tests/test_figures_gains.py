"""The figure of gains: readable, its marks where the numbers are."""

from __future__ import annotations

import numpy as np
import pytest
from readable import assert_readable
from study_results import draws, study
from test_gains import neurons

from gtgm.errors import ResultError
from gtgm.figures_gains import gain_forest
from gtgm.gains import gains

SINGLE = [r for m in ("random", "gtgm")
          for r in draws(m, (0.5,), source="phantom", dataset="Task02_Heart")]  # fmt: skip
EM = [neurons(m, d, 1.5 + 0.1 * d * gain, 1.2 - 0.05 * gain * d) for d in range(3)
      for m, gain in (("random", 0), ("gtgm", 1))]  # fmt: skip
RUNS = [*study(), *SINGLE, *EM]


@pytest.mark.parametrize("runs", [RUNS, SINGLE, EM], ids=["all", "one pair", "neurons"])
def test_texts_are_large_enough_inside_the_page_and_apart(runs: list) -> None:
    assert_readable(gain_forest(gains(runs, "gtgm")))


def test_marks_are_means_and_lines_intervals() -> None:
    found = gains(RUNS, "gtgm")
    dice, voi = gain_forest(found).axes
    for axes, rows, factor in (
        (dice, [g for g in found if not g.post], 100),
        (voi, [g for g in found if g.post], 1),
    ):
        marks = [line for line in axes.lines if line.get_marker() == "o"]
        means = [float(line.get_xdata()[0]) for line in marks]
        assert means == pytest.approx([factor * g.comparison.mean for g in rows])
        lines = [line for line in axes.lines if len(line.get_xdata()) == 2 and
                 line.get_ydata()[0] == line.get_ydata()[1]]  # fmt: skip
        ends = [g.comparison for g in rows if g.comparison.low is not None]
        np.testing.assert_allclose(
            [line.get_xdata() for line in lines],
            [(factor * c.low, factor * c.high) for c in ends],
        )
        low, high = axes.get_xlim()
        assert low == -high  # zero in the middle: no direction looks larger
    phantom = [line for line in dice.lines if line.get_marker() == "o"][-1]
    assert phantom.get_markerfacecolor() == "white"


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ResultError, match="no method has a pair"):
        gain_forest([])
