"""Reader of Medical Segmentation Decathlon folders: ``dataset.json``, ``imagesTr``, ``labelsTr``.

Nothing here reads voxels; ``gtgm.datasets.geometry`` does, and checks them.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gtgm.errors import DataError

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Case:
    """One volume on disk. ``label`` is None without annotation; for EM it is the image's file."""

    dataset: str
    id: str
    image: Path
    label: Path | None


@dataclass
class Scan:
    """Everything found in a folder, with every problem and not only the first."""

    manifest: dict[str, Any] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    problems: list[DataError] = field(default_factory=list)


def read_manifest(root: str | Path) -> tuple[dict[str, Any], list[Case]]:
    """Training cases of an MSD folder, sorted by id, and what its ``dataset.json`` declares.

    Returns:
        The manifest with ``classes`` and ``channels`` (tuples of names, only those that the file
        declares; empty dict without ``dataset.json``), and the cases. Without ``dataset.json`` the
        images of ``imagesTr`` are paired with the labels of the same name in ``labelsTr``.

    Raises:
        DataError: the first problem that ``scan`` finds.
    """
    found = scan(root)
    if found.problems:
        raise found.problems[0]
    return found.manifest, found.cases


def scan(root: str | Path) -> Scan:
    """As ``read_manifest``, but collects the problems. Images under ``test`` are not looked at."""
    root = Path(root)
    result = Scan()
    if not root.is_dir():
        result.problems.append(
            DataError(
                "there is no such dataset folder",
                where=root,
                expected="a folder with imagesTr, labelsTr and dataset.json",
                fix="check the path, or download the data with `gtgm data get`",
            )
        )
        return result
    file = root / "dataset.json"
    try:
        listed = _parse(file, result) if file.is_file() else _pair(root)
    except DataError as error:
        result.problems.append(error)
        return result
    _collect(root, listed, result)
    return result


def case_id(path: str | Path) -> str:
    """File name without ``.nii.gz`` or ``.nii``."""
    name = Path(path).name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _parse(file: Path, result: Scan) -> list[tuple[str, str | None]]:
    try:
        manifest = json.loads(file.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"this is not valid JSON ({error})", where=file, fix="get the file again"
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("training"), list):
        raise DataError(
            "there is no list of training cases",
            where=file,
            expected='"training": [{"image": "./imagesTr/a.nii.gz", "label": …}, …]',
            fix="use the dataset.json that came with the dataset",
        )
    result.manifest = dict(manifest)
    try:
        if "labels" in manifest:
            result.manifest["classes"] = _ordered(manifest["labels"], "labels", file)[1:]
        if "modality" in manifest:
            result.manifest["channels"] = _ordered(manifest["modality"], "modality", file)
    except DataError as error:
        result.problems.append(error)
    listed: list[tuple[str, str | None]] = []
    for i, row in enumerate(manifest["training"]):
        image = row.get("image") if isinstance(row, dict) else row
        label = row.get("label") if isinstance(row, dict) else None
        if not isinstance(image, str) or not isinstance(label, str | None):
            raise DataError(
                f"entry {i} of the training cases names no image",
                where=file,
                expected='{"image": path, "label": path}',
                fix="use the dataset.json that came with the dataset",
            )
        listed.append((image, label))
    return listed


def _ordered(names: Any, key: str, file: Path) -> tuple[str, ...]:
    """Names by their number, which must run 0, 1, 2, …"""
    numbers = sorted(names, key=lambda n: (len(n), n)) if isinstance(names, dict) else []
    if not numbers or numbers != [str(i) for i in range(len(numbers))]:
        raise DataError(
            f'"{key}" is not numbered 0, 1, 2, …',
            where=file,
            expected=f'"{key}": {{"0": name, "1": name, …}}',
            fix="number them without a gap; the numbers are the values in the label files",
        )
    return tuple(str(names[n]) for n in numbers)


def _pair(root: Path) -> list[tuple[str, str | None]]:
    images = sorted(p for p in (root / "imagesTr").glob("*") if _is_volume(p))
    if not images:
        raise DataError(
            "the dataset folder is empty" if not any(root.iterdir()) else "there are no images",
            where=root,
            expected="dataset.json, or .nii.gz files in imagesTr and labelsTr",
            fix="check the path, or download the data with `gtgm data get`",
        )
    return [(f"imagesTr/{p.name}", f"labelsTr/{p.name}") for p in images]


def _is_volume(path: Path) -> bool:
    # macOS writes a "._name" companion beside every file of the published archives.
    return not path.name.startswith("._") and path.name.endswith(SUFFIXES)


def _collect(root: Path, listed: list[tuple[str, str | None]], result: Scan) -> None:
    listed = [(i, lab) for i, lab in listed if not Path(i).name.startswith("._")]
    absent: list[str] = []
    for image, label in listed:
        for name in (image, label):
            if name is None:
                continue
            if os.path.isabs(name) or ".." in Path(os.path.normpath(name)).parts:
                result.problems.append(
                    DataError(
                        f"dataset.json names a file outside of the dataset: {name}",
                        where=root / "dataset.json",
                        expected="paths inside the folder of dataset.json",
                        fix="use the dataset.json that came with the dataset",
                    )
                )
            elif not name.endswith(SUFFIXES):
                result.problems.append(
                    DataError(
                        f"{name} is not a NIfTI file",
                        where=root / "dataset.json",
                        expected="names that end with .nii or .nii.gz",
                    )
                )
            elif not (root / name).is_file():
                absent.append(os.path.normpath(name))
        result.cases.append(
            Case(root.name, case_id(image), root / image, root / label if label else None)
        )
    if absent:
        shown = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
        result.problems.append(
            DataError(
                f"{len(absent)} of the files that the dataset names are absent: {shown}",
                where=root,
                expected=f"{len(listed)} images and their labels",
                fix="finish the download or the extraction, or correct dataset.json",
            )
        )
    twice = [i for i, n in Counter(c.id for c in result.cases).items() if n > 1]
    if twice:
        result.problems.append(
            DataError(f"case ids occur more than once: {', '.join(twice[:5])}", where=root)
        )
    if not listed:
        result.problems.append(
            DataError(
                "the dataset has no training cases",
                where=root,
                expected="at least one image under training",
                fix="check that this is the whole dataset",
            )
        )
    result.cases.sort(key=lambda case: case.id)
