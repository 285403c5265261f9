"""The picture of the method: every step is named, readable, inside the sheet and apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from gtgm.figures_method import method_figure

RNG = np.random.default_rng(0)
TRUTH = np.zeros((30, 24), int)
TRUTH[5:20, 6:18] = 1
TRUTH[5:12, 6:18] = 2
LONG = "axial MRI of the hippocampus, lower anterior part, medium signal, moderate contrast " * 3


@pytest.mark.parametrize("caption", ["MRI", LONG], ids=["short", "long"])
def test_texts_are_large_enough_inside_the_sheet_and_apart(caption):
    views = [RNG.random((16, 16)), RNG.random((20, 12))]
    figure = method_figure(RNG.random(TRUTH.shape), views, caption, TRUTH)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [t for t in figure.axes[0].texts if t.get_text().strip()]
    assert min(t.get_fontsize() for t in texts) >= 9
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text.get_text()
    for (a, one), (b, other) in combinations(zip(texts, boxes, strict=True), 2):
        assert not one.overlaps(other), (a.get_text(), b.get_text())
    words = " ".join(t.get_text() for t in figure.findobj(Text))
    for step in ("captioner", "L_{VLP}", "L_{VR}", "view 2", "decoder", "segmentation"):
        assert step in words


def test_two_views_are_needed_and_every_class_is_outlined():
    grey = RNG.random(TRUTH.shape)
    with pytest.raises(ValueError):
        method_figure(grey, [grey], "MRI", TRUTH)
    axes = method_figure(grey, [grey, grey], "MRI", TRUTH).axes[0]
    assert len(axes.images) == 4 and len(axes.collections) == 2
