"""The figures of what text does: captions and their failures, features, saliency.

Each function draws from arrays only and returns a matplotlib Figure, in the style of
:mod:`gtgm.figures`, whose ``save_figure`` writes them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gtgm.embedding import flat_map, position_score
from gtgm.figures import _in_style
from gtgm.style import PAGE, PALETTE


@_in_style
def caption_audit(
    slices: Sequence[np.ndarray],
    generated: Sequence[str],
    measured: Sequence[str],
    shared: Sequence[float],
    columns: int = 3,
) -> Figure:
    """Slices with what was written about them and what was measured on them.

    Words of a caption that were not measured, and measured words that it lacks, are what is wrong
    with it; they are counted, not judged.

    Args:
        slices: (H, W) each.
        generated, measured: texts, one of each per slice.
        shared: share of the words that the two have in common (Jaccard index).
        columns: slices side by side.
    """
    rows = -(-len(slices) // columns)
    width = round(35 * 3 / columns)
    texts = [
        (textwrap.fill(f"written: {g}", width), textwrap.fill(f"measured: {m}", width))
        for g, m in zip(generated, measured, strict=True)
    ]
    lines = max(g.count("\n") + m.count("\n") + 2 for g, m in texts)
    side = PAGE / columns
    figure = Figure(figsize=(PAGE, rows * (0.72 * side + 0.165 * lines + 0.45)))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, cut, (first, second), share in zip(panels, slices, texts, shared, strict=False):
        axes.imshow(cut)
        axes.set_title(f"{100 * share:.0f} % of the words shared")
        style = {"ha": "center", "va": "top", "fontsize": 9}
        written = axes.text(0.5, -0.03, first, transform=axes.transAxes, color=PALETTE[0], **style)
        axes.annotate(second, (0.5, -0.15), xycoords=written, color="0.25", **style)
    figure.draw_without_rendering()  # what hangs on a text has its place at the second draw
    return figure


@_in_style
def embedding_map(
    before: np.ndarray,
    after: np.ndarray,
    datasets: Sequence[str],
    volumes: Sequence[str],
    positions: np.ndarray,
) -> Figure:
    """Features of held-out patches on their two principal axes, before and after pretraining.

    One column per colouring: the dataset where there are several, then the place in the volume
    along each axis; of one dataset with R² of :func:`gtgm.embedding.position_score`.

    Args:
        before, after: (N, C).
        datasets, volumes: names, N each.
        positions: (N, 3) along z, y, x, 0…1.
    """
    names = list(dict.fromkeys(datasets))
    several = len(names) > 1
    columns = 3 + several
    figure = Figure(figsize=(PAGE, 2 * PAGE / columns + 0.7))
    grid = figure.subplots(2, columns, squeeze=False)
    for row, when, features in zip(grid, ("before", "after"), (before, after), strict=True):
        places, shares = flat_map(features)
        scores = None if several else position_score(features, positions, volumes)
        if several:
            for name, color in zip(names, PALETTE, strict=False):
                mine = np.array([d == name for d in datasets])
                row[0].scatter(*places[mine].T, s=9, color=color, linewidths=0)
            row[0].set_title("dataset")
        for axis in range(3):
            axes = row[several + axis]
            shown = axes.scatter(
                *places.T, s=9, c=positions[:, axis], cmap="cividis", vmin=0, vmax=1, linewidths=0
            )
            title = f"place along {'zyx'[axis]}"
            if scores is not None and np.isfinite(scores[axis]):
                title += f": R² {scores[axis]:.2f}".replace("-", "−")
            axes.set_title(title)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.set_xlabel(f"first axis ({100 * shares[0]:.0f} %)")
        row[0].set_ylabel(f"{when} pretraining\nsecond axis ({100 * shares[1]:.0f} %)")
    figure.colorbar(
        shown, ax=grid.ravel().tolist(), label="place in the volume (0 first, 1 last)", aspect=40
    )
    if several:
        handles = [
            Line2D([], [], color=color, marker="o", ls="", ms=5, label=name)
            for name, color in zip(names, PALETTE, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(names), 5))
    return figure


@_in_style
def saliency_panels(
    slices: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]],
    similarities: Sequence[Sequence[float]],
    agreement: Sequence[float],
) -> Figure:
    """A row per patch: its slice, then where each of two captions needs it.

    Orange: similarity falls when the voxels are hidden. Purple: it rises. One scale for all maps.

    Args:
        slices: (H, W) each.
        maps: (2, H, W) each, see :func:`gtgm.saliency.text_saliency`.
        captions: two for each patch: its own, and another patch's.
        similarities: of the patch with the two captions.
        agreement: correlation of the two maps over the whole patch.
    """
    rows = len(slices)
    most = max(float(np.abs(m).max()) for m in maps) or 1.0
    ratio = slices[0].shape[0] / slices[0].shape[1]
    figure = Figure(figsize=(PAGE, rows * (PAGE * 0.28 * ratio + 0.95) + 0.3))
    grid = figure.subplots(rows, 3, squeeze=False)
    own = ("its own caption", "another patch's caption")
    for row, cut, both, texts, values, same in zip(
        grid, slices, maps, captions, similarities, agreement, strict=True
    ):
        row[0].imshow(cut)
        row[0].set_title("held-out patch")
        row[0].set_xlabel(f"correlation of the maps: {same:.2f}".replace("-", "−"), fontsize=9)
        for axes, part, text, kind, value in zip(row[1:], both, texts, own, values, strict=True):
            axes.imshow(cut)
            strength = np.abs(part) / most
            shown = axes.imshow(part, cmap="PuOr_r", vmin=-most, vmax=most,
                                alpha=np.clip(1.5 * strength, 0, 0.85))  # fmt: skip
            axes.set_title(f"{kind}: similarity {value:.2f}".replace("-", "−"))
            axes.text(0.5, -0.04, textwrap.fill(text, 42), transform=axes.transAxes, ha="center",
                      va="top", fontsize=9)  # fmt: skip
        for axes in row:
            axes.set(xticks=[], yticks=[], frame_on=False)
    bar = figure.colorbar(
        shown, ax=grid.ravel().tolist(), shrink=min(1, 1.6 / rows), aspect=25,
        label="fall of the similarity when hidden",
    )  # fmt: skip
    bar.solids.set_alpha(1)
    return figure
