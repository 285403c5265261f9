"""Reported numbers: read whole, with every reason to doubt one."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtgm.datasets import registry
from gtgm.errors import ResultError
from gtgm.reported import claim_notes, load_reported, released_cases, reported_cell


def test_the_released_code_labels_no_case_of_four_datasets_at_one_per_cent() -> None:
    infos = [registry.get(n) for m in ("CT", "MRI") for n in registry.names(m, in_paper=True)]
    none = {info.title for info in infos if released_cases(info.cases, 0.01) == 0}
    assert none == {"MSD Heart", "MSD Prostate", "MSD Lung", "MSD Spleen"}
    assert all(released_cases(info.cases, 0.1) for info in infos)
    assert released_cases(260, 0.01) == 2 and released_cases(260, 1.0) == 234


@pytest.mark.parametrize("method", ["Random Init", "BYOL", "PCRLv2", "GTGM"])
def test_a_number_without_a_training_case_has_a_note_and_others_have_none(method) -> None:
    reported, lung = load_reported(), registry.get("Task06_Lung")
    (note,) = reported_cell(reported, lung, 0.01, method).notes
    assert "of 63 cases" in note and "int(63 · 0.9 · 0.01) = 0" in note
    assert reported_cell(reported, lung, 0.1, method).notes == ()
    assert reported_cell(reported, registry.get("Task03_Liver"), 0.01, method).notes == ()


def test_a_cell_that_is_not_reported_has_neither_value_nor_notes() -> None:
    reported, spleen = load_reported(), registry.get("Task09_Spleen")
    for method in ("GTGM", "SimSiam", ""):
        cell = reported_cell(reported, spleen, 0.01, method)
        assert cell.value is None and cell.notes == ()


def test_notes_of_the_file_belong_to_their_cell() -> None:
    reported = load_reported()
    cell = reported_cell(reported, registry.get("CREMI_A"), 0.75, "GTGM")
    assert cell.value == 0.709
    assert cell.notes == ("the released configuration trains on 75 of 125 sections (60 %)",)
    assert reported_cell(reported, registry.get("CREMI_A"), 0.1, "GTGM").notes == ()


def test_equal_reported_values_are_found_in_the_data() -> None:
    reported, liver = load_reported(), registry.get("Task03_Liver")
    note = "MSD Liver and MSD Pancreas have the same reported value at 100% of the labels, 65.61"
    assert sum(note in n for n in reported_cell(reported, liver, 1.0, "GTGM").notes) == 1
    assert not any("same reported" in n for n in reported_cell(reported, liver, 1.0, "BYOL").notes)
    cells = (reported["dataset"] == "MSD Pancreas") & (reported["method"] == "GTGM")
    changed = reported.copy()
    changed.loc[cells & (changed["fraction"] == 1), "value"] = 65.0
    notes = reported_cell(changed, liver, 1.0, "GTGM").notes
    assert not any("same reported value" in n for n in notes)


def test_the_claimed_average_is_checked_against_the_cells() -> None:
    reported = load_reported()
    (note,) = claim_notes(reported, "CT")
    gtgm = reported[(reported["modality"] == "CT") & (reported["method"] == "GTGM")]["value"]
    plus = reported[(reported["modality"] == "CT") & (reported["method"] == "GTGM+")]
    plus = plus[plus["dataset"] != "all"]["value"]
    assert f"GTGM by {plus.mean() - gtgm.mean():.2f} points" in note
    assert "none of these is it" in note
    true = reported.copy()
    true.loc[(true["modality"] == "CT") & (true["dataset"] == "all"), "value"] = round(
        plus.mean() - gtgm.mean(), 1
    )
    (note,) = claim_notes(true, "CT")
    assert "one of these is it" in note


def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no such file of numbers.*restore"):
        load_reported(tmp_path / "absent.csv")
    (tmp_path / "short.csv").write_text("method,value\nGTGM,1\n")
    with pytest.raises(ResultError, match="lacks the columns dataset, label_fraction"):
        load_reported(tmp_path / "short.csv")
