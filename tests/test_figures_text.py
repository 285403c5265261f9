"""Figures of captions, features and saliency: readable, and true to what they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from readable import assert_readable

from gtgm import figures_text
from gtgm.style import PALETTE

RNG = np.random.default_rng(0)
LONG = "axial MRI of the hippocampus, upper anterior part, low signal, several bright structures"
POSITIONS = RNG.random((60, 3))
VOLUMES = [f"v{i % 6}" for i in range(60)]


def audit(count: int = 6):
    texts = [LONG, "axial MRI"] * count
    return figures_text.caption_audit(
        [RNG.random((20, 24))] * count, texts[:count], texts[1 : count + 1],
        list(np.linspace(1, 0.2, count)),
    )  # fmt: skip


def embedding(names: int = 2):
    features = RNG.random((60, 8))
    datasets = [f"dataset {i % names}" for i in range(60)]
    return figures_text.embedding_map(
        features, np.concatenate([POSITIONS, features], 1), datasets, VOLUMES, POSITIONS
    )


def saliency(rows: int = 3):
    maps = [RNG.normal(size=(2, 20, 24)) * 0.1 for _ in range(rows)]
    return figures_text.saliency_panels(
        [RNG.random((20, 24))] * rows, maps, [[LONG, LONG]] * rows, [[0.5, -0.1]] * rows,
        [-0.25] * rows,
    )  # fmt: skip


FIGURES = {
    "audit": audit,
    "audit of two": lambda: audit(2),
    "embedding": embedding,
    "embedding of one dataset": lambda: embedding(1),
    "saliency": saliency,
    "saliency of one patch": lambda: saliency(1),
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_large_enough_inside_the_page_and_apart(name: str) -> None:
    assert_readable(FIGURES[name]())


def test_both_texts_of_a_slice_are_shown_whole() -> None:
    axes = audit().axes[0]
    written, measured = (" ".join(t.get_text().split()) for t in axes.texts)
    assert written == f"written: {LONG}" and measured == "measured: axial MRI"
    assert axes.get_title() == "100 % of the words shared"
    assert audit().axes[5].get_title() == "20 % of the words shared"


def test_a_map_has_every_patch_in_every_panel_and_its_colour() -> None:
    figure = embedding()
    panels = [axes for axes in figure.axes if axes.collections and not axes.get_label()]
    assert len(panels) == 8
    for axes in panels:
        assert sum(len(c.get_offsets()) for c in axes.collections) == 60
    first = panels[0].collections
    assert [to_hex(c.get_facecolor()[0]) for c in first] == [c.lower() for c in PALETTE[:2]]
    for axis in range(3):
        np.testing.assert_allclose(panels[1 + axis].collections[0].get_array(), POSITIONS[:, axis])
    assert not any("R²" in axes.get_title() for axes in panels)  # of what is pooled it says nothing


def test_features_that_hold_the_place_score_higher() -> None:
    panels = [axes for axes in embedding(1).axes if "R²" in axes.get_title()]
    scores = [float(axes.get_title().split()[-1].replace("−", "-")) for axes in panels]
    assert len(scores) == 6 and all(
        after > before for before, after in zip(scores[:3], scores[3:], strict=True)
    )


def test_one_scale_for_all_maps_with_zero_in_its_middle() -> None:
    figure = saliency()
    limits = {axes.images[1].get_clim() for axes in figure.axes if len(axes.images) == 2}
    ((low, high),) = limits
    assert low == -high and high > 0
    assert "similarity −0.10" in figure.axes[2].get_title()
    assert figure.axes[0].get_xlabel().endswith("−0.25")
