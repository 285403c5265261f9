"""The numbers that the authors' repository reports, and what must be known to read them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from gtgm import paths
from gtgm.datasets.registry import DatasetInfo
from gtgm.errors import ResultError

_COLUMNS = (
    "method", "modality", "dataset", "label_fraction", "metric", "value", "source", "note",
)  # fmt: skip
#: Share of the cases that the released fine-tuning labels a fraction of (`deviations.md`, row 15).
_RELEASED_SHARE = 0.9


@dataclass(frozen=True)
class Cell:
    """A reported number and its notes; ``value`` (Dice in per cent, VOI) is None if there is none.

    The notes hold only for the number: without one, there are none.
    """

    value: float | None = None
    notes: tuple[str, ...] = ()


def load_reported(path: str | Path = paths.REPORTED / "reported.csv") -> pd.DataFrame:
    """The authors' numbers, one row each, with their source and note; ``fraction`` is a share.

    Raises:
        ResultError: the file is missing or lacks a column.
    """
    frame = read_numbers(path, _COLUMNS)
    frame["value"] = pd.to_numeric(frame["value"])
    frame["fraction"] = pd.to_numeric(frame["label_fraction"].str.rstrip("%")) / 100
    return frame


def read_numbers(path: str | Path, columns: Collection[str]) -> pd.DataFrame:
    """Numbers of others, from a CSV file of this project; every column as text, empty for none.

    Raises:
        ResultError: the file is missing or lacks one of the columns.
    """
    if not Path(path).is_file():
        raise ResultError("no such file of numbers", where=path, fix="restore the file from git")
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    if lacking := sorted(set(columns) - set(frame.columns)):
        raise ResultError(f"lacks the columns {', '.join(lacking)}", where=path)
    return frame


def reported_cell(reported: pd.DataFrame, info: DatasetInfo, fraction: float, method: str) -> Cell:
    """What is reported for a dataset, label fraction and method.

    Args:
        reported: of :func:`load_reported`.
        info: the dataset.
        fraction: share of the training labels.
        method: its name in ``reported``; an empty name has no cell.
    """
    if not method:
        return Cell()
    alike = reported[(reported["method"] == method) & (reported["fraction"] == fraction)]
    rows = alike[alike["dataset"] == info.title]
    if rows.empty:
        return Cell()
    notes = [
        *(note for note in rows["note"] if note),
        *_twins(info, alike[alike["modality"] == info.modality]),
        *_impossible(info, fraction),
    ]
    return Cell(float(rows["value"].iloc[0]), tuple(dict.fromkeys(notes)))


def released_cases(cases: int, fraction: float) -> int:
    """Labelled training cases that the released code takes: int(N · 0.9 · fraction), rounded down.

    N is the number of cases of the dataset. It is 0 for small datasets at 1 % of the labels
    (`deviations.md`, row 15).
    """
    return int(cases * _RELEASED_SHARE * fraction)


def source_note(reported: pd.DataFrame, modality: str, compared: Collection[str]) -> str:
    """Where the numbers come from, and which of its methods are not among those compared here."""
    cells = reported[(reported["modality"] == modality) & (reported["dataset"] != "all")]
    note = f"Reported numbers: {'; '.join(sorted(set(cells['source'])))}."
    if rowless := sorted(set(cells["method"]) - set(compared)):
        note += f" It also reports {', '.join(rowless)}, which is not measured here."
    return note


def claim_notes(reported: pd.DataFrame, modality: str) -> list[str]:
    """What the headline claim says, and what the cells it summarises give."""
    notes = []
    claims = reported[(reported["modality"] == modality) & (reported["dataset"] == "all")]
    for _, claim in claims.iterrows():
        cells = reported[(reported["modality"] == modality) & (reported["dataset"] != "all")]
        wide = cells.pivot(index=["dataset", "fraction"], columns="method", values="value")
        better = wide[claim["method"]]
        sign = -1 if modality == "EM" else 1
        gains, found = [], False
        for baseline in wide.columns.drop(claim["method"]):
            points = sign * (better - wide[baseline]).mean()
            relative = 100 * sign * (better.mean() / wide[baseline].mean() - 1)
            found |= claim["value"] in (round(points, 1), round(relative, 1))
            unit = "VOI" if modality == "EM" else "points"
            gains.append(f"{baseline} by {points:.2f} {unit} ({relative:.1f} %)")
        verdict = "one of these is it" if found else "none of these is it"
        notes.append(
            f"The source claims, without naming the baseline: {claim['metric']}: "
            f"{claim['value']:g} for {claim['method']}. Over the cells, its mean is better than "
            f"{', '.join(gains)}; {verdict}."
        )
    return notes


def _twins(info: DatasetInfo, cells: pd.DataFrame) -> list[str]:
    """A note if another of these cells has the very same value as the dataset's."""
    notes = []
    for (_, a), (_, b) in combinations(cells.iterrows(), 2):
        if a["value"] == b["value"] and info.title in (a["dataset"], b["dataset"]):
            notes.append(
                f"{a['dataset']} and {b['dataset']} have the same reported value at "
                f"{a['label_fraction']} of the labels, {a['value']:g}; "
                "one of them may be a slip, so neither is a safe target"
            )
    return notes


def _impossible(info: DatasetInfo, fraction: float) -> list[str]:
    """A note if the released code would train on no case at all. EM counts sections, not cases."""
    if info.modality == "EM" or released_cases(info.cases, fraction):
        return []
    return [
        f"this number cannot come from the released code: of {info.cases} cases it labels the "
        f"first int({info.cases} · {_RELEASED_SHARE:g} · {fraction:g}) = "
        f"{released_cases(info.cases, fraction)}; here, one case is labelled at least"
    ]
