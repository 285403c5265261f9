"""One look for every figure of the project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np

#: Okabe and Ito's palette, told apart with any colour vision; black and grey are for lines of text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
#: Widths in inches: a column, and the full width of a page.
COLUMN, PAGE = 4.5, 9.0
DPI = 150

_SETTINGS = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "figure.titlesize": 11,
    "figure.dpi": 100,
    "savefig.dpi": DPI,
    "figure.constrained_layout.use": True,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "pdf.fonttype": 42,  # text stays text
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw the figures of the block in the project's style."""
    with mpl.rc_context(_SETTINGS):
        yield


def class_colors(names: tuple[str, ...] | list[str]) -> dict[str, str]:
    """A colour per class, in order; palette colours repeat after seven classes."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}


def bright_colors(count: int, seed: int = 7) -> np.ndarray:
    """Random bright colours for objects without a class, (count, 3) in 0…1."""
    return 0.25 + 0.75 * np.random.default_rng(seed).random((count, 3))
