"""Multicut: surfaces against loops over voxels, solutions against all partitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.affinities import NEAREST
from gtgm.neurons.multicut import multicut, multicuts, problem

LONG = (*NEAREST, (-2, 0, 0), (0, -3, 0), (0, 2, -3))


def volume(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Affinities at random, and fragments 0 … 8 that are blocks, some of them in several parts."""
    rng = np.random.default_rng(seed)
    coarse = rng.permutation(np.arange(18) % 9).reshape(2, 3, 3)
    fragments = np.kron(coarse, np.ones((2, 2, 2), int)).astype(np.uint64)
    return rng.random((len(LONG), *fragments.shape)).astype(np.float32), fragments


def surfaces(affs: np.ndarray, fragments: np.ndarray, offsets) -> dict[tuple[int, int], list]:
    """Affinities between each pair of fragments, by a loop over voxels."""
    found = {}
    for channel, offset in enumerate(offsets):
        for voxel in np.ndindex(fragments.shape):
            other = tuple(int(v + o) for v, o in zip(voxel, offset, strict=True))
            if not all(0 <= v < n for v, n in zip(other, fragments.shape, strict=True)):
                continue
            pair = tuple(sorted((int(fragments[voxel]), int(fragments[other]))))
            if pair[0] != pair[1] and pair[0] > 0:
                found.setdefault(pair, []).append(affs[channel][voxel])
    return found


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two labellings are one partition."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).shape[1]
    return pairs == np.unique(a).size == np.unique(b).size


@pytest.mark.parametrize("seed", range(4))
def test_surfaces_are_those_of_a_loop_over_voxels(seed):
    affs, fragments = volume(seed)
    stated = problem(affs, fragments, LONG)
    near = surfaces(affs[:3], fragments, NEAREST)
    far = surfaces(affs[3:], fragments, LONG[3:])
    assert [tuple(p) for p in stated.pairs.tolist()] == sorted(near)
    for pair, mean, size in zip(stated.pairs.tolist(), stated.affinity, stated.size, strict=True):
        assert mean == pytest.approx(np.mean(near[tuple(pair)]), abs=1e-6)
        assert size == len(near[tuple(pair)])
    assert {tuple(p) for p in stated.lifted.tolist()} == set(far) - set(near)
    for pair, mean, size in zip(
        stated.lifted.tolist(), stated.lifted_affinity, stated.lifted_size, strict=True
    ):
        assert mean == pytest.approx(np.mean(far[tuple(pair)]), abs=1e-6)
        assert size == len(far[tuple(pair)])


def log_odds(affinities: list, beta: float) -> float:
    p = 0.001 + 0.998 * (1 - np.mean(affinities))
    return np.log((1 - p) / p) + np.log((1 - beta) / beta)


def energy(labels: dict[int, int], costs: dict[tuple[int, int], float]) -> float:
    return sum(c for (u, v), c in costs.items() if labels[u] != labels[v])


def best_energy(nodes: list[int], near: dict, far: dict) -> float:
    """Lowest cost of all partitions whose parts hang together along ``near``."""
    energies = []
    for cut in itertools.product((False, True), repeat=len(near)):
        kept = [pair for pair, c in zip(near, cut, strict=True) if not c]
        rows, columns = zip(*kept, strict=True) if kept else ((), ())
        graph = coo_array((np.ones(len(kept)), (rows, columns)), shape=(max(nodes) + 1,) * 2)
        labels = dict(enumerate(connected_components(graph, directed=False)[1]))
        energies.append(energy(labels, near | far))
    return min(energies)


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("weighting", ["none", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_hardly_any_other_partition_costs_less(seed, weighting, lifted):
    # A row of blocks, two high, has few enough pairs to try all partitions.
    rng = np.random.default_rng(seed)
    coarse = rng.permutation(np.arange(1, 7)).reshape(1, 2, 3)
    fragments = np.kron(coarse, np.ones((3, 3, 3), int))
    fragments[0, 0] = np.repeat(coarse[0, 0], [5, 1, 3])
    coarse = rng.random((len(LONG), 1, 2, 3))  # in blocks, so that means differ
    affs = np.kron(coarse, np.ones((1, 3, 3, 3))).astype(np.float32)

    def costs(found: dict) -> dict:
        largest = max(len(values) for values in found.values())
        weigh = {p: len(v) / largest if weighting == "all" else 1 for p, v in found.items()}
        return {pair: log_odds(v, 0.5) * weigh[pair] for pair, v in found.items()}

    near = costs(surfaces(affs[:3], fragments, NEAREST))
    far = surfaces(affs[3:], fragments, LONG[3:])
    far = costs({pair: v for pair, v in far.items() if pair not in near}) if lifted else {}
    result = multicut(affs, fragments, 0.5, LONG, lifted, weighting)
    labels = {int(f): int(result[fragments == f][0]) for f in np.unique(fragments)}
    assert len(set(labels.values())) > 1
    # Moves of lifted problems can end in a local optimum.
    best = best_energy(list(labels), near, far)
    assert best < 0
    assert best - 1e-6 <= energy(labels, near | far) <= (0.9 if lifted else 1) * best + 1e-6


def test_a_pair_is_joined_if_its_affinity_exceeds_beta():
    fragments = np.repeat([[[7, 3]]], 2, axis=2)
    affs = np.full((3, 1, 1, 4), 0.7)
    found = {beta: np.unique(s).size for beta, s in multicuts(affs, fragments, (0.71, 0.5, 0.69))}
    assert found == {0.5: 1, 0.69: 1, 0.71: 2} and list(found) == [0.5, 0.69, 0.71]


def test_sections_and_surfaces_between_them_are_weighed_apart():
    fragments = np.zeros((2, 4, 8), int)
    fragments[0], fragments[1, :, :4], fragments[1, :, 4:] = 1, 2, 3
    affs = np.zeros((3, 2, 4, 8))
    affs[0, 1, :, :4], affs[0, 1, :, 4:], affs[2, 1, :, 4] = 0.9, 0.9, 0.05
    # All alike, the small surface between 2 and 3 cannot hold them apart: 4 faces against 16.
    assert np.unique(multicut(affs, fragments, weighting="all")).size == 1
    apart = multicut(affs, fragments)
    assert apart[1, 0, 0] != apart[1, 0, 7]
    np.testing.assert_array_equal(apart, multicut(affs, fragments, weighting="xyz"))
    one = multicut(affs[:, 1:], fragments[1:], weighting="xyz")  # nothing lies between sections
    assert np.unique(one).size == 2


def test_long_range_affinities_separate_what_only_touches_through_a_third():
    fragments = np.repeat([[[1, 2, 3]]], 2, axis=2)
    affs = np.full((4, 1, 1, 6), 0.8, np.float32)
    affs[3] = 0.01
    offsets = (*NEAREST, (0, 0, -4))
    assert np.unique(multicut(affs, fragments, offsets=offsets)).size == 1
    result = multicut(affs, fragments, offsets=offsets, lifted=True)
    assert result[0, 0, 0] != result[0, 0, 5] and np.unique(result).size == 2


@pytest.mark.parametrize("lifted", [False, True])
def test_names_of_fragments_do_not_matter(lifted):
    affs, fragments = volume(7)
    names = np.random.default_rng(1).permutation(np.arange(1, 9)) * 1000
    renamed = np.concatenate([[0], names])[fragments.astype(int)]
    copies = affs.copy(), renamed.copy()
    first = multicut(affs, fragments, 0.5, LONG, lifted)
    again = multicut(affs, renamed, 0.5, LONG, lifted)
    assert same(first, again) and 2 < np.unique(first).size < np.unique(fragments).size
    np.testing.assert_array_equal(first, multicut(affs, fragments, 0.5, LONG, lifted))
    np.testing.assert_array_equal(affs, copies[0])
    np.testing.assert_array_equal(renamed, copies[1])


@pytest.mark.parametrize("lifted", [False, True])
def test_background_is_never_merged(lifted):
    affs, fragments = volume(3)
    result = multicut(np.ones_like(affs), fragments, 0.1, LONG, lifted)
    assert result.dtype == np.uint64 and (fragments == 0).any()
    np.testing.assert_array_equal(result == 0, fragments == 0)
    labels = np.unique(result)
    assert labels.tolist() == list(range(labels.size))


def test_few_fragments():
    affs = np.full((3, 2, 3, 3), 0.9, np.float16)
    assert np.unique(multicut(affs, np.full((2, 3, 3), 5))).tolist() == [1]
    assert np.unique(multicut(affs, np.zeros((2, 3, 3), int))).tolist() == [0]
    islands = np.zeros((2, 3, 3), np.int32)
    islands[:, 0], islands[:, 2] = 4, 9
    assert np.unique(multicut(affs, islands)).tolist() == [0, 1, 2]


def test_bad_input_is_refused():
    affs, fragments = volume(0)
    for beta in (0, 1, float("nan")):
        with pytest.raises(SettingsError, match="beta"):
            multicut(affs, fragments, beta)
    with pytest.raises(SettingsError, match="beta"):
        multicuts(affs, fragments, ())
    with pytest.raises(SettingsError, match="nearest"):
        multicut(affs, fragments, offsets=LONG[::-1])
    with pytest.raises(SettingsError, match="long-range"):
        multicut(affs[:3], fragments, lifted=True)
    with pytest.raises(DataError, match="channels"):
        multicut(affs[:5], fragments, offsets=LONG, lifted=True)
    with pytest.raises(SettingsError, match="weighting"):
        multicut(affs, fragments, weighting="size")
    with pytest.raises(SettingsError, match="several sections"):
        multicut(affs, fragments, weighting="xyz")
    with pytest.raises(DataError, match="fit together"):
        multicut(affs, fragments[1:])
    with pytest.raises(DataError, match="255"):
        multicut(affs * 255, fragments)
    with pytest.raises(DataError, match="NaN"):
        multicut(affs * np.inf, fragments)
