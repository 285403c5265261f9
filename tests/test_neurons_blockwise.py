"""Blockwise segmentation against the unblocked one, and its continuation."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from gtgm.errors import DataError, SettingsError
from gtgm.neurons import blockwise
from gtgm.neurons.affinities import affinities
from gtgm.neurons.blockwise import segment_blockwise
from gtgm.neurons.metrics import voi
from gtgm.neurons.segment import segment_neurons

SHAPE = (16, 64, 72)
THRESHOLDS = (0.35,)


@pytest.fixture(scope="module")
def affs():
    """Noisy affinities of 60 Voronoi cells."""
    rng = np.random.default_rng(0)
    points = rng.random((60, 3)) * SHAPE
    grid = np.stack(np.indices(SHAPE), axis=-1).reshape(-1, 3)
    labels = cKDTree(points * (2, 1, 1)).query(grid * (2, 1, 1))[1].reshape(SHAPE) + 1
    clean = affinities(labels)[0].numpy()
    noisy = clean + 0.3 * gaussian_filter(rng.standard_normal(clean.shape), (0, 1, 1, 1)) * 3
    return np.clip(gaussian_filter(noisy, (0, 0.5, 0.5, 0.5)), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def unblocked(affs):
    return {
        (threshold, two_d): segment_neurons(affs, threshold, two_d)
        for threshold in THRESHOLDS
        for two_d in (False, True)
    }


@pytest.mark.parametrize("two_d", [False, True])
def test_one_block_is_the_unblocked_segmentation(affs, unblocked, two_d, tmp_path):
    result = segment_blockwise(affs, tmp_path, 0.35, two_d, block=(64, 512, 512))
    assert result.dtype == np.uint64 and result.shape == SHAPE
    assert voi(result[:], unblocked[0.35, two_d]).sum == 0


@pytest.mark.parametrize(
    ("block", "halo", "two_d"),
    [
        ((16, 36, 36), (0, 24, 24), False),
        ((8, 64, 72), (8, 0, 0), False),
        ((8, 30, 40), (8, 24, 24), False),
        ((5, 64, 72), (0, 0, 0), True),
        ((16, 36, 40), (3, 24, 24), True),
    ],
)
def test_blocks_leave_no_trace(affs, unblocked, block, halo, two_d, tmp_path):
    for threshold in THRESHOLDS:
        result = segment_blockwise(affs, tmp_path, threshold, two_d, block, halo)[:]
        labels = np.unique(result)
        assert labels.tolist() == list(range(1, labels.size + 1)) and labels.size > 10
        assert voi(result, unblocked[threshold, two_d]).sum < 0.02


def test_without_a_halo_the_faces_are_joined_by_their_affinity(tmp_path):
    labels = np.ones((12, 30, 30), dtype=np.uint64)
    labels[:, 14:] += 1
    labels[:, :, 17:] += 2
    affs = affinities(labels)[0].numpy()
    result = segment_blockwise(affs, tmp_path, 0.5, True, block=(5, 20, 12), halo=(0, 0, 0))
    assert voi(result[:], labels).sum == 0


def test_hdf5_and_half_precision_are_read_block_by_block(affs, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["affinities"] = np.concatenate([affs, affs[:1]]).astype(np.float16)
    with h5py.File(tmp_path / "a.h5") as file:
        result = segment_blockwise(
            file["affinities"], tmp_path / "out", 0.35, True, (8, 36, 40), (0, 24, 24)
        )
    assert voi(result[:], segment_neurons(affs.astype(np.float16), 0.35, True)).sum < 0.02


@pytest.mark.parametrize("name", ["watershed_fragments", "region_graph", "agglomerate_graph"])
def test_a_killed_run_continues(affs, name, tmp_path, monkeypatch):
    arguments = 0.35, True, (8, 36, 40), (0, 16, 16)
    expected = segment_blockwise(affs, tmp_path / "expected", *arguments)[:]
    calls, real = [], getattr(blockwise, name)

    def killed(*args):
        calls.append(1)
        if len(calls) == (1 if name == "agglomerate_graph" else 6):
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(blockwise, name, killed)
    with pytest.raises(KeyboardInterrupt):
        segment_blockwise(affs, tmp_path / "killed", *arguments)
    result = segment_blockwise(affs, tmp_path / "killed", *arguments)[:]
    np.testing.assert_array_equal(result, expected)
    # 8 blocks; the one that was killed is done again, the ones before it are not.
    assert (
        len(calls) == {"watershed_fragments": 9, "region_graph": 14, "agglomerate_graph": 2}[name]
    )
    monkeypatch.setattr(blockwise, name, None)
    np.testing.assert_array_equal(
        segment_blockwise(affs, tmp_path / "killed", *arguments)[:], expected
    )


def test_other_data_in_the_same_folder_is_refused(affs, tmp_path):
    segment_blockwise(affs, tmp_path, 0.35, True)
    for other, two_d in ((affs, False), (affs[:, ::-1], True)):
        with pytest.raises(SettingsError, match="other data or settings"):
            segment_blockwise(other, tmp_path, 0.35, two_d)


def test_bad_input_is_refused(affs, tmp_path):
    with pytest.raises(DataError, match="shape"):
        segment_blockwise(affs[:2], tmp_path, 0.5)
    with pytest.raises(DataError, match="type"):
        segment_blockwise((affs * 255).astype(np.uint8), tmp_path, 0.5)
    with pytest.raises(SettingsError, match="threshold"):
        segment_blockwise(affs, tmp_path, 1.5)
    with pytest.raises(SettingsError, match="block"):
        segment_blockwise(affs, tmp_path, 0.5, block=(0, 8, 8))
    assert not list(tmp_path.iterdir())
    broken = affs.copy()
    broken[1, 12, 50, 50] = np.nan
    with pytest.raises(DataError, match="8–16 × 32–64 × 40–72 hold NaN"):
        segment_blockwise(broken, tmp_path, 0.5, False, (8, 32, 40), (0, 0, 0))
