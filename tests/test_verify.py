"""Verification reads every file and reports every problem in one go."""

from __future__ import annotations

import gzip
import json
import shutil
import unicodedata
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import zarr
from small_files import contradicting, em, hippocampus, nifti, tilted, write_manifest

from gtgm.datasets import geometry
from gtgm.datasets.dataset import open_dataset
from gtgm.datasets.registry import DatasetInfo
from gtgm.datasets.verify import incomplete, verify
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
    nifti(labels / "hippocampus_001.nii.gz", np.ones((6, 7, 9), np.uint8))
    nifti(labels / "hippocampus_002.nii.gz", np.ones(shape, np.uint8), np.diag([2.0, 1, 1, 1]))
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


def test_many_kinds_of_problems_at_once(tmp_path: Path) -> None:
    """Each line of the answer is one thing that somebody has to repair; none hides another."""
    root = hippocampus(tmp_path / "data" / NAME, n=25)
    shape = (6, 7, 8)
    expected: list[tuple[str, str]] = []

    def image(i: int) -> Path:
        return root / "imagesTr" / f"hippocampus_{i:03d}.nii.gz"

    def label(i: int) -> Path:
        return root / "labelsTr" / f"hippocampus_{i:03d}.nii.gz"

    def expect(path: Path, what: str) -> None:
        expected.append((str(path), what))

    def patch(path: Path, place: int, value: np.generic | np.ndarray) -> None:
        """Change bytes of the header in the file, as no writer would."""
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[place : place + value.nbytes] = value.tobytes()
        path.write_bytes(gzip.compress(bytes(raw)))

    rng = np.random.default_rng(7)
    grey = rng.normal(size=shape).astype(np.float32)
    rows = json.loads((root / "dataset.json").read_text())["training"]
    for case in (21, 22):
        rows[case]["label"] = f"./labelsTr/hippocampus_{43 - case:03d}.nii.gz"
        expect(label(43 - case), f"given as the label of hippocampus_{case:03d}")
    del rows[23]["label"]
    expect(root, "3 of the 27 cases have no label: a.png, hippocampus_023, outside")
    rows += [3, {"image": "../outside.nii.gz"}, {"image": "imagesTr/a.png"}]
    write_manifest(root, rows, labels={"0": "background", "1": "a", "2": "b", "3": "never"})
    expect(root / "dataset.json", "entry 25 of the training cases names no image")
    expect(root / "dataset.json", "outside of the dataset: '../outside.nii.gz'")
    expect(root / "dataset.json", "'imagesTr/a.png' is not a NIfTI file")
    label(0).unlink()
    expect(root, "1 of the files that the dataset names are absent")
    image(1).write_bytes(b"")
    expect(image(1), "it is empty")
    image(2).write_bytes(image(2).read_bytes()[:-9])
    expect(image(2), "cannot be read")
    image(3).write_bytes(b"<!DOCTYPE html>")
    expect(image(3), "a web page")
    nifti(image(4), np.full(shape, 3, np.int16))
    expect(image(4), "constant")
    label(4).write_bytes(b"no label")
    expect(label(4), "not gzip-compressed")
    grey[0, 0, 0] = np.nan
    nifti(image(5), grey)
    expect(image(5), "NaN")
    nifti(label(5), np.full(shape, 7, np.uint8))
    expect(label(5), "outside the declared classes: 7")
    nifti(image(6), rng.normal(size=(*shape, 2)).astype(np.float32))
    expect(image(6), "the image has the shape (6, 7, 8, 2)")
    nifti(label(7), np.full(shape, 0.5, np.float32))
    expect(label(7), "outside the declared classes: 0.5")
    nifti(label(8), np.ones((6, 7, 9), np.uint8))
    expect(label(8), "that of the image")
    nifti(label(9), np.ones(shape, np.uint8), np.diag([-1.0, 1, 1, 1]))
    expect(label(9), "its affine differs")
    patch(image(10), 80, np.float32(-1))  # pixdim
    expect(image(10), "the voxel spacing")
    patch(image(11), 42, np.int16(32767))  # dim
    expect(image(11), "more than the file can hold")
    patch(image(12), 280, np.zeros(12, np.float32))  # srow
    expect(image(12), "the affine is singular")
    patch(image(13), 123, np.uint8(3))  # xyzt_units
    expect(image(13), "lengths are in micrometres")
    patch(image(14), 252, np.zeros(2, np.int16))  # qform_code, sform_code
    patch(label(14), 252, np.zeros(2, np.int16))
    expect(image(14), "states no orientation")
    shutil.copy(image(0), image(15))
    expect(image(15), "its voxels are those of hippocampus_000.nii.gz")
    shutil.copy(label(18), label(19))
    expect(label(19), "its voxels are those of hippocampus_018.nii.gz")
    nifti(image(20), np.asanyarray(nib.load(label(20)).dataobj).astype(np.float32))
    expect(image(20), "its voxels are those of its label")
    for file in (image(24), label(24)):
        nifti(file, np.ones(shape[:2], np.uint8))
    expect(image(24), "the image has the shape (6, 7)")
    expect(label(24), "the label has the shape (6, 7)")
    affine = np.diag([20.0, 20, 20, 1])
    nifti(image(16), rng.normal(size=shape).astype(np.float32), affine)
    nifti(label(16), np.full(shape, 2, np.uint8), affine)
    expect(image(16), "its spacing is 20 × 20 × 20 mm (z, y, x)")
    nifti(label(17), np.zeros(shape, np.uint8))
    expect(label(17), "background alone")
    expect(root, "the class 3 never occurs in none of the 19 readable labels")

    problems = verify(NAME, tmp_path / "data", progress=False)
    found = [(problem.where, problem.what) for problem in problems]
    for where, what in expected:
        assert any(where == w and what in text for w, text in found), (where, what)
    assert len(found) == len(expected) > 20
    assert all(problem.expected or problem.fix for problem in problems)


def test_headers_that_contradict_themselves(tmp_path: Path) -> None:
    """The image says it once for both files; the label only what its image does not say."""
    root = hippocampus(tmp_path / NAME, n=6)
    shape = (6, 7, 8)
    flipped = np.diag([-1, 1, 1, 1])
    cases = {
        0: ((np.eye(4), None, (0.5, 0.5, 3)), "0.5 × 0.5 × 3 mm by pixdim and 1 × 1 × 1 mm by the"),
        1: ((np.eye(4), flipped), "axes run to R, A, S by the sform, to L, A, S by the qform"),
        2: ((tilted(), None, (1, 1, np.sqrt(1.25))), "not at right angles"),
    }
    rng = np.random.default_rng(3)
    for i, (header, _) in cases.items():
        name = f"hippocampus_{i:03d}.nii.gz"
        grey = rng.normal(size=shape).astype(np.float32)
        contradicting(root / "imagesTr" / name, grey, *header)
        contradicting(root / "labelsTr" / name, rng.integers(0, 3, shape).astype(np.uint8), *header)
    label = root / "labelsTr" / "hippocampus_003.nii.gz"
    contradicting(label, rng.integers(0, 3, shape).astype(np.uint8), np.eye(4), flipped)
    image = root / "imagesTr" / "hippocampus_004.nii.gz"
    raw = bytearray(gzip.decompress(image.read_bytes()))
    raw[252:254] = np.int16(1).tobytes()  # qform_code
    raw[256:268] = np.full(3, 1, np.float32).tobytes()  # a quaternion longer than 1
    image.write_bytes(gzip.compress(bytes(raw)))
    expected = [(root / "imagesTr" / f"hippocampus_{i:03d}.nii.gz", cases[i][1]) for i in cases]
    expected += [(label, "by the qform"), (image, "its qform is no rotation")]
    found = verify(NAME, tmp_path, progress=False)
    assert len(found) == len(expected)
    for problem, (where, what) in zip(found, expected, strict=True):
        assert problem.where == str(where) and what in problem.what
        assert problem.expected and problem.fix


@pytest.mark.parametrize("manifest", [True, False])
def test_spellings_of_one_name_are_one_file(tmp_path: Path, manifest: bool) -> None:
    """macOS spells é as e and an accent, and leaves its own files everywhere."""
    root = hippocampus(tmp_path / NAME, manifest=False)
    one, two = (unicodedata.normalize(form, "Müller é") for form in ("NFC", "NFD"))
    name = "hippocampus_000.nii.gz"
    (root / "imagesTr" / name).rename(root / "imagesTr" / f"{two}.NII.GZ")
    (root / "labelsTr" / name).rename(root / "labelsTr" / f"{one}.Nii.gz")
    for folder in (root, root / "imagesTr", root / "labelsTr"):
        for junk in (".DS_Store", f"._{two}.NII.GZ", "._hippocampus_001.nii.gz"):
            (folder / junk).write_bytes(b"\0")
    if manifest:
        ids = [one, *(f"hippocampus_{i:03d}" for i in range(1, 5))]
        rows = [{"image": f"imagesTr/{i}.nii.gz", "label": f"./labelsTr/{i}.nii.gz"} for i in ids]
        write_manifest(root, rows)
    assert verify(NAME, tmp_path, progress=False) == []
    assert "does not list" not in incomplete(NAME, tmp_path)
    dataset = open_dataset(NAME, tmp_path)
    assert dataset.ids[0] == one and len(dataset.ids) == 5
    volume = geometry.load_volume(dataset.case(one), dataset.info)
    assert volume.image.shape[1:] == volume.label.shape == (8, 7, 6)


def test_two_files_of_one_name_are_named(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / NAME, manifest=False)
    shutil.copy(root / "imagesTr" / "hippocampus_000.nii.gz", root / "imagesTr" / "x.nii")
    (root / "imagesTr" / "x.nii").rename(root / "imagesTr" / "hippocampus_000.NII.GZ")
    found = verify(NAME, tmp_path, progress=False)
    assert any("case ids occur more than once: 'hippocampus_000'" in p.what for p in found)


def test_an_error_that_nobody_thought_of_is_a_problem_of_its_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = hippocampus(tmp_path / NAME, n=5)
    check = geometry.check_image

    def break_down(array: np.ndarray, info: DatasetInfo, path: Path) -> np.ndarray:
        if "_002" in path.name:
            raise ZeroDivisionError("division by zero")
        return check(array, info, path)

    monkeypatch.setattr(geometry, "check_image", break_down)
    (root / "imagesTr" / "hippocampus_004.nii.gz").write_bytes(b"")
    first, second = verify(NAME, tmp_path, progress=False)
    assert "could not be checked (ZeroDivisionError: division by zero)" in first.what
    assert first.where.endswith("imagesTr/hippocampus_002.nii.gz")
    assert "is empty" in second.what


def test_one_case_that_is_thick_along_another_axis(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / NAME, n=5)
    for i in range(5):
        affine = np.diag([5.0, 1, 1, 1] if i == 3 else [1.0, 1, 5, 1])
        for folder in ("imagesTr", "labelsTr"):
            path = root / folder / f"hippocampus_{i:03d}.nii.gz"
            nifti(path, np.asanyarray(nib.load(path).dataobj), affine)
    (problem,) = verify(NAME, tmp_path, progress=False)
    assert problem.where.endswith("hippocampus_003.nii.gz")
    assert "1 × 1 × 5 mm" in problem.what and "5 × 1 × 1 mm" in problem.expected


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
    assert "1 of 2 blocks of volumes/raw are absent: 1.0.0" in problem.what
    assert problem.where.endswith("CREMI_A.zarr")
    (tmp_path / "CREMI_A.zarr" / "volumes/labels/neuron_ids/0.0.0").unlink()
    problems = [problem.what for problem in verify("CREMI_A", tmp_path)]
    assert [what.split(" are absent")[0] for what in problems] == [
        "1 of 2 blocks of volumes/raw",
        "1 of 2 blocks of volumes/labels/neuron_ids",
    ]
    assert problems[1].startswith("1 of 2 blocks of volumes/labels/neuron_ids are absent: 0.0.0")
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


def test_what_is_here_of_a_dataset_is_counted(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "data" / NAME, n=6)
    assert incomplete(NAME, tmp_path / "data").startswith("6 of the 260 cases")
    for name in ("b.nii.gz", "a.nii", "._c.nii.gz", "d.txt"):
        (root / "imagesTr" / name).write_bytes(b"")
    assert incomplete(NAME, tmp_path / "data").endswith("not list 2 of imagesTr: a.nii, …")
    rows = json.loads((root / "dataset.json").read_text())["training"]
    rows += [{"image": f"imagesTr/{name}.nii.gz"} for name in ("a\0", "\ud800", "loop")]
    (root / "imagesTr" / "loop.nii.gz").symlink_to("loop.nii.gz")
    write_manifest(root, rows)
    assert incomplete(NAME, tmp_path / "data").startswith("9 of the 260 cases")
    shutil.move(root / "imagesTr", root / "imagesTs")
    for make in (lambda p: p.symlink_to(p.name), lambda p: p.write_bytes(b"")):
        make(root / "imagesTr")
        assert incomplete(NAME, tmp_path / "data").startswith("9 of the 260 cases")
        (root / "imagesTr").unlink()
    shutil.move(root / "imagesTs", root / "imagesTr")
    (root / "dataset.json").unlink()
    assert "names are guessed" in incomplete(NAME, tmp_path / "data")
    assert incomplete("CREMI_A", tmp_path / "data") == ""
