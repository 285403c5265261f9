"""Changed runs: only the same fold, draw and seed is compared, and only one change at a time."""

from __future__ import annotations

import random

import pytest
from study_results import DATASET, draws, run

from gtgm.changed import changed_frame, is_changed
from gtgm.deviations import AS_RELEASED, DEFAULT, DEVIATIONS
from gtgm.statistics import Setting

ROW = {deviation.row: deviation for deviation in DEVIATIONS}
DEFAULTS = draws("gtgm", [0.80, 0.82])


def changed(scores, changes, **about):
    return draws("gtgm", scores, settings={"changes": changes}, **about)


def frame(*groups):
    return changed_frame([r for group in groups for r in group], DATASET, 0.01)


def test_a_departure_has_its_name_and_its_partner_on_the_same_draw():
    found = frame(DEFAULTS, changed([0.78, 0.83, 0.9], ROW[2].changes))  # draw 2 has no partner
    assert list(found["label"]) == [DEFAULT.label] * 2 + [ROW[2].variant.label] * 2
    assert list(found["difference"]) == pytest.approx([0, 0, -0.02, 0.01])
    assert set(found["against"]) == {DEFAULT.label}


def test_the_best_checkpoint_is_compared_with_the_last_one():
    last, best = changed([0.79], ROW[5].against.changes), changed([0.81], ROW[5].changes)
    found = frame(DEFAULTS, best, last).set_index("label")
    assert found.loc[ROW[5].variant.label, "against"] == ROW[5].against.label
    assert found.loc[ROW[5].variant.label, "difference"] == pytest.approx(0.02)
    assert found.loc[ROW[5].against.label, "difference"] == pytest.approx(-0.01)
    assert frame(DEFAULTS, best).empty  # without that partner it says nothing


def test_other_changes_are_named_by_their_values_and_come_last():
    other = changed([0.7], {"pretrain": {"temperature": 0.28}})
    released = draws("gtgm", [0.6], protocol="as_released")
    found = frame(other, released, DEFAULTS, changed([0.75], ROW[14].changes))
    labels = [DEFAULT.label, ROW[14].variant.label, AS_RELEASED.label, "pretrain.temperature=0.28"]
    assert list(found["label"]) == labels


def test_the_order_of_keys_and_of_results_does_not_matter():
    mixed = changed([0.7], dict(reversed(ROW[5].against.changes.items())))
    swapped = {"finetune": dict(reversed(ROW[5].changes["finetune"].items()))}
    results = [*DEFAULTS, *mixed, *changed([0.81], swapped)]
    shuffled = random.Random(3).sample(results, len(results))
    assert frame(results).equals(frame(shuffled)) and len(frame(results)) == 3


def test_two_changes_at_once_and_other_settings_do_not_count():
    both = changed([0.7], ROW[2].changes, protocol="as_released")
    elsewhere = [
        *changed([0.7], ROW[2].changes, backbone="swin"),
        *changed([0.7], ROW[2].changes, fold=1),
        *changed([0.7], ROW[2].changes, seed=5),
        *changed([0.7], ROW[2].changes, fraction=0.1),
        *changed([0.7], ROW[2].changes, source="phantom"),
        *draws("random", [0.7], settings={"changes": ROW[2].changes}),
    ]
    assert frame(DEFAULTS, both, elsewhere).empty
    phantom = [*elsewhere, *draws("gtgm", [0.8], source="phantom")]
    assert len(changed_frame(phantom, DATASET, 0.01, setting=Setting(source="phantom"))) == 2


def test_of_a_repeated_run_the_newest_counts():
    old, new = changed([0.7], ROW[2].changes, started="2026-01-01", id="a"), changed(
        [0.9], ROW[2].changes, started="2026-02-01", id="b")  # fmt: skip
    assert list(frame(new, DEFAULTS, old)["dice"]) == [0.80, 0.9]


def test_a_changed_run_is_told_from_the_default():
    assert not is_changed(run("gtgm", 0.8))
    assert is_changed(run("gtgm", 0.8, protocol="as_released"))
    assert is_changed(changed([0.8], ROW[2].changes)[0])
    longer = {"changes": {"neurons": {"steps": 2000}}}
    assert not is_changed(run("random", None, stage="neurons", settings=longer))
