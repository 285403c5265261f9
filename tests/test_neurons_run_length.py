"""Expected run length: a loop over edges, cases by hand, SWC files, derived skeletons."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import astuple
from math import dist

import h5py
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gtgm.errors import DataError, GTGMError
from gtgm.neurons.run_length import Skeleton, expected_run_length, read_swc, skeletonise

ROW = np.array([(0, y, x) for y in range(2) for x in range(1, 9)])


@pytest.fixture
def rows():
    """Two neurons along x, 8 voxels of 10 nm each, with a node in every voxel of theirs."""
    truth = np.zeros((1, 2, 10), np.uint64)
    truth[0, 0, 1:9], truth[0, 1, 1:9] = 5, 2**60
    skeletons = {
        name: Skeleton((ROW[y * 8 : y * 8 + 8] + 0.5) * (40, 10, 10), chain(8))
        for y, name in enumerate((5, 2**60))
    }
    return truth, skeletons


def chain(nodes: int) -> np.ndarray:
    return np.stack([np.arange(nodes - 1), np.arange(1, nodes)], axis=1)


def by_loop(segmentation, skeletons, resolution, tolerance):
    """The definition, edge by edge."""

    def segment(node):
        return int(segmentation[tuple(int(n // r) for n, r in zip(node, resolution, strict=True))])

    covers = defaultdict(lambda: defaultdict(int))
    for name, skeleton in skeletons.items():
        for node in skeleton.nodes:
            covers[segment(node)][name] += 1
    merged = {s for s, held in covers.items() if sum(n > tolerance for n in held.values()) > 1}
    runs, lengths, kinds = defaultdict(float), defaultdict(float), defaultdict(float)
    for name, skeleton in skeletons.items():
        for a, b in skeleton.edges:
            length = dist(skeleton.nodes[a], skeleton.nodes[b])
            first, second = segment(skeleton.nodes[a]), segment(skeleton.nodes[b])
            lengths[name] += length
            if first != second or first == 0:
                kinds["split"] += length
            elif first in merged:
                kinds["merged"] += length
            else:
                kinds["correct"] += length
                runs[name, first] += length
    total = sum(lengths.values())
    return (
        sum(r * r for r in runs.values()) / total,
        sum(v * v for v in lengths.values()) / total,
        *(kinds[k] / total for k in ("correct", "split", "merged")),
    )


@pytest.mark.parametrize("tolerance", [0, 1, 3])
def test_it_is_what_the_definition_says(tolerance):
    rng = np.random.default_rng(tolerance)
    resolution = (40, 8, 8)
    for _ in range(20):
        segmentation = np.kron(rng.integers(0, 30, (4, 4, 4)), np.ones((1, 3, 3), int))
        skeletons = {}
        for name in range(6):
            walk = np.cumsum(rng.integers(-1, 2, (12, 3)), axis=0) + rng.integers(0, (4, 12, 12))
            nodes = (np.clip(walk, 0, (3, 11, 11)) + rng.random((12, 3))) * resolution
            edges = [(i, int(rng.integers(i))) for i in range(1, 12)]
            skeletons[name] = Skeleton(nodes, np.array(edges))
        result = expected_run_length(segmentation, skeletons, resolution, tolerance=tolerance)
        assert astuple(result) == pytest.approx(
            by_loop(segmentation, skeletons, resolution, tolerance)
        )
        assert result.correct + result.split + result.merged == pytest.approx(1)


def test_a_perfect_segmentation_has_the_whole_length(rows):
    truth, skeletons = rows
    result = expected_run_length(truth, skeletons, (40, 10, 10))
    assert astuple(result) == pytest.approx((70, 70, 1, 0, 0))
    names = {5: 9, 2**60: 3}
    renamed = np.vectorize(lambda v: names.get(int(v), 0))(truth)
    assert expected_run_length(renamed, skeletons, (40, 10, 10)) == result


def test_a_split_in_the_middle_costs_more_than_half(rows):
    truth, skeletons = rows
    halves = truth.copy()
    halves[0, 0, 5:] *= 7
    result = expected_run_length(halves, skeletons, (40, 10, 10))
    assert result.erl_nm == pytest.approx((30**2 + 30**2 + 70**2) / 140)
    assert (result.split, result.merged) == pytest.approx((10 / 140, 0))


def test_a_merger_has_no_run_length_and_spares_the_rest(rows):
    truth, skeletons = rows
    merged = truth.copy()
    merged[0, 1, :5] = np.where(truth[0, 1, :5] > 0, 5, 0)
    result = expected_run_length(merged, skeletons, (40, 10, 10))
    assert result.erl_nm == pytest.approx(30**2 / 140)  # four nodes of the second stay alone
    assert (result.correct, result.merged) == pytest.approx((30 / 140, 100 / 140))


def test_the_tolerance_forgives_a_node_that_is_misplaced(rows):
    truth, skeletons = rows
    touched = truth.copy()
    touched[0, 1, 1] = 5
    assert expected_run_length(touched, skeletons, (40, 10, 10)).erl_nm == pytest.approx(
        60**2 / 140
    )
    forgiven = expected_run_length(touched, skeletons, (40, 10, 10), tolerance=1)
    assert forgiven.erl_nm == pytest.approx((60**2 + 70**2) / 140) and forgiven.merged == 0


def test_background_is_a_split_and_no_merger(rows):
    truth, skeletons = rows
    result = expected_run_length(np.zeros_like(truth), skeletons, (40, 10, 10))
    assert astuple(result) == pytest.approx((0, 70, 0, 1, 0))


def test_pieces_of_one_skeleton_in_one_segment_are_one_run(rows):
    truth, skeletons = rows
    gap = truth.copy()
    gap[0, 0, 4] = 0
    result = expected_run_length(gap, skeletons, (40, 10, 10))
    assert result.erl_nm == pytest.approx((50**2 + 70**2) / 140)


def test_the_offset_moves_the_volume(rows):
    truth, skeletons = rows
    moved = {k: Skeleton(s.nodes + (400, 30, 30), s.edges) for k, s in skeletons.items()}
    result = expected_run_length(truth, moved, (40, 10, 10), offset_nm=(400, 30, 30))
    assert result == expected_run_length(truth, skeletons, (40, 10, 10))
    with pytest.raises(DataError, match="skeleton 5.*outside"):
        expected_run_length(truth, moved, (40, 10, 10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentation": np.ones((2, 10), int)}, "shape"),
        ({"segmentation": np.ones((1, 2, 10))}, "float64"),
        ({"resolution": (40, 0, 10)}, "resolution"),
        ({"tolerance": -1}, "tolerance"),
        ({"skeletons": {}}, "no length"),
        ({"skeletons": {1: Skeleton(np.ones((1, 3)), np.zeros((0, 2), int))}}, "no length"),
        ({"skeletons": {1: Skeleton(np.ones((2, 2)), chain(2))}}, "skeleton 1"),
        ({"skeletons": {1: Skeleton(np.ones((2, 3)), chain(3))}}, "skeleton 1"),
        ({"skeletons": {1: Skeleton(np.full((2, 3), np.nan), chain(2))}}, "skeleton 1"),
    ],
)
def test_what_has_no_run_length_is_refused(rows, changes, message):
    given = {"segmentation": rows[0], "skeletons": rows[1], "resolution": (40, 10, 10)} | changes
    with pytest.raises(GTGMError, match=message):
        expected_run_length(**given)


def test_an_swc_file_is_read_in_nm_and_zyx(tmp_path):
    path = tmp_path / "a.swc"
    path.write_text("# made by hand\n\n 7 0 1 2 3 0.5 -1\n3 2 4.5 5 6 1 7\n9 2 0 0 1e1 1 7\n")
    skeleton = read_swc(path, unit_nm=1000)
    np.testing.assert_array_equal(
        skeleton.nodes, [[3000, 2000, 1000], [6000, 5000, 4500], [10000, 0, 0]]
    )
    np.testing.assert_array_equal(skeleton.edges, [[1, 0], [2, 0]])
    path.write_text("1 0 1 2 3 0 -1\n")
    assert read_swc(path).edges.shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "no node"),
        (b"1 0 1 2 3 0\n", "line 1.*not a node"),
        (b"1 0 1 2 3 0 -1\n2 0 a 2 3 0 1\n", "line 2.*not a node"),
        (b"1 0 nan 2 3 0 -1\n", "line 1.*not a node"),
        (b"1 0 1 2 3 0 -1\n1 0 1 2 3 0 -1\n", "line 2.*second time"),
        (b"1 0 1 2 3 0 4\n", "node 1 has parent 4"),
        (b"1 0 1 2 3 0 1\n", "node 1 has parent 1"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_broken_swc_file_is_refused(tmp_path, text, message):
    path = tmp_path / "a.swc"
    path.write_bytes(text)
    with pytest.raises(DataError, match=message) as caught:
        read_swc(path)
    assert "a.swc" in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        read_swc(tmp_path / "absent.swc")


def test_a_tube_thins_to_its_axis():
    labels = np.zeros((30, 9, 9), np.uint64)
    labels[:, 3:6, 3:6] = 2**40
    labels[0, 0, 0] = 6  # one voxel has no length
    skeletons = skeletonise(labels, (10, 10, 10))
    assert list(skeletons) == [2**40]
    nodes = skeletons[2**40].nodes
    np.testing.assert_array_equal(nodes[:, 1:], np.full((len(nodes), 2), 45.0))
    result = expected_run_length(labels, skeletons, (10, 10, 10))
    assert 250 <= result.erl_nm == result.max_erl_nm <= 290


def test_derived_skeletons_of_real_neurons_are_forests_inside_them(shared_data):
    with h5py.File(shared_data / "em" / "fib25_train.hdf") as file:
        truth = file["volumes/labels/neuron_ids"][140:170, :120, :120]
    skeletons = skeletonise(truth, (10, 10, 10))
    assert len(skeletons) > 20
    for name, skeleton in skeletons.items():
        voxels = np.floor(skeleton.nodes / 10).astype(int)
        assert (truth[tuple(voxels.T)] == name).all()
        n, edges = len(skeleton.nodes), skeleton.edges
        parts, _ = connected_components(coo_array((np.ones(len(edges)), edges.T), (n, n)))
        assert len(edges) == n - parts, "a tree has no loops"
        steps = np.diff(voxels[edges], axis=1)
        assert np.abs(steps).max() == 1
    result = expected_run_length(truth, skeletons, (10, 10, 10))
    assert result.erl_nm == pytest.approx(result.max_erl_nm) and result.split == 0


def test_labels_that_cannot_be_thinned_are_refused():
    with pytest.raises(DataError, match="float64"):
        skeletonise(np.ones((2, 2, 2)), (1, 1, 1))
    with pytest.raises(GTGMError, match="resolution"):
        skeletonise(np.ones((2, 2, 2), int), (1, 1, -1))


def test_spurs_shorter_than_the_neurite_is_wide_are_cut_and_branches_are_kept():
    labels = np.zeros((60, 21, 61), int)
    labels[:, 6:15, 6:15] = 1  # 9 voxels wide
    labels[20:23, 9:12, 15:18] = 1  # a bump of 3 voxels
    labels[40:43, 9:12, 15:] = 1  # a branch of 46 voxels
    (skeleton,) = skeletonise(labels, (10, 10, 10)).values()
    degree = np.bincount(skeleton.edges.ravel())
    assert (degree == 1).sum() == 3 and (degree == 3).sum() == 1
    assert skeleton.nodes[:, 2].max() > 550
    at_bump = np.abs(skeleton.nodes[:, 0] - 215) < 30
    assert skeleton.nodes[at_bump, 2].max() < 150
