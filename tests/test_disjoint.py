"""A copy of a test case is found among the training cases, whatever it is called or looks like."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gtgm.datasets import phantoms
from gtgm.errors import DataError
from gtgm.stages import Study, caption, finetune, pretrain
from gtgm.stages.disjoint import check_cases, check_sections

NAME = "Task04_Hippocampus"
FAST = {
    "text": {"captioner": "describe", "encoder_steps": 2, "cases": 0},
    "pretrain": {"steps": 2, "batch": 16, "patch": [16, 24, 24], "width": 16},
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
    with pytest.raises(DataError, match=f"is trained on: {test} = {train}.*duplicates"):
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


def test_pretraining_itself_refuses_a_copy_and_says_what_it_compared(root, tmp_path):
    split = study(tmp_path).split(NAME)
    wanted = {"test": len(split.test(0)), "labelled": 0, "pretrained": len(split.train(0))}
    noted = pretrain(study(tmp_path)).result.data["disjoint"]
    assert {name: noted[name] for name in wanted} == wanted and noted["shared"] == 0
    duplicate(root, split.test(0)[0], split.train(0)[0], turned)
    with pytest.raises(DataError, match=f"pretrained on: {NAME}/{split.test(0)[0]} = "):
        pretrain(study(tmp_path))


def test_a_copy_is_found_before_anything_is_trained(root, tmp_path, monkeypatch):
    split = study(tmp_path).split(NAME)
    duplicate(root, split.test(0)[0], split.train(0)[0], same)
    monkeypatch.setattr("gtgm.stages.finetuning.pretrain", None)
    with pytest.raises(DataError, match="is pretrained on|is trained on"):
        finetune(study(tmp_path), NAME, "gtgm")


@pytest.mark.parametrize("stage", [caption, pretrain])
def test_a_copy_is_found_before_anything_is_captioned(root, tmp_path, stage):
    split = study(tmp_path).split(NAME)
    duplicate(root, split.test(0)[0], split.train(0)[0], same)
    with pytest.raises(DataError, match=f"pretrained on: {NAME}/{split.test(0)[0]} = "):
        stage(study(tmp_path))
    assert not list((tmp_path / "runs").rglob("*.jsonl"))


def test_captions_that_noted_no_contents_are_compared_all_the_same(root, tmp_path):
    mine = study(tmp_path)
    done = caption(mine).folder / "result.json"
    values = json.loads(done.read_text())
    wanted = values["data"].pop("contents")
    done.write_text(json.dumps(values))
    split = mine.split(NAME)
    found = check_cases(mine, NAME, split.labelled(0, 0.1), split.test(0))
    assert found["pretrained"] == len(wanted) and found["shared"] == 0


def test_sections_of_neurons_are_compared(tmp_path):
    mine = Study(("CREMI_A",), runs=str(tmp_path), method="random")
    ranges = mine.sections("CREMI_A")
    noted = check_sections(mine, "CREMI_A", ranges)
    assert noted["test"] == ranges.test[1] - ranges.test[0] and noted["leaks"] == []
    overlapping = replace(ranges, train=(ranges.train[0], ranges.test[0] + 2))
    with pytest.raises(DataError, match=f"2 of what fold 0 tests is trained on: {ranges.test[0]}"):
        check_sections(mine, "CREMI_A", overlapping)
    released = Study(("CREMI_A",), runs=str(tmp_path), protocol="as_released", method="random")
    shared = check_sections(released, "CREMI_A", released.sections("CREMI_A"))
    assert shared["leaks"] == ["protocol=as_released"]


def test_a_copy_of_a_volume_under_another_name_in_the_pool_is_found(tmp_path, monkeypatch):
    """Its training sections are the test sections of the other one."""
    data = tmp_path / "data"
    path = phantoms.write("CREMI_A", tmp_path / "made")
    entries = []
    for name, train, test in (("a", [0, 20], [30, 60]), ("b", [0, 50], [52, 60])):
        data.mkdir(exist_ok=True)
        shutil.copy(path, data / f"{name}.hdf")
        between = [train[1], test[0]]
        entries.append(
            {"name": name, "files": [f"{name}.hdf"], "resolution": [40, 4, 4]}
            | {"train": train, "validation": between, "test": test}
        )
    (data / "gtgm-datasets.json").write_text(json.dumps(entries))
    monkeypatch.setenv("GTGM_DATA", str(data))
    alone = Study(("a",), runs=str(tmp_path / "runs"))
    assert check_sections(alone, "a", alone.sections("a", 1.0))["shared"] == 0
    pooled = Study(("a", "b"), runs=str(tmp_path / "runs"))
    with pytest.raises(DataError, match="pretrained on: 30 = b/30"):
        check_sections(pooled, "a", pooled.sections("a", 1.0))
