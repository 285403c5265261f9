"""Small NIfTI and HDF5 files that the tests of the datasets write, and how bad ones are refused."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from gtgm.errors import GTGMError

#: A bad file is small; what it declares must not be allocated.
MEMORY = 64 << 20


def refused(read: Callable[[], object], name: str, reason: str) -> GTGMError:
    """Assert that ``read`` refuses: an error that names file and reason, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(GTGMError) as caught:
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert name in text and reason in text, text
    assert caught.value.expected or caught.value.fix
    assert peak < MEMORY
    return caught.value


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def contradicting(
    path: Path,
    array: np.ndarray,
    sform: np.ndarray,
    qform: np.ndarray | None = None,
    pixdim: Sequence[float] | None = None,
) -> Path:
    """A file whose header says two things: an sform, and another qform or other voxel sizes."""
    header = nib.Nifti1Header()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_sform(sform, 1)
    if qform is not None:
        header.set_qform(qform, 1)
    if pixdim is not None:
        header["pixdim"][1:4] = pixdim
    nib.save(nib.Nifti1Image(array, None, header), path)
    return path


def tilted(mm: float = 0.5) -> np.ndarray:
    """The affine of a tilted gantry: each section lies ``mm`` further anterior than the last."""
    affine = np.eye(4)
    affine[1, 2] = mm
    return affine


def hippocampus(
    root: Path, n: int = 5, shape: tuple[int, int, int] = (6, 7, 8), manifest: bool = True
) -> Path:
    """An MSD folder with ``n`` cases of one channel and two classes."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(n):
        name = f"hippocampus_{i:03d}.nii.gz"
        nifti(root / "imagesTr" / name, rng.normal(size=shape).astype(np.float32))
        nifti(root / "labelsTr" / name, rng.integers(0, 3, shape).astype(np.uint8))
        rows.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    if manifest:
        write_manifest(root, rows)
    return root


def write_manifest(root: Path, rows: list[dict[str, str]], **changes: object) -> None:
    value = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": rows,
        **changes,
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(value))


def em(
    path: Path,
    raw: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    resolution: tuple[float, ...] = (40, 4, 4),
    offset: tuple[float, ...] | None = None,
) -> Path:
    """A CREMI-layout file, (20, 9, 10) by default."""
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 255, (20, 9, 10)).astype(np.uint8) if raw is None else raw
    labels = rng.integers(0, 5, raw.shape).astype(np.uint64) if labels is None else labels
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["volumes/raw"] = raw
        file["volumes/labels/neuron_ids"] = labels
        file["volumes/raw"].attrs["resolution"] = resolution
        file["volumes/labels/neuron_ids"].attrs["resolution"] = resolution
        if offset is not None:
            file["volumes/labels/neuron_ids"].attrs["offset"] = offset
    return path
