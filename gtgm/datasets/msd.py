"""Reader of Medical Segmentation Decathlon folders: ``dataset.json``, ``imagesTr``, ``labelsTr``.

Nothing here reads voxels; ``gtgm.datasets.geometry`` does, and checks them.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gtgm.datasets.guard import as_on_disk, check_regular, of_macos, same_letters
from gtgm.errors import DataError
from gtgm.paths import read_json

SUFFIXES = (".nii.gz", ".nii")
MAX_CLASSES = 255  # predictions are written as uint8
MAX_NAME = 100  # characters of the name of a class or channel
TRAINING = '"training": [{"image": "./imagesTr/a.nii.gz", "label": …}, …]'
USE_ORIGINAL = "use the dataset.json that came with the dataset"
OF_NNUNET = (
    "add the list, or remove the file, so that images of imagesTr go with labels of the same name; "
    "nnU-Net's _0000 must be taken off"
)


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
    if not os.path.isdir(root):
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
        listed = _parse(file, result) if os.path.lexists(file) else _pair(root)
    except DataError as error:
        result.problems.append(error)
        return result
    _collect(root, listed, result)
    return result


def is_nifti(name: str) -> bool:
    """Whether a file name ends with a suffix of NIfTI, in small or capital letters."""
    return name.lower().endswith(SUFFIXES)


def case_id(path: str | Path) -> str:
    """File name without ``.nii.gz`` or ``.nii``, in the same code points on every system (NFC)."""
    name = same_letters(Path(path).name)
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def _parse(file: Path, result: Scan) -> list[tuple[str, str | None]]:
    check_regular(file)
    manifest = read_json(file, expected=TRAINING, fix="get the file again")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("training"), list):
        what, fix = "there is no list of training cases", USE_ORIGINAL
        if isinstance(manifest, dict) and "file_ending" in manifest:
            what, fix = f"{what}, as in nnU-Net's own format", OF_NNUNET
        raise DataError(what, where=file, expected=TRAINING, fix=fix)
    result.manifest = dict(manifest)
    for key, name in (("labels", "classes"), ("modality", "channels")):
        result.manifest.pop(name, None)
        try:
            if key in manifest:
                result.manifest[name] = _ordered(manifest[key], key, file)
        except DataError as error:
            result.problems.append(error)
    listed: list[tuple[str, str | None]] = []
    for i, row in enumerate(manifest["training"]):
        image = row.get("image") if isinstance(row, dict) else row
        label = row.get("label") if isinstance(row, dict) else None
        if isinstance(image, str) and isinstance(label, str | None):
            listed.append((image, label))
        else:
            result.problems.append(
                DataError(
                    f"entry {i} of the training cases names no image",
                    where=file,
                    expected='{"image": path, "label": path}',
                    fix=USE_ORIGINAL,
                )
            )
    return listed


def _ordered(names: Any, key: str, file: Path) -> tuple[str, ...]:
    """Names by their number, which must run 0, 1, 2, …; of the labels those behind background."""
    numbers = sorted(names, key=lambda n: (len(n), n)) if isinstance(names, dict) else []
    if not numbers or numbers != [str(i) for i in range(len(numbers))]:
        raise DataError(
            f'"{key}" is not numbered 0, 1, 2, …',
            where=file,
            expected=f'"{key}": {{"0": name, "1": name, …}}',
            fix="number them without a gap; the numbers are the values in the label files",
        )
    values = [names[n] for n in numbers]
    wrong = [v for v in values if not isinstance(v, str) or not v.strip() or not v.isprintable()]
    wrong += [v for v in values if isinstance(v, str) and len(v) > MAX_NAME]
    wrong += [v for i, v in enumerate(values) if v in values[:i]]
    if wrong:
        raise DataError(
            f'"{key}" has names that cannot be used: {_shown(wrong[0])}',
            where=file,
            expected=f"texts of 1 to {MAX_NAME} printable characters, none of them twice",
            fix="correct the names",
        )
    if key == "labels" and not 1 < len(values) <= MAX_CLASSES + 1:
        raise DataError(
            f'"{key}" names {len(values) - 1} classes beside the background',
            where=file,
            expected=f"1 to {MAX_CLASSES}",
            fix="name the classes of the label files",
        )
    return tuple(values[1:] if key == "labels" else values)


def _pair(root: Path) -> list[tuple[str, str | None]]:
    images = volumes(root / "imagesTr")
    if not images:
        raise DataError(
            "there are no images"
            if any(not of_macos(path.name) for path in root.iterdir())
            else "the dataset folder is empty",
            where=root,
            expected="dataset.json, or .nii.gz files in imagesTr and labelsTr",
            fix="check the path, or download the data with `gtgm data get`",
        )
    return [(f"imagesTr/{p.name}", f"labelsTr/{p.name}") for p in images]


def volumes(folder: Path) -> list[Path]:
    """NIfTI files of a folder, sorted; none if there is no such folder."""
    # macOS writes a "._name" companion beside every file of the published archives.
    return sorted(p for p in folder.glob("*") if is_nifti(p.name) and not of_macos(p.name))


def _collect(root: Path, listed: list[tuple[str, str | None]], result: Scan) -> None:
    listed = [
        (as_on_disk(root, image, _alike), label and as_on_disk(root, label, _alike))
        for image, label in listed
        if not of_macos(Path(image).name)
    ]
    file = root / "dataset.json"
    absent: list[str] = []
    for name in (name for row in listed for name in row if name is not None):
        if os.path.isabs(name) or ".." in Path(os.path.normpath(name)).parts:
            result.problems.append(
                DataError(
                    f"dataset.json names a file outside of the dataset: {_shown(name)}",
                    where=file,
                    expected="paths inside the folder of dataset.json",
                    fix=USE_ORIGINAL,
                )
            )
        elif not _is_text(name):
            result.problems.append(
                DataError(
                    f"the file name {_shown(name)} is not UTF-8",
                    where=root,
                    expected="names that can be written into result files",
                    fix="rename the file",
                )
            )
        elif not is_nifti(name) or case_id(name) in ("", ".", ".."):
            result.problems.append(
                DataError(
                    f"{_shown(name)} is not a NIfTI file",
                    where=file,
                    expected="names that end with .nii or .nii.gz",
                    fix=USE_ORIGINAL,
                )
            )
        elif not os.path.isfile(root / name):
            absent.append(os.path.normpath(name))
    for image, label in listed:
        result.cases.append(
            Case(root.name, case_id(image), root / image, root / label if label else None)
        )
    if absent:
        shown = ", ".join(_shown(name) for name in absent[:5]) + (" …" if len(absent) > 5 else "")
        result.problems.append(
            DataError(
                f"{len(absent)} of the files that the dataset names are absent or no files: "
                + shown,
                where=root,
                expected=f"{len(listed)} images and their labels",
                fix="finish the download or the extraction, or correct dataset.json",
            )
        )
    for what, names in (
        ("case ids occur more than once", [case.id for case in result.cases]),
        (
            "files are image or label of more than one case",
            [os.path.normpath(name) for row in listed for name in row if name],
        ),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            result.problems.append(
                DataError(
                    f"{what}: {', '.join(_shown(name) for name in twice[:5])}",
                    where=root,
                    expected="an image and a label of its own for each case",
                    fix="correct dataset.json, or rename the files",
                )
            )
            break  # the same file twice is also the same id twice
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


def _alike(name: str) -> str:
    """What the names of one file have in common: letters, and the suffix in whatever case."""
    stem = case_id(name)
    return stem + same_letters(name)[len(stem) :].lower()


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; Python marks bytes that cannot by surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    """A value of the file as it can stand in a message: one line, not long."""
    text = repr(value)
    return text if len(text) <= 2 * MAX_NAME else text[: 2 * MAX_NAME] + "…"
