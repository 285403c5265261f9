"""The method in one picture, drawn from a real patch, its views and its caption."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from gtgm.figures import _in_style
from gtgm.style import PAGE, PALETTE

_BLUE, _RED, _GREEN = PALETTE[:3]
_GREY = "0.35"
#: Size of the sheet on which everything has its place.
_WIDTH, _HEIGHT = 100.0, 52.0


@_in_style
def method_figure(
    volume: np.ndarray,
    views: Sequence[np.ndarray],
    caption: str,
    truth: np.ndarray,
) -> Figure:
    """Text generation, pretraining with both losses, and fine-tuning, from left to right.

    Args:
        volume: (H, W), a slice of an unlabelled volume.
        views: two augmented views of a patch, (h, w) each.
        caption: text of the patch.
        truth: (H, W), labels of ``volume``, for the segmentation at the end; 0 is nothing.

    Source: method of the paper (arXiv 2306.04811), drawn anew.
    """
    figure = Figure(figsize=(PAGE, PAGE * _HEIGHT / _WIDTH))
    axes = figure.subplots()
    axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT), aspect="equal")
    axes.axis("off")
    _heading(axes, 9, "1 · text", "no radiologist")
    _heading(axes, 45, "2 · pretraining", "no labels")
    _heading(axes, 88, "3 · fine-tuning", "few labels")

    _picture(axes, volume, (2, 20, 14, 14), "volume")
    _box(axes, (20, 36, 13, 6), "captioner", _GREEN)
    _box(axes, (20, 12, 13, 6), "augmentation", _GREY)
    _arrow(axes, (16.5, 30), (20, 38))
    _arrow(axes, (16.5, 24), (20, 16))

    text = textwrap.fill(caption, 27, max_lines=5, placeholder=" …")
    axes.text(36, 39, text, va="center", fontsize=9, style="italic")
    _box(axes, (61, 36, 12, 6), "text encoder,\nfrozen", _GREEN)
    _arrow(axes, (33.5, 39), (35.5, 39))
    _arrow(axes, (57, 39), (60.5, 39))

    for i, (view, y) in enumerate(zip(views, (15.5, 4), strict=True), start=1):
        _picture(axes, view, (37, y, 9, 9), f"view {i}")
    _arrow(axes, (33.5, 15.5), (36.5, 19))
    _arrow(axes, (33.5, 14.5), (36.5, 9))
    _box(axes, (52, 8, 11, 14), "image\nencoder", _BLUE)
    _arrow(axes, (46.5, 20), (51.5, 17.5))
    _arrow(axes, (46.5, 8.5), (51.5, 12))

    _box(axes, (65, 24, 16, 7), "$L_{VLP}$: a patch\nfinds its text", _RED)
    _box(axes, (65, 6, 16, 7), "$L_{VR}$: features\ndiffer, views agree", _RED)
    _arrow(axes, (69, 35.5), (71, 31.6))
    _arrow(axes, (60, 22.5), (64.5, 26))
    _arrow(axes, (63.3, 11.5), (64.8, 10.5))

    _box(axes, (84, 14, 13, 7), "encoder +\ndecoder", _BLUE)
    _arrow(axes, (63.5, 18), (83.5, 18), "weights")
    _picture(axes, volume, (83.5, 28, 14, 14), "segmentation", truth)
    _arrow(axes, (90.5, 21.5), (90.5, 25))
    return figure


def _heading(axes: Axes, x: float, title: str, below: str) -> None:
    axes.text(x, 50.5, title, ha="center", va="top", fontsize=11, weight="bold")
    axes.text(x, 47.6, below, ha="center", va="top", fontsize=9, color=_GREY)


def _box(axes: Axes, place: tuple[float, float, float, float], text: str, color: str) -> None:
    x, y, width, height = place
    style = "round,pad=0,rounding_size=1.2"
    axes.add_patch(FancyBboxPatch((x, y), width, height, style, facecolor=color, alpha=0.16, lw=0))
    axes.add_patch(
        FancyBboxPatch((x, y), width, height, style, fill=False, edgecolor=color, lw=1.3)
    )
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    text: str = "",
) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=_GREY, lw=1.2)
    )
    if text:
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        axes.text(x, y + 1, text, ha="center", va="bottom", fontsize=9, color=_GREY)


def _picture(
    axes: Axes,
    grey: np.ndarray,
    place: tuple[float, float, float, float],
    title: str,
    labels: np.ndarray | None = None,
) -> None:
    x, y, width, height = place
    low, high = np.percentile(grey, (1, 99))
    box = (x, x + width, y, y + height)
    shown = {"extent": box, "origin": "lower", "zorder": 2}
    axes.imshow(grey, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), **shown)
    if labels is not None:
        levels = np.arange(0.5, labels.max())
        rows, columns = labels.shape
        xs = x + (np.arange(columns) + 0.5) * width / columns
        ys = y + (np.arange(rows) + 0.5) * height / rows
        colors = PALETTE[: max(1, len(levels))]
        for level, color in zip(levels, colors, strict=False):
            here = (labels == round(level + 0.5)).astype(float)
            axes.contour(xs, ys, here, [0.5], colors=[color], linewidths=1.6, zorder=3)
    axes.text(x + width / 2, y - 0.5, title, ha="center", va="top", fontsize=9)
    axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT))
