"""Statistics: pairs, intervals, the exact test, corrections, and which runs count."""

from __future__ import annotations

import random
from itertools import product
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy import special, stats
from study_results import DATASET, draws, run, study

from gtgm import statistics
from gtgm.errors import SettingsError
from gtgm.methods import METHODS
from gtgm.statistics import Setting, compare_all, holm, paired, select, settings_of

BASE = [0.80, 0.78, 0.82, 0.79, 0.81]
BETTER = [0.83, 0.77, 0.85, 0.80, 0.84]
ONE = {"dataset": DATASET, "fraction": 0.01}


def two(base=BASE, better=BETTER, **changes):
    return draws("random", base, **changes) + draws("gtgm", better, **changes)


def test_mean_sd_interval_and_effect_against_independent_references() -> None:
    found = paired(two(), "gtgm", "random", **ONE)
    differences = np.subtract(BETTER, BASE)
    assert found.n == 5 and found.units == tuple((0, draw) for draw in range(5))
    assert found.mean == pytest.approx(differences.mean())
    assert found.sd == pytest.approx(differences.std(ddof=1))
    assert found.mean_baseline == pytest.approx(np.mean(BASE))
    assert found.mean_method == pytest.approx(np.mean(BETTER))
    interval = stats.ttest_rel(BETTER, BASE).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    # Hedges' factor for 4 degrees of freedom, from his gamma functions.
    factor = special.gamma(2) / (np.sqrt(2) * special.gamma(1.5))
    assert found.effect == pytest.approx(differences.mean() / differences.std(ddof=1) * factor)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_permutation_test_is_exact(count: int) -> None:
    rng = np.random.default_rng(count)
    differences = rng.normal(0.5, 1, count)
    found = paired(two(np.zeros(count), differences), "gtgm", "random", **ONE)
    means = [fmean(s * d for s, d in zip(signs, differences, strict=True))
             for signs in product((1, -1), repeat=count)]  # fmt: skip
    reached = sum(abs(mean) >= abs(differences.mean()) - 1e-12 for mean in means)
    assert found.p == pytest.approx(reached / 2**count)
    assert found.smallest_p == 2 / 2**count


def test_the_smallest_p_is_reached_if_every_draw_gains() -> None:
    found = paired(two(BASE, np.add(BASE, [0.01, 0.02, 0.03, 0.04, 0.05])), "gtgm", **ONE)
    assert found.p == found.smallest_p == 0.0625


def test_many_pairs_take_a_part_of_the_patterns_and_give_the_same_again() -> None:
    differences = np.random.default_rng(0).normal(0.2, 1, 20)
    results = two(np.zeros(20), differences)
    found = paired(results, "gtgm", **ONE)
    assert found.p == paired(results, "gtgm", **ONE).p
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.03)


def test_the_order_of_results_does_not_matter() -> None:
    results = study()
    shuffled = random.Random(0).sample(results, len(results))
    assert compare_all(results, DATASET, 0.01) == compare_all(shuffled, DATASET, 0.01)


def test_swapping_the_methods_changes_the_sign_only() -> None:
    forth, back = paired(two(), "gtgm", "random", **ONE), paired(two(), "random", "gtgm", **ONE)
    assert back.mean == pytest.approx(-forth.mean) and back.p == forth.p
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert back.effect == pytest.approx(-forth.effect)


def test_a_shift_of_both_methods_changes_nothing_and_one_of_the_method_moves_the_mean() -> None:
    plain = paired(two(), "gtgm", **ONE)
    both = paired(two(np.add(BASE, 0.1), np.add(BETTER, 0.1)), "gtgm", **ONE)
    assert (both.mean, both.low, both.p) == pytest.approx((plain.mean, plain.low, plain.p))
    shifted = paired(two(BASE, np.add(BETTER, 0.1)), "gtgm", **ONE)
    assert (shifted.mean, shifted.low) == pytest.approx((plain.mean + 0.1, plain.low + 0.1))
    assert shifted.sd == pytest.approx(plain.sd)


def test_runs_without_a_partner_are_left_out_and_counted() -> None:
    results = two() + [run("gtgm", 0.1, draw=7), run("random", 0.9, draw=8),
                       run("gtgm", 0.2, seed=3)]  # fmt: skip
    found = paired(results, "gtgm", **ONE)
    assert found.left_out == 3 and found.differences == paired(two(), "gtgm", **ONE).differences
    assert paired(draws("gtgm", BETTER), "gtgm", **ONE) is None


def test_few_pairs_give_no_more_than_they_can() -> None:
    one = paired(two(BASE[:1], BETTER[:1]), "gtgm", **ONE)
    assert (one.n, one.sd, one.low, one.high, one.p, one.effect) == (1, *[None] * 5)
    pair = paired(two(BASE[:2], BETTER[:2]), "gtgm", **ONE)
    assert pair.effect is None and pair.low < pair.mean < pair.high
    same = paired(two(BASE, BASE), "gtgm", **ONE)
    assert (same.mean, same.low, same.high, same.p, same.effect) == (0, 0, 0, 1, None)


def test_draws_of_two_folds_are_different_pairs_and_a_fold_can_be_chosen() -> None:
    results = two() + two(BETTER, BASE, fold=1)
    both = paired(results, "gtgm", **ONE)
    assert both.n == 10 and both.mean == pytest.approx(0)
    first, second = (paired(results, "gtgm", **ONE, fold=fold) for fold in (0, 1))
    assert first.n == second.n == 5 and first.mean == pytest.approx(-second.mean)


def test_seeds_of_a_draw_are_averaged_since_the_draw_is_the_unit() -> None:
    results = []
    for draw, seed, base, better in [(0, 0, 0.5, 0.6), (0, 1, 0.5, 0.8), (1, 0, 0.4, 0.5)]:
        results += [run("random", base, draw=draw, seed=seed),
                    run("gtgm", better, draw=draw, seed=seed)]  # fmt: skip
    found = paired(results, "gtgm", **ONE)
    assert found.differences == pytest.approx((0.2, 0.1)) and found.n == 2


def test_real_phantom_and_tiny_runs_and_other_settings_never_mix() -> None:
    others = [
        run("gtgm", 0.1, id="p", source="phantom"),
        run("gtgm", 0.1, id="t", profile="tiny"),
        run("gtgm", 0.1, id="s", backbone="swin"),
        run("gtgm", 0.1, id="r", protocol="as_released"),
        run("gtgm", 0.1, id="d", dataset="Task02_Heart"),
        run("gtgm", 0.1, id="f", fraction=0.1),
        run("gtgm", 0.1, id="e", stage="pretrain"),
        run("published", 0.1),
        run("gtgm", 0.1, id="n", fold=None),
    ]
    assert select(two() + others, DATASET, fraction=0.01) == select(two(), DATASET)
    phantoms = Setting(source="phantom")
    assert [r.id for r in select(two() + others, DATASET, setting=phantoms)] == ["p"]
    with pytest.raises(SettingsError, match="for looking"):
        Setting(profile="tiny")


def test_settings_are_found_without_those_for_looking() -> None:
    results = [*two(), run("gtgm", 0.1, id="t", profile="tiny"),
               run("gtgm", 0.1, id="s", backbone="swin", profile="paper"),
               run("gtgm", 0.1, id="n", backbone=None)]  # fmt: skip
    assert settings_of(results, DATASET) == [Setting(backbone="swin", profile="paper"), Setting()]


def test_runs_with_other_settings_than_the_profiles_do_not_count() -> None:
    changed = {"changes": {"pretrain": {"weight_vr": 1.0}}}
    usual, other = run("gtgm", 0.8), run("gtgm", 0.9, settings=changed, id="x", started="2030")
    assert other.changes == "pretrain.weight_vr=1.0"
    assert select([usual, other], DATASET) == [usual]
    assert not settings_of([other], DATASET)


def test_of_several_versions_of_a_run_the_newest_counts() -> None:
    old = [run("gtgm", 0.1, draw=draw, id=f"old-{draw}", started="2024-01-01") for draw in range(5)]
    new = draws("gtgm", BETTER, started="2025-01-01")
    base = draws("random", BASE)
    expected = paired(new + base, "gtgm", **ONE)
    assert paired(old + new + base, "gtgm", **ONE) == expected
    assert paired(new + old + base, "gtgm", **ONE) == expected


def test_runs_without_a_score_do_not_count() -> None:
    results = [*two(), run("gtgm", None, draw=9), run("random", 0.5, draw=9)]
    assert paired(results, "gtgm", **ONE).n == 5


def test_any_score_can_be_compared() -> None:
    results = [run(m, None, id=f"{m}{d}", draw=d, summary={"voi": v})
               for m, d, v in [("random", 0, 1.5), ("gtgm", 0, 1.2)]]  # fmt: skip
    found = paired(results, "gtgm", **ONE, score=lambda r: r.summary.get("voi"))
    assert found.mean == pytest.approx(-0.3)


def test_holm_against_a_reference_worked_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1, and none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1] and holm([0.2]) == [0.2] and holm([]) == []


def test_holm_rejects_what_its_stepwise_rule_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.uniform(0, 0.1, 6)
        rejected = set()
        for step, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (len(p) - step):
                break
            rejected.add(int(i))
        assert {i for i, c in enumerate(holm(list(p))) if c <= 0.05} == rejected


def test_all_methods_are_compared_in_the_order_of_tables_and_corrected_together() -> None:
    found = compare_all(study(), DATASET, 0.01)
    assert [c.method for c in found] == [
        name for name in METHODS if name not in ("random", "gtgm-blip")
    ]
    assert [c.p_corrected for c in found] == holm([c.p for c in found])
    assert all(c.baseline == "random" and c.n == 10 for c in found)
    other = compare_all(study(), DATASET, 0.01, baseline="gtgm", fold=1)
    assert {c.n for c in other} == {5} and "random" in {c.method for c in other}


def test_a_comparison_without_p_does_not_count_in_the_family() -> None:
    results = [*two(), run("byol", 0.9)]
    byol, gtgm = compare_all(results, DATASET, 0.01)
    assert byol.p_corrected is None and gtgm.p_corrected == gtgm.p


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(SettingsError, match="unknown method 'gtmg'"):
        paired([], "gtmg", **ONE)
    with pytest.raises(SettingsError, match="unknown method"):
        compare_all([], DATASET, 0.01, baseline="none")


def test_scores_by_unit_are_means_over_seeds() -> None:
    scores = {(1, 0, 0): 0.4, (0, 0, 1): 0.6, (0, 0, 0): 0.2}
    assert statistics.by_unit(scores) == {(0, 0): pytest.approx(0.4), (1, 0): 0.4}
    assert stdev(statistics.by_unit(scores).values()) == pytest.approx(0)
