"""One interface for all methods: each finds known neurons, keeps background, and refuses alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.affinities import NEAREST, affinities
from gtgm.neurons.metrics import voi
from gtgm.neurons.postprocess import METHODS, choose, segment, segmentations
from gtgm.neurons.settings import usable

LONG = (*NEAREST, (-3, 0, 0), (0, -5, 0), (0, 0, -5))


@pytest.fixture(scope="module")
def scene():
    """Eight neurons (8, 32, 32), their noisy affinities, and fragments that cut each in four."""
    rng = np.random.default_rng(0)
    truth = np.kron(np.arange(1, 9).reshape(1, 2, 4), np.ones((8, 16, 8), int))
    own, known = affinities(truth, LONG)
    affs = np.where(known, own, 1)
    noise = np.stack([ndimage.gaussian_filter(rng.standard_normal(a.shape), 1) for a in affs])
    affs = np.clip(0.1 + 0.8 * affs + noise, 0, 1).astype(np.float32)
    quarters = np.kron(np.arange(4).reshape(2, 2, 1), np.ones((4, 8, 32), int))
    fragments = np.unique(truth * 100 + np.tile(quarters, (1, 2, 1)), return_inverse=True)[1]
    return affs, fragments.reshape(truth.shape).astype(np.uint64) + 1, truth


@pytest.mark.parametrize("name", METHODS)
def test_the_chosen_value_finds_the_neurons(scene, name):
    affs, fragments, truth = scene
    best, curve = choose(name, affs, LONG, fragments, truth)
    assert [row["parameter"] for row in curve] == list(METHODS[name].values)
    assert set(curve[0]) == {"parameter", "voi_split", "voi_merge", "voi_sum", "arand"}
    lowest = min(row["voi_sum"] for row in curve)
    assert best == next(row["parameter"] for row in curve if row["voi_sum"] == lowest)
    assert lowest < 0.5 < voi(fragments, truth).sum
    labels = segment(name, affs, LONG, fragments, best)
    assert labels.dtype == np.uint64
    assert voi(labels, truth).sum == pytest.approx(lowest)


@pytest.mark.parametrize("name", METHODS)
def test_values_are_tried_in_rising_order_and_change_the_result(scene, name):
    affs, fragments, _ = scene
    low, high = METHODS[name].values[0], METHODS[name].values[-1]
    found = list(segmentations(name, affs, LONG, fragments, (high, low, high)))
    assert [value for value, _ in found] == [low, high]
    assert np.unique(found[0][1]).size != np.unique(found[1][1]).size


@pytest.mark.parametrize("name", METHODS)
def test_background_is_never_merged(scene, name):
    affs, fragments, _ = scene
    masked = np.where(fragments % 5 == 0, 0, fragments)
    for _, labels in segmentations(name, affs, LONG, masked):
        np.testing.assert_array_equal(labels == 0, masked == 0)


@pytest.mark.parametrize("name", METHODS)
def test_arguments_are_not_changed(scene, name):
    affs, fragments, _ = scene
    copies = affs.copy(), fragments.copy()
    value = METHODS[name].values[len(METHODS[name].values) // 2]
    first = segment(name, affs, LONG, fragments, value)
    np.testing.assert_array_equal(first, segment(name, affs, LONG, fragments, value))
    np.testing.assert_array_equal(affs, copies[0])
    np.testing.assert_array_equal(fragments, copies[1])


def test_ignored_labels_do_not_count(scene):
    affs, fragments, truth = scene
    torn = np.where(truth == 3, np.random.default_rng(0).integers(90, 99, truth.shape), truth)
    spoilt = choose("multicut", affs, LONG, fragments, torn, (0.4,))[1][0]
    ignored = choose("multicut", affs, LONG, fragments, torn, (0.4,), tuple(range(90, 99)))[1][0]
    assert ignored["voi_sum"] < spoilt["voi_sum"] - 0.2


def test_long_range_methods_need_long_range_offsets(scene):
    affs, fragments, _ = scene
    assert usable(LONG) == tuple(METHODS)
    assert usable(NEAREST) == ("waterz", "waterz_quantile", "multicut")
    for name in set(METHODS) - set(usable(NEAREST)):
        with pytest.raises(SettingsError, match="long-range"):
            segment(name, affs[:3], NEAREST, fragments, 0.4)


@pytest.mark.parametrize("name", METHODS)
def test_bad_input_is_refused(scene, name):
    affs, fragments, _ = scene
    with pytest.raises(DataError, match="fit together"):
        segment(name, affs, LONG, fragments[1:], 0.4)
    with pytest.raises(DataError, match="255"):
        segment(name, affs * 255, LONG, fragments, 0.4)
    with pytest.raises(SettingsError, match="nearest"):
        segment(name, affs, LONG[::-1], fragments, 0.4)
    with pytest.raises(SettingsError, match="cannot be used"):
        segment(name, affs, LONG, fragments, float("nan"))


def test_an_unknown_method_is_named(scene):
    affs, fragments, _ = scene
    with pytest.raises(SettingsError, match="multicut.*mutex"):
        segment("watershed", affs, LONG, fragments, 0.4)
