"""A copy of a test case is found among the training cases, whatever it is called or looks like."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gtgm.datasets import phantoms
from gtgm.errors import DataError
from gtgm.stages import Study, finetune, pretrain
from gtgm.stages.disjoint import check_cases, check_sections

NAME = "Task04_Hippocampus"
FAST = {
    "text": {"captioner": "describe", "encoder_steps": 2, "cases": 0},
    "pretrain": {"steps": 2, "batch": 4, "patch": [16, 24, 24], "width": 16},
    "finetune": {"steps": 2, "patch": [16, 24, 24]},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dataset that counts as real."""
    written = phantoms.write(NAME, tmp_path / "made")
    return shutil.copytree(written, tmp_path / "data" / NAME)


def study(tmp_path: Path, **changes: dict) -> Study:
    merged = {stage: {**values, **changes.get(stage, {})} for stage, values in FAST.items()}
    return Study((NAME,), data=str(tmp_path / "data"), runs=str(tmp_path / "runs"), changes=merged)


def same(source: Path, target: Path) -> None:
    shutil.copy(source, target)


def packed_otherwise(source: Path, target: Path) -> None:
    target.write_bytes(gzip.compress(gzip.decompress(source.read_bytes()), 1, mtime=1))


def turned(source: Path, target: Path) -> None:
    image = nib.load(source)
    to = nib.orientations.axcodes2ornt("ILP")
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), to)
    nib.save(image.as_reoriented(turn), target)


def other_numbers(source: Path, target: Path) -> None:
    image = nib.load(source)
    voxels = np.asarray(image.dataobj, dtype=np.float64)
    nib.save(nib.Nifti1Image(voxels, image.affine), target)


COPIES = [same, packed_otherwise, turned, other_numbers]


def duplicate(root: Path, source: str, target: str, copy) -> None:
    for kind in ("imagesTr", "labelsTr"):
        copy(root / kind / f"{source}.nii.gz", root / kind / f"{target}.nii.gz")


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_test_case_is_refused_in_every_run(root, tmp_path, copy):
    split = study(tmp_path).split(NAME)
    test, train = split.test(0)[0], split.labelled(0, 1.0)[0]
    duplicate(root, test, train, copy)
    with pytest.raises(DataError, match=f"under another name: {test} = {train}.*duplicates"):
        finetune(study(tmp_path), NAME, "random")


def test_a_copy_that_only_pretraining_read_is_refused_unless_the_leak_is_named(root, tmp_path):
    split = study(tmp_path).split(NAME)
    labelled = split.labelled(0, 0.1)
    unlabelled = next(case for case in split.train(0) if case not in labelled)
    test = split.test(0)[0]
    duplicate(root, test, unlabelled, turned)
    assert finetune(study(tmp_path), NAME, "random", 0.1).data["disjoint"]["shared"] == 0
    with pytest.raises(DataError, match=rf"pretrained on: {test} = {NAME}/{unlabelled}.*true"):
        finetune(study(tmp_path), NAME, "gtgm", 0.1)
    leaking = study(tmp_path, pretrain={"include_test": True})
    found = finetune(leaking, NAME, "gtgm", 0.1).data["disjoint"]
    assert found["leaks"] == ["pretrain.include_test"]
    assert found["shared"] == found["test"] == len(split.test(0))


def test_every_result_says_what_was_compared(root, tmp_path):
    mine = study(tmp_path)
    split = mine.split(NAME)
    assert finetune(mine, NAME, "gtgm").data["disjoint"] == {
        "by": "SHA-256 of the intensities",
        "test": len(split.test(0)),
        "labelled": len(split.train(0)),
        "pretrained": len(split.train(0)),
        "shared": 0,
        "leaks": [],
    }
    chosen = study(tmp_path, finetune={"select_on_test": True})
    assert finetune(chosen, NAME, "random").data["disjoint"]["leaks"] == ["finetune.select_on_test"]


def test_results_of_pretrainings_that_noted_no_contents_are_compared_all_the_same(root, tmp_path):
    mine = study(tmp_path)
    run = pretrain(mine)
    wanted = run.result.data.pop("contents")
    split = mine.split(NAME)
    found = check_cases(mine, NAME, split.train(0), split.test(0), run)
    assert found["pretrained"] == len(wanted) and found["shared"] == 0


def test_sections_of_neurons_are_noted(tmp_path):
    mine = Study(("CREMI_A",), runs=str(tmp_path))
    ranges = mine.sections("CREMI_A")
    noted = check_sections(mine, ranges, None)
    assert noted["test"][0] >= noted["validation"][1] >= noted["train"][1]
    assert noted["leaks"] == []
    released = Study(("CREMI_A",), runs=str(tmp_path), protocol="as_released")
    shared = check_sections(released, released.sections("CREMI_A"), None)
    assert shared["leaks"] == ["protocol=as_released"]
