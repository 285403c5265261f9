"""The datasets by name: the paper's 13 and FIB-25, as data in ``registry.json``.

Own EM datasets join them through ``gtgm-datasets.json`` in a folder of $GTGM_DATA (see ``own``).
"""

from __future__ import annotations

import difflib
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gtgm.datasets import own
from gtgm.errors import DataError, SettingsError
from gtgm.paths import data_dirs

REGISTRY = Path(__file__).with_name("registry.json")


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset without opening it.

    ``spacing`` and ``patch`` are in the order z y x (D, H, W); ``spacing`` is the median of the
    training cases in ``unit``. ``classes`` names the foreground labels 1, 2, … in order and is
    empty for EM, whose labels are neuron instances. ``checksum`` is ``"md5:…"`` or ``"sha256:…"``.
    ``files`` are the names under which the dataset is looked for in a data folder. ``raw_key`` and
    ``labels_key`` name the arrays of an EM file that does not follow ``em_store``'s rules, and
    ``ranges`` holds (start, stop) of training, validation and test sections; all three belong to
    own datasets, the ranges of the others lie in ``splits/``.
    """

    name: str
    title: str
    modality: Literal["CT", "MRI", "EM"]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    cases: int
    spacing: tuple[float, float, float]
    unit: Literal["mm", "nm"]
    patch: tuple[int, int, int]
    format: Literal["msd", "cremi"]
    anatomy: str
    licence: str
    citation: str
    attribution: str
    url: str | None
    checksum: str | None
    in_paper: bool
    files: tuple[str, ...]
    note: str = ""
    raw_key: str | None = None
    labels_key: str | None = None
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def credit(self) -> str:
        """Attribution and licence, as they stand below a picture."""
        named = self.licence in self.attribution
        return self.attribution if named else f"{self.attribution} ({self.licence})"


def get(name: str) -> DatasetInfo:
    """The entry called ``name``.

    Raises:
        SettingsError: no such dataset; the message lists the names and the closest one.
        DataError: a file of own datasets cannot be used.
    """
    known = _known()
    if name not in known:
        lower = {n.lower(): n for n in known}
        close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.4)
        hint = f"did you mean {lower[close[0]]!r}?" if close else "choose one of these names"
        raise SettingsError(
            f"there is no dataset called {name!r}",
            expected="one of " + ", ".join(known),
            fix=hint,
        )
    return known[name]


def names(modality: str | None = None, in_paper: bool | None = None) -> list[str]:
    """Names in the order of the registry, of one modality and inside or outside the paper.

    Raises:
        SettingsError: ``modality`` is not CT, MRI or EM.
    """
    if modality not in (None, "CT", "MRI", "EM"):
        raise SettingsError(f"there is no modality {modality!r}", expected="CT, MRI or EM")
    return [
        info.name
        for info in _known().values()
        if modality in (None, info.modality) and in_paper in (None, info.in_paper)
    ]


def _known() -> dict[str, DatasetInfo]:
    known = dict(_load())
    for folder in data_dirs():
        for fields in own.read_own(folder):
            info = DatasetInfo(**fields)
            if known.get(info.name, info) != info:
                raise DataError(
                    f"the name {info.name!r} is taken",
                    where=folder / own.FILE,
                    expected="a name that no other dataset has",
                    fix="choose another name",
                )
            known[info.name] = info
    return known


@functools.cache
def _load() -> dict[str, DatasetInfo]:
    rows = json.loads(REGISTRY.read_text(encoding="utf-8"))
    infos = [
        DatasetInfo(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
        for row in rows
    ]
    return {info.name: info for info in infos}
