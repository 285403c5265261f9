"""The figure that shows a test section of every dataset: truth, two methods, and their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gtgm.errors import ResultError
from gtgm.figures import _in_style
from gtgm.figures_em import _label_colors, _matching_colors
from gtgm.methods import METHODS
from gtgm.neurons.metrics import mutual_matches
from gtgm.style import PAGE, PALETTE, class_colors

#: Apart from each other and from the first classes' colours, with any colour vision.
ERRORS = {
    "not in the truth": PALETTE[6],
    "missed": "#FFFFFF",
    "another class or neuron": PALETTE[3],
}
_FILL = 0.6

Example = Mapping[str, Any]


def examples_of(found: Sequence[Example], methods: Sequence[str]) -> list[list[Example]]:
    """For each dataset the examples of all ``methods`` that show the same section.

    Real data comes before phantoms, then the fewest labels, where methods can differ most. Runs
    with a changed setting are left out.

    Args:
        found: values that :func:`gtgm.stages.examples.keep_example` kept.
        methods: names, in the order of the columns.

    Returns:
        A list per dataset, in the order of their names: one example per method.

    Raises:
        ResultError: there is no such dataset.
    """
    groups: dict[tuple, dict[str, Example]] = {}
    for example in found:
        if not example["changes"]:
            key = (example["dataset"], example["source"] != "real", example["fraction"],
                   *map(str, example["setting"]), example["case"])  # fmt: skip
            groups.setdefault(key, {})[example["method"]] = example
    chosen: dict[str, list[Example]] = {}
    for key in sorted(groups):
        if set(methods) <= set(groups[key]):
            chosen.setdefault(key[0], [groups[key][name] for name in methods])
    if not chosen:
        raise ResultError(
            f"no section was segmented by {' and '.join(methods)} with the same labels",
            where="examples",
            expected="examples of runs that differ in nothing but the method",
            fix="fine-tune these methods with the same fraction, fold and draw",
        )
    return list(chosen.values())


@_in_style
def segmentation_grid(rows: Sequence[Sequence[Example]]) -> Figure:
    """A row per dataset: grey values, truth, each method's segmentation, errors of the last.

    Classes are filled in the palette's order. Neurons have random colours; a segment that matches a
    neuron has its colour, and is wrong where it is not that neuron.

    Args:
        rows: of :func:`examples_of`.
    """
    names = [METHODS[example["method"]].label for example in rows[0]]
    titles = ["image", "truth", *names, f"errors of {names[-1]}"]
    width = PAGE / len(titles)
    heights = [min(1.15, max(0.6, _ratio(row[0]))) for row in rows]
    figure = Figure(figsize=(PAGE + 0.9, sum(heights) * width + 0.16 * len(rows) + 0.9))
    grid = figure.subplots(len(rows), len(titles), squeeze=False, height_ratios=heights)
    for panels, row in zip(grid, rows, strict=True):
        _draw_row(panels, row)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    handles = [Patch(fc=color, ec="0.3", label=name) for name, color in ERRORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def wrong_where(truth: np.ndarray, prediction: np.ndarray, neurons: bool) -> np.ndarray:
    """What is wrong at each pixel.

    Args:
        truth, prediction: (H, W) labels; 0 is background, of neurons unlabelled.
        neurons: labels are objects; a segment that matches none is wrong wherever it is.

    Returns:
        (H, W) uint8: 0 right (or not labelled), 1 not in the truth, 2 missed, 3 another class or
        neuron.
    """
    if neurons:
        matches = mutual_matches(prediction, truth)
        values, index = np.unique(prediction, return_inverse=True)
        owners = np.array([matches.get(int(v), -1) for v in values])
        prediction = np.where(prediction == 0, 0, owners[index.reshape(prediction.shape)])
    wrong = np.zeros(truth.shape, dtype=np.uint8)
    wrong[(truth != prediction) & (truth != 0) & (prediction != 0)] = 3
    wrong[(truth != 0) & (prediction == 0)] = 2
    if not neurons:  # what lies where no neuron is labelled does not count
        wrong[(truth == 0) & (prediction != 0)] = 1
    return wrong


def _draw_row(panels: Sequence[Axes], row: Sequence[Example]) -> None:
    first = row[0]
    raw, truth, neurons = first["raw"], first["truth"], first["neurons"]
    pictures = [_filled(raw, truth, first)]
    for example in row:
        labels = example["prediction"]
        pictures.append(
            _blend(raw, _matching_colors(labels, truth), labels > 0)
            if neurons
            else _filled(raw, labels, first)
        )
    wrong = wrong_where(truth, row[-1]["prediction"], neurons)
    colors = np.array([(0.0, 0.0, 0.0), *map(to_rgb, ERRORS.values())])
    pictures.append(_blend(0.6 * raw, colors[wrong], wrong > 0, 0.85))
    box = (0, raw.shape[1] * first["spacing"][1], raw.shape[0] * first["spacing"][0], 0)
    for axes, picture in zip(panels, (_grey(raw), *pictures), strict=True):
        axes.imshow(picture, extent=box)
        axes.set(xticks=[], yticks=[], frame_on=False)
    kind = "" if first["source"] == "real" else "\n(phantom)"
    title = first["title"].removeprefix("MSD ").replace(" ", "\n", 1)
    panels[0].set_ylabel(f"{title}{kind}\n{100 * first['fraction']:g} % labels", fontsize=9)


def _filled(raw: np.ndarray, labels: np.ndarray, example: Example) -> np.ndarray:
    if example["neurons"]:
        return _blend(raw, _label_colors(labels), labels > 0)
    colors = [to_rgb(color) for color in class_colors(example["classes"]).values()]
    return _blend(raw, np.array([(0.0, 0.0, 0.0), *colors])[labels], labels > 0)


def _grey(raw: np.ndarray) -> np.ndarray:
    return np.repeat(raw[..., None] / 255, 3, axis=-1)


def _blend(
    raw: np.ndarray, colors: np.ndarray, where: np.ndarray, fill: float = _FILL
) -> np.ndarray:
    grey = _grey(raw)
    return np.where(where[..., None], (1 - fill) * grey + fill * colors, grey)


def _ratio(example: Example) -> float:
    """Height over width, in physical units."""
    height, width = (n * s for n, s in zip(example["raw"].shape, example["spacing"], strict=True))
    return height / width
