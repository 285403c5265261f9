"""Departures of the released code: the right rows, switched on alone, and the counts."""

from __future__ import annotations

import re

import pytest
from study_results import run

from gtgm import variants
from gtgm.deviations import (
    AS_RELEASED,
    DEFAULT,
    DEVIATIONS,
    deviations,
    deviations_frame,
    label_counts,
    run_deviations,
    section_ranges,
)
from gtgm.errors import SettingsError
from gtgm.settings import preset
from gtgm.stages import Study
from gtgm.variants import comparisons, distinct

NAME = "Task04_Hippocampus"
ROWS = [2, 3, 5, 6, 7, 8, 10, 14, 17]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return str(tmp_path_factory.mktemp("deviations"))


def test_the_rows_are_those_marked_option(shared_data):
    text = (shared_data.parent / "paper" / "deviations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", text, re.M)
    assert [int(row) for row, here in rows if here.startswith("option")] == ROWS


def test_rows_are_chosen_by_their_numbers():
    assert [d.row for d in DEVIATIONS] == ROWS
    assert [d.row for d in DEVIATIONS if not d.runs] == [8, 17]
    assert [d.row for d in deviations([5, 2])] == [2, 5]
    with pytest.raises(SettingsError, match=r"rows: 1, 99.*some of 2, 3, 5"):
        deviations([99, 2, 1])


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda d: f"row {d.row}")
def test_what_is_switched_on_is_what_as_released_has(deviation):
    for changes in (deviation.changes, deviation.against.changes):
        for stage, changed in changes.items():
            released, corrected = preset(stage, "cpu", "as_released"), preset(stage, "cpu")
            for name, value in changed.items():
                assert getattr(released, name) == value
                assert getattr(corrected, name) != value
    assert bool(deviation.changes) == (deviation.row != 17)  # which is another data set


@pytest.mark.parametrize("profile", ["tiny", "demo", "cpu", "paper"])
def test_every_row_is_valid_alone_and_differs(profile, phantoms):
    study = Study((NAME,), profile, runs=phantoms)
    listed = [DEFAULT, *(d.variant for d in DEVIATIONS if d.changes), AS_RELEASED]
    assert distinct(study, listed) == listed
    assert DEFAULT.of(study) == study
    assert AS_RELEASED.of(study).settings("finetune").sigmoid_output


def test_the_frame_lists_every_row(phantoms):
    frame = deviations_frame(Study((NAME,), runs=phantoms), DEVIATIONS).set_index("row")
    assert list(frame.index) == ROWS
    assert frame.loc[2, "settings"] == "finetune.sigmoid_output = True"
    assert list(frame.index[frame["compared with"] == "not run"]) == [8, 17]
    assert frame.loc[5, "compared with"] == "last weights, not averaged"
    assert all(frame.loc[[8, 17], "note"])


@pytest.fixture
def runs(monkeypatch) -> list[tuple]:
    """Stands for training; a score per setting, and what was asked for."""
    asked = []

    def finetune(study, dataset, method, fraction, draw):
        settings = study.settings("finetune")
        score = 0.8 - 0.02 * settings.sigmoid_output - 0.01 * (settings.ema == 0)
        score += 0.04 * settings.select_on_test - 0.3 * (study.protocol == "as_released")
        asked.append((study.protocol, study.changes))
        return run(method, score + 0.001 * draw, draw=draw, wall_seconds=1.0)

    monkeypatch.setattr(variants, "finetune", finetune)
    return asked


def test_each_row_alone_against_its_own_reference(runs, phantoms):
    study = Study((NAME,), runs=phantoms)
    frame = run_deviations(study, NAME, DEVIATIONS[:3], 0.1, (0, 1), [AS_RELEASED])
    labels = list(dict.fromkeys(frame["label"]))
    two, three, five = (d.variant.label for d in DEVIATIONS[:3])
    last = DEVIATIONS[2].against.label
    assert labels == [DEFAULT.label, two, three, last, five, AS_RELEASED.label]
    assert len(frame) == 2 * len(labels)
    found = {c.method: (c.baseline, round(c.mean, 6)) for c in comparisons(frame)}
    released = found.pop(AS_RELEASED.label)
    assert found == {
        two: (DEFAULT.label, -0.02),
        three: (DEFAULT.label, 0.0),
        last: (DEFAULT.label, -0.01),
        five: (last, 0.04),
    }
    # The whole protocol: sigmoid, last weights, chosen checkpoint, and the protocol itself.
    assert released == (DEFAULT.label, pytest.approx(-0.02 - 0.01 + 0.04 - 0.3))


def test_rows_that_one_process_cannot_show_are_not_run(runs, phantoms):
    frame = run_deviations(Study((NAME,), runs=phantoms), NAME, deviations([8, 17]))
    assert list(frame["label"]) == [DEFAULT.label]
    assert runs == [("corrected", {})]


def test_rows_that_are_on_already_cannot_be_switched_on(runs, phantoms):
    with pytest.raises(SettingsError, match="protocol: is as_released"):
        run_deviations(Study((NAME,), protocol="as_released", runs=phantoms), NAME, DEVIATIONS)
    assert not runs


def test_cells_that_the_release_cannot_have():
    counts = label_counts()
    assert counts["dataset"].nunique() == 10 and len(counts) == 30
    empty = counts.query("released == 0")
    # The four of deviations.md, row 15.
    assert {name.removeprefix("MSD ") for name in empty["dataset"]} == {
        "Heart", "Prostate", "Lung", "Spleen",
    }  # fmt: skip
    assert set(empty["fraction"]) == {0.01}
    assert counts["here"].min() == 1
    hippocampus = counts.query("dataset == 'MSD Hippocampus'")
    assert list(hippocampus["here"]) == [2, 21, 208]
    assert list(hippocampus["released"]) == [2, 23, 234]


def test_sections_as_released_are_no_75_percent():
    table = section_ranges().set_index(["protocol", "fraction"])
    assert table.loc[("as_released", 0.75), "trained"] == pytest.approx(0.6)
    assert table.loc[("as_released", 0.75), "shared"] == 50
    assert table.loc[("corrected", 0.75), "trained"] == pytest.approx(0.744)
    assert list(table.loc["corrected", "shared"]) == [0, 0]
    assert table.loc[("corrected", 0.75), "test"] == "100–124"
