"""Label-efficiency curves, and the number of labels that pretraining saves."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.optimize import brentq
from study_results import DATASET, draws, run, study

from gtgm.label_curves import label_curve, labels_saved

SIZES = {0.01: 2, 0.1: 20, 1.0: 200}


def curve(method: str, *scores: list[float], folds: tuple[int, ...] = (0,)):
    """A curve with these scores of the draws at 1, 10 and 100 %, the same in every fold."""
    results = [
        result
        for fold in folds
        for (fraction, cases), group in zip(SIZES.items(), scores, strict=False)
        for result in draws(method, group, fraction=fraction, n_train=cases, fold=fold)
    ]
    return label_curve(results, DATASET, method)


def test_points_are_means_over_draws_and_folds_by_number_of_cases() -> None:
    results = [
        *draws("gtgm", [0.7, 0.8], n_train=2),
        *draws("gtgm", [0.9], fold=1, n_train=3),
        run("gtgm", 0.6, seed=1, n_train=2),
        run("gtgm", 0.95, fraction=1.0, n_train=208),
        run("gtgm", None, fraction=1.0, n_train=208, draw=1),
        run("random", 0.1),
        run("gtgm", 0.1, source="phantom"),
    ]
    few, all_cases = label_curve(results, DATASET, "gtgm")
    assert few.scores == {(0, 0): pytest.approx(0.65), (0, 1): 0.8, (1, 0): 0.9}
    assert few.mean == pytest.approx(np.mean([0.65, 0.8, 0.9]))
    assert few.sd == pytest.approx(np.std([0.65, 0.8, 0.9], ddof=1))
    assert (few.fraction, few.cases, few.runs) == (0.01, 2.25, 4)
    assert (all_cases.mean, all_cases.sd, all_cases.runs) == (0.95, None, 1)
    assert [p.runs for p in label_curve(results, DATASET, "gtgm", fold=1)] == [1]
    assert label_curve([], DATASET, "gtgm") == []


def test_the_order_of_results_does_not_matter() -> None:
    results = study()
    shuffled = random.Random(0).sample(results, len(results))
    assert label_curve(results, DATASET, "gtgm") == label_curve(shuffled, DATASET, "gtgm")


@pytest.mark.parametrize("reached", [0.81, 0.84, 0.86, 0.875])
def test_the_factor_is_where_the_line_over_log_cases_crosses(reached: float) -> None:
    baseline = curve("random", [0.80], [0.85], [0.88])
    found = labels_saved(curve("gtgm", [reached]), baseline)
    levels, cases = [0.80, 0.85, 0.88], np.log([2, 20, 200])
    needed = math.exp(brentq(lambda x: np.interp(x, cases, levels) - reached, *cases[[0, 2]]))
    assert found.answer == "factor" and found.factor == pytest.approx(needed / 2)
    # One draw of each size: nothing to draw again.
    assert found.low == found.high == found.factor


def test_equal_or_worse_saves_none_and_above_the_curve_is_beyond_it() -> None:
    baseline = curve("random", [0.80], [0.85], [0.88])
    for reached in (0.80, 0.70):
        found = labels_saved(curve("gtgm", [reached]), baseline)
        assert (found.answer, found.factor) == ("none", 1)
    found = labels_saved(curve("gtgm", [0.881]), baseline)
    assert found.answer == "beyond the measured range" and math.isinf(found.factor)
    assert (found.cases, found.measured_to) == (2, 200)
    assert math.isinf(found.low) and math.isinf(found.high)


def test_a_falling_baseline_counts_with_what_it_has_reached() -> None:
    baseline = curve("random", [0.80], [0.86], [0.84])
    assert labels_saved(curve("gtgm", [0.86]), baseline).factor == pytest.approx(10)
    assert labels_saved(curve("gtgm", [0.865]), baseline).answer == "beyond the measured range"


def test_more_gain_saves_no_fewer_labels() -> None:
    baseline = curve("random", [0.79, 0.81], [0.85, 0.86], [0.88])
    gains = np.linspace(-0.02, 0.1, 13)
    found = [labels_saved(curve("gtgm", [0.79 + g, 0.81 + g]), baseline) for g in gains]
    factors = [f.factor for f in found]
    assert factors == sorted(factors) and factors[0] == 1 and math.isinf(factors[-1])
    assert all(f.low <= f.factor <= f.high for f in found)


def test_the_interval_widens_with_the_spread_and_is_the_same_again() -> None:
    baseline = curve("random", [0.80] * 5, [0.85] * 2, [0.88])
    tight, wide = (curve("gtgm", [0.82 + s * d for d in (-2, -1, 0, 1, 2)]) for s in (0.001, 0.008))
    narrow, broad = labels_saved(tight, baseline), labels_saved(wide, baseline)
    assert narrow.factor == pytest.approx(broad.factor)
    assert broad.low < narrow.low < narrow.factor < narrow.high < broad.high
    assert labels_saved(wide, baseline) == broad
    other = labels_saved(wide, baseline, seed=1)
    assert (other.low, other.high) == pytest.approx((broad.low, broad.high), rel=0.05)


def test_draws_that_both_share_cancel_in_the_interval() -> None:
    # Each draw is as much better as the others, so the spread between draws does not matter.
    shared = np.array([-0.02, -0.01, 0, 0.01, 0.02])
    baseline = curve("random", list(0.80 + shared), [0.85], [0.88])
    together = labels_saved(curve("gtgm", list(0.81 + shared)), baseline)
    apart = labels_saved(curve("gtgm", list(0.81 - shared)), baseline)
    assert together.factor == pytest.approx(apart.factor)
    assert together.high - together.low < apart.high - apart.low


def test_only_draws_and_folds_that_are_comparable_count() -> None:
    baseline = curve("random", [0.80, 0.70], [0.85], [0.88])
    one = labels_saved(curve("gtgm", [0.82]), baseline)
    assert one.factor == labels_saved(curve("gtgm", [0.82, 0.72]), curve(
        "random", [0.80], [0.85], [0.88])).factor  # fmt: skip
    more = [p for fold in (0, 1) for p in draws("random", [0.5], fold=fold, n_train=2)]
    more += draws("random", [0.9], fold=1, fraction=1.0, n_train=200)
    found = labels_saved(
        label_curve(draws("gtgm", [0.6, 0.9]) + draws("gtgm", [0.7], fold=1), DATASET, "gtgm"),
        label_curve(more, DATASET, "random"),
    )
    # Fold 0 has no run at 100 %: from 0.5 to 0.9 in fold 1, 0.7 is half way in log cases.
    assert found.factor == pytest.approx(10)


def test_nothing_is_said_without_a_baseline_at_the_same_and_at_a_larger_size() -> None:
    method = curve("gtgm", [0.82])
    assert labels_saved([], curve("random", [0.80], [0.85])) is None
    assert labels_saved(method, []) is None
    assert labels_saved(method, curve("random", [0.80])) is None
    assert labels_saved(method, curve("random", [0.80], [0.85])[1:]) is None
    assert labels_saved(method, curve("random", [0.80], [0.85], folds=(1,))) is None
