"""Agglomeration: order, purity, thresholds, and real neurons from their own affinities."""

from __future__ import annotations

import sys

import h5py
import numpy as np
import pytest

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.affinities import affinities
from gtgm.neurons.agglomeration import SCORINGS, agglomerate, lowest_voi
from gtgm.neurons.fragments import watershed_fragments
from gtgm.neurons.metrics import neuron_scores, voi


@pytest.fixture
def chain():
    """Four fragments in a row along x, joined by affinities 0.9, 0.6 and 0.2."""
    fragments = np.repeat(np.array([70, 5, 9, 12], np.uint64), 3)[None, None].repeat(4, 1)
    affs = np.ones((3, *fragments.shape), dtype=np.float64)
    affs[2, ..., 3], affs[2, ..., 6], affs[2, ..., 9] = 0.9, 0.6, 0.2
    return affs, fragments


def groups(segmentation: np.ndarray) -> list[list[int]]:
    """Which of the four fragments of the chain are together."""
    row = segmentation[0, 0, ::3].tolist()
    return [[i for i in range(4) if row[i] == label] for label in dict.fromkeys(row)]


def test_fragments_join_in_the_order_of_their_mean_affinity(chain):
    result = dict(agglomerate(*chain, (0.9, 0.0, 0.2, 0.5)))
    assert list(result) == [0.0, 0.2, 0.5, 0.9]
    assert groups(result[0.0]) == [[0], [1], [2], [3]]
    assert groups(result[0.2]) == [[0, 1], [2], [3]]
    assert groups(result[0.5]) == [[0, 1, 2], [3]]
    assert groups(result[0.9]) == [[0, 1, 2, 3]]


def test_the_mean_over_the_contact_decides(chain):
    affs, fragments = chain
    affs[2, 0, :, 3] = (1.0, 1.0, 0.0, 0.0)  # mean 0.5
    result = dict(agglomerate(affs, fragments, (0.45, 0.55)))
    assert groups(result[0.45])[0] == [0] and groups(result[0.55])[0] == [0, 1, 2]


@pytest.fixture
def ramp():
    """Two fragments that meet at 100 voxels with the affinities 0.00, 0.01, … 0.99, shuffled."""
    fragments = np.ones((1, 100, 4), np.uint64)
    fragments[..., 2:] = 2
    affs = np.ones((3, 1, 100, 4), np.float32)
    affs[2, 0, :, 2] = np.random.default_rng(0).permutation(np.arange(100) / 100)
    return affs, fragments


@pytest.mark.parametrize(
    ("scoring", "affinity"),
    [
        ("mean", 0.495),
        ("quantile50", 0.50),
        ("quantile75", 0.75),
        ("maxima50", 0.99),
        ("maxima75", 0.99),
    ],
)
def test_a_scoring_makes_one_affinity_of_a_surface(ramp, scoring, affinity):
    thresholds = (1 - affinity - 0.008, 1 - affinity + 0.008)
    below, above = (s for _, s in agglomerate(*ramp, thresholds, scoring))
    assert np.unique(below).size == 2 and np.unique(above).size == 1


@pytest.mark.parametrize(("scoring", "affinity"), [("maxima50", 0.3), ("maxima75", 0.9)])
def test_maxima_are_those_of_the_first_fragments(scoring, affinity):
    fragments = np.full((1, 9, 4), 4, np.uint64)
    fragments[0, :, :2] = np.repeat([1, 2, 3], 3)[:, None]
    affs = np.ones((3, 1, 9, 4), np.float32)
    affs[2, 0, :, 2] = [0.1, 0.2, 0.0, 0.3, 0.1, 0.1, 0.0, 0.9, 0.0]  # maxima 0.2, 0.3, 0.9
    thresholds = (1 - affinity - 0.01, 1 - affinity + 0.01)
    below, above = (s for _, s in agglomerate(affs, fragments, thresholds, scoring))
    assert np.unique(below).size == 2 and np.unique(above).size == 1


@pytest.mark.parametrize("scoring", SCORINGS)
def test_every_scoring_is_shipped_compiled(chain, scoring, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "witty", None)  # what waterz would compile with
    affs, fragments = chain
    result = dict(agglomerate(affs, fragments, (0.0, 0.2, 0.5, 0.95), scoring))
    assert groups(result[0.0]) == [[0], [1], [2], [3]]
    assert groups(result[0.2]) == [[0, 1], [2], [3]]
    assert groups(result[0.5]) == [[0, 1, 2], [3]]
    assert groups(result[0.95]) == [[0, 1, 2, 3]]
    fragments[fragments == 5] = 0
    ((_, result),) = agglomerate(affs, fragments, (1.0,), scoring)
    assert ((result == 0) == (fragments == 0)).all()


def test_arguments_are_not_changed_and_nothing_is_printed(chain, capfd):
    affs, fragments = chain
    copies = affs.copy(), fragments.copy()
    together = [s for _, s in agglomerate(affs, fragments, (0.2, 0.9))]
    assert groups(together[0]) != groups(together[1])
    np.testing.assert_array_equal(affs, copies[0])
    np.testing.assert_array_equal(fragments, copies[1])
    assert capfd.readouterr().out == ""


def test_background_is_never_merged(chain):
    affs, fragments = chain
    fragments[fragments == 5] = 0
    ((_, result),) = agglomerate(affs, fragments, (1.0,))
    assert ((result == 0) == (fragments == 0)).all()
    assert groups(result) == [[0], [1], [2, 3]]


def test_one_fragment_stays_one(chain):
    for threshold, result in agglomerate(chain[0], np.full((1, 4, 12), 8), (0.1, 0.5)):
        assert threshold in (0.1, 0.5) and np.unique(result).tolist() == [1]


def test_extra_channels_and_other_memory_layouts_are_accepted(chain):
    affs, fragments = chain
    more = np.asfortranarray(np.concatenate([affs, np.zeros_like(affs)]))
    result = dict(agglomerate(more, np.asfortranarray(fragments.astype(np.int32)), (0.5,)))
    assert groups(result[0.5]) == [[0, 1, 2], [3]]


def test_bad_input_is_refused(chain):
    affs, fragments = chain
    with pytest.raises(SettingsError, match="thresholds"):
        agglomerate(affs, fragments, (0.5, 1.5))
    with pytest.raises(SettingsError, match="thresholds"):
        agglomerate(affs, fragments, ())
    with pytest.raises(DataError, match="fit together"):
        agglomerate(affs, fragments[:, 1:], (0.5,))
    with pytest.raises(SettingsError, match="quantile75"):
        agglomerate(affs, fragments, (0.5,), "median")
    with pytest.raises(DataError, match="labels"):
        agglomerate(affs, fragments.astype(float), (0.5,))
    with pytest.raises(DataError, match="255"):
        agglomerate(affs * 255, fragments, (0.5,))
    affs[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN"):
        agglomerate(affs, fragments, (0.5,))


def test_the_chosen_threshold_is_the_lowest_of_the_best(chain):
    affs, fragments = chain
    truth = np.where(fragments == 12, 2, 1)
    best, curve = lowest_voi(agglomerate(affs, fragments, (0.2, 0.45, 0.6, 0.9)), truth)
    assert best == 0.45
    assert [row["parameter"] for row in curve] == [0.2, 0.45, 0.6, 0.9]
    assert curve[1]["voi_sum"] == 0 and curve[1]["arand"] == 0
    assert curve[0]["voi_split"] > 0 == curve[0]["voi_merge"]
    assert curve[3]["voi_merge"] > 0 == curve[3]["voi_split"]


def test_of_equal_values_the_first_is_chosen(chain):
    truth = chain[1]
    best, rows = lowest_voi(iter([(3, truth * 0 + 1), (1, truth), (2, truth + 1)]), truth)
    assert best == 1 and [row["parameter"] for row in rows] == [3, 1, 2]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_real_neurons_come_back_from_their_own_affinities(shared_data, noise):
    with h5py.File(shared_data / "em" / "fib25_train.hdf") as file:
        truth = file["volumes/labels/neuron_ids"][140:170]
    rng = np.random.default_rng(0)
    affs = affinities(truth)[0].numpy()
    affs = np.clip(affs + noise * rng.standard_normal(affs.shape), 0, 1).astype(np.float32)
    fragments = watershed_fragments(affs)
    best, curve = lowest_voi(agglomerate(affs, fragments, (0.1, 0.2, 0.3, 0.4, 0.5)), truth)
    scores = next(row for row in curve if row["parameter"] == best)
    assert scores["voi_sum"] < 0.45 and scores["arand"] < 0.03
    assert scores["voi_sum"] < voi(fragments, truth).sum / 2
    ((_, again),) = agglomerate(affs, fragments, (best,))
    assert neuron_scores(again, truth)["voi_sum"] == pytest.approx(scores["voi_sum"])
