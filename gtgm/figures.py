"""The figures. Each function draws from results or arrays only and returns a matplotlib Figure.

Those of neuron segmentation are in :mod:`gtgm.figures_em`; a case with its labels is drawn by
:mod:`gtgm.viewer`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import softmax

from gtgm import paths
from gtgm.results import Result
from gtgm.style import COLUMN, PAGE, PALETTE, styled


def _in_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    @wraps(draw)
    def drawn(*args, **kwargs) -> Figure:
        with styled():
            return draw(*args, **kwargs)

    return drawn


@_in_style
def loss_curves(result: Result, names: Sequence[str] | None = None) -> Figure:
    """Every curve of a run against the step, one panel each.

    Args:
        result: with ``curves``.
        names: which curves, in this order; all by default.
    """
    names = list(names or result.curves)
    figure = Figure(figsize=(max(COLUMN, 3.0 * len(names)), 2.8))
    for axes, name in zip(_row_of_axes(figure, len(names)), names, strict=True):
        steps, values = np.asarray(result.curves[name], float).T
        axes.plot(steps, values, color=PALETTE[0])
        axes.set(title=name, xlabel="training step", ylabel="value")
    return figure


@_in_style
def similarity_matrix(
    before: np.ndarray, after: np.ndarray, labels: tuple[str, str] = ("patch", "caption")
) -> Figure:
    """Cosine similarity of held-out patches and captions, before and after pretraining.

    Args:
        before, after: (N, M), values in −1…1.
        labels: what the rows and the columns are.
    """
    return _matrices(before, after, "cosine similarity", labels)


@_in_style
def caption_probabilities(before: np.ndarray, after: np.ndarray, temperature: float) -> Figure:
    """With which probability each held-out patch chooses each caption, as L_VLP sees it.

    Args:
        before, after: (N, M), cosine similarity of patches and captions.
        temperature: divides the similarities before the softmax over captions.
    """
    parts = (softmax(np.asarray(s, float) / temperature, axis=1) for s in (before, after))
    return _matrices(*parts, "probability", ("patch", "caption"), cmap="viridis", low=0)


@_in_style
def cross_correlation(before: np.ndarray, after: np.ndarray) -> Figure:
    """Cross-correlation of the two views' features, which L_VR drives to the identity.

    Args:
        before, after: (E, E), values in −1…1.
    """
    return _matrices(before, after, "correlation", ("feature of view 1", "feature of view 2"))


@_in_style
def retrieval_bars(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """Image–text retrieval on held-out patches.

    Args:
        scores: per name (``before``, ``after``, …) shares under ``r@1``, ``r@5`` and ``chance``.
    """
    figure = Figure(figsize=(COLUMN, 3.0))
    axes = figure.subplots()
    keys = ["r@1", "r@5"]
    width = 0.8 / len(scores)
    for i, (name, values) in enumerate(scores.items()):
        places = np.arange(len(keys)) + (i - (len(scores) - 1) / 2) * width
        bars = axes.bar(places, [100 * values[k] for k in keys], width * 0.94, label=name,
                        color=PALETTE[i % len(PALETTE)])  # fmt: skip
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=9)
    chance = next(iter(scores.values()))["chance"]
    for place, answers in enumerate((1, 5)):
        by_chance = 100 * min(1, answers * chance)
        axes.plot([place - 0.45, place + 0.45], [by_chance] * 2, color="0.3", linestyle=":",
                  label=None if place else "by chance")  # fmt: skip
    axes.set_xticks(range(len(keys)), ["R@1", "R@5"])
    axes.set(ylabel="held-out patches (%)", ylim=(0, 108))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@_in_style
def caption_gallery(slices: Sequence[np.ndarray], texts: Sequence[str], columns: int = 3) -> Figure:
    """Slices with their captions below.

    Args:
        slices: (H, W) each.
        texts: a caption for each.
        columns: slices side by side.
    """
    columns = min(columns, len(slices))
    rows = -(-len(slices) // columns)
    wrapped = [textwrap.fill(text, round(33 * 3 / columns)) for text in texts]
    lines = max(text.count("\n") + 1 for text in wrapped)
    side = PAGE / columns
    figure = Figure(figsize=(PAGE, rows * (0.8 * side + 0.17 * lines + 0.1)))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, cut, text in zip(panels, slices, wrapped, strict=False):
        axes.imshow(cut)
        axes.text(0.5, -0.03, text, transform=axes.transAxes, ha="center", va="top", fontsize=9)
    return figure


def save_figure(figure: Figure, path: str | Path, caption: str = "", credit: str = "") -> Path:
    """Write ``<path>.png`` and ``<path>.pdf``, each atomically.

    Args:
        figure: of this module.
        path: with or without ``.png``.
        caption: what it shows; kept in the PNG, from where the report takes it.
        credit: attribution and licence of the images in it.

    Returns:
        The path of the PNG.
    """
    path = Path(path)
    png = path if path.suffix == ".png" else path.with_name(path.name + ".png")
    with styled():
        with paths.atomic(png) as temporary:
            text = {"Description": caption, "Copyright": credit}
            figure.savefig(temporary, metadata={k: v for k, v in text.items() if v})
        with paths.atomic(png.with_suffix(".pdf")) as temporary:
            figure.savefig(temporary)
    return png


def _row_of_axes(figure: Figure, count: int) -> np.ndarray:
    return figure.subplots(1, count, squeeze=False)[0]


def _matrices(
    before: np.ndarray,
    after: np.ndarray,
    label: str,
    axes_labels: tuple[str, str],
    cmap: str = "RdBu_r",
    low: float = -1,
) -> Figure:
    figure = Figure(figsize=(PAGE, 4.0))
    panels = figure.subplots(1, 2)
    # One scale for both, no wider than they need: small similarities differ, too.
    high = max(float(np.abs(matrix).max()) for matrix in (before, after)) or 1.0
    for axes, matrix, title in zip(
        panels, (before, after), ("before pretraining", "after pretraining"), strict=True
    ):
        shown = axes.imshow(matrix, cmap=cmap, vmin=low * high, vmax=high, aspect="auto")
        axes.set(title=title, ylabel=axes_labels[0], xlabel=axes_labels[1])
    figure.colorbar(shown, ax=list(panels), label=label, shrink=0.9)
    return figure


def _outline(axes: Axes, mask: np.ndarray, box: tuple, color: str, style: str) -> None:
    padded = np.pad(mask.astype(float), 1)  # so that a structure at the edge has a closed outline
    height, width = box[3] / mask.shape[0], box[1] / mask.shape[1]
    x = (np.arange(padded.shape[1]) - 0.5) * width
    y = (np.arange(padded.shape[0]) - 0.5) * height
    axes.contour(x, y, padded, [0.5], colors=[color], linestyles=style, linewidths=1.4)
    axes.set(xlim=box[:2], ylim=box[2:])
