"""Segmentation of files: the same anatomy in any orientation gives the same answer on each grid."""

from __future__ import annotations

import dataclasses
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from handover_runs import ABOUT as NOW
from handover_runs import SIZES
from small_files import contradicting, tilted

from gtgm.datasets import registry
from gtgm.datasets.geometry import load_volume
from gtgm.datasets.msd import Case
from gtgm.datasets.nifti import read_nifti
from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.inference import predict_scores, segment_file, segment_volume
from gtgm.models.encoder import build_encoder, save_pretrained
from gtgm.models.segmenter import build_segmenter, save_segmenter

#: As older folders have it, which do not name the windows.
ABOUT = {name: value for name, value in NOW.items() if name != "windows"}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    return save_segmenter(build_segmenter("unet", 1, 3, **SIZES), tmp_path / "weights", **ABOUT)


@pytest.fixture
def scan(shared_data):
    return shared_data / "msd" / "Task04_Hippocampus" / "imagesTr" / "hippocampus_001.nii.gz"


def rotation(degrees: float) -> np.ndarray:
    turn = np.deg2rad(degrees)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return affine


def copies(scan, folder) -> dict[str, nib.Nifti1Image]:
    """The scan as RAS, LPS and another permutation, and turned by 15 degrees in space."""
    image = nib.as_closest_canonical(nib.load(scan))
    made = {"RAS": image}
    for codes in ("LPS", "ASL"):
        transform = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
        made[codes] = image.as_reoriented(transform)
    data = np.asarray(image.dataobj)
    made["oblique"] = nib.Nifti1Image(data, rotation(15) @ image.affine)
    for name, copy in made.items():
        nib.save(copy, folder / f"{name}.nii.gz")
    return made


def test_orientations_agree_on_their_own_grids(scan, weights, tmp_path):
    made = copies(scan, tmp_path)
    answers = {}
    for name, image in made.items():
        out = tmp_path / f"{name}_labels.nii.gz"
        segment_file(tmp_path / f"{name}.nii.gz", out, weights)
        labels = nib.load(out)
        assert labels.shape == image.shape
        assert np.allclose(labels.affine, image.affine)
        assert nib.aff2axcodes(labels.affine) == nib.aff2axcodes(image.affine)
        canonical = nib.as_closest_canonical(labels)
        answers[name] = np.asarray(canonical.dataobj)
    assert len(np.unique(answers["RAS"])) > 1
    for name, labels in answers.items():
        assert np.array_equal(labels, answers["RAS"]), name


def test_volumes_are_in_millilitres(scan, weights, tmp_path):
    out = tmp_path / "labels.nii"
    volumes = segment_file(scan, out, weights)
    labels = np.asarray(nib.load(out).dataobj)
    assert volumes["anterior"] == pytest.approx((labels == 1).sum() / 1000, rel=1e-3)


HEADERS = {
    "pixdim": ((np.diag([0.5, 0.5, 3, 1]), None, (1, 1, 1)), 0.75, ["by pixdim"]),
    "gantry": ((tilted(), np.eye(4)), 1.0, ["by pixdim", "not at right angles"]),
    "gantry in sform alone": ((tilted(), None, (1, 1, 1.118034)), 1.0, ["not at right angles"]),
    "left and right": ((np.eye(4), np.diag([-1, 1, 1, 1])), 1.0, ["to R, A, S by the sform, to L"]),
    "axes": ((np.eye(4), np.eye(4)[[1, 0, 2, 3]]), 1.0, ["to A, R, S by the qform"]),
    "sizes": ((np.eye(4), np.diag([2, 1, 1, 1])), 1.0, ["2 × 1 × 1 mm by pixdim and 1 × 1 × 1"]),
    "no contradiction": ((np.diag([2, 1, 1, 1]), np.diag([2, 1, 1, 1])), 2.0, []),
    "rounded": ((tilted(5e-4), np.eye(4), (1.0005, 1, 1)), 1.0, []),
}


@pytest.mark.parametrize("name", HEADERS)
def test_contradictions_of_a_header_are_said_and_the_affine_counts(name, weights, tmp_path):
    header, voxel, said = HEADERS[name]
    voxels = np.random.default_rng(0).normal(size=(16, 17, 18)).astype(np.float32)
    path = contradicting(tmp_path / "scan.nii.gz", voxels, *header)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ml = segment_file(path, tmp_path / "out.nii.gz", weights)
    texts = [str(w.message) for w in caught if w.category is UserWarning]
    assert len(texts) == len(said)
    assert all(part in text and str(path) in text for part, text in zip(said, texts, strict=True))
    out = nib.load(tmp_path / "out.nii.gz")
    count = (np.asarray(out.dataobj) == 1).sum()
    assert count and ml["anterior"] == pytest.approx(count * voxel / 1000, rel=1e-3)
    assert np.allclose(out.affine, header[0])


@pytest.mark.parametrize("name", ["scan.NII.GZ", "scan.Nii", "Scan.nii.GZ", "scan.Nii.gz"])
def test_suffixes_in_capitals_are_the_same(scan, weights, tmp_path, name):
    expected = segment_file(scan, tmp_path / "labels.nii", weights)
    image = nib.load(scan)
    nib.save(image, tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    out = tmp_path / f"out_{name}"
    assert segment_file(tmp_path / name, out, weights) == expected
    assert out in tmp_path.iterdir()
    voxels = read_nifti(out)[1]
    np.testing.assert_array_equal(voxels, nib.load(tmp_path / "labels.nii").get_fdata())


def test_bad_names_and_weights(scan, weights, tmp_path):
    with pytest.raises(DataError, match=r"labels.png.*\.nii"):
        segment_file(scan, tmp_path / "labels.png", weights)
    with pytest.raises(DataError, match="nothing.nii.gz"):
        segment_file(tmp_path / "nothing.nii.gz", tmp_path / "out.nii", weights)
    with pytest.raises(WeightsError, match="config.json"):
        segment_file(scan, tmp_path / "out.nii", tmp_path)
    neurons = save_segmenter(build_segmenter("unet", 1, 3, **SIZES), tmp_path / "n", threshold=0.5)
    with pytest.raises(WeightsError, match="no segmenter of classes"):
        segment_file(scan, tmp_path / "out.nii", neurons)
    encoder = save_pretrained(build_encoder("unet", 1, **SIZES), tmp_path / "e")
    with pytest.raises(WeightsError, match="holds an encoder"):
        segment_file(scan, tmp_path / "out.nii", encoder)
    with pytest.raises(DataError, match="would replace the image"):
        segment_file(scan, scan, weights)
    assert not (tmp_path / "out.nii").exists()


class Constant(torch.nn.Module):
    """Scores that depend on the voxel alone, so that windows must not matter."""

    def forward(self, x):
        return torch.cat([x, 2 * x, -x], 1)


def test_windows_and_flips_do_not_change_a_voxelwise_network():
    image = torch.randn(1, 11, 13, 9)
    scores = predict_scores(Constant(), image, (8, 8, 8), tta_axes="DW", precision="no")
    expected = torch.cat([image, 2 * image, -image]).softmax(0)
    assert scores.shape == (3, 11, 13, 9)
    assert torch.allclose(scores, expected, atol=1e-5)


def test_windows_flips_and_overlap_are_options(scan, weights, tmp_path):
    kept = segment_file(scan, tmp_path / "a.nii.gz", weights)
    assert segment_file(scan, tmp_path / "b.nii.gz", weights, windows=1) == pytest.approx(kept)
    segment_file(scan, tmp_path / "c.nii.gz", weights, tta_axes="DW", overlap=0.25)
    first, _, other = (
        np.asarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("a", "b", "c")
    )
    assert first.shape == other.shape
    assert (first != other).any()
    with pytest.raises(SettingsError, match="tta_axes: is 'XY'"):
        segment_file(scan, tmp_path / "d.nii.gz", weights, tta_axes="XY")
    with pytest.raises(SettingsError, match="unknown setting 'window'.*windows"):
        segment_file(scan, tmp_path / "d.nii.gz", weights, window=3)


class Everywhere(torch.nn.Module):
    """Foreground in every voxel, as a network of a hundred steps may have it in the air."""

    def forward(self, x):
        return torch.cat([torch.zeros_like(x[:, :1]), torch.ones_like(x[:, :1])], 1)


def segmented(path, image, dataset="Task04_Hippocampus", channels=("MRI",)):
    """Where `Everywhere` finds something in an image (x, y, z[, c]), in the file's axes."""
    nib.save(nib.Nifti1Image(image.astype(np.float32), np.eye(4)), path)
    info = dataclasses.replace(registry.get(dataset), channels=channels)
    volume = load_volume(Case(dataset, "a", path, None), info)
    about = {"dataset": dataset, "modality": info.modality, "patch": (8, 8, 8), "overlap": 0.5,
             "tta_axes": "", "precision": "no", "released_window": False}  # fmt: skip
    return np.asarray(segment_volume(Everywhere(), volume, about)[1].dataobj) > 0


def test_there_is_background_where_nothing_was_measured(tmp_path):
    image = np.random.default_rng(0).normal(100, 5, (20, 18, 16))
    body = np.zeros(image.shape, bool)
    body[4:15, 3:16, 2:] = True  # an irregular head, whose box is not all of it
    body[4:8, 3:8] = False
    image[~body] = 0
    image[9:13, 9:13, 6:10] = 0  # a hole that tissue encloses
    image[4, 10, 8] = image[14, 15, 15] = image[6, 9, 2:5] = 0  # grey values that happen to be 0
    assert np.array_equal(segmented(tmp_path / "one.nii", image), body)
    other = image.copy()
    other[0, 0, 0], body[0, 0, 0] = 7, True  # measured in one channel is measured
    both = segmented(tmp_path / "two.nii", np.stack([image, other], -1), channels=("T2", "ADC"))
    assert np.array_equal(both, body)


def test_images_of_tissue_alone_and_ct_are_segmented_everywhere(tmp_path):
    image = np.random.default_rng(0).normal(100, 5, (12, 12, 12))
    image[0, :, 4:], image[3, 4], image[:, 5, 0] = 0, 0, 0  # one voxel thick: no block
    assert segmented(tmp_path / "mri.nii", image).all()
    image[:6] = 0  # water
    assert segmented(tmp_path / "ct.nii", image, "Task09_Spleen", ("CT",)).all()


def test_real_crops_are_segmented_everywhere(shared_data, tmp_path):
    folder = shared_data / "msd" / "Task04_Hippocampus" / "imagesTr"
    zeros = 0
    for number in ("001", "003", "004"):
        image = np.asarray(nib.load(folder / f"hippocampus_{number}.nii.gz").dataobj)
        assert segmented(tmp_path / "a.nii", image).all()
        zeros += (image == 0).sum()
    assert zeros  # some of their voxels are 0
