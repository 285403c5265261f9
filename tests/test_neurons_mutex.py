"""Mutex watershed: against a plain implementation of its definition."""

from __future__ import annotations

import numpy as np
import pytest

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.affinities import NEAREST, affinities
from gtgm.neurons.mutex import mutex_watershed

LONG = (*NEAREST, (-2, 0, 0), (0, -3, 0), (1, 0, -2))


@pytest.fixture
def affs():
    return np.random.default_rng(5).random((len(LONG), 3, 6, 7)).astype(np.float32)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two labellings are one partition."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1).shape[1]
    return pairs == np.unique(a).size == np.unique(b).size


def reference(affs, offsets, bias=0.0, strides=(1, 1, 1), mask=None) -> np.ndarray:
    """Bonds from the strongest to the weakest: join unless forbidden, or forbid unless joined."""
    shape = affs.shape[1:]
    mask = np.ones(shape, bool) if mask is None else mask
    bonds = []
    for channel, offset in enumerate(offsets):
        for voxel in np.ndindex(shape):
            other = tuple(v + o for v, o in zip(voxel, offset, strict=True))
            inside = all(0 <= v < n for v, n in zip(other, shape, strict=True))
            kept = channel < 3 or all(v % s == 0 for v, s in zip(voxel, strides, strict=True))
            if inside and kept and mask[voxel] and mask[other]:
                affinity = float(affs[channel][voxel])
                weight = affinity if channel < 3 else 1 - affinity + bias
                bonds.append((weight, channel < 3, voxel, other))
    part = {voxel: {voxel} for voxel in np.ndindex(shape)}
    enemies = {voxel: set() for voxel in part}
    for _, joins, voxel, other in sorted(bonds, reverse=True):
        a, b = part[voxel], part[other]
        if a is b:
            continue
        if not joins:
            enemies[voxel].add(other)
            enemies[other].add(voxel)
        elif not any(enemies[v] & b for v in a):
            a |= b
            for v in b:
                part[v] = a
    labels = {id(p): i for i, p in enumerate({id(p): p for p in part.values()}.values(), 1)}
    result = np.array([labels[id(part[voxel])] for voxel in np.ndindex(shape)])
    return result.reshape(shape) * mask


@pytest.mark.parametrize("bias", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 3)])
def test_it_is_the_mutex_watershed(affs, bias, strides):
    result = mutex_watershed(affs, LONG, bias, strides)
    assert result.dtype == np.uint64 and 1 < np.unique(result).size < result.size
    assert same(result, reference(affs, LONG, bias, strides))


def test_the_mask_is_background_and_does_not_conduct(affs):
    mask = np.random.default_rng(0).random(affs.shape[1:]) > 0.3
    result = mutex_watershed(affs, LONG, -0.2, mask=mask)
    np.testing.assert_array_equal(result > 0, mask)
    assert same(result, reference(affs, LONG, -0.2, mask=mask))


def test_a_lower_bias_merges_more(affs):
    counts = [mutex_watershed(affs, LONG, bias).max() for bias in (-1.1, -0.5, 0, 0.5, 1.1)]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-1] > counts[1]


def test_neurons_come_back_from_their_own_affinities():
    labels = np.kron(np.arange(1, 13).reshape(2, 2, 3), np.ones((3, 5, 4), int))
    offsets = (*NEAREST, (-2, 0, 0), (0, -4, 0), (0, 0, -4))
    own, known = affinities(labels, offsets)
    result = mutex_watershed(np.where(known, own, 1), offsets)
    assert same(result, labels)


def test_larger_parts_take_over_small_ones():
    whole = np.kron(np.arange(1, 5).reshape(1, 2, 2), np.ones((3, 6, 6), int))
    specks = np.zeros(whole.shape, bool)
    specks[1, 1::3, 1::3] = True
    torn = np.where(specks, 10 + np.arange(whole.size).reshape(whole.shape), whole)
    offsets = (*NEAREST, (0, -4, 0), (0, 0, -4), (0, -2, 0), (0, 0, -2))
    own, known = affinities(torn, offsets)
    affs = np.where(known, own, 1)
    assert same(mutex_watershed(affs, offsets), torn)
    assert same(mutex_watershed(affs, offsets, min_size=2), whole)
    # Without larger parts around them, small ones stay as they are.
    assert same(mutex_watershed(affs, offsets, min_size=2, mask=specks), torn * specks)


def test_the_same_input_gives_the_same_labels(affs):
    copy = affs.copy()
    first = mutex_watershed(affs, LONG)
    np.testing.assert_array_equal(first, mutex_watershed(affs.astype(np.float64), LONG))
    np.testing.assert_array_equal(affs, copy)
    tied = np.round(affs, 1)
    np.testing.assert_array_equal(mutex_watershed(tied, LONG), mutex_watershed(tied, LONG))


def test_offsets_longer_than_the_volume_do_nothing(affs):
    result = mutex_watershed(affs, (*LONG[:5], (-9, 0, 0)))
    assert same(result, mutex_watershed(affs[:5], LONG[:5]))


def test_bad_input_is_refused(affs):
    with pytest.raises(SettingsError, match="long-range"):
        mutex_watershed(affs[:3], NEAREST)
    with pytest.raises(SettingsError, match="nearest"):
        mutex_watershed(affs, LONG[::-1])
    with pytest.raises(DataError, match="6 channels"):
        mutex_watershed(affs, LONG[:5])
    with pytest.raises(SettingsError, match="bias"):
        mutex_watershed(affs, LONG, float("nan"))
    for strides in ((1, 1), (1, 0, 1), (1, 1.5, 1)):
        with pytest.raises(SettingsError, match="strides"):
            mutex_watershed(affs, LONG, strides=strides)
    with pytest.raises(SettingsError, match="min_size"):
        mutex_watershed(affs, LONG, min_size=0)
    with pytest.raises(DataError, match="mask"):
        mutex_watershed(affs, LONG, mask=np.ones(affs.shape[1:]))
    with pytest.raises(DataError, match="fit together"):
        mutex_watershed(affs, LONG, mask=np.ones((2, 6, 7), bool))
    with pytest.raises(DataError, match="NaN"):
        mutex_watershed(affs * np.nan, LONG)
