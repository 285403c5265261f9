"""Splits follow nnU-Net's rule, label draws are nested, EM ranges never overlap."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

import numpy as np
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
    assert ranges == splits.EMRanges((0, 90), (120, 140), (140, 170))
    for fraction, stop in [(0.01, 1), (0.1, 12), (0.29, 34), (0.5, 60), (1, 120), (1.0, 120)]:
        assert splits.em_ranges("FIB25", fraction, 170).train == (0, stop)
    assert splits.em_training_range("FIB25", 170) == (0, 120)
    with pytest.raises(SettingsError, match="as_released"):
        splits.em_ranges("FIB25", 0.1, 170, "as_released")


def test_training_range_is_that_of_the_largest_fraction() -> None:
    assert splits.em_training_range("CREMI_B", 125) == (0, 93)
    assert splits.em_training_range("CREMI_B", 125, "as_released") == (0, 75)
    for n in range(splits.MIN_SECTIONS, 300):
        for name, largest in (("CREMI_B", 0.75), ("FIB25", 1.0)):
            assert splits.em_training_range(name, n) == splits.em_ranges(name, largest, n).train
    for call in (("Task03_Liver", 125), ("FIB25", 170, "as_released")):
        with pytest.raises(SettingsError, match="section ranges"):
            splits.em_training_range(*call)
    with pytest.raises(DataError, match="5 sections"):
        splits.em_training_range("FIB25", 5)


FRACTIONS = [0.001, *np.random.default_rng(0).random(20).tolist(), 0.1, 0.75, 1.0]


@pytest.mark.parametrize("name", ["CREMI_A", "FIB25"])
@pytest.mark.parametrize("rule", ["corrected", "as_released"])
def test_ranges_are_disjoint_and_inside_for_any_fraction_or_size(name: str, rule: str) -> None:
    used = 0
    for fraction in FRACTIONS:
        for n in [*range(splits.MIN_SECTIONS, 60), 125, 170, 1000, 2501]:
            try:
                r = splits.em_ranges(name, fraction, n, rule)
            except SettingsError:
                assert (name, rule) == ("FIB25", "as_released") or fraction > 0.6
                break
            used += 1
            assert 0 == r.train[0] < r.train[1] <= r.validation[0] < r.validation[1]
            assert r.test[0] < r.test[1] == n
            if rule == "as_released":
                assert r.validation == r.test
            else:
                assert r.validation[1] <= r.test[0]
    assert used or rule == "as_released"


@pytest.mark.parametrize("name", ["CREMI_A", "FIB25"])
def test_a_larger_fraction_holds_the_smaller(name: str) -> None:
    sorted_fractions = sorted(f for f in FRACTIONS if f <= 0.74)
    stops = [splits.em_ranges(name, f, 170).train[1] for f in sorted_fractions]
    assert stops == sorted(stops)


@pytest.mark.parametrize(
    ("parts", "rule", "refused"),
    [
        (((0, 5), (5, 7), (7, 9)), "corrected", False),
        (((7, 9), (0, 5), (5, 7)), "corrected", False),
        (((0, 6), (5, 7), (7, 9)), "corrected", True),
        (((0, 5), (5, 8), (7, 9)), "corrected", True),
        (((0, 9), (2, 3), (9, 12)), "corrected", True),
        (((0, 5), (5, 9), (5, 9)), "corrected", True),
        (((0, 5), (5, 9), (5, 9)), "as_released", False),
        (((0, 5), (5, 8), (7, 9)), "as_released", True),
        (((0, 6), (5, 9), (5, 9)), "as_released", True),
        (((5, 9), (5, 9), (5, 9)), "as_released", True),
    ],
)
def test_overlap_is_asserted(parts: tuple, rule: str, refused: bool) -> None:
    with pytest.raises(DataError, match="overlap") if refused else contextlib.nullcontext():
        splits._assert_disjoint(splits.EMRanges(*parts), rule)


@pytest.mark.parametrize("path", sorted(splits.FOLDER.glob("[CF]*.json")), ids=lambda p: p.stem)
def test_committed_ranges_agree_with_the_rule(path: Path) -> None:
    value = json.loads(path.read_text())
    assert value["fractions_of"] in ("all sections", "training range")
    total = value["sections"]
    for rule, named in value["rules"].items():
        for percent, (start, stop) in named["train"].items():
            fraction = float(percent.rstrip("%")) / 100
            assert splits.em_ranges(path.stem, fraction, total, rule).train == (start, stop)
            of_all = value["fractions_of"] == "all sections"
            counted = total if of_all else splits.em_training_range(path.stem, total, rule)[1]
            # The release trained on 75 of 125 sections where the paper says 75 %.
            released = rule == "as_released" and percent == "75%"
            assert stop == (75 if released else int(fraction * counted + 1e-9))


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
