"""The figure of what pretraining gains on each dataset."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gtgm.errors import ResultError
from gtgm.figures import _in_style
from gtgm.gains import Gain
from gtgm.methods import METHODS
from gtgm.style import PAGE, PALETTE

_BETTER = {"dice": "better →", "voi": "← better"}


@_in_style
def gain_forest(found: Sequence[Gain]) -> Figure:
    """Mean paired difference to random initialisation, with its 95 % interval over draws.

    Dice and VOI have a panel each. Full marks are real data, hollow ones phantoms; a mark without a
    line is a single pair, of which nothing can be said.

    Args:
        found: of :func:`gtgm.gains.gains`, of one method.

    Raises:
        ResultError: there is none.
    """
    if not found:
        raise ResultError(
            "no method has a pair with random initialisation",
            where="gains",
            expected="runs of both with the same dataset, fraction, fold and draw",
            fix="run both, for example with `gtgm reproduce`",
        )
    parts = {
        "dice": [gain for gain in found if not gain.post],
        "voi": [gain for gain in found if gain.post],
    }
    parts = {name: rows for name, rows in parts.items() if rows}
    heights = [len(rows) + 1 for rows in parts.values()]
    figure = Figure(figsize=(PAGE * 0.85, 0.27 * sum(heights) + 0.6 * len(parts) + 0.5))
    grid = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    label = METHODS[found[0].comparison.method].label
    for axes, (name, rows) in zip(grid, parts.items(), strict=True):
        factor, unit = (100, "Dice points") if name == "dice" else (1, "bits of VOI")
        for place, gain in enumerate(rows):
            _draw(axes, gain, place, factor)
        axes.axvline(0, color="0.3", linewidth=1)
        axes.set_yticks(
            range(len(rows)), [f"{g.label} ({g.comparison.n} pairs)" if g.comparison.n > 1
                               else f"{g.label} (1 pair)" for g in rows]
        )  # fmt: skip
        axes.set_ylim(len(rows) - 0.4, -0.6)
        low, high = axes.get_xlim()
        most = max(-low, high)
        axes.set_xlim(-most, most)
        axes.set_xlabel(f"{label} minus random initialisation ({unit}; {_BETTER[name]})")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.legend(handles=_handles(found), loc="outside lower center", ncols=3)
    return figure


def _draw(axes: Axes, gain: Gain, place: int, factor: float) -> None:
    comparison, real = gain.comparison, gain.setting.source == "real"
    color = PALETTE[0] if real else "0.45"
    if comparison.low is not None:
        ends = [factor * comparison.low, factor * comparison.high]
        axes.plot(ends, [place, place], color=color, linewidth=2)
    face = color if real else "white"
    axes.plot(factor * comparison.mean, place, "o", color=color, mfc=face, ms=7, mew=1.5)


def _handles(found: Sequence[Gain]) -> list[Line2D]:
    sources = dict.fromkeys(gain.setting.source for gain in found)
    marks = {"real": (PALETTE[0], PALETTE[0], "real data"), "phantom": ("0.45", "white", "phantom")}
    handles = [
        Line2D([], [], color=marks[s][0], mfc=marks[s][1], marker="o", ms=7, mew=1.5, ls="",
               label=f"mean, {marks[s][2]}")
        for s in sources
    ]  # fmt: skip
    if any(gain.comparison.low is not None for gain in found):
        handles.append(Line2D([], [], color="0.3", linewidth=2, label="95 % interval over draws"))
    return handles
