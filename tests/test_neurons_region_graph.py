"""The region graph against voxel-by-voxel counting, and its agglomeration against waterz."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.agglomeration import agglomerate
from gtgm.neurons.fragments import watershed_fragments
from gtgm.neurons.metrics import voi
from gtgm.neurons.region_graph import (
    RegionGraph,
    agglomerate_graph,
    empty_graph,
    join,
    region_graph,
)


@pytest.fixture
def volume():
    """Smooth random affinities and few labels, some of them background."""
    rng = np.random.default_rng(0)
    affs = ndimage.gaussian_filter(rng.random((3, 6, 24, 30)), (0, 1, 2, 2)).astype(np.float32)
    affs = (affs - affs.min()) / np.ptp(affs)
    return affs, rng.integers(0, 6, (6, 24, 30)).astype(np.uint64)


def counted(affs: np.ndarray, labels: np.ndarray) -> dict[tuple[int, int], list[float]]:
    """All bonds between different labels, voxel by voxel."""
    bonds: dict[tuple[int, int], list[float]] = {}
    for voxel in np.ndindex(labels.shape):
        for axis in range(3):
            previous = list(voxel)
            previous[axis] -= 1
            a, b = int(labels[voxel]), int(labels[tuple(previous)])
            if previous[axis] >= 0 and a != b and a and b:
                bonds.setdefault((min(a, b), max(a, b)), []).append(float(affs[(axis, *voxel)]))
    return bonds


def check(graph: RegionGraph, expected: dict[tuple[int, int], list[float]]) -> None:
    assert [tuple(pair) for pair in graph.pairs.tolist()] == sorted(expected)
    for pair, total, count in zip(graph.pairs.tolist(), graph.sums, graph.counts, strict=True):
        assert count == len(expected[tuple(pair)])
        assert total == pytest.approx(sum(expected[tuple(pair)]), rel=1e-6)


def test_every_bond_is_counted_once(volume):
    check(region_graph(*volume), counted(*volume))


def test_blocks_add_up_to_the_whole(volume):
    affs, labels = volume
    graph = empty_graph()
    for z in range(0, 6, 4):
        for y in range(0, 24, 7):
            for x in range(0, 30, 11):
                shared = int(z > 0), int(y > 0), int(x > 0)
                part = tuple(
                    slice(at - s, at + n)
                    for at, s, n in zip((z, y, x), shared, (4, 7, 11), strict=True)
                )
                graph += region_graph(affs[(slice(None), *part)], labels[part], shared)
    check(graph, counted(affs, labels))


def test_relabelling_moves_edges_and_drops_inner_ones(volume):
    affs, labels = volume
    table = np.array([0, 1, 2, 1, 3, 2], dtype=np.uint64)
    check(region_graph(affs, labels).relabelled(table), counted(affs, table[labels]))


@pytest.mark.parametrize("two_d", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_agglomeration_is_that_of_waterz(seed, two_d):
    rng = np.random.default_rng(seed)
    affs = ndimage.gaussian_filter(rng.random((3, 10, 50, 50)), (0, 1, 2, 2)).astype(np.float32)
    affs = (affs - affs.min()) / np.ptp(affs)
    fragments = watershed_fragments(affs, two_d)
    graph, highest = region_graph(affs, fragments), int(fragments.max())
    numbers = set()
    for threshold, expected in agglomerate(affs, fragments, (0.0, 0.3, 0.4, 0.5, 0.6, 1.0)):
        table = agglomerate_graph(graph, highest, threshold)
        assert np.unique(table).tolist() == list(range(int(table.max()) + 1)) and table[0] == 0
        assert voi(table[fragments], expected).sum == 0
        numbers.add(int(table.max()))
    assert len(numbers) > 3


def test_fragments_that_touch_nothing_stay_alone():
    assert agglomerate_graph(empty_graph(), 3, 0.5).tolist() == [0, 1, 2, 3]
    assert agglomerate_graph(empty_graph(), 0, 0.5).tolist() == [0]


def test_joined_fragments_get_one_label():
    pairs = np.array([[1, 4], [4, 5], [2, 3]], dtype=np.uint64)
    table = join(pairs, 6).tolist()
    assert table[0] == 0 and sorted(set(table)) == [0, 1, 2, 3]
    assert table[1] == table[4] == table[5] and table[2] == table[3]
    assert len({table[1], table[2], table[6]}) == 3
    assert join(np.zeros((0, 2), np.uint64), 2).tolist() == [0, 1, 2]


def test_bad_input_is_refused(volume):
    affs, labels = volume
    with pytest.raises(DataError, match="fit together"):
        region_graph(affs[:2], labels)
    affs[0, 3] = np.nan
    with pytest.raises(DataError, match="NaN"):
        region_graph(affs, labels)
    with pytest.raises(SettingsError, match="threshold"):
        agglomerate_graph(empty_graph(), 1, 1.5)
