"""Figures of neuron segmentation: readable, nothing cut off or overlapping, true to their data."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from readable import assert_readable

from gtgm import figures_em
from gtgm.neurons.mistakes import find_mistakes, mistake_pictures
from gtgm.style import PALETTE

RNG = np.random.default_rng(0)
SECTION = np.arange(48).reshape(6, 8) % 5
RAW = RNG.integers(0, 255, (12, 60, 60)).astype(np.uint8)
TRUTH = np.kron(np.arange(1, 17).reshape(1, 4, 4), np.ones((12, 15, 15), int))
BIG = np.uint64(2**60)


def wrong() -> np.ndarray:
    """TRUTH with a merger of three neurons, a split in x, and a split in z."""
    labels = TRUTH.copy()
    labels[(TRUTH == 2) | (TRUTH == 5)] = 1
    labels[..., 54:][TRUTH[..., 54:] == 8] = 20
    labels[7:][TRUTH[7:] == 14] = 21
    return labels


def mistakes(shift: int = 0, resolution: tuple[float, ...] = (10, 10, 10)) -> Figure:
    labels = wrong().astype(np.uint64) + np.uint64(shift)
    truth = TRUTH.astype(np.uint64) + np.uint64(shift)
    found = find_mistakes(labels, truth, top=3)
    return figures_em.mistakes_panels(
        mistake_pictures(found, RAW, truth, labels, resolution, width_nm=300)
    )


def rows(low: float) -> list[dict[str, float]]:
    points = [(v, (v - low) ** 2 + 0.2, v**2) for v in np.linspace(0, 1, 11)]
    return [
        {"threshold": v, "voi_split": s, "voi_merge": m, "voi_sum": s + m} for v, s, m in points
    ]


def curves(count: int) -> Figure:
    names = [f"method {i}" for i in range(count)]
    return figures_em.postprocessing_curves(
        {name: rows(i / 4) for i, name in enumerate(names)},
        {name: "threshold (1 − mean affinity)" for name in names},
    )


def gallery() -> Figure:
    stack, labels = RAW[:5] / 255, TRUTH[:5]
    pictures = {
        "unchanged": (stack, labels),
        "brightness": (stack[2] + 0.1, labels[2]),
        "contrast of the whole patch": (stack[2] * 1.3, labels[2]),
        "missing section": (np.where(np.arange(5)[:, None, None] == 2, 0, stack), labels[2]),
    }
    return figures_em.augmentation_gallery(pictures)


def methods() -> Figure:
    segmentations = {f"a method called {i}": wrong()[5] for i in range(4)}
    return figures_em.neuron_methods(RAW[5], TRUTH[5], segmentations, (10, 10))


FIGURES = {
    "neurons": lambda: figures_em.neuron_panels(
        SECTION / 5, RNG.random((3, 6, 8)), SECTION, SECTION, SECTION, (4, 4)
    ),
    "curves of one": lambda: curves(1),
    "curves of four": lambda: curves(4),
    "curves of five": lambda: curves(5),
    "methods": methods,
    "mistakes": mistakes,
    "mistakes with long names": lambda: mistakes(2**60, (40, 8, 8)),
    "augmentations": gallery,
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_large_enough_inside_the_page_and_apart(name: str) -> None:
    assert_readable(FIGURES[name]())


@pytest.mark.parametrize("name", ["neurons", "curves of one", "methods"])
def test_axes_are_labelled(name: str) -> None:
    shown = [axes for axes in FIGURES[name]().axes if axes.axison]
    assert shown[0].get_ylabel()
    # A panel with another below it shares that one's label.
    columns = {axes.get_subplotspec().colspan.start: axes for axes in shown}
    assert all(axes.get_xlabel() for axes in columns.values())


def test_the_choice_is_the_lowest_sum() -> None:
    axes = curves(3).axes[2]
    best = min(rows(0.5), key=lambda row: row["voi_sum"])
    assert f"chosen: {best['threshold']:g}" in axes.get_title()
    (marked,) = [line for line in axes.lines if line.get_marker() == "o"]
    assert marked.get_xydata().ravel().tolist() == pytest.approx(
        [best["threshold"], best["voi_sum"]]
    )
    heights = [axes.get_ylim() for axes in curves(3).axes]
    assert len(set(heights)) == 1 and heights[0][0] == 0
    assert heights[0][1] >= max(row["voi_sum"] for row in rows(0))


def test_pieces_are_coloured_and_the_mistake_is_marked_in_every_panel() -> None:
    figure = mistakes()
    colors = [to_rgb(PALETTE[i]) for i in (0, 1, 6)]
    for row in range(3):
        em, truth, segmentation = figure.axes[3 * row : 3 * row + 3]
        kind = next(t.get_text() for t in em.texts if "bits" in t.get_text()).split(",")[0]
        one, several = (truth, segmentation) if kind == "split" else (segmentation, truth)
        found = []
        for axes in (one, several):
            picture = axes.images[0].get_array().reshape(-1, 3)
            found.append([bool((picture == color).all(1).any()) for color in colors])
        assert found[0] == [True, False, False]
        assert found[1][:2] == [True, True]
        rings = [axes.lines[0].get_xydata().tolist() for axes in (em, truth, segmentation)]
        assert rings[0] == rings[1] == rings[2]
        assert em.collections, "the EM has no outline"
        assert any(t.get_text().endswith(" nm") for t in em.texts), "no scale bar"


def test_augmentations_share_their_grey_values_and_show_stacks_in_a_row() -> None:
    figure = gallery()
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown[:3]] == [
        "unchanged", "brightness", "contrast of the whole\npatch",
    ]  # fmt: skip
    assert [axes.get_title() for axes in shown[8:]] == ["missing section"] + [
        f"z + {i}" for i in range(1, 5)
    ]
    assert len({axes.images[0].get_clim() for axes in shown}) == 1
    np.testing.assert_array_equal(shown[0].images[0].get_array(), RAW[2] / 255)
    lines = shown[0].images[1].get_array()[..., 3] > 0
    assert lines[15, 3] and lines[3, 15] and not lines[3, 3]


def test_without_labels_there_are_no_boundaries() -> None:
    figure = figures_em.augmentation_gallery({"a": (RAW[0], None), "b": (RAW[1], None)})
    assert [len(axes.images) for axes in figure.axes] == [1, 1]
    rows_only = figures_em.augmentation_gallery({"a": (RAW[:3], None), "b": (RAW[3:6], None)})
    assert len([axes for axes in rows_only.axes if axes.images]) == 6


def test_a_segment_has_the_colour_of_its_neuron_and_an_error_another() -> None:
    figure = figures_em.neuron_methods(
        RAW[5], TRUTH[5], {"same": TRUTH[5] * 7, "wrong": wrong()[5]}
    )
    truth, same, bad = (axes.images[0].get_array() for axes in figure.axes[1:4])
    np.testing.assert_array_equal(truth, same)
    differs = (truth != bad).any(-1)
    expected = np.isin(TRUTH[5], (2, 5)) | (wrong()[5] == 20)
    np.testing.assert_array_equal(differs, expected)
    assert figure.axes[3].get_title() == f"wrong ({len(np.unique(wrong()[5]))})"
