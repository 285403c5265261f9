"""Reference systems: the source's numbers, on the right datasets, apart from the measured ones."""

from __future__ import annotations

import csv

import pytest

from gtgm.datasets import registry
from gtgm.errors import SettingsError
from gtgm.paths import REPORTED
from gtgm.references import FILES, HEADING, reference_table


def source_rows(modality: str) -> list[dict[str, str]]:
    with (REPORTED / FILES[modality]).open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["modality"] == modality]


@pytest.mark.parametrize("modality", ["CT", "MRI", "EM"])
def test_every_score_on_a_dataset_of_the_table_is_there_and_no_other(modality) -> None:
    foreign = ("BraTS", "AC3", "Wafer")
    expected = sorted(
        (row["method"], row["table"], row["label_fraction"], row["source"])
        for row in source_rows(modality)
        if not row["dataset"].startswith(foreign)
    )
    frame = reference_table(modality).frame
    columns = ["method", "protocol", "fraction", "source"]
    shown = sorted(tuple(row) for row in frame[columns].itertuples(index=False))
    assert shown == expected and len(expected) > 20
    assert not frame["dataset"].str.startswith(foreign).any()


def test_dice_is_in_per_cent_with_the_digits_of_the_source() -> None:
    frame = reference_table("MRI", ["Task04_Hippocampus"]).frame
    board = frame[frame["protocol"].str.contains("leaderboard")]
    assert list(board["shown"]) == ["90", "88", "90", "89"]
    assert list(board["value"]) == [90, 88, 90, 89]
    assert list(board["metric"][:2]) == [
        "Dice (%) class 1, anterior", "Dice (%) class 2, posterior"
    ]  # fmt: skip
    folds = frame[frame["protocol"].str.contains("5-fold CV")]
    assert sorted(folds["shown"]) == ["88.07", "88.16", "89.75", "89.83"]
    lits = reference_table("CT").frame.query("dataset == 'LiTS'")
    assert lits["shown"].iloc[0] == "80.09" and lits["value"].between(50, 100).all()
    voi = reference_table("EM").frame
    assert voi["value"].between(0, 2).all() and not voi["metric"].str.contains("%").any()


def test_only_the_datasets_that_are_asked_for() -> None:
    assert set(reference_table("CT", ["Task03_Liver"]).frame["dataset"]) == {"MSD Liver", "LiTS"}
    assert set(reference_table("EM", ["CREMI_B"]).frame["dataset"]) == {
        "CREMI B", "CREMI A+B+C aggregate"
    }  # fmt: skip
    assert reference_table("EM", ["FIB25"]).frame.empty
    assert reference_table("MRI", ["Task03_Liver"]).frame.empty


def test_datasets_are_in_the_order_of_the_registry_and_each_in_one_block() -> None:
    for modality in FILES:
        shown = list(reference_table(modality).frame["dataset"])
        blocks = [name for i, name in enumerate(shown) if i == 0 or name != shown[i - 1]]
        assert len(blocks) == len(set(blocks))
        titles = [registry.get(name).title for name in registry.names(modality)]
        named = [name for name in blocks if name in titles]
        assert named == sorted(named, key=titles.index)


@pytest.mark.parametrize("modality", ["CT", "MRI", "EM"])
def test_the_block_says_that_it_is_another_protocol_and_names_every_source(modality) -> None:
    table = reference_table(modality)
    first, *sources = table.notes()
    assert "Other test data, other splits" in first and "None was measured" in first
    assert ("VOI is in the unit of its source" in first) == (modality == "EM")
    assert HEADING in table.to_markdown() and HEADING in table.to_html()
    assert table.to_html().startswith("<details class='references'><summary>")
    last = {row[-1] for row in table.rows()}
    assert last == {source.partition(" ")[0] for source in sources} and "[a]" in last
    for cells, source in zip(table.rows(), table.frame["source"], strict=True):
        assert f"{cells[-1]} {source}." in sources


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(SettingsError, match="unknown modality 'PET'"):
        reference_table("PET")
