"""Datasets open by name: real where found, else a phantom, never a phantom over damaged data."""

from __future__ import annotations

import hashlib
import types
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from small_files import em, hippocampus, write_manifest

import gtgm.datasets
from gtgm.datasets import registry
from gtgm.datasets.dataset import case_hashes, find, label_hashes, open_dataset
from gtgm.datasets.em import read_case
from gtgm.datasets.verify import verify
from gtgm.errors import DataError, SettingsError

NAME = "Task04_Hippocampus"


@pytest.fixture
def phantoms(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Replace the phantom writer by one that writes tiny files; records the calls."""
    calls: list[tuple] = []

    def write(name: str, folder: Path, cases: int = 10, seed: int = 0) -> Path:
        calls.append((name, folder, cases, seed))
        if registry.get(name).format == "cremi":
            return em(folder / f"{name}.hdf")
        return hippocampus(folder / name, n=cases)

    fake = types.SimpleNamespace(write=write)
    monkeypatch.setattr(gtgm.datasets, "phantoms", fake, raising=False)
    return calls


@pytest.mark.parametrize("inside", [NAME, f"msd/{NAME}"])
def test_real_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    root = hippocampus(tmp_path / "data" / inside)
    dataset = open_dataset(NAME, tmp_path / "data")
    assert dataset.source == "real" and dataset.root == root
    assert dataset.ids == sorted(dataset.ids) and len(dataset.cases) == 5
    assert all(case.dataset == NAME for case in dataset.cases)
    assert dataset.case("hippocampus_002").image.name == "hippocampus_002.nii.gz"
    assert open_dataset(NAME, root).root == root
    monkeypatch.chdir(tmp_path)
    assert open_dataset(NAME, "data").root == Path("data") / inside
    with pytest.raises(DataError, match="no case 'x'"):
        dataset.case("x")


def test_classes_of_the_file_win(tmp_path: Path) -> None:
    root = hippocampus(tmp_path / "data" / NAME)
    assert open_dataset(NAME, tmp_path / "data").info.classes == ("Anterior", "Posterior")
    row = {"image": "imagesTr/hippocampus_000.nii.gz", "label": "labelsTr/hippocampus_000.nii.gz"}
    write_manifest(root, [row], labels={"0": "background", "1": "whole"})
    assert open_dataset(NAME, tmp_path / "data").info.classes == ("whole",)
    (root / "dataset.json").unlink()
    assert open_dataset(NAME, tmp_path / "data").info.classes == registry.get(NAME).classes


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("CREMI_A", "sample_A_20160501.hdf"),
        ("CREMI_B", "CREMI_B.hdf"),
        ("CREMI_C", "em/sample_C_20160501.hdf"),
        ("CREMI_C", "CREMI_C/sample_C_20160501.hdf"),
        ("FIB25", "em/fib25_train.hdf"),
        ("FIB25", "fib25_train.hdf"),
    ],
)
def test_em_files(tmp_path: Path, name: str, file: str) -> None:
    em(tmp_path / file)
    dataset = open_dataset(name, tmp_path)
    assert dataset.source == "real" and dataset.ids == [name]
    assert dataset.cases[0].image == dataset.cases[0].label == tmp_path / file


@pytest.mark.parametrize(
    "file",
    [
        "em/CREMI_A.zarr",
        "sample_A_20160501.zarr",
        "CREMI_A.h5",
        "CREMI_A.tif",
        "CREMI_A/CREMI_A.n5",
    ],
)
def test_em_of_other_formats(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    grey = np.random.default_rng(0).integers(0, 99, (20, 8, 9)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = path
    if path.suffix == ".h5":
        em(path)
    elif path.suffix == ".tif":
        labels = path.with_name("CREMI_A_labels.tif")
        tifffile.imwrite(path, grey)
        tifffile.imwrite(labels, grey)
    else:
        kind = zarr.N5Store if path.suffix == ".n5" else zarr.DirectoryStore
        group = zarr.group(kind(str(path)))
        for key in ("volumes/raw", "volumes/labels/neuron_ids"):
            group.create_dataset(key, data=grey).attrs["resolution"] = [40, 4, 4]
    dataset = open_dataset("CREMI_A", tmp_path)
    assert dataset.source == "real"
    assert dataset.cases[0].image == path and dataset.cases[0].label == labels
    volume = read_case(dataset.cases[0], dataset.info)
    assert volume.n_sections == 20 and volume.labels.any()
    assert verify(dataset) == []


def test_the_registered_name_comes_first(tmp_path: Path) -> None:
    em(tmp_path / "CREMI_A.h5")
    registered = em(tmp_path / "sample_A_20160501.hdf")
    assert open_dataset("CREMI_A", tmp_path).cases[0].image == registered


def test_content_of_a_folder_is_hashed(tmp_path: Path) -> None:
    path = tmp_path / "CREMI_A.zarr"
    group = zarr.open_group(str(path), mode="w")
    group.create_dataset("volumes/raw", data=np.arange(4000, dtype=np.uint16).reshape(10, 20, 20))
    dataset = open_dataset("CREMI_A", tmp_path)
    first = case_hashes(dataset, ["CREMI_A"])
    assert case_hashes(dataset, ["CREMI_A"]) == first
    (path / "volumes" / ".DS_Store").write_bytes(b"macOS looked in")
    assert case_hashes(dataset, ["CREMI_A"]) == first
    (path / "volumes" / "raw" / "0.0.0").rename(path / "volumes" / "raw" / "1.0.0")
    moved = case_hashes(dataset, ["CREMI_A"])
    group["volumes/raw"][3, 3, 3] = 7
    assert len({*first.values(), *moved.values(), *case_hashes(dataset, ["CREMI_A"]).values()}) == 3


def test_phantom_where_nothing_is_found(
    tmp_path: Path, phantoms: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    dataset = open_dataset(NAME, tmp_path / "other", phantom_cases=6)
    assert dataset.source == "phantom" and len(dataset.cases) == 6
    assert phantoms == [(NAME, tmp_path / "runs" / "phantoms", 6, 0)]
    assert open_dataset("CREMI_A", phantoms=tmp_path / "p").source == "phantom"
    assert phantoms[-1][1] == tmp_path / "p"
    em(tmp_path / "env" / "sample_A_20160501.hdf")
    monkeypatch.setenv("GTGM_DATA", f"{tmp_path / 'other'}:{tmp_path / 'env'}")
    assert open_dataset("CREMI_A").source == "real"
    assert find("CREMI_B") is None


def test_a_damaged_dataset_is_not_replaced_by_a_phantom(
    tmp_path: Path, phantoms: list[tuple]
) -> None:
    (tmp_path / "data" / NAME).mkdir(parents=True)
    with pytest.raises(DataError, match="empty"):
        open_dataset(NAME, tmp_path / "data")
    assert phantoms == []


def test_data_folder_is_absent_or_empty(
    tmp_path: Path, phantoms: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="no such data folder"):
        open_dataset(NAME, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="data folder is empty"):
        open_dataset(NAME, tmp_path / "empty")
    monkeypatch.setenv("GTGM_DATA", str(tmp_path / "absent"))
    with pytest.warns(UserWarning, match="no folder"):
        assert open_dataset(NAME).source == "phantom"
    with pytest.raises(SettingsError, match="no dataset called"):
        open_dataset("Task99")


def test_hashes_are_those_of_the_files(tmp_path: Path) -> None:
    hippocampus(tmp_path / "data" / NAME)
    dataset = open_dataset(NAME, tmp_path / "data")
    hashes = case_hashes(dataset, dataset.ids[:2])
    expected = hashlib.sha256(dataset.cases[1].image.read_bytes()).hexdigest()
    assert list(hashes) == dataset.ids[:2] and hashes[dataset.ids[1]] == expected
    labels = label_hashes(dataset, dataset.ids[:2])
    expected = hashlib.sha256(dataset.cases[1].label.read_bytes()).hexdigest()
    assert list(labels) == dataset.ids[:2] and labels[dataset.ids[1]] == expected


def test_real_data(shared_data: Path) -> None:
    assert len(open_dataset(NAME, shared_data / "msd").cases) == 260
    assert open_dataset("FIB25", shared_data).cases[0].image.name == "fib25_train.hdf"
