"""Words for numbers: verdicts follow from intervals and tests, numbers are easy to read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gtgm import words
from gtgm.label_curves import Saving
from gtgm.statistics import Comparison, correct

TEN = np.linspace(-0.004, 0.004, 10)


def comparison(differences, p_corrected: float | None = None) -> Comparison:
    scores = tuple((0.8, 0.8 + d) for d in differences)
    return Comparison("gtgm", "random", tuple((0, i) for i in range(len(scores))), scores, 0,
                      p_corrected, p_corrected)  # fmt: skip


@pytest.mark.parametrize(
    ("shift", "p", "expected"),
    [
        (0.02, 0.01, words.SHOWN),
        (-0.02, 0.01, words.OPPOSITE),
        (0.02, 0.06, words.NOT_SHOWN),
        (0.0, 0.9, words.NOT_SHOWN),
    ],
)
def test_a_verdict_needs_the_interval_and_the_test(shift, p, expected) -> None:
    both = comparison(TEN + shift, p)
    assert words.verdict(comparison(TEN[::2] + shift), both) == expected
    mirrored = {words.SHOWN: words.OPPOSITE, words.OPPOSITE: words.SHOWN}.get(expected, expected)
    assert words.verdict(comparison(TEN[::2] + shift), both, better=-1) == mirrored


def test_a_verdict_is_careful_where_the_two_disagree_or_one_is_missing() -> None:
    gain, loss, nothing = comparison(TEN + 0.02, 0.01), comparison(TEN - 0.02, 0.01), TEN[::2]
    assert words.verdict(comparison(nothing), gain) == words.NOT_SHOWN
    assert words.verdict(comparison(TEN[::2] + 0.02), loss) == words.NOT_SHOWN
    assert words.verdict(None, gain) == words.NOT_CONFIRMED
    assert words.verdict(None, None) == words.NOT_MEASURED


@pytest.mark.parametrize(
    ("pairs", "family", "expected"),
    [
        (1, 1, words.CANNOT),
        (4, 1, words.CANNOT),  # 2 of 16 sign patterns: p is 0.125 at least
        (5, 1, words.CANNOT),  # 2 of 32: 0.0625
        (6, 1, words.SHOWN),  # 2 of 64: 0.031
        (6, 2, words.CANNOT),  # corrected for two: 0.0625 at least
        (7, 2, words.SHOWN),
    ],
)
def test_too_few_pairs_cannot_decide_whatever_they_say(pairs, family, expected) -> None:
    gains = [comparison(np.linspace(0.02, 0.03, pairs), 2 / 2**pairs)] * family
    if pairs == 1:
        gains = [replace(gain, p=None) for gain in gains]
    both = correct(gains)[0]
    assert words.verdict(gains[0], both) == expected
    nothing = correct([comparison(np.linspace(-0.02, 0.02, pairs), 1.0)] * family)[0]
    silent = words.CANNOT if expected == words.CANNOT else words.NOT_SHOWN
    assert words.verdict(nothing, nothing) == silent
    # A fold on which nothing can be confirmed decides nothing, however many pairs there are.
    assert words.verdict(comparison([0.1]), comparison(TEN + 0.02, 0.01)) == words.CANNOT
    assert words.verdict_of_one(comparison([0.1])) == words.CANNOT


def test_excluded_gains_are_rounded_up() -> None:
    found = comparison([0.01, 0.02, 0.03])
    assert found.high == pytest.approx(0.0448414) and words.excluded_above(found) == "4.49"
    assert words.excluded_above(comparison([-0.01, -0.02, -0.03])) == "0.49"


def test_sections_that_only_pretraining_reads_are_counted() -> None:
    told = words.unlabelled([("CREMI_A", 0.75), ("FIB25", 0.75), ("FIB25", 0.1), ("FIB25", 0.75)])
    assert "CREMI A: 0 at 75 %; FIB-25: 108 at 10 % and 30 at 75 %." in told


def test_a_comparison_chosen_beforehand_is_judged_by_its_interval() -> None:
    for shift, expected in ((0.02, words.SHOWN), (-0.02, words.OPPOSITE), (0, words.NOT_SHOWN)):
        assert words.verdict_of_one(comparison(TEN[::2] + shift)) == expected
    assert words.verdict_of_one(None) == words.NOT_CONFIRMED


def test_numbers_are_written_as_people_read_them() -> None:
    found = comparison([0.01, 0.02, 0.03])
    assert words.signed(-0.5) == "−0.50" and words.number(None) == "–"
    assert words.difference(found) == "+2.00 [−0.48, +4.48]"
    assert words.in_words(found) == "+2.00 points (3 pairs, 95 % interval −0.48 to +4.48)"
    assert words.difference(comparison([0.01])) == "+1.00" and words.difference(None) == "–"
    assert "no interval" in words.in_words(comparison([0.01]))
    assert [words.p_value(p) for p in (None, 1, 0.541, 0.0625, 0.0002)] == [
        "–", "1", "0.54", "0.0625", "< 0.001"]  # fmt: skip
    assert [words.listed(range(n)) for n in range(4)] == ["–", "0", "0 and 1", "0, 1 and 2"]
    saved = Saving(2, 208, 2.2, 1, float("inf"))
    assert [words.factor(f, saved) for f in (saved.low, saved.factor, saved.high)] == [
        "none", "2.2", "> 104, beyond the measured range"]  # fmt: skip
