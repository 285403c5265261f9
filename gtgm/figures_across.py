"""The figures that hold all datasets: gains, and a test section of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from gtgm.errors import ResultError
from gtgm.figure_data import EXAMPLES, find_figure_data
from gtgm.figures_gains import gain_forest
from gtgm.figures_segmentations import examples_of, segmentation_grid
from gtgm.gains import gains
from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.statistics import BASELINE
from gtgm.words import unlabelled

METHOD = "gtgm"


def across_figures(
    results: Iterable[Result], folder: str | Path
) -> dict[str, tuple[str, str, Callable[[], Figure]]]:
    """Those that there is enough for.

    Args:
        results: whose gains are drawn.
        folder: with examples of runs, at any depth (:mod:`gtgm.stages.examples`).

    Returns:
        By file name: the caption, the credit of its images, and the function that draws it.
    """
    names = f"{METHODS[METHOD].label} and {METHODS[BASELINE].label}"
    found: dict[str, tuple[str, str, Callable[[], Figure]]] = {}
    if compared := gains(results, METHOD):
        caption = f"{names}: paired differences on every dataset, with 95 % intervals over draws."
        em = {(gain.dataset, gain.fraction) for gain in compared if gain.post}
        caption += f" {unlabelled(em)}" if em else ""
        found[f"gains-{METHOD}"] = caption, "", partial(gain_forest, compared)
    try:
        kept = find_figure_data(folder, EXAMPLES)
        rows = examples_of([example.values for example in kept], [BASELINE, METHOD])
    except ResultError:  # nothing to show yet
        return found
    shown = {example["id"] for row in rows for example in row}
    credits = dict.fromkeys(e.credit for e in kept if e.credit and e.values["id"] in shown)
    caption = f"{names}: a test section of every dataset; phantoms are marked."
    found["segmentations"] = caption, "; ".join(credits), partial(segmentation_grid, rows)
    return found
