"""The figures of the comparison of methods: label efficiency, differences, single draws.

Each function draws from results only and returns a matplotlib Figure, in the style of
:mod:`gtgm.figures`, whose ``save_figure`` writes them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from gtgm import paths
from gtgm.changed import changed_frame
from gtgm.datasets import registry
from gtgm.deviations import AS_RELEASED
from gtgm.errors import ResultError
from gtgm.figures import _in_style, save_figure
from gtgm.figures_variants import variant_differences
from gtgm.label_curves import CurvePoint, label_curve
from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.statistics import (
    BASELINE,
    CHOOSING,
    CONFIRMING,
    STUDY,
    TARGET_GAIN,
    Comparison,
    Setting,
    compare_all,
)
from gtgm.style import COLUMN, PAGE

_ROLES = {CHOOSING: "settings chosen here", CONFIRMING: "confirms"}
_PANELS_A_ROW = 4
_SCORE = "Dice (%), foreground mean"


def study_figures(
    results: Iterable[Result], dataset: str, fraction: float, setting: Setting = STUDY
) -> dict[str, tuple[str, Callable[[], Figure]]]:
    """Every figure of the comparison that the results are enough for, changed choices among them.

    Args:
        results, dataset, setting: as for :func:`label_efficiency`.
        fraction: share of the labels at which methods are compared.

    Returns:
        By file name: the caption, and the function that draws it.
    """
    results = list(results)
    title = registry.get(dataset).title
    if setting != STUDY:
        title += f" ({setting})"
    compared = f"{title}, {100 * fraction:g} % of the labels"
    baseline = METHODS[BASELINE].label
    found = {}
    if any(len(label_curve(results, dataset, name, setting=setting)) > 1 for name in METHODS):
        found[f"label-efficiency-{dataset}"] = (
            f"{title}: Dice against the number of labelled cases, mean over draws and folds.",
            partial(label_efficiency, results, dataset, setting=setting),
        )
    if compare_all(results, dataset, fraction, setting=setting):
        found[f"differences-{dataset}"] = (
            f"{compared}: paired differences to {baseline}, with 95 % intervals over draws.",
            partial(difference_forest, results, dataset, fraction, setting=setting),
        )
        found[f"draws-{dataset}"] = (
            f"{compared}: every draw, joined to {baseline} with the same draw.",
            partial(draw_pairs, results, dataset, fraction, setting=setting),
        )
    changed = changed_frame(results, dataset, fraction, setting=setting)
    if not changed.empty:
        many = AS_RELEASED.label in set(changed["label"])
        found[f"choices-{dataset}"] = (
            f"{compared}: GTGM with one choice changed at a time"
            + (f", and with many together ({AS_RELEASED.label})." if many else "."),
            partial(variant_differences, changed, compared),
        )
    return found


def write_study_figures(
    results: Iterable[Result],
    dataset: str,
    fraction: float,
    folder: str | Path = paths.FIGURES,
) -> list[Path]:
    """Write the figures of :func:`study_figures` as PNG and PDF; returns the paths of the PNGs."""
    found = study_figures(results, dataset, fraction)
    return [
        save_figure(draw(), Path(folder) / name, caption) for name, (caption, draw) in found.items()
    ]


@_in_style
def label_efficiency(
    results: Iterable[Result],
    dataset: str,
    fold: int | None = None,
    baseline: str = BASELINE,
    setting: Setting = STUDY,
) -> Figure:
    """Dice against the number of labelled cases, a panel per method with the baseline behind it.

    The line is the mean over draws and folds, the band one standard deviation to either side, and
    every dot a draw. Methods that were measured at one label fraction only are left out.

    Args:
        results: any results; see :func:`gtgm.statistics.select` for those that count.
        dataset: name of the registry.
        fold: one fold, or all.
        baseline: drawn in every panel.
        setting: backbone, protocol, profile and source.

    Raises:
        ResultError: no method has two label fractions.
    """
    results = list(results)
    curves = {name: label_curve(results, dataset, name, fold, setting) for name in METHODS}
    curves = {name: points for name, points in curves.items() if len(points) > 1}
    if not curves:
        raise ResultError(
            "no method was measured at two label fractions",
            where=dataset,
            expected="fine-tuning results of this setting",
            fix="run more label fractions, or name another setting",
        )
    # Alone, the baseline has a panel of its own.
    behind = curves.pop(baseline, None) if len(curves) > 1 else None
    panels = list(curves.items())
    columns = min(len(panels), _PANELS_A_ROW)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(COLUMN, PAGE * columns / _PANELS_A_ROW), 0.7 + 2.7 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(panels) :]:
        axes.axis("off")
    for axes, (name, points) in zip(grid.ravel(), panels, strict=False):
        if behind:
            _curve(axes, behind, baseline, behind=True)
        _curve(axes, points, name)
        axes.set_title(METHODS[name].label)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        ticks = {point.cases: point.fraction for point in points}
        axes.set_xticks(list(ticks), [f"{n:.0f}\n{100 * f:g} %" for n, f in ticks.items()])
        axes.margins(x=0.14)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.supxlabel("labelled training cases, and their share", fontsize=10)
    figure.supylabel(_SCORE, fontsize=10)
    handles = [
        Line2D([], [], color="0.2", label="the method, mean"),
        Line2D([], [], color="0.2", marker="o", ms=4, mew=0, linestyle="", label="one draw"),
        Patch(color="0.2", alpha=0.2, linewidth=0, label="± 1 sd over draws"),
    ]
    if behind:
        grey, label = METHODS[baseline].color, METHODS[baseline].label
        handles.insert(0, Line2D([], [], color=grey, linestyle="--", label=label))
    figure.legend(handles=handles, loc="outside upper center", ncols=4 if columns > 2 else 2)
    return figure


@_in_style
def difference_forest(
    results: Iterable[Result],
    dataset: str,
    fraction: float,
    baseline: str = BASELINE,
    target: float = TARGET_GAIN,
    setting: Setting = STUDY,
) -> Figure:
    """Mean paired difference to the baseline with its 95 % interval, a panel per fold.

    Args:
        results, dataset, baseline, setting: as for :func:`label_efficiency`.
        fraction: share of the labels.
        target: a difference that is marked, as a share of Dice.

    Raises:
        ResultError: no method has a run in common with the baseline.
    """
    found = _per_fold(results, dataset, fraction, baseline, setting)
    names = _names(found)
    figure = Figure(figsize=(max(2 + 3.5 * len(found), 0.7 * PAGE), 1.4 + 0.34 * len(names)))
    panels = figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (fold, comparisons) in zip(panels, found.items(), strict=True):
        axes.axvline(0, color="0.3", linewidth=1)
        axes.axvline(100 * target, color="0.3", linewidth=1, linestyle="--")
        for comparison in comparisons:
            _interval(axes, comparison, names.index(comparison.method))
        axes.set_yticks(range(len(names)), [METHODS[name].label for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_title(_fold_title(fold))
        axes.grid(axis="x", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.supxlabel(f"difference to {METHODS[baseline].label} (Dice points)", fontsize=10)
    handles = [
        Line2D([], [], color="0.2", linewidth=2, marker="o", ms=7, label="mean and 95 % interval"),
        Line2D([], [], color="0.2", marker="|", ms=5, linestyle="", label="one draw"),
        Line2D([], [], color="0.3", lw=1, ls="--", label=f"target: {100 * target:+g} points"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@_in_style
def draw_pairs(
    results: Iterable[Result],
    dataset: str,
    fraction: float,
    baseline: str = BASELINE,
    setting: Setting = STUDY,
) -> Figure:
    """Dice of every draw, joined to the baseline's run of the same draw; a row per fold.

    Args:
        results, dataset, fraction, baseline, setting: as for :func:`difference_forest`.

    Raises:
        ResultError: no method has a run in common with the baseline.
    """
    found = _per_fold(results, dataset, fraction, baseline, setting)
    names = _names(found)
    figure = Figure(figsize=(max(0.7 * PAGE, 0.9 + 0.95 * len(names)), 1.2 + 2.4 * len(found)))
    rows = figure.subplots(len(found), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, (fold, comparisons) in zip(rows, found.items(), strict=True):
        for comparison in comparisons:
            _slopes(axes, comparison, names.index(comparison.method))
        axes.set(title=_fold_title(fold), ylabel=_SCORE, xlim=(-0.5, len(names) - 0.5))
        axes.tick_params(axis="x", length=0)
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    labels = [textwrap.fill(METHODS[name].label, 13) for name in names]
    rows[-1].set_xticks(range(len(names)), labels)
    dot = {"marker": "o", "mew": 0, "linestyle": ""}
    handles = [
        Line2D([], [], color=METHODS[baseline].color, label=METHODS[baseline].label, **dot),
        Line2D([], [], color="0.2", label="the method, same draw", **dot),
        Line2D([], [], color="0.2", linewidth=2.5, label="mean of draws"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _per_fold(
    results: Iterable[Result], dataset: str, fraction: float, baseline: str, setting: Setting
) -> dict[int, list[Comparison]]:
    """Comparisons of every fold in which a method has a run in common with the baseline."""
    results = list(results)
    folds = sorted({run.fold for run in results if run.fold is not None})
    found = {
        fold: compare_all(results, dataset, fraction, baseline, fold, setting) for fold in folds
    }
    found = {fold: comparisons for fold, comparisons in found.items() if comparisons}
    if not found:
        raise ResultError(
            f"no method has a run in common with {baseline} at {100 * fraction:g} % of the labels",
            where=dataset,
            expected="fine-tuning results of this setting",
            fix=f"run {baseline} and another method with the same fold, draw and seed",
        )
    return found


def _names(found: dict[int, list[Comparison]]) -> list[str]:
    """Methods of any fold, in the order of tables."""
    used = {comparison.method for comparisons in found.values() for comparison in comparisons}
    return [name for name in METHODS if name in used]


def _fold_title(fold: int) -> str:
    return f"fold {fold} ({_ROLES[fold]})" if fold in _ROLES else f"fold {fold}"


def _curve(axes: Axes, points: Sequence[CurvePoint], name: str, behind: bool = False) -> None:
    """Line, band and dots of a curve; the dots of the one behind lie to the left of it."""
    color = METHODS[name].color
    cases = np.array([p.cases for p in points])
    means = 100 * np.array([p.mean for p in points])
    spread = np.array([np.nan if p.sd is None else 100 * p.sd for p in points])
    axes.fill_between(cases, means - spread, means + spread, color=color, alpha=0.15, lw=0)
    axes.errorbar(cases, means, spread, color=color, elinewidth=1, ls="--" if behind else "-",
                  zorder=2 if behind else 3)  # fmt: skip
    for point in points:
        scores = [100 * score for score in point.scores.values()]
        places = [point.cases * (0.85 if behind else 1.18)] * len(scores)
        axes.plot(places, scores, "o", color=color, alpha=0.5, ms=4, mew=0, zorder=1.5)


def _interval(axes: Axes, comparison: Comparison, place: float) -> None:
    color = METHODS[comparison.method].color
    if comparison.low is not None:
        ends = 100 * np.array([comparison.low, comparison.high])
        axes.plot(ends, [place, place], color=color, linewidth=2)
    axes.plot(100 * comparison.mean, place, "o", color=color, ms=7)
    axes.plot(100 * np.array(comparison.differences), [place + 0.3] * comparison.n, "|",
              color=color, ms=5, alpha=0.8)  # fmt: skip


def _slopes(axes: Axes, comparison: Comparison, place: float) -> None:
    ends = np.array([place - 0.2, place + 0.2])
    colors = [METHODS[name].color for name in (comparison.baseline, comparison.method)]
    for pair in comparison.scores:
        axes.plot(ends, 100 * np.array(pair), color="0.75", linewidth=1, zorder=1)
    for x, scores, color in zip(ends, zip(*comparison.scores, strict=True), colors, strict=True):
        values = 100 * np.array(scores)
        axes.plot([x] * len(values), values, "o", color=color, ms=4.5, mew=0, alpha=0.8, zorder=2)
        axes.plot([x - 0.13, x + 0.13], [values.mean()] * 2, color=color, linewidth=2.5, zorder=3)
