"""MSD folders are read with every check that needs no voxels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_files import hippocampus, write_manifest

from gtgm.datasets import msd
from gtgm.errors import DataError


def test_manifest_and_sorted_cases(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "Task04_Hippocampus", n=3)
    rows = json.loads((root / "dataset.json").read_text())["training"]
    write_manifest(root, rows[::-1])
    manifest, cases = msd.read_manifest(root)
    assert manifest["classes"] == ("Anterior", "Posterior")
    assert manifest["channels"] == ("MRI",)
    assert [c.id for c in cases] == [f"hippocampus_{i:03d}" for i in range(3)]
    assert all(c.image.is_file() and c.label and c.label.is_file() for c in cases)


def test_without_manifest_images_and_labels_are_paired(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "d", n=2, manifest=False)
    manifest, cases = msd.read_manifest(root)
    assert manifest == {} and len(cases) == 2
    assert cases[0].label == root / "labelsTr" / cases[0].image.name


def test_macos_companions_are_ignored(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "d", n=2, manifest=False)
    (root / "imagesTr" / "._hippocampus_000.nii.gz").write_bytes(b"junk")
    assert len(msd.read_manifest(root)[1]) == 2
    image = "./imagesTr/hippocampus_000.nii.gz"
    write_manifest(root, [{"image": image}, {"image": "./imagesTr/._hippocampus_000.nii.gz"}])
    cases = msd.read_manifest(root)[1]
    assert [c.id for c in cases] == ["hippocampus_000"] and cases[0].label is None


def test_labels_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "d", n=1)
    rows = json.loads((root / "dataset.json").read_text())["training"]
    labels = {str(i): f"c{i}" for i in range(12)}
    write_manifest(root, rows, labels=labels)
    assert msd.read_manifest(root)[0]["classes"] == tuple(f"c{i}" for i in range(1, 12))


def test_missing_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such dataset folder"):
        msd.read_manifest(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        msd.read_manifest(tmp_path / "empty")


def test_absent_files_are_counted_and_named(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "d", n=3)
    (root / "imagesTr" / "hippocampus_001.nii.gz").unlink()
    shutil.rmtree(root / "labelsTr")
    with pytest.raises(DataError, match=r"4 of the files.*imagesTr/hippocampus_001"):
        msd.read_manifest(root)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"training": [', "not valid JSON"),
        ("[]", "no list of training cases"),
        ('{"channel_names": {"0": "MRI"}, "file_ending": ".nii.gz"}', "as in nnU-Net's own format"),
        ('{"training": 3}', "no list of training cases"),
        ('{"training": [{"label": "a.nii.gz"}]}', "entry 0 .* names no image"),
        ('{"training": []}', "no training cases"),
        ('{"training": [{"image": "../a.nii.gz"}]}', "outside of the dataset"),
        ('{"training": [{"image": "/etc/passwd"}]}', "outside of the dataset"),
        ('{"training": [{"image": "a.png"}]}', "not a NIfTI file"),
        ('{"labels": {"0": "b", "2": "x"}, "training": []}', "not numbered"),
        ('{"modality": ["MRI"], "training": []}', '"modality" is not numbered'),
    ],
)
def test_bad_manifest(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=match):
        msd.read_manifest(tmp_path)


def test_binary_manifest(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="not valid JSON"):
        msd.read_manifest(tmp_path)


def test_scan_collects_all_problems(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "d", n=1)
    row = {"image": "imagesTr/hippocampus_000.nii.gz", "label": "labelsTr/absent.nii.gz"}
    write_manifest(root, [row, row], labels={"1": "x"})
    whats = [p.what for p in msd.scan(root).problems]
    assert len(whats) == 3
    assert any("numbered" in w for w in whats)
    assert any("absent" in w for w in whats)
    assert any("more than once" in w for w in whats)


def test_real_hippocampus(shared_data: Path) -> None:
    manifest, cases = msd.read_manifest(shared_data / "msd" / "Task04_Hippocampus")
    assert len(cases) == 260 and manifest["classes"] == ("Anterior", "Posterior")


def test_case_id() -> None:
    assert msd.case_id("a.b.nii") == "a.b"
    assert msd.case_id("x/liver_1.nii.gz") == "liver_1"
