"""EM datasets of the reader's own, described by ``gtgm-datasets.json`` in a folder of $GTGM_DATA.

The file is a list of objects. Needed: ``name``, ``files`` (names under which the volume is looked
for), ``resolution`` (nm, z y x) and the section ranges ``train``, ``validation`` and ``test`` as
[start, stop], stop not included. Optional: ``raw_key`` and ``labels_key`` (arrays in HDF5, Zarr or
N5), ``patch``, and the texts ``title``, ``channel``, ``anatomy``, ``licence``, ``citation``,
``attribution``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from gtgm.datasets.em_array import in_nm, is_voxel
from gtgm.datasets.guard import check_regular
from gtgm.errors import DataError
from gtgm.paths import read_json

FILE = "gtgm-datasets.json"
PARTS = ("train", "validation", "test")
NEEDED = ("name", "files", "resolution", *PARTS)
TEXTS = {
    "raw_key": None,
    "labels_key": None,
    "title": None,
    "channel": "EM",
    "anatomy": "brain tissue",
    "licence": "not stated",
    "citation": "not stated",
    "attribution": None,
}
PATCH = (32, 160, 160)
MAX = 2**31  # of a range or patch
NAME = re.compile(r"\w[\w .+-]{0,99}")


def read_own(folder: Path) -> list[dict[str, Any]]:
    """Fields of ``registry.DatasetInfo`` for each dataset that the folder's file describes.

    Returns an empty list if the folder has no such file.

    Raises:
        DataError: no valid JSON, a field missing, unknown or of the wrong form, or ranges that
            overlap or are not in the order train, validation, test.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return []
    check_regular(path)
    entries = read_json(path, expected="a list of datasets, [{…}, …]", fix="correct the file")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(
            "the file holds no list of datasets",
            where=path,
            expected="[{…}, …]",
            fix="write one object per dataset, in brackets",
        )
    return [_fields(entry, path) for entry in entries]


def _fields(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    missing = [key for key in NEEDED if key not in entry]
    unknown = [key for key in entry if key not in (*NEEDED, *TEXTS, "patch")]
    if missing or unknown:
        raise DataError(
            f"a dataset lacks {', '.join(missing) or 'nothing'} "
            f"and has unknown fields {', '.join(unknown)[:200] or 'none'}",
            where=path,
            expected=f"{', '.join(NEEDED)}; optional: {', '.join(TEXTS)}, patch",
            fix="correct these fields",
        )
    texts = {key: entry.get(key, default) for key, default in TEXTS.items()}
    wrong = [k for k, text in texts.items() if not (text is None or _is_name(text))]
    name, files, patch = entry["name"], entry["files"], entry.get("patch", PATCH)
    wrong += [] if isinstance(name, str) and NAME.fullmatch(name) else ["name"]
    inside = isinstance(files, list) and files and all(_is_inside(file) for file in files)
    wrong += [] if inside else ["files"]
    spacing = in_nm(entry["resolution"], "nm")
    wrong += [] if spacing and is_voxel(spacing) else ["resolution"]
    wrong += [] if _are_integers(patch, 3, 1) else ["patch"]
    wrong += [part for part in PARTS if not _are_integers(entry[part], 2, 0)]
    if wrong:
        raise DataError(
            f"{', '.join(wrong)} of the dataset {str(name)[:100]!r} cannot be used",
            where=path,
            expected="texts that are not empty, a name of at most 100 letters, digits, spaces and "
            ".+_-, files inside the data folder, three positive numbers for resolution (nm) and "
            "patch, [start, stop] for ranges",
            fix="correct these fields",
        )
    ranges = tuple(tuple(entry[part]) for part in PARTS)
    bounds = [bound for part in ranges for bound in part]
    if bounds != sorted(bounds) or any(start == stop for start, stop in ranges) or bounds[0] != 0:
        raise DataError(
            f"the section ranges of {name!r} are {ranges}",
            where=path,
            expected="0 = train start < train stop ≤ validation start < … < test stop",
            fix="put training first, then validation, then test, without overlap",
        )
    title = texts["title"] or name
    return {
        "name": name,
        "title": title,
        "modality": "EM",
        "channels": (texts["channel"],),
        "classes": (),
        "cases": 1,
        "spacing": spacing,
        "unit": "nm",
        "patch": tuple(patch),
        "format": "cremi",
        "anatomy": texts["anatomy"],
        "licence": texts["licence"],
        "citation": texts["citation"],
        "attribution": texts["attribution"] or title,
        "url": None,
        "checksum": None,
        "in_paper": False,
        "files": tuple(files),
        "note": f"described in {FILE}",
        "raw_key": texts["raw_key"],
        "labels_key": texts["labels_key"],
        "ranges": ranges,
    }


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= 10_000


def _is_inside(value: Any) -> bool:
    if not _is_name(value) or "\0" in value or Path(value).is_absolute():
        return False
    parts = Path(value).parts
    return bool(parts) and ".." not in parts and all(len(part.encode()) < 256 for part in parts)


def _are_integers(values: Any, count: int, least: int) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == count
        and all(isinstance(v, int) and not isinstance(v, bool) and least <= v < MAX for v in values)
    )
