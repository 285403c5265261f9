"""Splits follow nnU-Net's rule, label draws are nested, EM ranges never overlap."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from sklearn.model_selection import KFold

from gtgm.datasets import registry, splits
from gtgm.datasets.dataset import Case, Dataset, open_dataset
from gtgm.errors import DataError, SettingsError

IDS = [f"case_{i:03d}" for i in range(23)]


def dataset(ids: list[str], name: str = "Task04_Hippocampus") -> Dataset:
    cases = tuple(Case(name, id, Path(f"{id}.nii.gz"), None) for id in ids)
    return Dataset(registry.get(name), Path("."), "real", cases)


def test_folds_are_those_of_sklearn_on_sorted_ids() -> None:
    split = splits.make_split("d", IDS[::-1])
    reference = KFold(5, shuffle=True, random_state=12345).split(IDS)
    for fold, (train, test) in enumerate(reference):
        assert split.train(fold) == [IDS[i] for i in train]
        assert split.test(fold) == [IDS[i] for i in test]
    assert sorted(id for k in range(5) for id in split.test(k)) == IDS


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize("draw", [0, 1, 7])
def test_draws_are_nested_and_inside_the_training_cases(fold: int, draw: int) -> None:
    split = splits.make_split("d", IDS)
    train = split.train(fold)
    previous: set[str] = set()
    for fraction in (0.001, 0.01, 0.1, 0.35, 0.5, 1, 1.0):
        labelled = split.labelled(fold, fraction, draw)
        assert len(labelled) == max(1, round(fraction * len(train)))
        assert labelled == sorted(labelled) and set(labelled) <= set(train)
        assert previous <= set(labelled)
        previous = set(labelled)
    assert previous == set(train)


def test_draws_differ_and_are_repeatable() -> None:
    split = splits.make_split("d", IDS)
    assert split.order(0, 0) == splits.make_split("d", IDS).order(0, 0)
    assert len({tuple(split.order(0, draw)) for draw in range(10)}) == 10


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, 10, float("nan"), "0.1", None, True])
def test_fraction_outside(fraction: object) -> None:
    with pytest.raises(SettingsError, match="label fraction"):
        splits.make_split("d", IDS).labelled(0, fraction)
    with pytest.raises(SettingsError, match="label fraction"):
        splits.em_ranges("CREMI_A", fraction, 125)


def test_unknown_fold_draw_and_too_few_cases() -> None:
    split = splits.make_split("d", IDS)
    for fold in (-1, 5):
        with pytest.raises(SettingsError, match="no fold"):
            split.test(fold)
    with pytest.raises(SettingsError, match="no draw"):
        split.labelled(0, 0.1, -1)
    with pytest.raises(DataError, match="4 cases"):
        splits.make_split("d", IDS[:4])
    with pytest.raises(DataError, match="more than once"):
        splits.make_split("d", IDS + IDS[:1])


def test_json_round_trip_and_damage() -> None:
    split = splits.make_split("d", IDS)
    value = json.loads(json.dumps(splits.to_json(split)))
    again = splits.from_json(value)
    assert again.committed and again.tests == split.tests and again.ids == split.ids
    for fold in range(5):
        for draw in (0, 4, 9):
            assert again.order(fold, draw) == split.order(fold, draw)
    value["folds"][0]["draws"][0] = ["case_x"]
    with pytest.raises(DataError, match="leaves the training cases"):
        splits.from_json(value)
    value["folds"][0]["test"] = value["folds"][1]["test"]
    with pytest.raises(DataError, match="do not partition"):
        splits.from_json(value)


def test_committed_hippocampus() -> None:
    path = splits.FOLDER / "Task04_Hippocampus.json"
    split = splits.from_json(json.loads(path.read_text()))
    assert len(split.ids) == 260
    loaded = splits.load_split(dataset(list(split.ids)))
    assert loaded.committed
    rule = splits.make_split(split.dataset, split.ids)
    for fold in range(5):
        assert len(loaded.test(fold)) == 52 and loaded.test(fold) == rule.test(fold)
        for draw in range(6):
            assert loaded.order(fold, draw) == rule.order(fold, draw)
    assert [len(loaded.labelled(0, f)) for f in (0.01, 0.1, 1.0)] == [2, 21, 208]


def test_other_ids_than_committed_follow_the_rule() -> None:
    loaded = splits.load_split(dataset(IDS))
    assert not loaded.committed and loaded.tests == splits.make_split("d", IDS).tests


def test_committed_split_is_of_the_real_cases(shared_data: Path) -> None:
    opened = open_dataset("Task04_Hippocampus", shared_data / "msd")
    assert splits.load_split(opened).committed


def test_every_committed_file_is_of_a_registered_dataset() -> None:
    for path in splits.FOLDER.glob("*.json"):
        assert json.loads(path.read_text())["dataset"] == path.stem in registry.names()


@pytest.mark.parametrize("name", ["CREMI_A", "CREMI_B", "CREMI_C"])
def test_cremi_ranges(name: str) -> None:
    ranges = splits.em_ranges(name, 0.75, 125)
    assert ranges == splits.EMRanges((0, 93), (93, 100), (100, 125))
    assert splits.em_ranges(name, 0.1, 125).train == (0, 12)
    assert splits.em_ranges(name, 0.01, 125).train == (0, 1)
    released = splits.em_ranges(name, 0.75, 125, "as_released")
    assert released.train == (0, 75) and released.test == released.validation == (75, 125)


def test_fib25_ranges() -> None:
    ranges = splits.em_ranges("FIB25", 0.75, 170)
    assert ranges == splits.EMRanges((0, 120), (120, 140), (140, 170))
    assert splits.em_ranges("FIB25", 0.1, 170).train == (0, 17)
    with pytest.raises(SettingsError, match="as_released"):
        splits.em_ranges("FIB25", 0.1, 170, "as_released")


@pytest.mark.parametrize("name", ["CREMI_A", "FIB25"])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.75])
def test_scaled_ranges_are_disjoint_and_inside(name: str, fraction: float) -> None:
    for n in range(splits.MIN_SECTIONS, 300):
        r = splits.em_ranges(name, fraction, n)
        assert 0 == r.train[0] < r.train[1] <= r.validation[0] < r.validation[1]
        assert r.validation[1] <= r.test[0] < r.test[1] == n


def test_ranges_that_would_overlap_are_refused() -> None:
    for fraction, rule in [(0.8, "corrected"), (1.0, "corrected"), (0.76, "as_released")]:
        with pytest.raises(SettingsError, match="training sections"):
            splits.em_ranges("CREMI_A", fraction, 125, rule)
    with pytest.raises(SettingsError, match="no 'other' section ranges"):
        splits.em_ranges("CREMI_A", 0.1, 125, "other")
    with pytest.raises(SettingsError, match="section ranges of 'Task03_Liver'"):
        splits.em_ranges("Task03_Liver", 0.1, 125)
    with pytest.raises(DataError, match="5 sections"):
        splits.em_ranges("CREMI_A", 0.1, 5)


def test_em_datasets_have_no_folds() -> None:
    em = dataclasses.replace(dataset(["CREMI_A"]), info=registry.get("CREMI_A"))
    with pytest.raises(SettingsError, match="em_ranges"):
        splits.load_split(em)
