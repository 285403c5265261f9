"""Metrics against brute force and by property."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from gtgm.metrics import dice, hausdorff95, score_case, summarise, surface_dice


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    z, y, x = np.mgrid[:14, :16, :12]
    a = (z - 6) ** 2 + (y - 7) ** 2 + (x - 5) ** 2 < 16
    b = (z - 7) ** 2 + (y - 8) ** 2 + (x - 6) ** 2 < 20
    return a, b


def test_dice_by_counting():
    a, b = blobs()
    both = sum(1 for i, j in zip(a.flat, b.flat, strict=True) if i and j)
    assert dice(a, b) == pytest.approx(2 * both / (a.sum() + b.sum()))
    assert dice(a, b) == dice(b, a)
    assert dice(a, a) == 1
    assert dice(a, ~a) == 0
    assert math.isnan(dice(a & ~a, a & ~a))


def edges(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (3, 1, 0.5)])
def test_hausdorff_by_brute_force(spacing):
    a, b = blobs()
    distances = cdist(edges(a, spacing), edges(b, spacing))
    expected = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    assert hausdorff95(a, b, spacing) == pytest.approx(expected, abs=1e-5)
    assert hausdorff95(a, a, spacing) == 0


def test_surface_dice_properties():
    a, b = blobs()
    assert surface_dice(a, a, (1, 1, 1)) == pytest.approx(1)
    values = [surface_dice(a, b, (1, 1, 1), t) for t in (0.5, 1, 2, 4)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(1)
    assert surface_dice(a, b, (2, 2, 2), 2) == pytest.approx(values[1])


def test_empty_masks():
    a, _ = blobs()
    empty = np.zeros_like(a)
    assert math.isnan(surface_dice(empty, empty, (1, 1, 1)))
    assert surface_dice(a, empty, (1, 1, 1)) == 0
    assert math.isnan(hausdorff95(a, empty, (1, 1, 1)))


def test_far_translation_changes_nothing():
    a, b = blobs()
    pad = ((5, 9), (2, 20), (30, 1))
    for function in (surface_dice, hausdorff95):
        assert function(np.pad(a, pad), np.pad(b, pad), (1, 2, 3)) == pytest.approx(
            function(a, b, (1, 2, 3))
        )


def test_rows_and_summary():
    a, b = blobs()
    prediction, truth = a.astype(np.uint8), b.astype(np.uint8)
    rows = score_case(prediction, truth, (1, 1, 1), ("organ", "absent"), "case")
    value = {(r["class"], r["metric"]): r["value"] for r in rows}
    assert value["organ", "dice"] == pytest.approx(dice(a, b))
    assert value["absent", "dice"] is None
    summary = summarise(rows)
    assert summary["dice"] == pytest.approx(dice(a, b))
    assert summary["dice_with_background"] == pytest.approx((dice(a, b) + dice(~a, ~b)) / 2)


def test_a_blank_prediction_scores_zero_without_background():
    _, b = blobs()
    rows = score_case(np.zeros(b.shape, np.uint8), b.astype(np.uint8), (1, 1, 1), ("organ",), "c")
    assert summarise(rows)["dice"] == 0
    assert summarise(rows)["dice_with_background"] > 0.4


def test_what_no_case_has_is_undefined():
    empty = np.zeros((4, 4, 4), np.uint8)
    summary = summarise(score_case(empty, empty, (1, 1, 1), ("organ",), "c"))
    assert [summary[name] for name in ("dice", "nsd", "hd95")] == [None] * 3
    assert summary["dice_with_background"] == 1


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        score_case(np.zeros((2, 2, 2)), np.zeros((3, 2, 2)), (1, 1, 1), ("a",), "c")


def test_missed_structures_are_counted():
    a, _ = blobs()
    truth, nothing = a.astype(np.uint8), np.zeros(a.shape, np.uint8)
    missed = score_case(nothing, truth, (1, 1, 1), ("organ", "absent"), "c")
    found = score_case(truth, truth, (1, 1, 1), ("organ", "absent"), "d")
    assert summarise(missed)["hd95_missed"] == 1
    assert summarise(found)["hd95_missed"] == 0
    assert summarise(missed + found)["hd95"] == 0
