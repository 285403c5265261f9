"""Image → model grid → prediction → image grid is the identity, for volumes of every make."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine, from_matvec, voxel_sizes
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import grey_dilation, grey_erosion
from scipy.spatial.transform import Rotation

from gtgm.datasets import registry
from gtgm.datasets.geometry import Volume, load_volume, to_file_grid
from gtgm.datasets.msd import Case

INFO = dataclasses.replace(registry.get("Task04_Hippocampus"), classes=("a", "b", "c"))
ORIENTATIONS = [
    "".join(letters[i] for letters, i in zip(order, signs, strict=True))
    for order in itertools.permutations(["RL", "AP", "SI"])
    for signs in itertools.product([0, 1], repeat=3)
]
KINDS = (np.uint8, np.int16, np.float32, np.float64)
PLACES = ("both", "sform", "qform")


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@dataclasses.dataclass(frozen=True)
class Scan:
    """A volume in R, A, S (as near as it is to them), and how it is written."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    place: str = "both"
    slope: float | None = None
    second: bool = False
    suffix: str = ".nii.gz"

    def write(self, folder: Path, codes: str) -> Case:
        """Store it in another orientation."""
        turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
        paths = []
        for name, values in (("image", self.image), ("label", self.label)):
            image_class = nib.Nifti2Image if self.second else nib.Nifti1Image
            image = image_class(values, self.affine).as_reoriented(turn)
            affine = image.affine.copy()  # what follows changes it
            image.set_sform(affine, code=0 if self.place == "qform" else 2)
            image.set_qform(affine, code=0 if self.place == "sform" else 1)
            if self.slope is not None and name == "image":
                image.header.set_slope_inter(self.slope, -1024)
            paths.append(folder / f"{name}{self.suffix}")
            nib.save(image, paths[-1])
        return Case(INFO.name, "case", *paths)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Anisotropic voxels of 0.1 to 10 mm, turned by less than 40° about each axis, and moved."""
    zooms = [draw(st.floats(0.1, 10)) for _ in range(3)]
    angles = [draw(st.floats(-40, 40, exclude_min=True, exclude_max=True)) for _ in range(3)]
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return from_matvec(turn @ np.diag(zooms), [draw(st.floats(-300, 300)) for _ in range(3)])


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    """Random voxels and labels of 1 to 9 voxels a side, in every way that a file can hold them."""
    side = st.sampled_from([1, 2, 3, 4, 5, 7, 9])
    shape = draw(st.tuples(side, side, side).filter(lambda shape: np.prod(shape) > 1))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(KINDS))
    slope = draw(st.sampled_from([None, 0.5, 2.0])) if kind == np.int16 else None
    image = random.integers(0, 256, shape).astype(kind)
    image.flat[:2] = 1, 2  # never constant
    label = random.integers(0, 4, shape).astype(draw(st.sampled_from(KINDS)))
    return Scan(
        image,
        label,
        draw(affines()),
        draw(st.sampled_from(PLACES)),
        slope,
        draw(st.booleans()),
        draw(st.sampled_from([".nii", ".nii.gz"])),
    )


def check_back(volume: Volume) -> None:
    """The label of a volume comes back to the file's grid as it was, with the file's header."""
    image, label = nib.load(volume.case.image), nib.load(volume.case.label)
    back = to_file_grid(volume.label, volume)
    folder = volume.case.image.parent
    path = folder / f"back{''.join(volume.case.image.suffixes)}"
    nib.save(back, path)
    for found in (back, nib.load(path)):
        np.testing.assert_array_equal(np.asanyarray(found.dataobj), label.get_fdata())
        np.testing.assert_array_equal(found.affine, image.affine)
        assert type(found) is type(image)
        assert found.get_data_dtype() == np.uint8 and found.shape == image.shape
        assert found.header.get_zooms() == image.header.get_zooms()
        for code in ("qform_code", "sform_code"):
            assert found.header[code] == image.header[code]
        assert nib.aff2axcodes(found.affine) == nib.aff2axcodes(image.affine)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_the_way_in_and_back_is_the_identity(
    tmp_path: Path, codes: str, evidence: Callable
) -> None:
    evidence("orientation", "odd shapes, anisotropic, oblique", codes)

    @bounded(20)
    @given(scan=scans())
    def check(scan: Scan) -> None:
        volume = load_volume(scan.write(tmp_path, codes), INFO)
        check_back(volume)
        # The image by the same way: its values, at most 256 of them, are numbered like labels.
        values, numbers = np.unique(volume.image[0].numpy(), return_inverse=True)
        back = to_file_grid(numbers.reshape(volume.label.shape), volume)
        stored = nib.load(volume.case.image).get_fdata(dtype=np.float32)
        np.testing.assert_array_equal(values[np.asanyarray(back.dataobj)], stored)

    check()


@bounded(15)
@given(scan=scans())
def test_one_volume_whatever_the_orientation_of_its_file(tmp_path: Path, scan: Scan) -> None:
    first = None
    for codes in ORIENTATIONS:
        volume = load_volume(scan.write(tmp_path, codes), INFO)
        assert volume.image.dtype == torch.float32 and volume.label.dtype == torch.int16
        first = volume if first is None else first
        assert torch.equal(volume.image, first.image), codes
        assert torch.equal(volume.label, first.label), codes
        np.testing.assert_allclose(volume.spacing, first.spacing, rtol=1e-4, atol=2e-5)


@bounded(150)
@given(scan=scans(), codes=st.sampled_from(ORIENTATIONS), data=st.data())
def test_every_voxel_is_where_its_world_coordinates_say(
    tmp_path: Path, scan: Scan, codes: str, data: st.DataObject
) -> None:
    """Independent of transforms of orientation: by the affine alone, one voxel after another."""
    volume = load_volume(scan.write(tmp_path, codes), INFO)
    file = nib.load(volume.case.image)
    stored, affine = file.get_fdata(), file.affine
    # Which axis of the file is which of the model, and which way round it runs.
    axes = [int(axis) for axis in np.argsort(io_orientation(affine)[:, 0])][::-1]  # S, A, R
    rise = [affine[world, axis] for world, axis in zip((2, 1, 0), axes, strict=True)]
    at = [data.draw(st.integers(0, n - 1)) for n in volume.image.shape[1:]]
    place = [0, 0, 0]
    for model, (axis, up) in enumerate(zip(axes, rise, strict=True)):
        place[axis] = at[model] if up > 0 else stored.shape[axis] - 1 - at[model]
    assert volume.image[0][tuple(at)] == np.float32(stored[tuple(place)])
    assert volume.label[tuple(at)] == nib.load(volume.case.label).get_fdata()[tuple(place)]
    for model, axis in enumerate(axes):
        if at[model] + 1 < volume.image.shape[1 + model]:
            ahead = list(place)
            ahead[axis] += 1 if rise[model] > 0 else -1
            moved = apply_affine(affine, ahead) - apply_affine(affine, place)
            assert moved[2 - model] > 0  # to S, A, R
            np.testing.assert_allclose(np.linalg.norm(moved), volume.spacing[model], atol=2e-5)


@st.composite
def resampled(draw: st.DrawFn) -> tuple[Scan, tuple[float, float, float]]:
    """Three balls in a volume of 12 to 25 voxels a side, and a spacing near that of the file."""
    shape = draw(st.tuples(*[st.integers(12, 25)] * 3))
    affine = draw(affines())
    grid = np.indices(shape)
    label = np.zeros(shape, np.uint8)
    for value in (1, 2, 3):
        centre = [draw(st.floats(0, n - 1)) for n in shape]
        radius = draw(st.floats(4, 7))
        label[sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2] = value
    image = grid.sum(0).astype(np.float32)
    codes = draw(st.sampled_from(ORIENTATIONS))
    factors = [draw(st.floats(0.5, 1.2)) for _ in range(3)]
    scan = Scan(image, label, affine)
    sizes = voxel_sizes(affine)[np.argsort(io_orientation(affine)[:, 0])][::-1]
    return scan, codes, tuple(float(s * f) for s, f in zip(sizes, factors, strict=True))


@bounded(60)
@given(case=resampled())
def test_a_resampled_prediction_comes_back_within_one_voxel(
    tmp_path: Path, case: tuple[Scan, str, tuple[float, float, float]]
) -> None:
    scan, codes, spacing = case
    volume = load_volume(scan.write(tmp_path, codes), INFO, spacing)
    label = np.asanyarray(nib.load(volume.case.label).dataobj)
    extent = np.array(volume.spacing) * volume.image.shape[1:]
    before = load_volume(volume.case, INFO)
    np.testing.assert_allclose(extent, np.array(before.spacing) * before.image.shape[1:], rtol=1e-4)
    assert volume.image.min() >= before.image.min() and volume.image.max() <= before.image.max()
    back = to_file_grid(volume.label, volume)
    np.testing.assert_array_equal(back.affine, nib.load(volume.case.image).affine)
    back = np.asanyarray(back.dataobj)
    near_border = grey_dilation(label, size=(3, 3, 3)) != grey_erosion(label, size=(3, 3, 3))
    assert back.shape == label.shape
    assert (back == label)[~near_border].all()
    assert (back == label).mean() > 0.85
