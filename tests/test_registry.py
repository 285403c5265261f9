"""The registry holds the paper's 13 datasets and FIB-25, with what is needed to use them."""

from __future__ import annotations

import csv
import re

import pytest
from monai.apps.datasets import DecathlonDataset

from gtgm.datasets import registry
from gtgm.errors import SettingsError
from gtgm.paths import REPORTED


def test_thirteen_datasets_of_the_paper_and_fib25() -> None:
    assert len(registry.names(in_paper=True)) == 13
    assert registry.names(in_paper=False) == ["FIB25"]
    assert [len(registry.names(m, True)) for m in ("CT", "MRI", "EM")] == [6, 4, 3]


def test_msd_addresses_and_checksums_are_those_of_monai() -> None:
    for name, url in DecathlonDataset.resource.items():
        info = registry.get(name)
        assert info.url == url
        assert info.checksum == f"md5:{DecathlonDataset.md5[name]}"
        assert info.licence == "CC-BY-SA 4.0" and "Antonelli" in info.citation


@pytest.mark.parametrize("name", registry.names())
def test_entries_are_complete(name: str) -> None:
    info = registry.get(name)
    assert len(info.spacing) == len(info.patch) == 3 and min(info.spacing) > 0
    assert info.cases > 0 and info.channels and info.attribution and info.anatomy and info.files
    if info.modality == "EM":
        assert info.format == "cremi" and info.unit == "nm" and info.classes == ()
    else:
        assert info.format == "msd" and info.unit == "mm" and info.classes
    if info.checksum:
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", info.checksum)
    else:
        assert info.note, "an entry without checksum says why"


def test_the_licence_stands_once_below_a_picture() -> None:
    for name in registry.names():
        info = registry.get(name)
        assert info.attribution in info.credit and info.credit.count(info.licence) == 1


def test_multichannel_entries() -> None:
    assert registry.get("Task01_BrainTumour").channels == ("FLAIR", "T1w", "T1gd", "T2w")
    assert len(registry.get("Task05_Prostate").channels) == 2


def test_titles_are_those_of_the_reported_table() -> None:
    path = REPORTED / "reported.csv"
    if not path.is_file():
        pytest.skip("results/reported/reported.csv is not there")
    with path.open(encoding="utf-8") as file:
        reported = {row["dataset"] for row in csv.DictReader(file)} - {"all"}
    assert reported <= {registry.get(n).title for n in registry.names()}


def test_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(SettingsError, match="Task03_Liver.*did you mean 'Task03_Liver'"):
        registry.get("task3_liver")
    with pytest.raises(SettingsError, match="no modality"):
        registry.names("PET")
