"""The figures of neuron segmentation in EM.

Each function draws from results or arrays only and returns a matplotlib Figure, in the style of
:mod:`gtgm.figures`, whose ``save_figure`` writes them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gtgm.figures import _in_style, _outline
from gtgm.neurons.metrics import mutual_matches
from gtgm.style import COLUMN, PAGE, PALETTE, bright_colors

# Largest, second and third piece: apart from each other, and from grey, with any colour vision.
_PIECES = (PALETTE[0], PALETTE[1], PALETTE[6])
_STROKE = [patheffects.withStroke(linewidth=3.5, foreground="white")]
_SCORES = (("voi_sum", "sum", "-"), ("voi_split", "split", "--"), ("voi_merge", "merge", ":"))


@_in_style
def neuron_panels(
    raw: np.ndarray,
    affinity: np.ndarray,
    fragments: np.ndarray,
    segmentation: np.ndarray,
    truth: np.ndarray,
    resolution: Sequence[float] | None = None,
) -> Figure:
    """One section at every step of neuron segmentation.

    Args:
        raw: (H, W) grey values.
        affinity: (H, W), or (3, H, W) in the order z, y, x, shown as red, green, blue.
        fragments, segmentation, truth: (H, W) labels; 0 is black.
        resolution: nm per pixel (y, x); axes are in µm where given, else in pixels.
    """
    unit, (dy, dx) = ("µm", np.asarray(resolution) / 1000) if resolution else ("pixels", (1, 1))
    box = (0, raw.shape[1] * dx, raw.shape[0] * dy, 0)
    colour = np.clip(np.moveaxis(affinity, 0, -1), 0, 1) if affinity.ndim == 3 else affinity
    figure = Figure(
        figsize=(PAGE * 1.25, PAGE * 0.25 * raw.shape[0] * dy / (raw.shape[1] * dx) + 0.9)
    )
    panels = figure.subplots(1, 5, sharey=True)
    shown = [("EM section", raw), ("affinities (z, y, x)", colour)]
    shown += [
        (f"{name} ({len(np.unique(labels[labels > 0]))})", _label_colors(labels))
        for name, labels in (
            ("fragments", fragments),
            ("segmentation", segmentation),
            ("truth", truth),
        )
    ]
    for axes, (title, picture) in zip(panels, shown, strict=True):
        axes.imshow(picture, extent=box)
        axes.set(title=title, xlabel=f"x ({unit})")
    panels[0].set_ylabel(f"y ({unit})")
    return figure


@_in_style
def postprocessing_curves(
    curves: Mapping[str, Sequence[Mapping[str, float]]], xlabels: Mapping[str, str]
) -> Figure:
    """VOI on the validation sections against the free parameter of each post-processing.

    Args:
        curves: per name, rows as :func:`gtgm.neurons.postprocess.choose` returns them: the
            parameter first, then ``voi_split``, ``voi_merge``, ``voi_sum``.
        xlabels: what the parameter is, per name.
    """
    across = 2 if len(curves) == 4 else min(len(curves), 3)
    down = -(-len(curves) // across)
    figure = Figure(figsize=(max(COLUMN, 3.0 * across), 2.7 * down + 0.4))
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for axes in panels.ravel()[len(curves) :]:
        axes.axis("off")
    for axes, (name, rows) in zip(panels.ravel(), curves.items(), strict=False):
        values = [next(iter(row.values())) for row in rows]
        best = min(rows, key=lambda row: row["voi_sum"])
        chosen = next(iter(best.values()))
        for (key, _, line), color in zip(_SCORES, PALETTE, strict=False):
            axes.plot(values, [row[key] for row in rows], line, color=color)
        axes.axvline(chosen, color="0.75", lw=1, zorder=0)
        axes.plot(chosen, best["voi_sum"], "o", color=PALETTE[0], ms=7)
        axes.set(title=f"{name}\nchosen: {chosen:g}", xlabel=xlabels[name])
        axes.yaxis.set_tick_params(labelleft=True)
    panels[0, 0].set_ylim(bottom=0)
    for axes in panels[:, 0]:
        axes.set_ylabel("VOI (bits)")
    handles = [
        Line2D([], [], color=color, linestyle=line, label=f"VOI {name}")
        for (_, name, line), color in zip(_SCORES, PALETTE, strict=False)
    ]
    handles.append(Line2D([], [], color=PALETTE[0], marker="o", ms=7, ls="", label="choice"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


@_in_style
def neuron_methods(
    raw: np.ndarray,
    truth: np.ndarray,
    segmentations: Mapping[str, np.ndarray],
    resolution: Sequence[float] | None = None,
) -> Figure:
    """One section under several post-processings, beside the truth.

    A segment has the colour of a neuron if each is the largest part of the other in the section;
    other segments have colours of their own. So a piece that is split off changes its colour, and
    a merger covers two neurons with one.

    Args:
        raw: (H, W) grey values.
        truth: (H, W) labels; 0 is black.
        segmentations: (H, W) labels per name.
        resolution: nm per pixel (y, x); axes are in µm where given, else in pixels.
    """
    unit, (dy, dx) = ("pixels", (1, 1))
    if resolution is not None:
        unit, (dy, dx) = "µm", np.asarray(resolution) / 1000
    box = (0, raw.shape[1] * dx, raw.shape[0] * dy, 0)
    shown = {"EM section": raw, f"truth ({_count(truth)})": _label_colors(truth)}
    for name, labels in segmentations.items():
        shown[f"{name} ({_count(labels)})"] = _matching_colors(labels, truth)
    across = min(len(shown), 4)
    down = -(-len(shown) // across)
    height = PAGE / across * raw.shape[0] * dy / (raw.shape[1] * dx)
    figure = Figure(figsize=(PAGE, down * (height + 0.5) + 0.2))
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for axes in panels.ravel()[len(shown) :]:
        axes.axis("off")
    for number, (axes, (title, picture)) in enumerate(
        zip(panels.ravel(), shown.items(), strict=False)
    ):
        axes.imshow(picture, extent=box)
        axes.set_title(textwrap.fill(title, round(112 / across)))
        if number >= len(shown) - across:  # nothing below it
            axes.set_xlabel(f"x ({unit})")
            axes.xaxis.set_tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"y ({unit})")
    return figure


@_in_style
def mistakes_panels(pictures: Sequence[Mapping[str, Any]]) -> Figure:
    """Mistakes from near: a row for each, with the EM, the truth and the segmentation.

    The three largest pieces of the split neuron or merged segment are coloured, the whole of it in
    the colour of its largest piece; all else is grey. A ring marks where the two largest meet. The
    section is cut in xy, or in xz or yz where those show the two much better.

    Args:
        pictures: of :func:`gtgm.neurons.mistakes.mistake_pictures`.
    """
    # A row is as high as its picture, and never too low for the text beside it.
    heights = [max(0.55, seen["size"][1] / seen["size"][0]) for seen in pictures]
    figure = Figure(figsize=(PAGE, sum(heights) * PAGE * 0.3 + 0.4 * len(pictures) + 0.4))
    panels = figure.subplots(len(pictures), 3, squeeze=False, height_ratios=heights)
    for row, seen in zip(panels, pictures, strict=True):
        (width, height), pieces = seen["size"], seen["pieces"]
        low, high = seen["window"]
        shown = [seen["em"]]
        for labels, names in (
            (seen["truth"], seen["neurons"]),
            (seen["segmentation"], seen["segments"]),
        ):
            shown.append(_highlighted(labels, pieces if len(names) > 1 else labels == names[0]))
        for axes, picture in zip(row, shown, strict=True):
            axes.imshow(picture, extent=(0, width, height, 0), vmin=low, vmax=max(high, low + 1e-6))
            axes.plot(*seen["place"], "o", mfc="none", mec="k", mew=1.5, ms=17,
                      path_effects=_STROKE)  # fmt: skip
        for number, color in enumerate(_PIECES, start=1):
            if number in pieces:
                _outline(row[0], pieces == number, (0, width, 0, height), color, "solid")
        _scale_bar(row[0], width, height)
        names = (_names("neuron", seen["neurons"]), _names("segment", seen["segments"]))
        for axes, title in zip(row, ("EM", *names), strict=True):
            axes.set(title=title, xlim=(0, width), ylim=(height, 0))
            axes.axis("off")
        header = f"{seen['kind']}, {seen['bits']:.3f} bits\n{seen['plane']}"
        row[0].text(-0.04, 0.5, header, transform=row[0].transAxes, rotation=90, ha="right",
                    va="center", multialignment="center")  # fmt: skip
    names = ("largest piece", "second", "third")
    shown = {number for seen in pictures for number in np.unique(seen["pieces"])}
    handles = [
        Patch(color=color, label=name)
        for number, (name, color) in enumerate(zip(names, _PIECES, strict=True), start=1)
        if number in shown
    ]
    handles.append(Patch(color="0.75", label="other objects"))
    handles.append(Line2D([], [], marker="o", mfc="none", mec="k", ls="", ms=10, label="mistake"))
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    figure.draw_without_rendering()  # titles of several lines have their place at the second draw
    return figure


@_in_style
def augmentation_gallery(
    pictures: Mapping[str, tuple[np.ndarray, np.ndarray | None]], columns: int = 4
) -> Figure:
    """Augmented patches beside the unchanged one, with the boundaries of the neurons.

    All share one range of grey values, so that changes of contrast and brightness are seen.

    Args:
        pictures: per name grey values and labels (or None), the unchanged patch first. Grey values
            are (H, W) for a section, or (K, H, W) for K neighbouring ones where the effect is
            across sections; those take a row. Labels have the same shape, or (H, W) for all K. If
            the unchanged patch has K sections, it is shown as a row above those, and its middle
            section among the single ones.
        columns: single sections side by side.
    """
    singles: list[tuple[str, np.ndarray, np.ndarray | None]] = []
    stacks: list[tuple[str, np.ndarray, np.ndarray | None]] = []
    for name, (raw, labels) in pictures.items():
        if labels is not None:
            labels = np.broadcast_to(labels, raw.shape)
        if raw.ndim == 3:
            stacks.append((name, raw, labels))
        if raw.ndim == 2:
            singles.append((name, raw, labels))
        elif not singles and len(stacks) == 1:  # the unchanged patch
            middle = len(raw) // 2
            singles.append((name, raw[middle], None if labels is None else labels[middle]))
    if len(stacks) == len(pictures):  # nothing but rows
        singles = []
    columns = max([min(columns, len(singles)), *(len(raw) for _, raw, _ in stacks)])
    first = -(-len(singles) // columns)
    original = next(iter(pictures.values()))[0]
    low, high = np.percentile(original, (0.5, 99.5))
    side = PAGE / columns
    height = side * original.shape[-2] / original.shape[-1]
    rows = first + len(stacks)
    figure = Figure(figsize=(PAGE, rows * (height + 0.3)))
    panels = figure.subplots(rows, columns, squeeze=False)
    cells = list(zip(panels[:first].ravel(), singles, strict=False))
    for row, (name, raw, labels) in zip(panels[first:], stacks, strict=True):
        for z in range(len(raw)):
            title = name if z == 0 else f"z + {z}"
            cells.append((row[z], (title, raw[z], None if labels is None else labels[z])))
    for axes in panels.ravel():
        axes.axis("off")
    for axes, (title, raw, labels) in cells:
        axes.imshow(raw, vmin=low, vmax=max(high, low + 1e-6))
        axes.set_title(textwrap.fill(title, round(104 / columns)))
        if labels is not None:
            axes.imshow(_boundaries(labels))
    return figure


def _highlighted(labels: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Labels in shades of grey, 0 black, with the pieces 1, 2, 3 in colour; (H, W, 3)."""
    values, index = np.unique(labels, return_inverse=True)
    shades = 0.6 + 0.3 * np.random.default_rng(3).random(len(values))
    shades[values == 0] = 0.1
    picture = np.repeat(shades[index.reshape(labels.shape)][..., None], 3, axis=-1)
    for number, color in enumerate(_PIECES, start=1):
        picture[pieces == number] = to_rgb(color)
    return picture


def _scale_bar(axes: Axes, width: float, height: float) -> None:
    """A bar of a round length near a quarter of the picture's width (nm), bottom left."""
    rounds = [m * 10**e for e in range(7) for m in (1, 2, 5)]
    length = min(rounds, key=lambda value: abs(value - width / 4))
    name = f"{length / 1000:g} µm" if length >= 1000 else f"{length} nm"
    x, y = 0.05 * width, height - 0.06 * width
    dark = [patheffects.withStroke(linewidth=w, foreground="black") for w in (5, 2)]
    axes.plot((x, x + length), (y, y), "w", lw=3, solid_capstyle="butt", path_effects=dark[:1])
    axes.text(x, y - 0.03 * width, name, color="w", fontsize=9, path_effects=dark[1:])


def _names(kind: str, labels: Sequence[int]) -> str:
    """At most three labels, and how many there are."""
    if len(labels) == 1:
        return f"{kind} {labels[0]}"
    listed = ", ".join(str(label) for label in labels[:3]) + (", …" if len(labels) > 3 else "")
    return textwrap.fill(f"{len(labels)} {kind}s: {listed}", 32)


def _boundaries(labels: np.ndarray) -> np.ndarray:
    """A picture (H, W, 4) of the lines between labels, clear elsewhere."""
    picture = np.zeros((*labels.shape, 4))
    picture[..., :3] = to_rgb(PALETTE[4])
    picture[1:, :, 3] = labels[1:] != labels[:-1]
    picture[:, 1:, 3] = np.maximum(picture[:, 1:, 3], labels[:, 1:] != labels[:, :-1])
    return picture


def _count(labels: np.ndarray) -> int:
    return int(np.unique(labels[labels != 0]).size)


def _matching_colors(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Labels in the colours that :func:`_label_colors` gives their neurons, else in others."""
    colors = _label_colors(labels, seed=11)
    as_truth = _label_colors(truth)
    for segment, neuron in mutual_matches(labels, truth).items():
        colors[labels == segment] = as_truth[truth == neuron][0]
    return colors


def _label_colors(labels: np.ndarray, seed: int = 7) -> np.ndarray:
    """Labels as bright random colours, one per label; 0 is black."""
    values, index = np.unique(labels, return_inverse=True)
    colors = bright_colors(len(values), seed)
    colors[values == 0] = 0
    return colors[index.reshape(labels.shape)]
