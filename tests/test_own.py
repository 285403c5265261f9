"""Own EM datasets: described by a file in a data folder, then used as those of the registry."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from small_files import em as small_em

from gtgm.datasets import em, registry, splits
from gtgm.datasets.dataset import open_dataset
from gtgm.datasets.geometry import load_volume
from gtgm.datasets.own import FILE, read_own
from gtgm.datasets.verify import verify
from gtgm.errors import DataError, SettingsError

ENTRY = {
    "name": "Mine",
    "files": ["mine.h5"],
    "resolution": [30, 8, 8],
    "train": [0, 12],
    "validation": [12, 15],
    "test": [16, 20],
}


def describe(folder: Path, *entries: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(json.dumps(entries))
    return folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one own dataset, whose arrays have names of their own."""
    folder = describe(tmp_path / "data", {**ENTRY, "raw_key": "grey", "labels_key": "b"})
    rng = np.random.default_rng(0)
    with h5py.File(folder / "mine.h5", "w") as file:
        file["grey"] = rng.integers(0, 99, (20, 8, 9)).astype(np.uint16)
        file["a"], file["b"] = np.ones((2, 20, 8, 9), np.uint32)
    monkeypatch.setenv("GTGM_DATA", str(folder))
    return folder


def test_it_is_opened_read_split_and_verified(data: Path) -> None:
    assert registry.names()[-1] == "Mine" and "Mine" in registry.names("EM", in_paper=False)
    dataset = open_dataset("Mine")
    assert dataset.source == "real" and dataset.info.title == "Mine"
    volume = em.read_case(dataset.cases[0], dataset.info, slice(2, 9))
    assert volume.resolution == (30.0, 8.0, 8.0) and volume.raw.shape == (7, 8, 9)
    assert (volume.labels == 1).all()
    loaded = load_volume(dataset.cases[0], dataset.info, sections=slice(2, 9))
    np.testing.assert_array_equal(loaded.image[0].numpy(), volume.raw.astype(np.float32))
    assert splits.em_ranges("Mine", 0.5, 20) == splits.EMRanges((0, 6), (12, 15), (16, 20))
    assert splits.em_ranges("Mine", 1.0, 30).train == (0, 12)
    assert splits.em_training_range("Mine", 20) == (0, 12)
    with pytest.raises(DataError, match="test sections end at 20"):
        splits.em_ranges("Mine", 1.0, 18)
    with pytest.raises(SettingsError, match="as_released"):
        splits.em_ranges("Mine", 1.0, 20, "as_released")
    assert verify("Mine") == []


def test_the_name_of_the_file_may_be_spelled_otherwise(data: Path) -> None:
    one, two = (unicodedata.normalize(form, "Größe é.h5") for form in ("NFC", "NFD"))
    describe(data, {**ENTRY, "files": [one], "raw_key": "grey", "labels_key": "b"})
    (data / "mine.h5").rename(data / two)
    assert open_dataset("Mine").cases[0].image == data / two


def test_verification_sees_ranges_outside_the_volume(data: Path) -> None:
    describe(data, {**ENTRY, "raw_key": "grey", "labels_key": "b", "test": [16, 21]})
    (problem,) = verify("Mine")
    assert "test sections end at 21" in problem.what


def test_an_own_dataset_is_never_a_phantom(data: Path) -> None:
    (data / "mine.h5").unlink()
    with pytest.raises(DataError, match="in none of the data folders.*mine.h5"):
        open_dataset("Mine")


def test_folder_of_sections(data: Path) -> None:
    describe(data, {**ENTRY, "files": ["brain/raw"]})
    for name in ("raw", "raw_labels"):
        (data / "brain" / name).mkdir(parents=True)
        for i in range(20):
            section = np.arange(i, i + 72).reshape(8, 9).astype(np.uint8)
            tifffile.imwrite(data / "brain" / name / f"{i}.tif", section)
    assert verify("Mine") == []


def test_without_the_variable_there_is_none(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GTGM_DATA")
    with pytest.raises(SettingsError, match="no dataset called 'Mine'"):
        registry.get("Mine")
    assert read_own(data.parent) == []


def test_two_folders_may_agree_and_not_differ(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    describe(other, *json.loads((data / FILE).read_text()))
    monkeypatch.setenv("GTGM_DATA", f"{data}:{other}")
    assert registry.names().count("Mine") == 1
    describe(other, ENTRY)
    with pytest.raises(DataError, match="'Mine' is taken"):
        registry.names()
    describe(other, {**ENTRY, "name": "FIB25"})
    with pytest.raises(DataError, match="'FIB25' is taken"):
        registry.get("CREMI_A")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "name of the dataset"),
        ({"name": "../x"}, "name of the dataset"),
        ({"files": []}, "files"),
        ({"files": "mine.h5"}, "files"),
        ({"files": ["/etc/mine.h5"]}, "files"),
        ({"files": ["../mine.h5"]}, "files"),
        ({"resolution": [30, 8]}, "resolution"),
        ({"resolution": [30, 8, -8]}, "resolution"),
        ({"patch": [32, 160, 0]}, "patch"),
        ({"train": [0, 12.5]}, "train"),
        ({"test": [16]}, "test"),
        ({"licence": 4}, "licence"),
        ({"train": [0, 13]}, "section ranges"),
        ({"train": [1, 12]}, "section ranges"),
        ({"validation": [12, 12]}, "section ranges"),
        ({"test": [10, 12]}, "section ranges"),
        ({"resolutoin": [1, 1, 1]}, "unknown fields resolutoin"),
    ],
)
def test_wrong_entries(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    describe(tmp_path, {**ENTRY, **changes})
    with pytest.raises(DataError, match=message):
        read_own(tmp_path)


def test_wrong_files(tmp_path: Path) -> None:
    describe(tmp_path, {"name": "Mine"})
    with pytest.raises(DataError, match="lacks files, resolution, train"):
        read_own(tmp_path)
    for text, message in [("{", "valid JSON"), ("{}", "no list"), ("[1]", "no list")]:
        (tmp_path / FILE).write_text(text)
        with pytest.raises(DataError, match=message):
            read_own(tmp_path)


def test_datasets_of_the_package_keep_the_resolution_of_their_file(tmp_path: Path) -> None:
    small_em(tmp_path / "FIB25.hdf", resolution=(20, 20, 20))
    dataset = open_dataset("FIB25", tmp_path)
    assert em.read_case(dataset.cases[0], dataset.info).resolution == (20.0, 20.0, 20.0)
