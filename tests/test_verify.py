"""Verification reads every file and reports every problem in one go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from small_files import em, hippocampus, nifti

from gtgm.datasets.dataset import open_dataset
from gtgm.datasets.verify import verify
from gtgm.errors import DataError, SettingsError

NAME = "Task04_Hippocampus"


def test_a_sound_dataset_has_no_problems(tmp_path: Path) -> None:
    hippocampus(tmp_path / "data" / NAME)
    assert verify(NAME, tmp_path / "data", progress=False) == []
    assert verify(open_dataset(NAME, tmp_path / "data"), progress=False) == []


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "data" / NAME, n=8)
    images, labels = root / "imagesTr", root / "labelsTr"
    shape = (6, 7, 8)
    nifti(images / "hippocampus_000.nii.gz", np.zeros(shape, np.float32))
    nifti(labels / "hippocampus_000.nii.gz", np.full(shape, 9, np.uint8))
    nifti(labels / "hippocampus_001.nii.gz", np.zeros((6, 7, 9), np.uint8))
    nifti(labels / "hippocampus_002.nii.gz", np.zeros(shape, np.uint8), np.diag([2.0, 1, 1, 1]))
    nan = np.ones(shape, np.float32)
    nan[0, 0, 0] = np.nan
    nifti(images / "hippocampus_003.nii.gz", nan)
    whole = (images / "hippocampus_004.nii.gz").read_bytes()
    (images / "hippocampus_004.nii.gz").write_bytes(whole[: len(whole) // 2])
    (labels / "hippocampus_005.nii.gz").unlink()
    nifti(images / "hippocampus_006.nii.gz", np.random.rand(*shape, 2).astype(np.float32))
    problems = verify(NAME, tmp_path / "data", progress=False)
    expected = [
        ("files that the dataset names are absent", NAME),
        ("constant", "imagesTr/hippocampus_000.nii.gz"),
        ("outside the declared classes: 9", "labelsTr/hippocampus_000.nii.gz"),
        ("that of the image", "hippocampus_001.nii.gz"),
        ("its affine differs", "hippocampus_002.nii.gz"),
        ("NaN", "hippocampus_003.nii.gz"),
        ("cannot be read", "hippocampus_004.nii.gz"),
        ("the image has the shape (6, 7, 8, 2)", "hippocampus_006.nii.gz"),
    ]
    assert len(problems) == len(expected)
    for problem, (what, where) in zip(problems, expected, strict=True):
        assert what in problem.what and problem.where.endswith(where)
        assert problem.expected and what in str(problem)


def test_manifest_problems(tmp_path: Path) -> None:
    root = tmp_path / "data" / NAME
    root.mkdir(parents=True)
    (root / "dataset.json").write_text("{")
    problems = verify(NAME, tmp_path / "data", progress=False)
    assert len(problems) == 1 and "not valid JSON" in problems[0].what


def test_em(tmp_path: Path) -> None:
    em(tmp_path / "sample_A_20160501.hdf")
    em(tmp_path / "CREMI_B.hdf", raw=np.full((5, 5, 5), 3, np.uint8))
    em(tmp_path / "CREMI_C.hdf", labels=np.ones((3, 3, 3), np.uint64))
    assert verify("CREMI_A", tmp_path) == []
    (problem,) = verify("CREMI_B", tmp_path)
    assert "constant" in problem.what
    (problem,) = verify("CREMI_C", tmp_path)
    assert "shape" in problem.what and problem.where.endswith("CREMI_C.hdf")


def test_em_labels_and_number_of_sections(tmp_path: Path) -> None:
    em(tmp_path / "CREMI_A.hdf", labels=np.zeros((20, 9, 10), np.uint64))
    (problem,) = verify("CREMI_A", tmp_path)
    assert "no voxel is labelled" in problem.what and problem.where.endswith("CREMI_A.hdf")
    raw = np.random.default_rng(0).integers(0, 99, (9, 8, 7)).astype(np.uint8)
    em(tmp_path / "CREMI_B.hdf", raw=raw)
    (problem,) = verify("CREMI_B", tmp_path)
    assert "9 sections cannot be split" in problem.what


def test_em_in_zarr_and_tiff(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(1, 99, (20, 8, 7)).astype(np.uint8)
    group = zarr.open_group(str(tmp_path / "CREMI_A.zarr"), mode="w")
    for key in ("volumes/raw", "volumes/labels/neuron_ids"):
        array = group.create_dataset(key, data=raw, chunks=(10, 8, 7))
        array.attrs["resolution"] = [40, 4, 4]
    assert verify("CREMI_A", tmp_path) == []
    (tmp_path / "CREMI_A.zarr" / "volumes" / "raw" / "1.0.0").unlink()
    (problem,) = verify("CREMI_A", tmp_path)
    assert "1 blocks of volumes/raw are absent" in problem.what
    assert problem.where.endswith("CREMI_A.zarr")
    tifffile.imwrite(tmp_path / "CREMI_B.tif", raw)
    (problem,) = verify("CREMI_B", tmp_path)
    assert "no labels beside" in problem.what and "CREMI_B_labels.tif" in problem.expected
    tifffile.imwrite(tmp_path / "CREMI_B_labels.tif", raw)
    assert verify("CREMI_B", tmp_path) == []
    content = (tmp_path / "CREMI_B.tif").read_bytes()
    (tmp_path / "CREMI_B.tif").write_bytes(content[:-50])
    (problem,) = verify("CREMI_B", tmp_path)
    assert "cannot be read as TIFF" in problem.what


def test_not_found_and_unknown(tmp_path: Path) -> None:
    hippocampus(tmp_path / NAME)
    with pytest.raises(DataError, match="in none of the data folders"):
        verify("Task02_Heart", tmp_path)
    with pytest.raises(SettingsError):
        verify("Task02_Hart", tmp_path)


def test_real_data(shared_data: Path) -> None:
    assert verify(NAME, shared_data, progress=False) == []
    assert verify("FIB25", shared_data, progress=False) == []
