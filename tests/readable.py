"""What every figure must be: drawn, its texts large enough, inside the page, and apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def assert_readable(figure: Figure) -> None:
    """Draw a figure once, as for a file, and check it."""
    assert isinstance(figure, Figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert np.asarray(canvas.buffer_rgba())[..., :3].std() > 5, "blank"
    # Ticks beyond the limits are among the texts, but not drawn.
    hidden = {id(t) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)
              for tick in axis.get_major_ticks() + axis.get_minor_ticks()
              for t in (tick.label1, tick.label2)
              if not _within(axis, tick.get_loc()) or not t.get_visible()}  # fmt: skip
    hidden |= {id(t) for axes in figure.axes if not axes.axison
               for axis in (axes.xaxis, axes.yaxis) for t in axis.findobj(Text)}  # fmt: skip
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    texts = [t for t in texts if id(t) not in hidden]
    assert texts and min(t.get_fontsize() for t in texts) >= 9
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    page = figure.bbox
    for text, box in zip(texts, boxes, strict=True):
        inside = page.x0 - 1 <= box.x0 and box.x1 <= page.x1 + 1
        inside = inside and page.y0 - 1 <= box.y0 and box.y1 <= page.y1 + 1
        assert inside, f"{text.get_text()!r} is cut off"
    for (a, one), (b, other) in combinations(zip(texts, boxes, strict=True), 2):
        apart = not one.shrunk(0.95, 0.95).overlaps(other)
        assert apart, f"{a.get_text()!r} lies over {b.get_text()!r}"


def _within(axis: Axis, place: float) -> bool:
    low, high = sorted(axis.get_view_interval())
    return low <= place <= high
