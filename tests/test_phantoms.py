"""Phantom datasets: files, determinism, anatomy and the artefacts that they should have."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label as connected_regions

from gtgm.datasets import em as em_volumes
from gtgm.datasets import msd, phantoms, registry
from gtgm.datasets.phantoms import em
from gtgm.datasets.phantoms.files import ORIENTATIONS
from gtgm.datasets.phantoms.shapes import Frame, curve, smooth_noise, tree
from gtgm.errors import DataError, SettingsError

VOLUMES = [n for n in registry.names() if registry.get(n).format == "msd"]
SECTIONS = [n for n in registry.names() if registry.get(n).format == "cremi"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantoms")


def arrays(root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        tuple(np.asarray(nib.load(p).dataobj) for p in (case.image, case.label))
        for case in msd.read_manifest(root)[1]
    ]


def canonical(path: Path) -> np.ndarray:
    """Voxels as (C, D, H, W), SAR, by nibabel alone."""
    voxels = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    return (voxels[..., None] if voxels.ndim == 3 else voxels).transpose(3, 2, 1, 0)


@pytest.mark.parametrize("name", VOLUMES)
def test_msd_phantom_is_complete(name: str, folder: Path) -> None:
    info = registry.get(name)
    root = phantoms.write(name, folder, cases=8)
    assert root == folder / name
    manifest, cases = msd.read_manifest(root)
    assert manifest["classes"] == info.classes and manifest["channels"] == info.channels
    assert "PHANTOM" in manifest["description"] and "synthetic" in manifest["description"]
    assert manifest["numTraining"] == len(cases) == 8
    present = np.zeros(len(info.classes))
    for case in cases:
        image, label = nib.load(case.image), nib.load(case.label)
        assert image.shape[:3] == label.shape
        assert image.shape[3:] == ((len(info.channels),) if len(info.channels) > 1 else ())
        np.testing.assert_array_equal(image.affine, label.affine)
        np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-4)
        voxels, classes = np.asarray(image.dataobj), np.asarray(label.dataobj)
        assert all(voxels[..., c].std() > 0 for c in range(voxels.shape[-1])) and voxels.any()
        assert classes.max() <= len(info.classes)
        present += [(classes == k + 1).any() for k in range(len(info.classes))]
    assert (present >= 6).all(), present


@pytest.mark.parametrize("name", [n for n in VOLUMES if registry.get(n).modality == "CT"])
def test_ct_is_in_hounsfield_units(name: str, folder: Path) -> None:
    for case in msd.read_manifest(phantoms.write(name, folder, cases=8))[1]:
        image = canonical(case.image)[0]
        assert -1024 <= image.min() < -950 and 250 < image.max() <= 3071
        # Air around the body; a view of the liver alone shows it on one side only.
        corners = [np.median(image[:, :2, side]) for side in (slice(2), slice(-2, None))]
        assert abs(min(corners) + 1000) < 40
        body = image[(image > -150) & (image < 300)]
        assert body.size > 0.2 * image.size
    label = canonical(case.label)[0]
    inside = image[ndimage.binary_erosion(label == 1)] if "Vessel" not in name else image[label > 0]
    if inside.size:
        assert -100 < np.median(inside) < 230


def test_liver_lies_on_the_right_and_spleen_on_the_left(folder: Path) -> None:
    """Orientation of file and affine agree: in SAR the right side has the higher W index."""
    for name, right in (("Task03_Liver", True), ("Task09_Spleen", False)):
        for case in msd.read_manifest(phantoms.write(name, folder, cases=8))[1]:
            label = canonical(case.label)[0]
            middle = ndimage.center_of_mass(label > 0)[2] / label.shape[2]
            assert (middle > 0.5) == right, case.id


def test_threshold_does_not_solve_the_task(folder: Path) -> None:
    """No window of intensities that fits one case of the spleen reaches half of the Dice."""
    case = msd.read_manifest(phantoms.write("Task09_Spleen", folder, cases=8))[1][0]
    image, truth = canonical(case.image)[0], canonical(case.label)[0] > 0
    best = 0.0
    for low in range(0, 200, 10):
        for high in range(low + 10, 260, 10):
            found = (image >= low) & (image < high)
            best = max(best, 2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert 0 < best < 0.5


def test_orientations_and_oblique_affines(folder: Path) -> None:
    cases = msd.read_manifest(phantoms.write("Task05_Prostate", folder, cases=8))[1]
    codes, angles = [], []
    for case in cases:
        affine = nib.load(case.image).affine
        codes.append("".join(nib.aff2axcodes(affine)))
        spacing = nib.affines.voxel_sizes(affine)
        np.testing.assert_allclose(sorted(spacing), [1.9, 1.9, 3.6], rtol=1e-5)
        cosines = np.abs(affine[:3, :3] / spacing).max(axis=0)
        angles.append(np.degrees(np.arccos(np.clip(cosines, 0, 1))).max())
    assert codes == [ORIENTATIONS[i % len(ORIENTATIONS)][0] for i in range(8)]
    assert len(set(codes)) >= 5
    oblique = [a for a in angles if a > 1]
    assert len(oblique) == 2 and all(10 <= a <= 20 for a in oblique)


def test_channels_have_their_own_contrast(folder: Path) -> None:
    """Enhancing tumour stands out after contrast agent only; oedema is bright in FLAIR, not T1."""
    higher = []
    for case in msd.read_manifest(phantoms.write("Task01_BrainTumour", folder, cases=8))[1]:
        image, label = canonical(case.image), canonical(case.label)[0]
        flair, t1, t1gd, _ = (c / c[(label == 0) & (c > 0)].mean() for c in image)
        assert flair[label == 1].mean() > 1.2 and t1[label == 1].mean() < 0.9
        higher.append(t1gd[label == 3].mean() - t1[label == 3].mean())
        assert (image[:, 0, 0, 0] == 0).all()  # skull-stripped
    assert np.mean(higher) > 0.2


def test_hippocampus_parts_adjoin_front_to_back(folder: Path) -> None:
    for case in msd.read_manifest(phantoms.write("Task04_Hippocampus", folder, cases=8))[1]:
        label = canonical(case.label)[0]
        front, back = (ndimage.center_of_mass(label == k)[1] for k in (1, 2))
        assert front > back + 8
        assert (ndimage.binary_dilation(label == 1) & (label == 2)).any()
        assert connected_regions(label > 0, connectivity=1).max() <= 2


def test_same_seed_same_voxels_other_seed_other(tmp_path: Path) -> None:
    for name in ("Task07_Pancreas", "Task02_Heart"):
        first, again, other = (
            arrays(phantoms.write(name, tmp_path / sub, cases=n, seed=seed))
            for sub, n, seed in (("a", 2, 3), ("b", 3, 3), ("c", 2, 4))
        )
        for one, two in zip(first, again, strict=False):  # `again` only begins with the same cases
            assert all(np.array_equal(x, y) for x, y in zip(one, two, strict=True))
        assert not np.array_equal(first[0][0], first[1][0])
        assert first[0][0].shape != other[0][0].shape or (first[0][0] != other[0][0]).any()


def left_in(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {".Task05_Prostate.lock"}


def test_written_once_and_replaced_when_asked_for_another(tmp_path: Path) -> None:
    root = phantoms.write("Task05_Prostate", tmp_path, cases=2)
    stamps = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert phantoms.write("Task05_Prostate", tmp_path, cases=2) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == stamps
    marker = json.loads((root / "phantom.json").read_text())
    assert marker["seed"] == 0 and marker["cases"] == 2 and marker["version"] == phantoms.VERSION
    phantoms.write("Task05_Prostate", tmp_path, cases=1, seed=5)
    assert len(list((root / "imagesTr").iterdir())) == 1
    assert phantoms.read_marker(root)["seed"] == 5
    assert left_in(tmp_path) == {"Task05_Prostate"}


def test_killed_write_leaves_the_old_phantom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = phantoms.write("Task05_Prostate", tmp_path, cases=1)
    make = phantoms.mri.case

    def killed(name: str, rng: np.random.Generator) -> tuple:
        if rng.bit_generator.seed_seq.entropy[-1] == 1:
            raise KeyboardInterrupt
        return make(name, rng)

    monkeypatch.setattr(phantoms.mri, "case", killed)
    with pytest.raises(KeyboardInterrupt):
        phantoms.write("Task05_Prostate", tmp_path, cases=2)
    assert phantoms.read_marker(root)["cases"] == 1 and len(msd.read_manifest(root)[1]) == 1
    assert left_in(tmp_path) == {"Task05_Prostate"}


def test_real_data_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "Task04_Hippocampus").mkdir()
    (tmp_path / "CREMI_A.hdf").write_bytes(b"something else")
    for name in ("Task04_Hippocampus", "CREMI_A"):
        with pytest.raises(DataError, match="not a phantom"):
            phantoms.write(name, tmp_path)
    assert (tmp_path / "CREMI_A.hdf").read_bytes() == b"something else"


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Task03_Liver"):
        phantoms.write("Task03_Livr", tmp_path)
    with pytest.raises(SettingsError, match="0 cases"):
        phantoms.write("Task03_Liver", tmp_path, cases=0)
    with pytest.raises(SettingsError, match="seed -1"):
        phantoms.write("Task03_Liver", tmp_path, seed=-1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", SECTIONS)
def test_em_phantom(name: str, folder: Path) -> None:
    info = registry.get(name)
    path = phantoms.write(name, folder)
    assert path == folder / f"{name}.hdf" and phantoms.read_marker(path)["cases"] == 1
    stamp = path.stat().st_mtime_ns
    assert phantoms.write(name, folder, cases=3) == path and path.stat().st_mtime_ns == stamp
    with h5py.File(path) as file:
        assert file["volumes/raw"].dtype == np.uint8
        assert file["volumes/labels/neuron_ids"].dtype == np.uint64
        assert "PHANTOM" in file.attrs["description"]
        assert not file["volumes/labels/neuron_ids"].attrs["offset"].any()
    volume = em_volumes.read(path)
    raw, ids = volume.raw.astype(float), volume.labels.astype(int)
    assert volume.resolution == info.spacing
    assert ids.min() == 1  # every voxel is labelled
    assert 25 <= ids.max() < 200
    np.testing.assert_array_equal(connected_regions(ids, connectivity=1).max(), ids.max())

    # Membranes are darker than what they enclose.
    edge = np.zeros(ids.shape, bool)
    edge[:, :, 1:] = ids[:, :, 1:] != ids[:, :, :-1]
    deep = np.stack([ndimage.distance_transform_edt(~s) > 6 for s in edge])
    assert raw[edge].mean() < raw[deep].mean() - 40
    # Neurites are elongated processes through the sections.
    reach = [box[0].stop - box[0].start for box in ndimage.find_objects(ids)]
    assert min(reach) >= 4 and np.median(reach) > 15
    lost = (raw == 0).all(axis=(1, 2))
    assert lost.sum() == (0 if name == "FIB25" else 1)
    if name != "FIB25":
        mean = raw[~lost].mean(axis=(1, 2))
        assert mean.min() < 0.7 * np.median(mean)  # a dark section


def test_em_is_deterministic_and_samples_differ() -> None:
    def make(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return em.volume(name, np.random.default_rng(seed))[:2]

    a, again, other = make("CREMI_A", 1), make("CREMI_A", 1), make("CREMI_A", 2)
    assert all(np.array_equal(x, y) for x, y in zip(a, again, strict=True))
    assert not np.array_equal(a[0], other[0]) and not np.array_equal(a[1], other[1])
    spread = {}
    for name in ("CREMI_A", "CREMI_B", "CREMI_C"):
        sizes = np.bincount(make(name, 1)[1].astype(int).ravel())[1:]
        spread[name] = sizes.std() / sizes.mean()
    assert spread["CREMI_A"] < min(spread["CREMI_B"], spread["CREMI_C"])


def test_smooth_noise_has_unit_variance_and_the_right_scale() -> None:
    rng = np.random.default_rng(0)
    draws = np.stack([smooth_noise(rng, (6, 24, 24), (2, 6, 6)) for _ in range(400)])
    np.testing.assert_allclose(draws.std(axis=0), 1, atol=0.2)
    assert abs(draws.mean()) < 0.05
    near = (draws[..., 1:] * draws[..., :-1]).mean()
    far = (draws[..., 23] * draws[..., 0]).mean()
    assert near > 0.9 and abs(far) < 0.15


def test_shapes_measure_in_millimetres() -> None:
    frame = Frame((21, 21, 21), (2.0, 1.0, 1.0), np.random.default_rng(0), warp=0)
    ball = frame.ellipsoid((0, 0, 0), (8, 8, 8)) < 1
    assert abs(ball.sum() * 2 / (4 / 3 * np.pi * 8**3) - 1) < 0.05
    path = curve([(-10, 0, 0), (0, 0, 0), (10, 0, 0)], step=1)
    ratio, place = frame.tube(path, 3.0)
    assert ratio[10, 10, 13] == pytest.approx(1) and np.isinf(ratio[10, 0, 0])
    assert place[10, 10, 10] == 10 and place[10, 0, 0] == len(path)
    points, radii = tree(np.random.default_rng(0), (0, 0, 0), (1, 0, 0), 20, 4.0, 2)
    assert len(points) == len(radii)
    assert sorted(set(np.round(radii / 4, 4))) == [0.6084, 0.78, 1.0]
