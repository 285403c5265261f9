"""One way in and one way back: from a file to a volume in the model's axes, and to the file's grid.

In: NIfTI voxels are permuted and flipped to ``SAR`` (D inferior→superior, H posterior→anterior,
W left→right), never interpolated, and resampled only if a spacing is asked for. EM is z y x.
Back: a label map is resampled to the file's grid if needed, flipped and permuted back, and gets the
affine and the header codes of the file. For oblique affines the nearest axes are taken.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F

from gtgm.datasets import em
from gtgm.datasets.msd import Case
from gtgm.datasets.nifti import box_sizes, read_nifti
from gtgm.datasets.registry import DatasetInfo
from gtgm.errors import DataError, SettingsError

AXES = ("S", "A", "R")
# A label may lie this far from its image, in voxels at the corners of the volume.
TOLERANCE = 0.1
#: Labels this far from a whole number are taken for it.
WHOLE = 1e-3


@dataclass
class Volume:
    """A volume in the model's axes.

    ``image`` is float32 (C, D, H, W) with raw intensities (HU for CT), ``label`` int16 (D, H, W)
    or None, ``spacing`` (z, y, x) in ``info.unit`` as it really is (after resampling to a whole
    number of voxels it differs a little from the spacing asked for). ``content`` is, if it was
    asked for, a hash of the intensities before resampling: the same for a copy of the file under
    another name, in another orientation, compression or type of numbers.
    """

    image: torch.Tensor
    label: torch.Tensor | None
    spacing: tuple[float, float, float]
    case: Case
    meta: FileGrid | None
    info: DatasetInfo
    content: str = ""

    def _repr_html_(self) -> str:
        from gtgm.datasets.show import volume_html

        return volume_html(self)


@dataclass(frozen=True)
class FileGrid:
    """The file's own grid: what ``to_file_grid`` needs for the way back."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    header: Any
    image_class: type

    @property
    def orientation(self) -> str:
        """Axis codes of the file, such as ``LPS``."""
        return "".join(nib.aff2axcodes(self.affine))


def load_volume(
    case: Case,
    info: DatasetInfo,
    spacing: tuple[float, float, float] | None = None,
    sections: slice | None = None,
    hashed: bool = False,
) -> Volume:
    """Read a case, check it, and bring it into the model's axes.

    Args:
        case: what to read.
        info: declares channels and classes.
        spacing: resample to this (z, y, x) spacing; None keeps the voxels as they are.
        sections: EM only, read these sections.
        hashed: also give the hash of the intensities.

    Returns:
        The volume; EM has no class label (its neuron ids come from ``em.read_case``).

    Raises:
        DataError: unreadable or damaged file, non-finite or constant image, wrong number of
            channels, label on another grid or with values that are not declared; a spacing for a
            file whose axes are not at right angles.
        SettingsError: a spacing that is not positive, or sections of a NIfTI file.
    """
    if spacing is not None and not all(np.isfinite(s) and s > 0 for s in spacing):
        raise SettingsError(f"the spacing {spacing} is not positive", expected="(z, y, x) above 0")
    if info.format == "cremi":
        volume = em.read_case(case, info, sections, labels=False)
        image = torch.from_numpy(volume.raw.astype(np.float32))[None]  # (1, D, H, W)
        label, now, grid = None, volume.resolution, None
    else:
        if sections is not None:
            raise SettingsError("sections are a part of EM volumes only", where=case.image)
        image, label, now, grid = _load_nifti(case, info)
    if spacing is not None and grid is not None:
        box_sizes(grid.affine, case.image)
    content = content_hash(image.numpy()) if hashed else ""
    if spacing is not None and not np.allclose(spacing, now, rtol=1e-3):
        old = image.shape[1:]
        shape = tuple(_size(n * a / b) for n, a, b in zip(old, now, spacing, strict=True))
        image = F.interpolate(image[None], size=shape, mode="trilinear")[0]
        label = None if label is None else _resample_label(label, shape)
        now = tuple(n * a / m for n, a, m in zip(old, now, shape, strict=True))
    return Volume(image, label, now, case, grid, info, content)


def to_file_grid(labels: torch.Tensor | np.ndarray, volume: Volume) -> nib.Nifti1Image:
    """Bring a label map from the model's grid back to the grid of the file.

    Args:
        labels: integers 0…255 of shape (D, H, W), the shape of ``volume.image``.
        volume: the volume that was segmented.

    Returns:
        A uint8 NIfTI image with the file's shape, affine, qform and sform codes and zooms.

    Raises:
        DataError: wrong shape or values, or the volume did not come from a NIfTI file.
    """
    grid = volume.meta
    if grid is None:
        raise DataError(
            "the volume has no NIfTI grid",
            where=volume.case.image,
            expected="a volume that was read from .nii or .nii.gz",
        )
    labels = torch.as_tensor(labels).detach().cpu()
    if tuple(labels.shape) != tuple(volume.image.shape[1:]):
        raise DataError(
            f"the label map has the shape {tuple(labels.shape)}",
            where=volume.case.image,
            expected=f"{tuple(volume.image.shape[1:])}",
        )
    if labels.is_floating_point() or labels.min() < 0 or labels.max() > 255:
        raise DataError(
            "the label map does not fit into uint8",
            where=volume.case.image,
            expected="integers from 0 to 255",
        )
    transform = model_orientation(grid.affine)
    shape = tuple(grid.shape[int(i)] for i in np.argsort(transform[:, 0]))
    if tuple(labels.shape) != shape:
        labels = _resample_label(labels, shape)
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(AXES), nib.io_orientation(grid.affine)
    )
    array = nib.apply_orientation(labels.numpy().astype(np.uint8), back)
    header = grid.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(grid.shape)
    header["cal_min"] = header["cal_max"] = 0
    return grid.image_class(np.ascontiguousarray(array), grid.affine, header)


def check_image(array: np.ndarray, info: DatasetInfo, path: Path) -> np.ndarray:
    """The voxels as float32 (C, x, y, z); DataError on wrong channels, NaN, inf or no contrast."""
    channels = array.shape[3] if array.ndim == 4 else 1
    if array.ndim not in (3, 4) or channels != len(info.channels) or 0 in array.shape:
        raise DataError(
            f"the image has the shape {array.shape}",
            where=path,
            expected=f"three dimensions and {len(info.channels)} channel(s): "
            + ", ".join(info.channels),
            fix="check that the file belongs to this dataset",
        )
    array = np.moveaxis(array, 3, 0) if array.ndim == 4 else array[None]
    with np.errstate(over="ignore"):  # counted below
        array = array.astype(np.float32)
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise DataError(
            f"{bad} voxels are NaN or infinite",
            where=path,
            expected="finite intensities",
            fix="get the file again, or replace these voxels",
        )
    for name, channel in zip(info.channels, array, strict=True):
        if channel.min() == channel.max():
            raise DataError(
                f"the image is constant (channel {name} is {channel.flat[0]:g} everywhere)",
                where=path,
                expected="an image with contrast",
                fix="leave this case out, or get the file again",
            )
    return array


def check_label(array: np.ndarray, info: DatasetInfo, path: Path) -> np.ndarray:
    """The label as int16 (x, y, z); DataError names the values that are not declared.

    Values within ``WHOLE`` of a class, as conversions between types leave them, are taken for it;
    a warning says so.
    """
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise DataError(
            f"the label has the shape {array.shape}",
            where=path,
            expected="three dimensions",
            fix="check that the file is the label of this image",
        )
    values = np.unique(array)
    with np.errstate(invalid="ignore"):  # infinity
        off = np.abs(values - np.rint(values))
    right = (off <= WHOLE) & (np.rint(values) >= 0) & (np.rint(values) <= len(info.classes))
    wrong = values[~right]
    if wrong.size:
        shown = ", ".join(map(_written, wrong[:8])) + (" …" if len(wrong) > 8 else "")
        declared = ", ".join(f"{i} {name}" for i, name in enumerate(info.classes, 1))
        raise DataError(
            f"the label has values outside the declared classes: {shown}",
            where=path,
            expected=f"0 background, {declared}",
            fix="correct the label file or the labels in dataset.json",
        )
    near = values[off > 0]
    if near.size:
        warnings.warn(
            f"{path}: labels such as {_written(near[-1])} are taken for {near[-1]:.0f}",
            stacklevel=2,
        )
    return np.rint(array).astype(np.int16)


def _written(value: np.generic) -> str:
    """A number with all of its digits: 0.99999994 is not 1."""
    return str(value).removesuffix(".0")


def check_pair(image: Any, label: Any, case: Case) -> None:
    """DataError unless image and label (nibabel) have one shape and one affine."""
    shape, other = image.shape[:3], label.shape[:3]
    if shape != other:
        raise DataError(
            f"its shape is {other}, that of the image {shape}",
            where=case.label,
            expected="one grid",
            fix="see if it is the label of this image; if so, resample it to the image",
        )
    corners = np.stack(np.meshgrid(*[[0, n - 1] for n in shape], indexing="ij"), -1).reshape(-1, 3)
    moved = nib.affines.apply_affine(image.affine, corners) - nib.affines.apply_affine(
        label.affine, corners
    )
    distance = float(np.linalg.norm(moved, axis=1).max())
    if distance > TOLERANCE * nib.affines.voxel_sizes(image.affine).min():
        raise DataError(
            f"its affine differs from that of the image, by up to {distance:.3g} mm",
            where=case.label,
            expected="the same qform and sform",
            fix="see which header is right; copy it to the other file if the voxels agree, or "
            "resample the label to the image",
        )


def upright(section: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """A section (H, W) in the model's axes as people look at it, in memory of its own.

    CT and MRI as radiologists do: anterior is up, and the patient's right is on the left. EM as
    it is.
    """
    return (section if info.modality == "EM" else section[::-1, ::-1]).copy(order="C")


def model_orientation(affine: np.ndarray) -> np.ndarray:
    """Orientation transform (nibabel) from a file's axes to SAR, the nearest axes if oblique."""
    return nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(AXES)
    )


def in_model_axes(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Voxels of a file (C, x, y, z) in the model's axes (C, D, H, W)."""
    transform = model_orientation(affine)
    return np.stack([nib.apply_orientation(channel, transform) for channel in array])


def model_spacing(affine: np.ndarray) -> tuple[float, float, float]:
    """Voxel size (z, y, x) in mm of a file that is brought into the model's axes."""
    sizes = nib.affines.voxel_sizes(affine)
    axes = np.argsort(model_orientation(affine)[:, 0])
    return tuple(round(float(sizes[int(axis)]), 5) for axis in axes)


def _load_nifti(
    case: Case, info: DatasetInfo
) -> tuple[torch.Tensor, torch.Tensor | None, tuple[float, float, float], FileGrid]:
    file, voxels = read_nifti(case.image)
    array = check_image(voxels, info, case.image)
    image = torch.from_numpy(in_model_axes(array, file.affine))
    label = None
    if case.label is not None:
        label_file, label_voxels = read_nifti(case.label)
        check_pair(file, label_file, case)
        classes = check_label(label_voxels, info, case.label)
        label = torch.from_numpy(in_model_axes(classes[None], file.affine)[0])  # (D, H, W)
    grid = FileGrid(file.shape[:3], file.affine, file.header.copy(), type(file))
    return image, label, model_spacing(file.affine), grid


def content_hash(image: np.ndarray) -> str:
    """SHA-256 of shape and intensities (C, D, H, W) of an image in the model's axes."""
    digest = hashlib.sha256(str(image.shape).encode())
    for section in image.reshape(-1, *image.shape[-2:]):  # not all at once: a copy is made
        digest.update(np.ascontiguousarray(section, dtype=np.float32) + np.float32(0))  # −0 is 0
    return digest.hexdigest()


def _size(voxels: float) -> int:
    # Half a voxel counts as one, also where float32 affines make 13.4999 of 13.5: a volume must
    # get the same grid in each of its orientations.
    return max(1, math.floor(voxels + 0.5 + 1e-3))


def _resample_label(label: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The class whose linearly resampled indicator is largest, one class at a time."""
    best = torch.full(shape, -1.0)
    result = torch.zeros(shape, dtype=label.dtype)
    for value in torch.unique(label).tolist():
        mask = (label == value).float()[None, None]
        share = F.interpolate(mask, size=shape, mode="trilinear")[0, 0]
        result[share > best] = value
        best = torch.maximum(best, share)
    return result
