"""EM volumes are read by sections and refused where they are not what they should be."""

from __future__ import annotations

import types
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from small_files import em

from gtgm.datasets import em as em_volumes
from gtgm.errors import DataError, SettingsError


def test_whole_volume_and_sections(tmp_path: Path) -> None:
    path = em(tmp_path / "a.hdf")
    whole = em_volumes.read(path)
    part = em_volumes.read(path, slice(3, 7))
    assert whole.raw.dtype == np.uint8 and whole.labels.dtype == np.uint64
    assert whole.raw.shape == whole.labels.shape == (20, 9, 10)
    assert whole.resolution == (40.0, 4.0, 4.0) and whole.sections == (0, 20)
    assert part.sections == (3, 7) and part.n_sections == em_volumes.n_sections(path) == 20
    np.testing.assert_array_equal(part.raw, whole.raw[3:7])
    np.testing.assert_array_equal(part.labels, whole.labels[3:7])
    assert em_volumes.read(path, labels=False).labels is None


def test_padded_labels_are_placed_by_their_offset(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(1, 9, (6, 4, 5)).astype(np.uint64)
    path = em(tmp_path / "a.hdf", labels=labels, offset=(5 * 40, 2 * 4, 3 * 4))
    expected = np.zeros((20, 9, 10), dtype=np.uint64)
    expected[5:11, 2:6, 3:8] = labels
    np.testing.assert_array_equal(em_volumes.read(path).labels, expected)
    for start, stop in [(0, 5), (4, 7), (7, 20), (11, 20), (6, 9)]:
        part = em_volumes.read(path, slice(start, stop))
        np.testing.assert_array_equal(part.labels, expected[start:stop])


def test_reserved_ids_become_ignored(tmp_path: Path) -> None:
    labels = np.full((20, 9, 10), 7, dtype=np.uint64)
    labels[0] = [[0xFFFFFFFFFFFFFFFF]]
    labels[1] = [[0xFFFFFFFFFFFFFFFD]]
    labels[2] = [[0xFFFFFFFFFFFFFFFC]]
    read = em_volumes.read(em(tmp_path / "a.hdf", labels=labels)).labels
    assert (read[:2] == 0).all() and (read[2] == 0xFFFFFFFFFFFFFFFC).all()


def test_not_hdf5_absent_and_truncated(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        em_volumes.read(tmp_path / "a.hdf")
    text = tmp_path / "text.hdf"
    text.write_text("no HDF5")
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        em_volumes.read(text)
    with pytest.raises(DataError, match="cannot be read as HDF5"):
        em_volumes.n_sections(text)
    whole = em(tmp_path / "whole.hdf").read_bytes()
    cut = tmp_path / "cut.hdf"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError):
        em_volumes.read(cut)


def test_missing_datasets_are_named_with_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf"
    with h5py.File(path, "w") as file:
        file["main"] = np.zeros((3, 3, 3), np.uint8)
    with pytest.raises(DataError, match=r"no dataset volumes/labels/neuron_ids.*found: main"):
        em_volumes.read(path)
    with pytest.raises(DataError, match="no dataset volumes/raw.*found: nothing"):
        h5py.File(tmp_path / "empty.hdf", "w").close()
        em_volumes.read(tmp_path / "empty.hdf")
    path = em(tmp_path / "b.hdf")
    with h5py.File(path, "a") as file:
        del file["volumes/labels/neuron_ids"]
    with pytest.raises(DataError, match="no dataset volumes/labels/neuron_ids"):
        em_volumes.read(path)
    assert em_volumes.read(path, labels=False).raw.shape == (20, 9, 10)


def test_shape_and_type_problems(tmp_path: Path) -> None:
    small = np.ones((4, 4, 4), np.uint64)
    with pytest.raises(DataError, match=r"shape \(20, 9, 10\) and .* \(4, 4, 4\)"):
        em_volumes.read(em(tmp_path / "a.hdf", labels=small))
    with pytest.raises(DataError, match="does not fit"):
        em_volumes.read(em(tmp_path / "b.hdf", labels=small, offset=(800, 0, 0)))
    with pytest.raises(DataError, match="not on the grid"):
        em_volumes.read(em(tmp_path / "c.hdf", labels=small, offset=(20, 0, 0)))
    with pytest.raises(DataError, match="raw is int16"):
        em_volumes.read(em(tmp_path / "d.hdf", raw=np.zeros((4, 4, 4), np.int16)))
    with pytest.raises(DataError, match="integer neuron ids"):
        em_volumes.read(em(tmp_path / "e.hdf", labels=np.ones((20, 9, 10))))
    with pytest.raises(DataError, match="negative"):
        em_volumes.read(em(tmp_path / "f.hdf", labels=-np.ones((20, 9, 10), np.int64)))
    with pytest.raises(DataError, match="not a 3D dataset"):
        em_volumes.read(em(tmp_path / "g.hdf", raw=np.ones((4, 4), np.uint8)))


def test_constant_image_resolution_and_range(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="constant"):
        em_volumes.read(em(tmp_path / "a.hdf", raw=np.full((5, 5, 5), 9, np.uint8)))
    with pytest.raises(DataError, match="resolution"):
        em_volumes.read(em(tmp_path / "b.hdf", resolution=(40, 4)))
    with pytest.raises(DataError, match="resolution"):
        em_volumes.read(em(tmp_path / "c.hdf", resolution=(40, 0, 4)))
    for sections in (slice(5, 5), slice(30, 40), slice(0, 10, 2)):
        with pytest.raises(DataError, match="selects no sections"):
            em_volumes.read(em(tmp_path / "d.hdf"), sections)


def test_grey_values_of_other_types(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, result in (("<u2", np.uint16), (">u2", np.uint16), ("f2", np.float32), (">f8", "f4")):
        raw = (rng.random((5, 4, 3)) * 60000).astype(kind)
        read = em_volumes.read(em(tmp_path / f"{kind[1:]}{kind[0]}.hdf", raw=raw)).raw
        assert read.dtype == result and read.dtype.isnative
        np.testing.assert_array_equal(read, raw.astype(result))
    raw = rng.random((5, 4, 3))
    raw[2, 1, 1] = np.nan
    path = em(tmp_path / "nan.hdf", raw=raw)
    with pytest.raises(DataError, match="NaN"):
        em_volumes.read(path)
    assert em_volumes.read(path, slice(3, 5)).raw.shape == (2, 4, 3)


def test_offsets_count_from_the_offset_of_the_grey_values(tmp_path: Path) -> None:
    labels = np.full((6, 4, 5), 3, np.uint64)
    path = em(tmp_path / "a.hdf", labels=labels, offset=(1000 + 5 * 40, 2 * 4, 3 * 4))
    with h5py.File(path, "a") as file:
        file["volumes/raw"].attrs["offset"] = (1000, 0, 0)
    read = em_volumes.read(path).labels
    assert (read[5:11, 2:6, 3:8] == 3).all() and (read != 0).sum() == labels.size


def test_resolution_of_the_argument_wins(tmp_path: Path) -> None:
    path = em(tmp_path / "a.hdf", resolution=())
    with pytest.raises(DataError, match="resolution"):
        em_volumes.read(path)
    assert em_volumes.read(path, resolution=(40, 8, 8)).resolution == (40.0, 8.0, 8.0)
    for wrong in ((40, 8), (40, 8, 0), (40, 8, float("nan")), "40"):
        with pytest.raises(SettingsError, match="resolution"):
            em_volumes.read(path, resolution=wrong)


def test_labels_of_another_scale_are_refused(tmp_path: Path) -> None:
    path = em(tmp_path / "a.hdf")
    with h5py.File(path, "a") as file:
        file["volumes/labels/neuron_ids"].attrs["resolution"] = (40, 8, 8)
    with pytest.raises(DataError, match="labels on the grid"):
        em_volumes.read(path)


def test_labels_in_another_file(tmp_path: Path) -> None:
    path, other = em(tmp_path / "a.hdf"), em(tmp_path / "b.hdf", labels=np.ones((20, 9, 10), int))
    assert (em_volumes.read(path, labels_path=other).labels == 1).all()
    other.rename(tmp_path / "a_labels.hdf")
    assert (em_volumes.read(path).labels == 1).all()
    with pytest.raises(DataError, match="no such file"):
        em_volumes.read(path, labels_path=other)


def test_an_offset_that_is_no_place_is_refused(tmp_path: Path) -> None:
    path = em(tmp_path / "a.hdf", offset=(0, 0))
    with pytest.raises(DataError, match='no usable attribute "offset"'):
        em_volumes.read(path)
    assert em_volumes.read(path, labels=False).n_sections == 20


def test_unknown_kinds(tmp_path: Path) -> None:
    for name in ("a.png", "a"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match="no EM volume of a known kind"):
            em_volumes.read(tmp_path / name)
        assert not em_volumes.is_volume(tmp_path / name)
    (tmp_path / "folder.hdf").mkdir()
    with pytest.raises(DataError, match="no TIFF files"):
        em_volumes.read(tmp_path / "folder.hdf")
    (tmp_path / "file.zarr").write_bytes(b"x")
    with pytest.raises(DataError, match="no EM volume of a known kind"):
        em_volumes.n_sections(tmp_path / "file.zarr")


def test_more_than_the_memory_is_not_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = types.SimpleNamespace(available=9 * 90 * 4)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    path = em(tmp_path / "a.hdf")
    with pytest.raises(DataError, match=r"sections 0–19 of volumes/raw take .* GiB"):
        em_volumes.read(path)
    assert em_volumes.read(path, slice(0, 2)).n_sections == 20


def test_real_fib25(shared_data: Path) -> None:
    volume = em_volumes.read(shared_data / "em" / "fib25_train.hdf", slice(140, 170))
    assert volume.raw.shape == volume.labels.shape == (30, 250, 250)
    assert volume.resolution == (10.0, 10.0, 10.0) and volume.n_sections == 170
    assert len(np.unique(volume.labels)) > 50
