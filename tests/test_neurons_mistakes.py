"""Mistakes: their sum is VOI, their order, names and places."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from gtgm.errors import DataError, GTGMError
from gtgm.neurons.metrics import voi
from gtgm.neurons.mistakes import closest_view, find_mistakes


@pytest.fixture
def volumes():
    """Random blocks as truth, and other blocks, with errors of both kinds, as segmentation."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 9, (2, 3, 3)), np.ones((3, 4, 4), int)).astype(np.uint64)
    segmentation = np.kron(rng.integers(0, 12, (3, 2, 4)), np.ones((2, 6, 3), int))
    return np.where(rng.random(truth.shape) < 0.5, truth, segmentation.astype(np.uint64)), truth


@pytest.mark.parametrize("ignore", [(0,), (), (0, 3)])
def test_all_contributions_sum_to_voi(volumes, ignore):
    mistakes = find_mistakes(*volumes, ignore, top=None)
    total = voi(*volumes, ignore)
    for kind, expected in (("split", total.split), ("merge", total.merge)):
        bits = [m.voi_bits for m in mistakes if m.kind == kind]
        assert bits and sum(bits) == pytest.approx(expected)
    assert [m.voi_bits for m in mistakes] == sorted((m.voi_bits for m in mistakes), reverse=True)


def test_the_top_is_the_beginning_of_all(volumes):
    assert find_mistakes(*volumes, top=3) == find_mistakes(*volumes, top=None)[:3]
    assert len(find_mistakes(*volumes)) == 10


def test_pieces_are_counted_as_a_loop_counts_them(volumes):
    segmentation, truth = volumes
    for mistake in find_mistakes(segmentation, truth, top=None):
        if mistake.kind == "split":
            (neuron,) = mistake.truth
            pieces = segmentation[truth == neuron].tolist()
            names = mistake.segments
        else:
            (segment,) = mistake.segments
            pieces = truth[(segmentation == segment) & (truth != 0)].tolist()
            names = mistake.truth
        sizes = [pieces.count(name) for name in names]
        assert set(pieces) == set(names) and sizes == sorted(sizes, reverse=True)
        assert mistake.voxels == len(pieces) - max(sizes) and len(names) > 1


def test_swapping_the_volumes_swaps_the_kinds(volumes):
    def short(mistakes, swap):
        kinds = {"split": "merge", "merge": "split"} if swap else {"split": "split"}
        return {
            (kinds.get(m.kind, m.kind), m.segments if swap else m.truth, round(m.voi_bits, 12))
            for m in mistakes
        }

    one = find_mistakes(*volumes, ignore=(), top=None)
    other = find_mistakes(*volumes[::-1], ignore=(), top=None)
    assert short(one, False) == short(other, True)


def test_a_perfect_segmentation_has_no_mistake(volumes):
    truth = volumes[1]
    assert find_mistakes(truth * np.uint64(2**50) + np.uint64(1), truth) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_place_of_a_split_and_of_a_merge_is_their_contact(axis):
    truth = np.full((9, 9, 9), 4)
    halves = truth.copy()
    np.moveaxis(halves, axis, 0)[6:] = 8
    (split,) = find_mistakes(halves, truth)
    (merge,) = find_mistakes(truth, halves)
    assert (split.kind, split.truth, split.segments) == ("split", (4,), (4, 8))
    assert (merge.kind, merge.truth, merge.segments) == ("merge", (4, 8), (4,))
    expected = [4, 4, 4]
    expected[axis] = 5
    assert list(split.centre) == list(merge.centre) == expected
    assert split.voxels == merge.voxels == 3 * 81
    assert split.voi_bits == pytest.approx(-(2 / 3 * np.log2(2 / 3) + 1 / 3 * np.log2(1 / 3)))


def test_pieces_that_do_not_touch_meet_where_they_are_nearest():
    rng = np.random.default_rng(1)
    truth = np.ones((6, 8, 30), int)
    segmentation = np.arange(truth.size).reshape(truth.shape) + 10
    segmentation[..., :12][rng.random((6, 8, 12)) < 0.3] = 1
    segmentation[..., 18:][rng.random((6, 8, 12)) < 0.2] = 2
    (split,) = find_mistakes(segmentation, truth, top=1)
    assert split.segments[:2] == (1, 2)
    a, b = (np.argwhere(segmentation == v) for v in (1, 2))
    least = min(((p - q) ** 2).sum() for p, q in product(a, b))
    assert segmentation[split.centre] == 2
    assert ((a - split.centre) ** 2).sum(1).min() == least


def test_a_merger_across_ignored_voxels_is_where_the_neurons_come_closest():
    truth = np.ones((3, 5, 11), int)
    truth[..., 5] = 0
    truth[..., 6:] = 2
    (merge,) = find_mistakes(np.ones_like(truth), truth)
    assert merge.centre[2] == 6 and merge.truth == (1, 2) and merge.voxels == 75


def test_bad_input_is_refused(volumes):
    segmentation, truth = volumes
    with pytest.raises(GTGMError, match="top"):
        find_mistakes(segmentation, truth, top=0)
    with pytest.raises(DataError, match="shape"):
        find_mistakes(segmentation[1:], truth)
    with pytest.raises(DataError, match=r"\(D, H, W\)"):
        find_mistakes(segmentation[0], truth[0])
    with pytest.raises(DataError, match="no voxel is left"):
        find_mistakes(segmentation, np.zeros_like(truth))


def test_the_view_lies_around_the_mistake_and_shows_both_pieces():
    truth = np.ones((12, 40, 50), int)
    for axis, plane in ((0, "xz, y"), (1, "xy, z"), (2, "xy, z")):
        halves = truth.copy()
        np.moveaxis(halves, axis, 0)[truth.shape[axis] * 2 // 3 :] = 2
        for pair in ((halves, truth), (truth, halves)):
            (mistake,) = find_mistakes(*pair)
            view = closest_view(mistake, *pair, (40, 10, 10), width_nm=200)
            assert view.plane.startswith(plane)
            section = halves[view.cut]
            np.testing.assert_array_equal(view.pieces, section)
            assert set(np.unique(section)) == {1, 2}
            assert view.size == (200, 200)
            x, y = (
                int(p / s) for p, s in zip(view.place, (10, 40 if axis == 0 else 10), strict=True)
            )
            rows = section.shape[0]
            near = section[max(0, y - 1) : min(rows, y + 2), max(0, x - 1) : x + 2]
            assert set(np.unique(near)) == {1, 2}


def test_a_view_at_the_edge_is_moved_inwards_and_shrinks_with_the_volume():
    truth = np.ones((3, 30, 30), int)
    truth[:, :, 1:] = 2
    (mistake,) = find_mistakes(np.ones_like(truth), truth)
    view = closest_view(mistake, np.ones_like(truth), truth, (10, 10, 10), width_nm=100)
    assert view.pieces.shape == (10, 10) and view.cut[2] == slice(0, 10)
    whole = closest_view(mistake, np.ones_like(truth), truth, (10, 10, 10), width_nm=1e6)
    assert whole.size == (300, 300)
    np.testing.assert_array_equal(whole.pieces, 3 - truth[0])  # neuron 2 is the larger piece
