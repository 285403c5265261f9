"""Gains per dataset: the pairs of the statistics, and nothing compared that differs in more."""

from __future__ import annotations

import pytest
from study_results import DATASET, draws, run, study

from gtgm.gains import gains
from gtgm.results import Result
from gtgm.statistics import Setting, paired

WHOLE = study()


def neurons(method: str, draw: int, waterz: float, multicut: float) -> Result:
    rows = [{"case": "FIB25", "class": name, "metric": "voi_sum", "value": value}
            for name, value in (("waterz", waterz), ("multicut", multicut))]  # fmt: skip
    return run(method, None, stage="neurons", dataset="FIB25", draw=draw, metrics=rows)


def test_a_row_per_fraction_as_the_statistics_pair_them() -> None:
    found = gains(WHOLE, "pcrlv2")
    assert [gain.fraction for gain in found] == [0.01, 0.1, 1.0]
    for gain in found:
        expected = paired(WHOLE, "pcrlv2", dataset=DATASET, fraction=gain.fraction)
        assert gain.comparison == expected and gain.post == ""
    assert found[0].label == "MSD Hippocampus, 1 %"


def test_real_and_phantom_are_apart_and_real_comes_first() -> None:
    phantoms = [
        r
        for m, s in (("random", (0.5, 0.6)), ("gtgm", (0.9, 0.9)))
        for r in draws(m, s, source="phantom", dataset="Task02_Heart")
    ]
    found = gains([*phantoms, *WHOLE], "gtgm")
    assert [g.setting.source for g in found] == ["real"] * 3 + ["phantom"]
    assert found[-1].label.endswith("phantom") and found[-1].comparison.n == 2
    assert gains([*phantoms, *WHOLE], "gtgm", Setting()) == found[:3]


def test_neurons_have_a_row_per_post_processing() -> None:
    runs = [neurons(m, d, 1.5 + d - gain, 1.2) for d in range(3)
            for m, gain in (("random", 0), ("gtgm", 0.25))]  # fmt: skip
    waterz, multicut = gains(runs, "gtgm")
    assert (waterz.post, multicut.post) == ("waterz", "multicut")
    assert waterz.comparison.mean == pytest.approx(-0.25) and multicut.comparison.mean == 0
    assert waterz.label == "FIB-25, 1 %, waterz"


def test_nothing_to_compare_is_no_gain() -> None:
    assert gains([], "gtgm") == []
    assert gains(draws("gtgm", (0.8, 0.9)), "gtgm") == []
