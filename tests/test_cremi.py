"""CREMI-layout HDF5 is read by sections and refused where it is not what it should be."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from small_files import em

from gtgm.datasets import cremi
from gtgm.errors import DataError


def test_whole_volume_and_sections(tmp_path: Path) -> None:
    path = em(tmp_path / "a.hdf")
    whole = cremi.read(path)
    part = cremi.read(path, slice(3, 7))
    assert whole.raw.dtype == np.uint8 and whole.labels.dtype == np.uint64
    assert whole.raw.shape == whole.labels.shape == (20, 9, 10)
    assert whole.resolution == (40.0, 4.0, 4.0) and whole.sections == (0, 20)
    assert part.sections == (3, 7) and part.n_sections == cremi.n_sections(path) == 20
    np.testing.assert_array_equal(part.raw, whole.raw[3:7])
    np.testing.assert_array_equal(part.labels, whole.labels[3:7])
    assert cremi.read(path, labels=False).labels is None


def test_padded_labels_are_placed_by_their_offset(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(1, 9, (6, 4, 5)).astype(np.uint64)
    path = em(tmp_path / "a.hdf", labels=labels, offset=(5 * 40, 2 * 4, 3 * 4))
    expected = np.zeros((20, 9, 10), dtype=np.uint64)
    expected[5:11, 2:6, 3:8] = labels
    np.testing.assert_array_equal(cremi.read(path).labels, expected)
    for start, stop in [(0, 5), (4, 7), (7, 20), (11, 20), (6, 9)]:
        part = cremi.read(path, slice(start, stop))
        np.testing.assert_array_equal(part.labels, expected[start:stop])


def test_reserved_ids_become_ignored(tmp_path: Path) -> None:
    labels = np.full((20, 9, 10), 7, dtype=np.uint64)
    labels[0] = [[0xFFFFFFFFFFFFFFFF]]
    labels[1] = [[0xFFFFFFFFFFFFFFFD]]
    labels[2] = [[0xFFFFFFFFFFFFFFFC]]
    read = cremi.read(em(tmp_path / "a.hdf", labels=labels)).labels
    assert (read[:2] == 0).all() and (read[2] == 0xFFFFFFFFFFFFFFFC).all()


def test_not_hdf5_absent_and_truncated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        cremi.read(tmp_path / "a.hdf")
    text = tmp_path / "text.hdf"
    text.write_text("no HDF5")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        cremi.read(text)
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        cremi.n_sections(text)
    whole = em(tmp_path / "whole.hdf").read_bytes()
    cut = tmp_path / "cut.hdf"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        cremi.read(cut)


def test_missing_datasets_are_named_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf"
    with h5py.File(path, "w") as file:
        file["main"] = np.zeros((3, 3, 3), np.uint8)
    with pytest.raises(DataError, match=r"no dataset volumes/raw.*found: main"):
        cremi.read(path)
    path = em(tmp_path / "b.hdf")
    with h5py.File(path, "a") as file:
        del file["volumes/labels/neuron_ids"]
    with pytest.raises(DataError, match="no dataset volumes/labels/neuron_ids"):
        cremi.read(path)
    assert cremi.read(path, labels=False).raw.shape == (20, 9, 10)


def test_shape_and_type_problems(tmp_path: Path) -> None:
    small = np.ones((4, 4, 4), np.uint64)
    with pytest.raises(DataError, match=r"shape \(20, 9, 10\) and .* \(4, 4, 4\)"):
        cremi.read(em(tmp_path / "a.hdf", labels=small))
    with pytest.raises(DataError, match="does not fit"):
        cremi.read(em(tmp_path / "b.hdf", labels=small, offset=(800, 0, 0)))
    with pytest.raises(DataError, match="not on the grid"):
        cremi.read(em(tmp_path / "c.hdf", labels=small, offset=(20, 0, 0)))
    with pytest.raises(DataError, match="float32"):
        cremi.read(em(tmp_path / "d.hdf", raw=np.random.rand(4, 4, 4).astype(np.float32)))
    with pytest.raises(DataError, match="integer neuron ids"):
        cremi.read(em(tmp_path / "e.hdf", labels=np.ones((20, 9, 10))))
    with pytest.raises(DataError, match="negative"):
        cremi.read(em(tmp_path / "f.hdf", labels=-np.ones((20, 9, 10), np.int64)))
    with pytest.raises(DataError, match="not a 3D dataset"):
        cremi.read(em(tmp_path / "g.hdf", raw=np.ones((4, 4), np.uint8)))


def test_constant_image_resolution_and_range(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="constant"):
        cremi.read(em(tmp_path / "a.hdf", raw=np.full((5, 5, 5), 9, np.uint8)))
    with pytest.raises(DataError, match="resolution"):
        cremi.read(em(tmp_path / "b.hdf", resolution=(40, 4)))
    with pytest.raises(DataError, match="resolution"):
        cremi.read(em(tmp_path / "c.hdf", resolution=(40, 0, 4)))
    for sections in (slice(5, 5), slice(30, 40), slice(0, 10, 2)):
        with pytest.raises(DataError, match="selects no sections"):
            cremi.read(em(tmp_path / "d.hdf"), sections)


def test_real_fib25(shared_data: Path) -> None:
    volume = cremi.read(shared_data / "em" / "fib25_train.hdf", slice(140, 170))
    assert volume.raw.shape == volume.labels.shape == (30, 250, 250)
    assert volume.resolution == (10.0, 10.0, 10.0) and volume.n_sections == 170
    assert len(np.unique(volume.labels)) > 50
