"""Scores and the border mask against scikit-image, loops over voxels, and properties."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import hypot, log2

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error as skimage_rand
from skimage.metrics import variation_of_information as skimage_voi

from gtgm.errors import DataError, GTGMError
from gtgm.neurons.metrics import (
    adapted_rand_error,
    border_mask,
    contingency,
    mutual_matches,
    neuron_scores,
    voi,
    without_borders,
)


@pytest.fixture
def volumes():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, (4, 7, 8)).astype(np.uint64)
    noise = rng.random(truth.shape) < 0.3
    segmentation = np.where(noise, rng.integers(0, 9, truth.shape), truth // 2).astype(np.uint64)
    return segmentation, truth


@pytest.mark.parametrize("ignore", [(0,), (), (0, 3)])
def test_scores_are_those_of_scikit_image(volumes, ignore):
    segmentation, truth = volumes
    split, merge = skimage_voi(truth, segmentation, ignore_labels=ignore)
    assert voi(segmentation, truth, ignore) == pytest.approx((split, merge), abs=1e-12)
    error = skimage_rand(truth, segmentation, ignore_labels=ignore)[0]
    assert adapted_rand_error(segmentation, truth, ignore) == pytest.approx(error, abs=1e-12)


def test_scores_are_those_of_the_definition(volumes):
    segmentation, truth = volumes
    pairs = [(s, t) for s, t in zip(segmentation.flat, truth.flat, strict=True) if t != 0]
    joint, n = Counter(pairs), len(pairs)
    of_s, of_t = Counter(s for s, _ in pairs), Counter(t for _, t in pairs)
    split = -sum(c / n * log2(c / of_t[t]) for (_, t), c in joint.items())
    merge = -sum(c / n * log2(c / of_s[s]) for (s, _), c in joint.items())
    both = in_s = in_t = 0
    for (s1, t1), (s2, t2) in permutations(pairs, 2):
        both += s1 == s2 and t1 == t2
        in_s += s1 == s2
        in_t += t1 == t2
    scores = neuron_scores(segmentation, truth)
    expected = {"voi_split": split, "voi_merge": merge, "voi_sum": split + merge}
    precision, recall = both / in_s, both / in_t
    expected["arand"] = 1 - 2 * precision * recall / (precision + recall)
    assert scores == pytest.approx(expected)


def test_split_and_merge_are_what_they_are_called():
    truth = np.ones((1, 4, 4), dtype=int)
    halves = truth.copy()
    halves[:, 2:] = 2
    assert voi(halves, truth) == (1.0, 0.0)
    assert voi(truth, halves) == (0.0, 1.0)
    assert voi(truth, halves).sum == 1.0


def test_names_of_labels_do_not_matter_and_swapping_swaps(volumes):
    segmentation, truth = volumes
    names = np.random.default_rng(1).permutation(2**40 + np.arange(20, dtype=np.uint64))
    renamed = neuron_scores(names[segmentation], names[truth], ignore=(int(names[0]),))
    assert renamed == pytest.approx(neuron_scores(segmentation, truth))
    assert voi(truth, segmentation, ()) == pytest.approx(voi(segmentation, truth, ())[::-1])
    swapped = adapted_rand_error(truth, segmentation, ())
    assert swapped == pytest.approx(adapted_rand_error(segmentation, truth, ()))


def test_a_perfect_segmentation_and_one_of_single_voxels():
    truth = np.arange(1, 25).reshape(2, 3, 4)
    assert neuron_scores(truth, truth)["voi_sum"] == 0
    assert neuron_scores(truth, truth)["arand"] == 0
    one = np.ones_like(truth)
    assert adapted_rand_error(truth, one) == 1
    assert voi(truth, one) == pytest.approx((log2(24), 0))


def test_pairs_of_all_sections_are_counted_together():
    labels = np.array([[[1, 2]], [[1, 2]], [[2, 0]]])
    table = contingency(labels, labels, ignore=(0,))
    assert table.counts.tolist() == [2, 3] and table.truth.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("segmentation", "truth", "message"),
    [
        (np.ones((2, 2, 2), int), np.ones((2, 2, 3), int), "shape"),
        (np.ones((2, 2, 2), np.float32), np.ones((2, 2, 2), int), "float32"),
        (np.ones((2, 2, 2), int), np.zeros((2, 2, 2), int), "no voxel is left"),
        (np.ones((0, 2, 2), int), np.ones((0, 2, 2), int), "no voxel is left"),
    ],
)
def test_what_cannot_be_scored_is_refused(segmentation, truth, message):
    with pytest.raises(DataError, match=message):
        neuron_scores(segmentation, truth)


@pytest.mark.parametrize(
    ("resolution", "distance"), [((40, 4, 4), 9.0), ((40, 4, 6), 12.0), ((1, 1, 1), 0)]
)
def test_the_border_mask_is_that_of_its_definition(resolution, distance):
    rng = np.random.default_rng(3)
    truth = np.kron(rng.integers(0, 3, (3, 3, 4)), np.ones((1, 5, 6), int))
    truth[2] = 7  # a section without a boundary
    expected = np.zeros(truth.shape, bool)
    for z, section in enumerate(truth):
        pixels = [(y, x) for y in range(section.shape[0]) for x in range(section.shape[1])]
        border = [
            (y, x)
            for y, x in pixels
            if any(
                (y + a, x + b) in pixels and section[y + a, x + b] != section[y, x]
                for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))
            )
        ]
        for y, x in pixels:
            expected[z, y, x] = any(
                hypot((y - a) * resolution[1], (x - b) * resolution[2]) <= distance
                for a, b in border
            )
    assert expected[:2].any() and not expected[:2].all()
    np.testing.assert_array_equal(border_mask(truth, resolution, distance), expected)
    np.testing.assert_array_equal(
        without_borders(truth, resolution, distance), np.where(expected, 0, truth)
    )


def test_an_error_at_the_border_alone_does_not_count_without_borders():
    truth = np.ones((2, 12, 20), dtype=np.uint64)
    truth[..., 10:] = 2
    moved = np.roll(truth, 1, axis=2)
    moved[..., 0] = 1
    assert voi(moved, truth).sum > 0
    kept = without_borders(truth, (40, 10, 10))
    assert voi(moved, kept).sum == 0 and kept.dtype == truth.dtype
    assert truth.all(), "the truth was changed"


@pytest.mark.parametrize(
    ("shape", "resolution", "distance", "message"),
    [
        ((4, 4), (1, 1, 1), 1, "shape"),
        ((2, 4, 4), (1, 0, 1), 1, "resolution"),
        ((2, 4, 4), (1, 1), 1, "resolution"),
        ((2, 4, 4), (1, 1, 1), -1, "distance_nm"),
        ((2, 4, 4), (1, 1, 1), float("nan"), "distance_nm"),
    ],
)
def test_a_border_that_has_no_meaning_is_refused(shape, resolution, distance, message):
    with pytest.raises(GTGMError, match=message):
        border_mask(np.ones(shape, int), resolution, distance)


def test_a_match_is_the_largest_part_both_ways(volumes):
    segmentation, truth = (v.astype(int) for v in volumes)
    pairs = Counter(zip(segmentation.ravel(), truth.ravel(), strict=True))
    found = mutual_matches(segmentation, truth)
    for segment, neuron in found.items():
        here = pairs[segment, neuron]
        assert segment and neuron
        assert here == max(n for (s, _), n in pairs.items() if s == segment)
        assert here == max(n for (_, t), n in pairs.items() if t == neuron)
    assert {t: s for s, t in found.items()} == mutual_matches(truth, segmentation)
    assert mutual_matches(truth, truth) == {n: n for n in range(1, 6)}
