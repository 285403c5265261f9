"""The way in and the way back, over all orientations, and every bad volume."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation
from small_files import em, nifti, tilted

from gtgm.datasets import registry
from gtgm.datasets.geometry import load_volume, to_file_grid
from gtgm.datasets.msd import Case
from gtgm.errors import DataError, SettingsError

INFO = dataclasses.replace(registry.get("Task04_Hippocampus"), classes=("a", "b", "c"))
ORIENTATIONS = [
    "".join(letters[i] for letters, i in zip(order, signs, strict=True))
    for order in itertools.permutations(["RL", "AP", "SI"])
    for signs in itertools.product([0, 1], repeat=3)
]
SHAPE = (7, 10, 5)  # x, y, z in RAS
ZOOMS = (0.9, 1.1, 2.5)


def in_orientation(array: np.ndarray, affine: np.ndarray, codes: str) -> nib.Nifti1Image:
    """The same RAS volume, stored in another orientation."""
    transform = nib.orientations.axcodes2ornt(codes)
    start = nib.orientations.axcodes2ornt("RAS")
    return nib.Nifti1Image(array, affine).as_reoriented(
        nib.orientations.ornt_transform(start, transform)
    )


def oblique(angle: float = 0.3) -> np.ndarray:
    """An affine of ZOOMS, turned about two axes and moved."""
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, s], [0, -s, c]]
    )
    return nib.affines.from_matvec(turn @ np.diag(ZOOMS), [-20.0, 13.0, 5.5])


def straight() -> np.ndarray:
    return nib.affines.from_matvec(np.diag(ZOOMS), [-20.0, 13.0, 5.5])


def write(folder: Path, image: nib.Nifti1Image, label: nib.Nifti1Image) -> Case:
    nib.save(image, folder / "image.nii.gz")
    nib.save(label, folder / "label.nii.gz")
    return Case(INFO.name, "case", folder / "image.nii.gz", folder / "label.nii.gz")


def blobs(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """A label map of three connected classes."""
    grid = np.indices(shape).astype(float)
    grid /= np.reshape(shape, (3, 1, 1, 1))
    label = (grid[0] > 0.4).astype(np.uint8) + (grid[1] > 0.5)
    label[grid.sum(0) > 2.2] = 3
    return label.astype(np.uint8)


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("affine", [straight(), oblique()], ids=["straight", "oblique"])
def test_all_orientations_give_one_volume_and_go_back_exactly(
    tmp_path: Path, affine: np.ndarray
) -> None:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    labels = blobs()
    expected = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 1, 0)))
    for codes in ORIENTATIONS:
        image = in_orientation(array, affine, codes)
        label = in_orientation(labels, affine, codes)
        volume = load_volume(write(tmp_path, image, label), INFO)
        assert volume.meta.orientation == codes
        assert volume.image.dtype == torch.float32 and volume.label.dtype == torch.int16
        assert torch.equal(volume.image[0], expected), codes
        assert np.allclose(volume.spacing, ZOOMS[::-1], atol=1e-5), codes
        back = to_file_grid(volume.label, volume)
        assert back.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(np.asanyarray(back.dataobj), label.dataobj)
        np.testing.assert_array_equal(back.affine, nib.load(volume.case.image).affine)


def test_orientation_agrees_with_monai(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    for codes in ("LPS", "PIR", "ASL"):
        image = in_orientation(array, oblique(), codes)
        volume = load_volume(
            write(tmp_path, image, in_orientation(blobs(), oblique(), codes)), INFO
        )
        tensor = MetaTensor(np.array(image.dataobj)[None], affine=image.affine)
        theirs = Orientation(axcodes="SAR", labels=(("L", "R"), ("P", "A"), ("I", "S")))(tensor)
        assert torch.equal(volume.image, theirs.as_tensor())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.1, 0.7, 1.6)])
def test_resampled_round_trip(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    shape = (35, 46, 19)
    labels = blobs(shape)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    first = None
    for codes in ("RAS", "LPS", "SPL", "AIR"):
        image = in_orientation(array, oblique(), codes)
        label = in_orientation(labels, oblique(), codes)
        volume = load_volume(write(tmp_path, image, label), INFO, spacing)
        sizes = zip(shape[::-1], ZOOMS[::-1], spacing, strict=True)
        expected = [int(n * z / s + 0.501) for n, z, s in sizes]
        assert list(volume.image.shape[1:]) == list(volume.label.shape) == expected
        np.testing.assert_allclose(
            np.array(volume.spacing) * expected, np.array(ZOOMS[::-1]) * shape[::-1], rtol=1e-5
        )
        first = volume.image if first is None else first
        assert torch.allclose(volume.image, first, atol=1e-5), codes
        back = to_file_grid(volume.label, volume)
        assert back.shape == image.shape
        agree = np.mean(np.asanyarray(back.dataobj) == np.asanyarray(label.dataobj))
        assert agree > 0.95, (codes, agree)


def test_spacing_of_the_file_is_not_resampled(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    case = write(tmp_path, nib.Nifti1Image(array, straight()), nib.Nifti1Image(blobs(), straight()))
    assert torch.equal(load_volume(case, INFO, ZOOMS[::-1]).image, load_volume(case, INFO).image)


def test_header_codes_zooms_and_units_are_kept(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(array, oblique())
    image.header.set_slope_inter(2.0, -1000)
    image.set_qform(oblique(), code=1)
    image.set_sform(oblique(), code=2)
    image.header.set_xyzt_units("mm", "sec")
    case = write(tmp_path, image, nib.Nifti1Image(blobs(), oblique()))
    volume = load_volume(case, INFO)
    nib.save(to_file_grid(volume.label, volume), tmp_path / "out.nii.gz")
    source, out = nib.load(case.image), nib.load(tmp_path / "out.nii.gz")
    assert out.get_data_dtype() == np.uint8
    assert (out.header["qform_code"], out.header["sform_code"]) == (1, 2)
    assert out.header.get_zooms() == source.header.get_zooms()
    assert out.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(out.affine, source.affine)
    np.testing.assert_array_equal(out.get_qform(), source.get_qform())
    np.testing.assert_array_equal(np.asanyarray(out.dataobj), blobs())


def test_intensities_are_scaled_by_the_header(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16), straight())
    image.header.set_slope_inter(1.0, -1024)
    case = write(tmp_path, image, nib.Nifti1Image(blobs(), straight()))
    expected = torch.from_numpy(nib.load(case.image).get_fdata(dtype=np.float32).transpose(2, 1, 0))
    assert torch.equal(load_volume(case, INFO).image[0], expected)


def test_four_channels_and_a_3d_label_on_the_way_back(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, channels=("FLAIR", "T1w", "T1gd", "T2w"))
    array = np.random.default_rng(0).normal(size=(*SHAPE, 4)).astype(np.float32)
    case = write(tmp_path, nib.Nifti1Image(array, oblique()), nib.Nifti1Image(blobs(), oblique()))
    volume = load_volume(case, info)
    assert volume.image.shape == (4, 5, 10, 7)
    assert torch.equal(volume.image[2], torch.from_numpy(array[..., 2].transpose(2, 1, 0).copy()))
    back = to_file_grid(volume.label, volume)
    assert back.shape == SHAPE
    nib.save(back, tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "out.nii.gz").dataobj), blobs())
    for wrong in (INFO, dataclasses.replace(INFO, channels=("a", "b"))):
        with pytest.raises(DataError, match=r"shape \(7, 10, 5, 4\).*channel"):
            load_volume(case, wrong)


@pytest.fixture
def good(tmp_path: Path) -> Case:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    return write(tmp_path, nib.Nifti1Image(array, straight()), nib.Nifti1Image(blobs(), straight()))


def test_truncated_absent_and_foreign_files(good: Case, tmp_path: Path) -> None:
    whole = good.image.read_bytes()
    for size in (len(whole) // 2, 100, 0):
        good.image.write_bytes(whole[:size])
        with pytest.raises(DataError, match="cannot be read"):
            load_volume(good, INFO)
    good.image.write_bytes(b"not a NIfTI file, but long enough" * 50)
    with pytest.raises(DataError, match="cannot be read"):
        load_volume(good, INFO)
    good.image.unlink()
    with pytest.raises(DataError, match="no such file"):
        load_volume(good, INFO)
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match="no NIfTI file"):
        load_volume(dataclasses.replace(good, image=tmp_path / "a.png"), INFO)


def test_truncated_uncompressed_file(good: Case, tmp_path: Path) -> None:
    path = nifti(tmp_path / "plain.nii", np.random.rand(*SHAPE).astype(np.float32))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match="cannot be read"):
        load_volume(dataclasses.replace(good, image=path, label=None), INFO)


def test_a_sheared_grid_is_read_and_not_resampled(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    case = write(tmp_path, nib.Nifti1Image(image, tilted()), nib.Nifti1Image(blobs(), tilted()))
    volume = load_volume(case, INFO)
    np.testing.assert_array_equal(volume.image[0].numpy(), image.transpose(2, 1, 0))
    with pytest.raises(DataError, match=r"image\.nii\.gz: its axes are not at right angles"):
        load_volume(case, INFO, (2.0, 2.0, 2.0))
    slight = write(
        tmp_path, nib.Nifti1Image(image, tilted(5e-4)), nib.Nifti1Image(blobs(), tilted(5e-4))
    )
    assert load_volume(slight, INFO, (2.0, 2.0, 2.0)).spacing == pytest.approx((2, 2, 2), rel=0.3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_image(good: Case, value: float) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[1, 2, 3], array[0, 0, 0] = value, 1
    nifti(good.image, array, straight())
    with pytest.raises(DataError, match="1 voxels are NaN or infinite"):
        load_volume(good, INFO)


def test_constant_image(good: Case) -> None:
    nifti(good.image, np.full(SHAPE, 3.5, np.float32), straight())
    with pytest.raises(DataError, match="constant .*3.5"):
        load_volume(good, INFO)


def test_label_on_another_grid(good: Case) -> None:
    nifti(good.label, blobs((7, 10, 6)), straight())
    with pytest.raises(DataError, match=r"\(7, 10, 6\), that of the image \(7, 10, 5\)"):
        load_volume(good, INFO)
    for affine in (np.diag([-1, 1, 1, 1]) @ straight(), oblique(0.05)):
        nifti(good.label, blobs(), affine)
        with pytest.raises(DataError, match="its affine differs"):
            load_volume(good, INFO)
    nearly = straight()
    nearly[0, 3] += 1e-3
    nifti(good.label, blobs(), nearly)
    assert load_volume(good, INFO).label is not None


def test_label_values_outside_the_classes_are_named(good: Case) -> None:
    label = blobs().astype(np.float32)
    label[0, 0, 0], label[0, 0, 1], label[0, 0, 2] = 7, 1.5, -1
    nifti(good.label, label, straight())
    with pytest.raises(
        DataError, match=r"declared classes: -1, 1.5, 7.*0 background, 1 a, 2 b, 3 c"
    ):
        load_volume(good, INFO)


@pytest.mark.parametrize("zoom", [0.0, -1.0, np.nan])
def test_spacing_that_is_not_positive(good: Case, tmp_path: Path, zoom: float) -> None:
    raw = bytearray(gzip.decompress(good.image.read_bytes()))
    raw[80:84] = np.float32(zoom).tobytes()  # pixdim[1]
    path = tmp_path / "zoom.nii"
    path.write_bytes(raw)
    with pytest.raises(DataError, match="voxel spacing"):
        load_volume(dataclasses.replace(good, image=path), INFO)


def test_singular_affine(good: Case) -> None:
    image = nib.load(good.image)
    flat = image.affine.copy()
    flat[:, 2] = 0
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = flat[:3]
    broken = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    nib.save(broken, good.image)
    with pytest.raises(DataError, match="singular"):
        load_volume(good, INFO)


def test_complex_image(good: Case) -> None:
    nifti(good.image, np.ones(SHAPE, np.complex64), straight())
    with pytest.raises(DataError, match="complex"):
        load_volume(good, INFO)


def test_settings_and_label_maps_that_do_not_fit(good: Case) -> None:
    for spacing in [(1, 0, 1), (1, -1, 1), (1, float("nan"), 1)]:
        with pytest.raises(SettingsError, match="not positive"):
            load_volume(good, INFO, spacing)
    with pytest.raises(SettingsError, match="EM volumes only"):
        load_volume(good, INFO, sections=slice(0, 2))
    volume = load_volume(good, INFO)
    with pytest.raises(DataError, match="label map has the shape"):
        to_file_grid(torch.zeros(SHAPE, dtype=torch.int64), volume)
    for wrong in (torch.rand(5, 10, 7), torch.full((5, 10, 7), 256), torch.full((5, 10, 7), -1)):
        with pytest.raises(DataError, match="uint8"):
            to_file_grid(wrong, volume)


def test_em_volume(tmp_path: Path) -> None:
    path = em(tmp_path / "a.hdf")
    info = registry.get("CREMI_A")
    case = Case("CREMI_A", "CREMI_A", path, path)
    volume = load_volume(case, info, sections=slice(2, 8))
    assert volume.image.shape == (1, 6, 9, 10) and volume.image.dtype == torch.float32
    assert volume.label is None and volume.spacing == (40.0, 4.0, 4.0)
    with pytest.raises(DataError, match="no NIfTI grid"):
        to_file_grid(torch.zeros(6, 9, 10, dtype=torch.uint8), volume)
    assert "neuron instances" in volume._repr_html_()


def test_volume_shows_itself(good: Case) -> None:
    html = load_volume(good, INFO)._repr_html_()
    for text in ("1 × 5 × 10 × 7", "2.5 × 1.1 × 0.9 mm", "RAS", "1 a, 2 b, 3 c", "CC-BY-SA"):
        assert text in html
    assert "data:image/png;base64,iVBOR" in html and len(html) < 200_000


def test_real_hippocampus_in_and_back(shared_data: Path) -> None:
    folder = shared_data / "msd" / "Task04_Hippocampus"
    info = registry.get("Task04_Hippocampus")
    for name in ("hippocampus_001.nii.gz", "hippocampus_003.nii.gz"):
        case = Case(info.name, name, folder / "imagesTr" / name, folder / "labelsTr" / name)
        volume = load_volume(case, info)
        label = nib.load(case.label)
        assert volume.label.unique().tolist() == [0, 1, 2]
        back = to_file_grid(volume.label, volume)
        np.testing.assert_array_equal(np.asanyarray(back.dataobj), np.asanyarray(label.dataobj))
        np.testing.assert_array_equal(back.affine, nib.load(case.image).affine)


def test_every_orientation_gets_the_same_grid_at_half_voxels(tmp_path: Path) -> None:
    """15 voxels of 0.9 mm are 13.5 of 1 mm; the float32 affine must not decide the rounding."""
    array = np.random.default_rng(0).normal(size=(15, 4, 5)).astype(np.float32)
    label = np.zeros((15, 4, 5), np.uint8)
    for codes in ORIENTATIONS:
        pair = [in_orientation(a, oblique(), codes) for a in (array, label)]
        assert load_volume(write(tmp_path, *pair), INFO, (1, 1, 1)).image.shape[3] == 14
