"""Figures: drawn from data, labelled, readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from gtgm import figures, style
from gtgm.results import Result

FIGURES = {
    "loss": lambda: figures.loss_curves(
        Result("a", "pretrain", "x", "real", curves={"L_VLP": [[0, 2], [5, 1]], "L_VR": [[0, 9]]})
    ),
    "similarity": lambda: figures.similarity_matrix(np.eye(5, 7), np.eye(5, 7)),
    "probabilities": lambda: figures.caption_probabilities(np.zeros((4, 4)), np.eye(4), 0.1),
    "correlation": lambda: figures.cross_correlation(np.zeros((6, 6)), np.eye(6)),
    "retrieval": lambda: figures.retrieval_bars(
        {name: {"r@1": 0.3, "r@5": 0.6, "chance": 0.1} for name in ("before", "after")}
    ),
    "captions": lambda: figures.caption_gallery([np.eye(8)] * 4, ["a long caption " * 8] * 4),
}


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_large_enough_and_axes_are_labelled(name: str, tmp_path: Path) -> None:
    figure = FIGURES[name]()
    png = figures.save_figure(figure, tmp_path / name)
    assert isinstance(figure, Figure)
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    assert texts and min(t.get_fontsize() for t in texts) >= 9
    for axes in figure.axes:
        if axes.axison and axes.get_label() == "<colorbar>":
            assert axes.get_ylabel()
        elif axes.axison:
            shared = any(
                a.get_ylabel() for a in figure.axes if a.get_shared_y_axes().joined(a, axes)
            )
            named_ticks = any(not t.get_text().strip("−").isdigit() for t in axes.get_xticklabels())
            assert axes.get_ylabel() or shared
            assert axes.get_xlabel() or named_ticks
    with Image.open(png) as image:
        assert round(image.info["dpi"][0]) == 150
        assert np.asarray(image.convert("L")).std() > 5  # not blank


def test_the_temperature_decides_how_sharply_a_patch_chooses() -> None:
    similarity = np.eye(3)
    for temperature, expected in ((0.01, 1.0), (0.5, np.exp(2) / (np.exp(2) + 2)), (100, 0.336)):
        before, after = figures.caption_probabilities(
            np.zeros((3, 3)), similarity, temperature
        ).axes[:2]  # the third is the colour bar
        assert np.allclose(before.images[0].get_array(), 1 / 3)
        rows = np.asarray(after.images[0].get_array())
        assert np.allclose(rows.sum(1), 1) and rows[0, 0] == pytest.approx(expected, abs=1e-3)


def test_captions_are_shown_whole() -> None:
    text = "axial slice of the upper half, bright in the middle and dark at the border"
    (shown,) = [t.get_text() for t in FIGURES["captions"]().axes[0].texts]
    assert shown.split() == ("a long caption " * 8).split()
    figure = figures.caption_gallery([np.eye(4)], [text])
    assert figure.axes[0].texts[0].get_text().split() == text.split()


def test_saving_keeps_caption_and_credit_and_writes_both_formats(tmp_path: Path) -> None:
    png = figures.save_figure(FIGURES["retrieval"](), tmp_path / "f" / "v1.2", "what", "whose")
    assert png.name == "v1.2.png" and (tmp_path / "f" / "v1.2.pdf").read_bytes()[:5] == b"%PDF-"
    with Image.open(png) as image:
        assert image.info["Description"] == "what" and image.info["Copyright"] == "whose"
    assert sorted(p.name for p in png.parent.iterdir()) == ["v1.2.pdf", "v1.2.png"]


def test_colours_differ_also_without_red_green_vision() -> None:
    # Viénot, Brettel and Mollon (1999): protanopia and deuteranopia as projections of linear RGB.
    views = (
        np.eye(3),
        np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
        np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    )
    colors = np.array([to_rgb(c) for c in style.PALETTE]) ** 2.2
    for view in views:
        seen = np.clip(colors @ view.T, 0, 1) ** (1 / 2.2)
        distance = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        assert distance[~np.eye(len(seen), dtype=bool)].min() > 0.1


def test_style_does_not_leak() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    FIGURES["loss"]()
    assert dict(mpl.rcParams) == before
