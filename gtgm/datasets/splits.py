"""Which cases train and which test, and which of the training cases keep their labels.

Rule for MSD (nnU-Net's folds): sorted ids, scikit-learn ``KFold(5, shuffle=True,
random_state=12345)``, test = the held-out fold. Inside the training cases of a fold each numbered
draw is one random order; a label fraction takes its first cases, so 1 % ⊂ 10 % ⊂ 100 %.
EM volumes are split by ranges of sections. Both are kept as JSON in ``splits/``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gtgm.datasets import registry
from gtgm.errors import DataError, SettingsError
from gtgm.paths import read_json

if TYPE_CHECKING:
    from gtgm.datasets.dataset import Dataset

FOLDER = Path(__file__).with_name("splits")
FOLDS = 5
SEED = 12345
STORED_DRAWS = 5
STORED_FRACTION = 0.1
MIN_SECTIONS = 16
# What a label fraction of an EM dataset is a fraction of; the other choice is "all sections".
TRAINING = "training range"


@dataclass(frozen=True)
class Split:
    """Folds and label draws of a dataset.

    ``tests[k]`` are the sorted test ids of fold k. ``firsts[(fold, draw)]`` are the first training
    ids of a draw as committed; the rest of its order, and further draws, follow from the rule.
    """

    dataset: str
    ids: tuple[str, ...]
    tests: tuple[tuple[str, ...], ...]
    firsts: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    committed: bool = False

    def train(self, fold: int) -> list[str]:
        """Sorted training ids of a fold."""
        held_out = set(self.test(fold))
        return [id for id in self.ids if id not in held_out]

    def test(self, fold: int) -> list[str]:
        """Sorted ids of the held-out fold."""
        if not 0 <= fold < len(self.tests):
            raise SettingsError(
                f"there is no fold {fold}", expected=f"a fold from 0 to {len(self.tests) - 1}"
            )
        return list(self.tests[fold])

    def labelled(self, fold: int, fraction: float, draw: int = 0) -> list[str]:
        """Sorted training ids that keep their label: max(1, round(fraction · n)) of them.

        Raises:
            SettingsError: fraction outside (0, 1], unknown fold or negative draw.
        """
        check_fraction(fraction)
        if draw < 0:
            raise SettingsError(f"there is no draw {draw}", expected="a number from 0")
        order = self.order(fold, draw)
        return sorted(order[: max(1, round(fraction * len(order)))])

    def order(self, fold: int, draw: int) -> list[str]:
        """All training ids of a fold in the order in which this draw labels them."""
        first = self.firsts.get((fold, draw), ())
        rest = _shuffled(self.train(fold), fold, draw)
        return [*first, *(id for id in rest if id not in set(first))]

    def _repr_html_(self) -> str:
        from gtgm.rich import split_html

        return split_html(self)


@dataclass(frozen=True)
class EMRanges:
    """Sections (start, stop) of an EM volume."""

    train: tuple[int, int]
    validation: tuple[int, int]
    test: tuple[int, int]


def check_fraction(fraction: float) -> float:
    """The fraction, or SettingsError if it is not in (0, 1]."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise SettingsError(
            f"the label fraction is {fraction!r}",
            expected="a number in (0, 1], 0.01 for 1 %",
            fix="write percent as a fraction of 1",
        )
    return fraction


def make_split(dataset: str, case_ids: Iterable[str]) -> Split:
    """The split of these cases by the rule.

    Raises:
        DataError: an id occurs twice, or there are fewer than five cases.
    """
    ids = sorted(case_ids)
    if len(set(ids)) != len(ids):
        raise DataError("case ids occur more than once", where=dataset, expected="unique ids")
    if len(ids) < FOLDS:
        raise DataError(
            f"{len(ids)} cases cannot be split into {FOLDS} folds",
            where=dataset,
            expected=f"at least {FOLDS} cases",
            fix="add cases",
        )
    from sklearn.model_selection import KFold  # seconds, and `gtgm status` makes no split

    folds = KFold(FOLDS, shuffle=True, random_state=SEED).split(ids)
    return Split(dataset, tuple(ids), tuple(tuple(ids[i] for i in test) for _, test in folds))


def load_split(dataset: Dataset) -> Split:
    """The committed split if it is of exactly these cases, else the split by the rule.

    Raises:
        SettingsError: an EM dataset, which is split by sections (``em_ranges``).
        DataError: as ``make_split``, or a committed file whose folds do not partition its ids.
    """
    if dataset.info.format == "cremi":
        raise SettingsError(
            f"{dataset.info.name} is one volume", fix="use em_ranges, which splits its sections"
        )
    ids = sorted(dataset.ids)
    path = FOLDER / f"{dataset.info.name}.json"
    if path.is_file():
        split = from_json(read_json(path), path)
        if list(split.ids) == ids:
            return split
    return make_split(dataset.info.name, ids)


def to_json(split: Split) -> dict[str, Any]:
    """The split as it is committed: test ids of each fold, first training ids of each draw."""
    folds = []
    for fold in range(len(split.tests)):
        n = max(1, round(STORED_FRACTION * len(split.train(fold))))
        draws = [split.order(fold, draw)[:n] for draw in range(STORED_DRAWS)]
        folds.append({"test": split.test(fold), "draws": draws})
    return {
        "dataset": split.dataset,
        "rule": f"sorted ids, KFold({FOLDS}, shuffle=True, random_state={SEED}); test = held-out "
        "fold, train = all others; a draw lists the training cases that are labelled first",
        "cases": len(split.ids),
        "folds": folds,
    }


def from_json(value: Any, where: Path | str = "split") -> Split:
    """Inverse of ``to_json``.

    Raises:
        DataError: not of that form, folds that do not partition the cases, or a draw that takes
            test cases.
    """
    expected = '{"dataset": name, "cases": n, "folds": [{"test": [id, …], "draws": [[id, …], …]}]}'
    if not _is_split(value):
        raise DataError(
            "this is no split", where=where, expected=expected, fix="restore the committed file"
        )
    tests = tuple(tuple(fold["test"]) for fold in value["folds"])
    ids = sorted(id for test in tests for id in test)
    if len(set(ids)) != len(ids) or len(ids) != value["cases"]:
        raise DataError(
            "the folds do not partition the cases",
            where=where,
            expected=f"{value['cases']} ids, each in one fold",
            fix="restore the committed file",
        )
    firsts = {
        (k, d): tuple(draw)
        for k, fold in enumerate(value["folds"])
        for d, draw in enumerate(fold["draws"])
    }
    for (fold, draw), first in firsts.items():
        inside = set(first) <= set(ids) - set(tests[fold])
        if not inside or len(set(first)) != len(first):
            raise DataError(
                f"draw {draw} of fold {fold} leaves the training cases",
                where=where,
                expected="training cases of the fold, each once",
                fix="restore the committed file",
            )
    return Split(value["dataset"], tuple(ids), tests, firsts, committed=True)


def em_ranges(
    name: str,
    fraction: float,
    n_sections: int,
    rule: Literal["corrected", "as_released"] = "corrected",
) -> EMRanges:
    """Section ranges of an EM dataset for a label fraction.

    The first ``floor(fraction · n)`` sections train, where n counts all sections (CREMI, as the
    paper does) or the training range (FIB-25, own datasets; ``fractions_of`` in ``splits/``), but
    never more than the training range, which ends where validation begins. ``as_released``
    (CREMI): 75 sections at "75 %" (60 % of 125), the last 50 are both validation and test. A
    volume with another number of sections gets the same ranges in proportion; those of an own
    dataset are taken as they are.

    Raises:
        SettingsError: unknown name or rule, fraction outside (0, 1] or above the training range.
        DataError: too few sections, or ranges that overlap.
    """
    check_fraction(fraction)
    total, named, of_all = _em_rule(name, n_sections, rule)
    limit = _training_stop(named)
    # 1e-9: 0.29 of 100 sections is 28.999999999999996 in floating point.
    count = max(1, math.floor(fraction * (total if of_all else limit) + 1e-9))
    for percent, (_, stop) in named["train"].items():
        if abs(fraction - float(percent.rstrip("%")) / 100) < 1e-9:
            count = stop
    if count > limit:
        raise SettingsError(
            f"a label fraction of {fraction:g} takes {count} of {total} sections of {name}",
            expected=f"at most {limit} training sections, so that none is also tested",
            fix="choose " + " or ".join(named["train"]),
        )
    return _ranges(named, (0, count), n_sections, total, rule)


def em_training_range(
    name: str, n_sections: int, rule: Literal["corrected", "as_released"] = "corrected"
) -> tuple[int, int]:
    """All sections that training, also without labels, may read; arguments as in ``em_ranges``.

    Raises:
        SettingsError, DataError: as ``em_ranges``.
    """
    total, named, _ = _em_rule(name, n_sections, rule)
    return _ranges(named, (0, _training_stop(named)), n_sections, total, rule).train


def em_unlabelled(name: str, fraction: float) -> int:
    """Sections that pretraining reads and fine-tuning with this label fraction has no labels of.

    Raises:
        SettingsError: as ``em_ranges``.
    """
    # The ranges of an own volume are taken as they are, however many sections it has.
    total = _em_rule(name, 10**6, "corrected")[0]
    labelled = em_ranges(name, fraction, total).train[1]
    return em_training_range(name, total)[1] - labelled


def _is_split(value: Any) -> bool:
    def are_ids(values: Any) -> bool:
        return isinstance(values, list) and bool(values) and all(isinstance(v, str) for v in values)

    return (
        isinstance(value, dict)
        and isinstance(value.get("dataset"), str)
        and type(value.get("cases")) is int
        and isinstance(value.get("folds"), list)
        and len(value["folds"]) > 1
        and all(
            isinstance(fold, dict)
            and are_ids(fold.get("test"))
            and isinstance(fold.get("draws"), list)
            and all(are_ids(draw) for draw in fold["draws"])
            for fold in value["folds"]
        )
    )


def _em_rule(name: str, n_sections: int, rule: str) -> tuple[int, dict[str, Any], bool]:
    """Number of sections that the ranges are written for, the ranges, and what fractions count."""
    path = FOLDER / f"{name}.json"
    if path.is_file():
        value = read_json(path)
    elif name in registry.names("EM") and registry.get(name).ranges:
        parts = dict(zip(("train", "validation", "test"), registry.get(name).ranges, strict=True))
        named = {**parts, "train": {"100%": parts["train"]}}
        value = {"sections": n_sections, "fractions_of": TRAINING, "rules": {"corrected": named}}
    else:
        value = {}
    rules = value.get("rules", {})
    if rule not in rules:
        raise SettingsError(
            f"there are no {rule!r} section ranges of {name!r}",
            expected=", ".join(rules) or "an EM dataset",
        )
    if n_sections < MIN_SECTIONS:
        raise DataError(
            f"{n_sections} sections cannot be split",
            where=name,
            expected=f"at least {MIN_SECTIONS}",
        )
    return value["sections"], rules[rule], value["fractions_of"] != TRAINING


def _training_stop(named: dict[str, Any]) -> int:
    return max(stop for _, stop in named["train"].values())


def _ranges(
    named: dict[str, Any], train: tuple[int, int], n_sections: int, total: int, rule: str
) -> EMRanges:
    parts = {"train": train, "validation": named["validation"], "test": named["test"]}
    ranges = EMRanges(**{part: _scale(r, n_sections / total) for part, r in parts.items()})
    _assert_disjoint(ranges, rule)
    if ranges.test[1] > n_sections:
        raise DataError(
            f"the test sections end at {ranges.test[1]} and the volume has {n_sections}",
            where=str(ranges),
            expected="ranges inside the volume",
            fix="correct the ranges, or use the volume that they were written for",
        )
    return ranges


def _scale(part: tuple[int, int], factor: float) -> tuple[int, int]:
    start, stop = round(part[0] * factor), round(part[1] * factor)
    return start, max(stop, start + 1)


def _assert_disjoint(ranges: EMRanges, rule: str) -> None:
    """Training never meets validation or test; validation may equal test only ``as_released``."""
    parts = [ranges.train, ranges.validation, ranges.test]
    if rule == "as_released" and ranges.validation == ranges.test:
        parts.pop()
    parts.sort()
    if any(a[1] > b[0] for a, b in zip(parts, parts[1:], strict=False)):
        raise DataError("section ranges overlap", where=str(ranges), expected="disjoint ranges")


def _shuffled(ids: list[str], fold: int, draw: int) -> list[str]:
    # RandomState, because NumPy keeps its stream the same in all versions, as for KFold.
    order = np.random.RandomState([SEED, fold, draw]).permutation(len(ids))
    return [ids[i] for i in order]
