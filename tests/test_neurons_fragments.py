"""Fragments of made-up and of real neurons."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gtgm.errors import DataError
from gtgm.neurons.affinities import affinities
from gtgm.neurons.fragments import is_anisotropic, mean_affinity, watershed_fragments
from gtgm.neurons.metrics import voi


@pytest.fixture
def blocks():
    """Four neurites of 9 to 15 pixels that run through all sections."""
    labels = np.ones((6, 24, 24), dtype=np.uint64)
    labels[:, 9:, :] += 1
    labels[:, :, 15:] += 2
    return labels


@pytest.mark.parametrize("two_d", [False, True])
def test_every_voxel_gets_a_fragment_inside_one_neuron(blocks, two_d):
    fragments = watershed_fragments(affinities(blocks)[0].numpy(), two_d)
    labels = np.unique(fragments)
    assert fragments.dtype == np.uint64 and fragments.shape == blocks.shape
    assert labels.tolist() == list(range(1, labels.size + 1))
    assert voi(fragments, blocks).merge == 0


def test_fragments_of_two_d_stay_in_their_section(blocks):
    fragments = watershed_fragments(affinities(blocks)[0].numpy(), two_d=True)
    seen = [set(np.unique(section)) for section in fragments]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_two_d_does_not_look_at_z(blocks):
    affs = affinities(blocks)[0].numpy()
    changed = affs.copy()
    changed[0] = 0
    np.testing.assert_array_equal(
        watershed_fragments(affs, True), watershed_fragments(changed, True)
    )


def test_a_cut_lowers_the_voxels_on_both_sides():
    affs = np.ones((3, 1, 1, 6), dtype=np.float32)
    affs[2, 0, 0, 3] = 0.25
    affs[:, 0, 0, 0] = 0  # leaves the volume
    assert mean_affinity(affs, (2,))[0, 0].tolist() == [1, 1, 0.25, 0.25, 1, 1]
    assert mean_affinity(affs, (1, 2))[0, 0].tolist() == [1, 1, 0.625, 0.625, 1, 1]
    assert affs[2, 0, 0, 0] == 0


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("two_d", [False, True])
def test_flat_affinities_give_one_fragment_per_volume_or_section(value, two_d):
    fragments = watershed_fragments(np.full((3, 2, 5, 5), value, np.float32), two_d)
    assert np.unique(fragments).tolist() == ([1, 2] if two_d else [1])


def test_a_thin_part_beside_a_thick_one_is_not_lost():
    labels = np.ones((1, 40, 40), dtype=int)
    labels[:, :, 34:] = 2
    labels[:, :, 38:] = 3
    fragments = watershed_fragments(affinities(labels)[0].numpy(), two_d=True)
    assert voi(fragments, labels).merge == 0


def test_other_arrays_are_refused():
    with pytest.raises(DataError, match="shape"):
        watershed_fragments(np.ones((2, 3, 4, 5)))
    with pytest.raises(DataError, match="NaN"):
        watershed_fragments(np.full((3, 3, 4, 5), np.nan))


def test_what_counts_as_anisotropic():
    assert is_anisotropic((40, 4, 4)) and not is_anisotropic((10, 10, 10))


def test_real_neurons_are_hardly_merged_inside_fragments(shared_data):
    with h5py.File(shared_data / "em" / "fib25_train.hdf") as file:
        truth = file["volumes/labels/neuron_ids"][140:160]
    fragments = watershed_fragments(affinities(truth)[0].numpy())
    assert fragments.max() < 2000
    assert voi(fragments, truth).merge < 0.2
