"""Texts that describe data: dataset.json, gtgm-datasets.json, splits, SWC and published labels."""

from __future__ import annotations

import io
import json
import os
import unicodedata
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import hippocampus, nifti, refused, write_manifest

from gtgm.datasets import registry, splits
from gtgm.datasets.dataset import open_dataset
from gtgm.datasets.msd import read_manifest, scan
from gtgm.datasets.own import FILE, read_own
from gtgm.errors import DataError
from gtgm.neurons.published import read_published
from gtgm.neurons.run_length import read_skeletons, read_swc
from gtgm.paths import read_json

pytestmark = pytest.mark.timeout(120)  # a pipe that is opened hangs for ever
NAME = "Task04_Hippocampus"
ROW = {"image": "./imagesTr/hippocampus_000.nii.gz", "label": "./labelsTr/hippocampus_000.nii.gz"}
DEEP = "[" * 200_000
LONG = "a" * 100_000
Value = Any


def text(value: str | bytes) -> Callable[[Path], None]:
    """A file of this content."""
    raw = value.encode() if isinstance(value, str) else value

    def write(path: Path) -> None:
        path.write_bytes(raw)

    return write


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def broken_link(path: Path) -> None:
    path.symlink_to("elsewhere")


#: What no JSON file may be, whatever it describes: how it is written, and the reason.
BAD_JSON: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (text(""), "is empty"),
    "spaces alone": (text("  \n"), "not valid JSON"),
    "cut off": (text('[{"name": "Mi'), "not valid JSON"),
    "a trailing comma": (text("[1,]"), "not valid JSON"),
    "two values": (text("[] []"), "not valid JSON"),
    "binary": (text(bytes(range(128, 256))), "not UTF-8"),
    "UTF-16": (text("[]".encode("utf-16")), "not UTF-8"),
    "nested 200 000 deep": (text(DEEP), "too deeply nested"),
    "a number of 100 000 digits": (text(f"[{'9' * 100_000}]"), "not valid JSON"),
    "a web page": (text("<!DOCTYPE html><p>404"), "a web page"),
    "a Git LFS pointer": (text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "a folder": (folder, "a folder"),
    "a named pipe": (pipe, "a pipe"),
    "a broken symbolic link": (broken_link, "link leads nowhere"),
}


def manifest(**changes: Value) -> Callable[[Path], None]:
    """A dataset.json that is right but for these fields; None leaves a field out."""

    def write(path: Path) -> None:
        value = {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
            "training": [ROW],
            **changes,
        }
        path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))

    return write


def rows(*values: Value) -> Callable[[Path], None]:
    return manifest(training=list(values))


def image(name: str) -> Callable[[Path], None]:
    return rows({"image": name, "label": ROW["label"]})


BAD_MANIFESTS: dict[str, tuple[Callable[[Path], None], str]] = {
    **BAD_JSON,
    "a number": (text("3"), "no list of training cases"),
    "a text": (text('"training"'), "no list of training cases"),
    "null": (text("null"), "no list of training cases"),
    "NaN": (text("NaN"), "no list of training cases"),
    "a list": (text("[]"), "no list of training cases"),
    "an empty object": (text("{}"), "no list of training cases"),
    "training is null": (text('{"training": null}'), "no list of training cases"),
    "training is a text": (manifest(training="imagesTr"), "no list of training cases"),
    "training is an object": (manifest(training={"0": ROW}), "no list of training cases"),
    "training twice, the second empty": (
        text(f'{{"training": [{json.dumps(ROW)}], "training": []}}'),
        "stands twice",
    ),
    "no cases": (rows(), "no training cases"),
    "a case that is a number": (rows(ROW, 7), "entry 1"),
    "a case that is null": (rows(None), "entry 0"),
    "a case that is a list": (rows([ROW["image"], ROW["label"]]), "entry 0"),
    "a case without image": (rows({"label": ROW["label"]}), "entry 0"),
    "an image that is a number": (rows({**ROW, "image": 5}), "entry 0"),
    "an image that is a list, as of several channels": (
        rows({**ROW, "image": [ROW["image"]]}),
        "entry 0",
    ),
    "a label that is a number": (rows({**ROW, "label": 0}), "entry 0"),
    "an empty label": (rows({**ROW, "label": ""}), "not a NIfTI file"),
    "an image of another kind": (image("imagesTr/a.png"), "not a NIfTI file"),
    "an image without a name": (image("imagesTr/.nii.gz"), "not a NIfTI file"),
    "an image called two dots": (image("imagesTr/...nii.gz"), "not a NIfTI file"),
    "an absolute path": (image("/etc/scan.nii.gz"), "outside of the dataset"),
    "a path to the folder above": (image("../scan.nii.gz"), "outside of the dataset"),
    "a path that leaves by a detour": (image("imagesTr/../../a.nii.gz"), "outside of the dataset"),
    "a label outside": (rows({**ROW, "label": "../a.nii.gz"}), "outside of the dataset"),
    "a path with a NUL": (image("imagesTr/a\0.nii.gz"), "absent"),
    "a path of control characters": (image("\x1b[2J\x07.nii.gz"), "\\x1b[2J"),
    "half of a surrogate pair in a path": (image("\ud800.nii.gz"), "\\ud800.nii.gz' is not UTF-8"),
    "a path of 100 000 characters": (image(f"{LONG}.nii.gz"), "absent"),
    "backslashes in a path": (image("imagesTr\\hippocampus_000.nii.gz"), "absent"),
    "an absent image": (image("imagesTr/none.nii.gz"), "absent"),
    "an absent label": (rows({**ROW, "label": "labelsTr/none.nii.gz"}), "absent"),
    "an image that is a folder": (image("folder.nii.gz"), "absent or no files"),
    "a case twice": (rows(ROW, ROW), "more than once"),
    "two cases of one name": (
        rows(ROW, {"image": "labelsTr/hippocampus_000.nii.gz"}),
        "more than once",
    ),
    "one label for two cases": (
        rows(ROW, {"image": "imagesTr/hippocampus_001.nii.gz", "label": ROW["label"]}),
        "more than one case",
    ),
    "an image that is its own label": (
        rows({"image": ROW["image"], "label": ROW["image"]}),
        "more than one case",
    ),
    "labels is a list": (manifest(labels=["background", "a"]), '"labels" is not numbered'),
    "labels is a number": (manifest(labels=2), '"labels" is not numbered'),
    "labels is empty": (manifest(labels={}), '"labels" is not numbered'),
    "labels by name": (manifest(labels={"background": 0, "a": 1}), '"labels" is not numbered'),
    "labels with a gap": (manifest(labels={"0": "b", "2": "a"}), '"labels" is not numbered'),
    "labels from 1": (manifest(labels={"1": "a", "2": "c"}), '"labels" is not numbered'),
    "labels numbered 01": (manifest(labels={"0": "b", "01": "a"}), '"labels" is not numbered'),
    "background alone": (manifest(labels={"0": "background"}), "0 classes"),
    "300 classes": (manifest(labels={str(i): f"c{i}" for i in range(301)}), "300 classes"),
    "a class without name": (manifest(labels={"0": "b", "1": " "}), "cannot be used: ' '"),
    "a class that is a number": (manifest(labels={"0": "b", "1": 1}), "cannot be used: 1"),
    "a class that is null": (manifest(labels={"0": "b", "1": None}), "cannot be used: None"),
    "two classes of one name": (
        manifest(labels={"0": "b", "1": "a", "2": "a"}),
        "cannot be used: 'a'",
    ),
    "a class with a line break": (manifest(labels={"0": "b", "1": "a\nb"}), "a\\nb"),
    "a class of 100 000 characters": (manifest(labels={"0": "b", "1": LONG}), "cannot be used"),
    "modality is a text": (manifest(modality="MRI"), '"modality" is not numbered'),
    "modality is empty": (manifest(modality={}), '"modality" is not numbered'),
    "a modality that is a list": (manifest(modality={"0": ["MRI"]}), "cannot be used: ['MRI']"),
}


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_bad_dataset_json(tmp_path: Path, name: str, evidence: Callable) -> None:
    evidence("input", "dataset.json", name)
    root = hippocampus(tmp_path / NAME, n=2)
    (root / "folder.nii.gz").mkdir()
    (root / "dataset.json").unlink()
    write, reason = BAD_MANIFESTS[name]
    write(root / "dataset.json")
    assert len(str(refused(lambda: read_manifest(root), NAME, reason))) < 2000
    refused(lambda: open_dataset(NAME, tmp_path), NAME, reason)


def test_all_rows_are_looked_at(tmp_path: Path) -> None:
    wrong = [7, None, {"image": "../a.nii.gz"}, {"image": "a.png"}, ROW]
    write_manifest(hippocampus(tmp_path, n=1), wrong, labels={}, modality=3)
    assert len(scan(tmp_path).problems) == 6


def test_data_folders_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("absent", "file", "link", LONG, "a\0b"):
        refused(partial(open_dataset, NAME, tmp_path / name), name, "no such data folder")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    refused(lambda: open_dataset(NAME, tmp_path), tmp_path.name, "Permission denied")


def test_folders_that_are_no_dataset(tmp_path: Path, evidence: Callable) -> None:
    evidence("input", "dataset.json", "absent, and no images beside it")
    (tmp_path / "empty").mkdir()
    refused(lambda: read_manifest(tmp_path / "empty"), "empty", "the dataset folder is empty")
    (tmp_path / "empty" / "imagesTr").write_text("a file")
    refused(lambda: read_manifest(tmp_path / "empty"), "empty", "there are no images")
    refused(lambda: read_manifest(tmp_path / LONG), "aaa", "no such dataset folder")


@pytest.mark.parametrize(
    "case", ["a scan", "Größe", "海馬体", "🧠", "two\nlines", "\u00e9", "e\u0301"]
)
def test_names_of_all_kinds_work(tmp_path: Path, case: str) -> None:
    root = tmp_path / f"data {case}" / NAME
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    nifti(root / "imagesTr" / f"{case}.nii.gz", values)
    write_manifest(root, [{"image": f"./imagesTr/{case}.nii.gz"}])
    one = unicodedata.normalize("NFC", case)  # the same id on every system
    opened = open_dataset(NAME, root.parent)
    assert opened.ids == [one] and opened.case(case) is opened.case(one)
    (root / "dataset.json").write_bytes(b"\xef\xbb\xbf" + (root / "dataset.json").read_bytes())
    assert open_dataset(NAME, root.parent).ids == [one]


OWN = {
    "name": "Mine",
    "files": ["mine.h5"],
    "resolution": [30, 8, 8],
    "train": [0, 12],
    "validation": [12, 15],
    "test": [16, 20],
}


def own(**changes: Value) -> Callable[[Path], None]:
    return text(json.dumps([{**OWN, **changes}]))


BAD_OWN: dict[str, tuple[Callable[[Path], None], str]] = {
    **BAD_JSON,
    "an object": (text("{}"), "no list of datasets"),
    "null": (text("null"), "no list of datasets"),
    "a list of texts": (text('["Mine"]'), "no list of datasets"),
    "an empty entry": (text("[{}]"), "lacks name, files"),
    "an unknown field": (own(resolutoin=[1, 1, 1]), "unknown fields resolutoin"),
    "a name that is a number": (own(name=3), "name of the dataset"),
    "an empty name": (own(name=" "), "name of the dataset"),
    "a name that is a path": (own(name="a/b"), "name of the dataset"),
    "a name of two dots": (own(name=".."), "name of the dataset"),
    "a name with a line break": (own(name="a\nb"), "name of the dataset"),
    "a name like an option": (own(name="--data"), "name of the dataset"),
    "a name of 100 000 characters": (own(name=LONG), "name of the dataset"),
    "files is a text": (own(files="mine.h5"), "files of the dataset"),
    "no files": (own(files=[]), "files of the dataset"),
    "a file that is a number": (own(files=[1]), "files of the dataset"),
    "an absolute file": (own(files=["/etc/a.h5"]), "files of the dataset"),
    "a file outside": (own(files=["a/../../b.h5"]), "files of the dataset"),
    "the data folder as file": (own(files=["."]), "files of the dataset"),
    "a file with a NUL": (own(files=["a\0.h5"]), "files of the dataset"),
    "a file name of 100 000 characters": (own(files=[LONG]), "files of the dataset"),
    "two voxel sizes": (own(resolution=[30, 8]), "resolution of the dataset"),
    "a voxel size of 0": (own(resolution=[30, 0, 8]), "resolution of the dataset"),
    "a negative voxel size": (own(resolution=[30, -8, 8]), "resolution of the dataset"),
    "a voxel size NaN": (own(resolution=[float("nan"), 8, 8]), "resolution of the dataset"),
    "an infinite voxel size": (own(resolution=[float("inf"), 8, 8]), "resolution of the dataset"),
    "a voxel size of 400 digits": (own(resolution=[10**400, 8, 8]), "resolution of the dataset"),
    "a voxel size of a metre": (own(resolution=[1e9, 8, 8]), "resolution of the dataset"),
    "voxel sizes as texts": (own(resolution=["30", "8", "8"]), "resolution of the dataset"),
    "voxel sizes as truth values": (own(resolution=[True] * 3), "resolution of the dataset"),
    "nested voxel sizes": (own(resolution=[[30, 8, 8]]), "resolution of the dataset"),
    "a patch of 0": (own(patch=[0, 8, 8]), "patch of the dataset"),
    "a patch of 10 to the 30": (own(patch=[10**30, 8, 8]), "patch of the dataset"),
    "a range of fractions": (own(train=[0, 12.5]), "train of the dataset"),
    "a range of one number": (own(test=[16]), "test of the dataset"),
    "a range of texts": (own(test=["16", "20"]), "test of the dataset"),
    "a range of truth values": (own(train=[False, True]), "train of the dataset"),
    "a range below 0": (own(train=[-1, 12]), "train of the dataset"),
    "ranges that overlap": (own(train=[0, 13]), "section ranges"),
    "an empty range": (own(validation=[12, 12]), "section ranges"),
    "a range backwards": (own(validation=[15, 12]), "section ranges"),
    "training behind the test": (own(train=[20, 30]), "section ranges"),
    "a licence that is a number": (own(licence=4), "licence of the dataset"),
}


@pytest.mark.parametrize("name", BAD_OWN)
def test_bad_own_datasets(
    tmp_path: Path, name: str, evidence: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence("input", FILE, name)
    write, reason = BAD_OWN[name]
    write(tmp_path / FILE)
    assert len(str(refused(lambda: read_own(tmp_path), FILE, reason))) < 2000
    monkeypatch.setenv("GTGM_DATA", str(tmp_path))
    refused(registry.names, FILE, reason)


IDS = [f"c{i}" for i in range(10)]
SPLIT = splits.to_json(splits.make_split("Made", IDS))
FOLDS = SPLIT["folds"]


def split(**changes: Value) -> Callable[[Path], None]:
    return text(json.dumps({**SPLIT, **changes}))


def fold(**changes: Value) -> Callable[[Path], None]:
    return split(folds=[{**FOLDS[0], **changes}, *FOLDS[1:]])


BAD_SPLITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut off": (text(json.dumps(SPLIT)[:99]), "not valid JSON"),
    "nested 200 000 deep": (text(DEEP), "too deeply nested"),
    "a list": (text("[]"), "no split"),
    "without dataset": (split(dataset=None), "no split"),
    "cases is a text": (split(cases="10"), "no split"),
    "another number of cases": (split(cases=11), "do not partition"),
    "no folds": (split(folds=[]), "no split"),
    "one fold": (split(folds=FOLDS[:1]), "no split"),
    "folds is an object": (split(folds={"0": FOLDS[0]}), "no split"),
    "a fold that is null": (split(folds=[None, *FOLDS[1:]]), "no split"),
    "a fold without draws": (fold(draws=None), "no split"),
    "a fold without test cases": (fold(test=[]), "no split"),
    "a test case that is a number": (fold(test=[1, 2]), "no split"),
    "a case tested in two folds": (fold(test=FOLDS[1]["test"]), "do not partition"),
    "a fold left out": (split(folds=FOLDS[1:]), "do not partition"),
    "a draw that is a text": (fold(draws=["c1"]), "no split"),
    "a draw of test cases": (fold(draws=[FOLDS[0]["test"]]), "leaves the training cases"),
    "a draw of unknown cases": (fold(draws=[["c99"]]), "leaves the training cases"),
    "a draw with a case twice": (fold(draws=[FOLDS[1]["test"][:1] * 2]), "leaves the training"),
}


@pytest.mark.parametrize("name", BAD_SPLITS)
def test_bad_splits(tmp_path: Path, name: str, evidence: Callable) -> None:
    evidence("input", "split", name)
    write, reason = BAD_SPLITS[name]
    path = tmp_path / "split.json"
    write(path)
    if reason.startswith(("not valid", "too deeply")):
        with pytest.raises(DataError, match=f"split.json.*{reason}"):
            splits.from_json(read_json(path), path)
    else:
        refused(lambda: splits.from_json(read_json(path), path), "split.json", reason)


def test_a_damaged_split_of_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Callable
) -> None:
    evidence("input", "split", "the committed file of a dataset is damaged")
    monkeypatch.setattr(splits, "FOLDER", tmp_path)
    (tmp_path / f"{NAME}.json").write_text('{"folds": []}')
    hippocampus(tmp_path / "data" / NAME)
    dataset = open_dataset(NAME, tmp_path / "data")
    refused(lambda: splits.load_split(dataset), f"{NAME}.json", "no split")


NODES = "1 0 1.5 2 3 1 -1\n2 0 2 2 3 1 1\n"
BAD_SWC: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (text(""), "is empty"),
    "comments alone": (text("# nothing\n\n"), "no node"),
    "binary": (text(bytes(range(128, 256))), "cannot be read"),
    "UTF-16": (text(NODES.encode("utf-16")), "cannot be read"),
    "a web page": (text("<html><p>404"), "a web page"),
    "a Git LFS pointer": (text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "a named pipe": (pipe, "a pipe"),
    "a folder": (folder, "a folder"),
    "a broken symbolic link": (broken_link, "link leads nowhere"),
    "six columns": (text("1 0 1 2 3 -1\n"), "is not a node"),
    "words": (text("one zero 1 2 3 1 -1\n"), "is not a node"),
    "commas": (text("1,0,1,2,3,1,-1\n"), "is not a node"),
    "decimal commas": (text("1 0 1,5 2 3 1 -1\n"), "is not a node"),
    "a place NaN": (text("1 0 nan 2 3 1 -1\n"), "is not a node"),
    "a place at infinity": (text("1 0 1 inf 3 1 -1\n"), "is not a node"),
    "a place beyond float64": (text("1 0 1 1e999 3 1 -1\n"), "is not a node"),
    "an id that is a fraction": (text("1.5 0 1 2 3 1 -1\n"), "is not a node"),
    "an id of 100 000 digits": (text(f"{'9' * 100_000} 0 1 2 3 1 -1\n"), "is not a node"),
    "an id twice": (text(NODES + "2 0 5 5 5 1 1\n"), "a second time"),
    "a parent that is not there": (text(NODES + "3 0 5 5 5 1 9\n"), "has parent 9"),
    "a node that is its own parent": (text(NODES + "3 0 5 5 5 1 3\n"), "has parent 3"),
    "a ring of nodes": (text("1 0 1 2 3 1 3\n2 0 2 2 3 1 1\n3 0 3 2 3 1 2\n"), "ring"),
    "a line of 100 000 characters": (text(LONG), "is not a node"),
}


@pytest.mark.parametrize("name", BAD_SWC)
def test_bad_skeletons(tmp_path: Path, name: str, evidence: Callable) -> None:
    evidence("input", "SWC skeleton", name)
    write, reason = BAD_SWC[name]
    write(tmp_path / "neuron.swc")
    refused(lambda: read_swc(tmp_path / "neuron.swc"), "neuron.swc", reason)
    refused(lambda: read_skeletons(tmp_path), "neuron.swc", reason)


def test_a_folder_without_skeletons(tmp_path: Path, evidence: Callable) -> None:
    evidence("input", "SWC skeleton", "a folder without any")
    refused(lambda: read_skeletons(tmp_path), tmp_path.name, "no SWC file")


LABELS = np.arange(24, dtype=np.uint32).reshape(2, 3, 4)


def archive(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.savez_compressed(path.open("wb"), **arrays)


def member(content: bytes, name: str = "segmentation.npy") -> Callable[[Path], None]:
    """A zip file with one member."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, content)

    return write


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def declared(shape: str) -> bytes:
    """An array of 24 voxels whose header declares another shape."""
    header = f"{{'descr': '<u4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = header.ljust(118) if len(header) < 118 else header
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + LABELS.tobytes()


def cut(path: Path) -> None:
    archive(segmentation=LABELS)(path)
    path.write_bytes(path.read_bytes()[:-90])


def flip(path: Path) -> None:
    np.savez(path.open("wb"), segmentation=LABELS)
    raw = bytearray(path.read_bytes())
    raw[raw.index(LABELS.tobytes()) + 7] ^= 1
    path.write_bytes(raw)


BAD_PUBLISHED: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (text(""), "is empty"),
    "text": (text("labels\n" * 99), "cannot be read"),
    "a web page": (text("<html><p>404"), "a web page"),
    "a named pipe": (pipe, "a pipe"),
    "a folder": (folder, "a folder"),
    "cut off": (cut, "cannot be read"),
    "one bit of a voxel changed": (flip, "cannot be read"),
    "one array, not an archive": (text(npy(LABELS)), "one array"),
    "no arrays": (archive(), "no arrays"),
    "another array": (archive(labels=LABELS), "labels"),
    "two axes": (archive(segmentation=LABELS[0]), "shape (3, 4)"),
    "floats": (archive(segmentation=LABELS.astype(float)), "float64"),
    "no voxels": (archive(segmentation=LABELS[:, :0]), "shape (2, 0, 4)"),
    "pickled objects": (
        archive(segmentation=np.array([[[None, {}]]], dtype=object)),
        "type object",
    ),
    "a member that is no array": (member(b"not an array"), "magic string"),
    "a member that is cut off": (member(npy(LABELS)[:-9]), "cannot be read"),
    "a declared shape of terabytes": (
        member(declared("(100000, 100000, 100000)")),
        "declares the shape",
    ),
    "a declared shape beyond int64": (member(declared(f"({10**30}, 3, 4)")), "declares the shape"),
    "a negative shape": (member(declared("(-2, 3, 4)")), "shape (-2, 3, 4)"),
    "a header that is code": (member(declared("__import__('os')")), "cannot be read"),
    "a header nested deeply": (member(declared("(" * 9000 + ")" * 9000)), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_PUBLISHED)
def test_bad_published_segmentations(tmp_path: Path, name: str, evidence: Callable) -> None:
    evidence("input", "published segmentation", name)
    write, reason = BAD_PUBLISHED[name]
    write(tmp_path / "published.npz")
    refused(lambda: read_published(tmp_path / "published.npz"), "published.npz", reason)


def test_a_segmentation_larger_than_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Callable
) -> None:
    evidence("input", "published segmentation", "zeros that unpack to more than the free memory")
    archive(segmentation=np.zeros((200, 200, 100), np.uint64))(tmp_path / "published.npz")
    memory = type("Memory", (), {"available": 20 << 20})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    refused(lambda: read_published(tmp_path / "published.npz"), "published.npz", "GiB")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [*OWN, *SPLIT, "0", "1", "training", "labels", "modality", "test", "draws"]
            )
            | st.text(max_size=3),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


def mixed(right: dict[str, Value]) -> st.SearchStrategy:
    """Any JSON, or what is right with some fields replaced by any JSON."""
    fields = st.fixed_dictionaries({}, optional=dict.fromkeys(right, JSON))
    return JSON | fields.map(lambda changes: {**right, **changes})


@settings(max_examples=300)
@given(
    dataset=mixed({"training": [ROW], "labels": {"0": "b", "1": "a"}, "modality": {"0": "MRI"}}),
    mine=mixed(OWN),
    folds=mixed(SPLIT),
)
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, dataset: Value, mine: Value, folds: Value
) -> None:
    root = tmp_path_factory.getbasetemp() / "any"
    root.mkdir(exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(dataset))
    (root / FILE).write_text(json.dumps([mine]))
    for read in (
        lambda: read_manifest(root),
        lambda: read_own(root),
        lambda: splits.from_json(folds, root),
    ):
        try:
            read()
        except DataError as error:
            assert root.name in str(error)
