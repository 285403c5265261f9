"""Phantom files: MSD folders of NIfTI images in many orientations, and CREMI-layout HDF5."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from gtgm.datasets.registry import DatasetInfo

#: Axis codes of the files and, for oblique ones, the rotation in degrees; used in turn.
ORIENTATIONS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("RAS", (0, 0, 0)),
    ("LPS", (0, 0, 0)),
    ("RAS", (14, 0, 0)),
    ("LAS", (0, 0, 0)),
    ("SPR", (0, 0, 0)),
    ("LPS", (8, -10, 6)),
    ("PIR", (0, 0, 0)),
)
#: What MSD calls the cases, where it is not the anatomy in lower case.
PREFIXES = {"Task01_BrainTumour": "BRATS", "Task02_Heart": "la"}

MakeCase = Callable[[int], tuple[np.ndarray, np.ndarray, tuple[float, ...]]]


def write_msd(root: Path, info: DatasetInfo, cases: int, make: MakeCase) -> None:
    """Write ``imagesTr``, ``labelsTr`` and ``dataset.json`` into the existing folder ``root``.

    Args:
        root: an empty folder.
        info: names of channels and classes.
        cases: number of cases; their ids are ``<anatomy>_001``, ``<anatomy>_002``, …
        make: gives image (C, D, H, W), label (D, H, W) and mm (z, y, x) of case 0, 1, …
    """
    prefix = PREFIXES.get(info.name, info.name.split("_")[-1].lower())
    training = []
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir()
    for i in range(cases):
        image, label, spacing = make(i)
        file = f"{prefix}_{i + 1:03d}.nii.gz"
        affine = _affine(spacing, label.shape, ORIENTATIONS[i % len(ORIENTATIONS)][1])
        codes = ORIENTATIONS[i % len(ORIENTATIONS)][0]
        # NIfTI stores x y z, with the channels last if there are several.
        voxels = image.transpose(3, 2, 1, 0)
        _save(root / "imagesTr" / file, voxels if len(image) > 1 else voxels[..., 0], affine, codes)
        _save(root / "labelsTr" / file, label.transpose(2, 1, 0), affine, codes)
        training.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    manifest = {
        "name": info.name.split("_")[-1],
        "description": f"PHANTOM of {info.title}: synthetic volumes made by a program, no patient",
        "reference": "gtgm.datasets.phantoms",
        "licence": "Apache-2.0",
        "release": "phantom",
        "tensorImageSize": "4D" if len(info.channels) > 1 else "3D",
        "modality": {str(i): c for i, c in enumerate(info.channels)},
        "labels": {str(i): c for i, c in enumerate(("background", *info.classes))},
        "numTraining": cases,
        "numTest": 0,
        "training": training,
        "test": [],
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (root / "dataset.json").write_text(text, encoding="utf-8")


def write_cremi(
    path: Path,
    raw: np.ndarray,
    ids: np.ndarray,
    resolution: tuple[float, ...],
    marker: dict[str, Any],
) -> None:
    """Write grey values and neuron ids (D, H, W) with their resolution in nm (z, y, x).

    The file's attributes ``description`` and ``phantom`` (``marker`` as JSON) say what it is.
    """
    with h5py.File(path, "w") as file:
        file.attrs["description"] = "PHANTOM: synthetic electron microscopy made by a program"
        file.attrs["phantom"] = json.dumps(marker)
        for name, values in (("volumes/raw", raw), ("volumes/labels/neuron_ids", ids)):
            options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
            data = file.create_dataset(name, data=values, chunks=(8, 64, 64), **options)
            data.attrs["resolution"] = np.array(resolution, float)
            data.attrs["offset"] = np.zeros(3)


def _affine(
    spacing: tuple[float, ...], shape: tuple[int, ...], degrees: tuple[float, float, float]
) -> np.ndarray:
    """Affine of a RAS image of mm (z, y, x) and voxels (D, H, W) that turns about its centre."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, :3] *= np.array(spacing[::-1])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def _save(path: Path, voxels: np.ndarray, affine: np.ndarray, codes: str) -> None:
    """Save RAS voxels with their axes permuted and flipped to ``codes``; nothing is resampled."""
    image = nib.Nifti1Image(voxels, affine)
    change = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    image = image.as_reoriented(change)
    image.header.set_xyzt_units("mm")
    image.set_sform(image.affine, code="scanner")
    image.set_qform(image.affine, code="scanner")
    nib.save(image, path)
