"""The figure of a comparison of variants, in the style of :mod:`gtgm.figures`."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gtgm.figures import _in_style
from gtgm.statistics import Comparison
from gtgm.style import PAGE, PALETTE
from gtgm.variants import comparisons

_GREY, _COLOR = "0.35", PALETTE[0]
_LABEL = 42


@_in_style
def variant_differences(frame: pd.DataFrame, title: str = "") -> Figure:
    """Dice of every variant, and what it gains over the one that it is compared with.

    Left: every draw a dot, the mean a bar. Right: the mean difference on the same draws, every draw
    a tick, and a line of one standard deviation to either side; of one draw only the difference.
    Variants that others are compared with are grey.

    Args:
        frame: of :func:`gtgm.variants.run_variants` or :func:`gtgm.deviations.run_deviations`.
        title: above the figure.
    """
    first = frame["label"].iloc[0]
    groups = list(frame.groupby("label", sort=False))
    against = dict(zip(frame["label"], frame["against"], strict=True))
    labels = [_wrapped(label, against[label], first) for label, _ in groups]
    lines = [label.count("\n") + 1 for label in labels]
    # Each row is as high as its label.
    places = [0.5 * lines[0]]
    for above, here in zip(lines, lines[1:], strict=False):
        places.append(places[-1] + 0.5 * (above + here) + 0.8)
    bottom = places[-1] + 0.5 * lines[-1]
    figure = Figure(figsize=(PAGE, 1.3 + 0.17 * (bottom + 0.8)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    found = {comparison.method: comparison for comparison in comparisons(frame)}
    right.axvline(0, color="0.3", linewidth=1)
    for place, (label, runs) in zip(places, groups, strict=True):
        color = _GREY if label in set(frame["against"]) else _COLOR
        scores = 100 * runs["dice"]
        left.plot(scores, [place] * len(scores), "o", color=color, alpha=0.6, ms=5, mew=0)
        if len(scores) > 1:
            left.plot([scores.mean()], [place], "|", color=color, ms=14, mew=2.5)
        if label in found:
            _difference(right, found[label], place, color)
    left.set_yticks(places, labels)
    left.set_ylim(bottom + 0.4, -0.4)
    left.set(xlabel="Dice (%), foreground mean")
    right.set(xlabel=f"difference to: {first} (Dice points)")
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.08)
        axes.grid(axis="x", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    if frame["draw"].nunique() > 1:
        figure.legend(handles=_handles(), loc="outside lower center", ncols=4)
    if title:
        figure.suptitle(title)
    return figure


def _wrapped(label: str, against: str, first: str) -> str:
    """The label in lines, and below it what it is compared with if this is not the first."""
    text = textwrap.fill(label, _LABEL)
    if against in (first, label):
        return text
    return f"{text}\n" + textwrap.fill(f"(against: {against})", _LABEL)


def _difference(axes: Axes, comparison: Comparison, place: float, color: str) -> None:
    mean = 100 * comparison.mean
    if comparison.sd is not None:
        spread = 100 * comparison.sd
        axes.plot([mean - spread, mean + spread], [place, place], color=color, linewidth=2)
        draws = 100 * np.array(comparison.differences)
        axes.plot(draws, [place + 0.55] * comparison.n, "|", color=color, ms=6, alpha=0.8)
    axes.plot(mean, place, "o", color=color, ms=7, mew=0)


def _handles() -> list[Line2D]:
    dots = {"color": _COLOR, "marker": "o", "mew": 0}
    return [
        Line2D([], [], ms=5, alpha=0.6, linestyle="", label="one draw", **dots),
        Line2D([], [], color=_COLOR, marker="|", ms=12, mew=2.5, linestyle="", label="mean"),
        Line2D([], [], ms=7, linewidth=2, label="mean difference ± 1 sd over draws", **dots),
        Line2D([], [], color=_COLOR, marker="|", ms=6, linestyle="", label="one draw"),
    ]
