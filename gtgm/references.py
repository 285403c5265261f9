"""Scores of other systems on the same datasets, under other protocols: for orientation only.

Nothing here was measured by this project or reported by the authors of GTGM, and nothing here is
compared with a row of a table: test cases, training labels and scoring differ.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

import pandas as pd

from gtgm import paths
from gtgm.datasets import registry
from gtgm.datasets.registry import DatasetInfo
from gtgm.errors import SettingsError
from gtgm.markup import html_table, markdown_table
from gtgm.reported import read_numbers

FILES = {"CT": "reference_msd.csv", "MRI": "reference_msd.csv", "EM": "reference_em.csv"}
HEADING = "Another protocol, for orientation only: other systems on these datasets"
_COLUMNS = (
    "table", "method", "modality", "dataset", "label_fraction", "metric", "value", "source",
)  # fmt: skip
#: Datasets under another name: LiTS has the scans of MSD Liver, says the source of its scores.
_ALIASES = {
    "LiTS": ("Task03_Liver",),
    "CREMI A+B+C aggregate": ("CREMI_A", "CREMI_B", "CREMI_C"),
}


@dataclass(frozen=True)
class ReferenceTable:
    """Reference systems of a modality.

    Attributes:
        modality: ``CT``, ``MRI`` or ``EM``.
        frame: one row per score: dataset, method, fraction (as the source words it), metric,
            value (Dice in per cent, VOI in the unit of the source), shown (the value with the
            source's digits), protocol (the table of the source) and source. May be empty.
    """

    modality: str
    frame: pd.DataFrame

    def header(self) -> list[str]:
        """Column titles as shown."""
        return ["dataset", "table of the source", "system", "labels", "metric", "value", "source"]

    def rows(self) -> list[list[str]]:
        """Cells as shown; ``[a]`` points to a source in the notes."""
        columns = ["dataset", "protocol", "method", "fraction", "metric", "shown"]
        marks = self._marks()
        return [
            [*(row[column] for column in columns), marks[row["source"]]]
            for row in self.frame.to_dict("records")
        ]

    def notes(self) -> list[str]:
        """Why the scores cannot be compared with the measured ones, and their sources."""
        unit = "VOI is in the unit of its source. " if self.modality == "EM" else ""
        return [
            "Other test data, other splits, mostly more labels and longer training than in the "
            f"table above: no difference between a score here and one there is an effect. {unit}"
            "None was measured by this project.",
            *(f"{mark} {source}." for source, mark in self._marks().items()),
        ]

    def to_markdown(self) -> str:
        """A collapsed block of GitHub Markdown."""
        table = markdown_table(self.header(), self.rows(), self.notes(), groups=3)
        return f"<details>\n<summary>{HEADING}</summary>\n\n{table}\n\n</details>"

    def to_html(self) -> str:
        """A collapsed block of HTML without a style of its own."""
        title = f"{self.modality}, reference systems"
        table = html_table(title, self.header(), self.rows(), self.notes(), groups=3)
        return (
            f"<details class='references'><summary><b>{HEADING}</b> ({len(self.frame)} scores)"
            f"</summary>{table}</details>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()

    def _marks(self) -> dict[str, str]:
        """A letter per source: numbers belong to the notes of the table above."""
        sources = dict.fromkeys(self.frame["source"])
        return {source: f"[{chr(ord('a') + n)}]" for n, source in enumerate(sources)}


def reference_table(modality: str, datasets: Collection[str] | None = None) -> ReferenceTable:
    """Reference systems of a modality, sorted by dataset, table of the source and system.

    Args:
        modality: ``CT``, ``MRI`` or ``EM``.
        datasets: registry names; only systems on these datasets, or on a set of cases that
            contains one of them, are listed. All of the modality by default.

    Raises:
        SettingsError: another modality.
        ResultError: the file of reference scores is missing or lacks a column.
    """
    if modality not in FILES:
        raise SettingsError(f"unknown modality {modality!r}", expected="CT, MRI or EM")
    known = registry.names(modality)
    wanted = set(known if datasets is None else datasets)
    numbers = read_numbers(paths.REPORTED / FILES[modality], _COLUMNS)
    rows, order = [], {}
    for row in numbers[numbers["modality"] == modality].to_dict("records"):
        alias = row["dataset"] in _ALIASES
        names = _ALIASES[row["dataset"]] if alias else (row["dataset"].replace(" ", "_"),)
        if not wanted.intersection(names) or not set(names) <= set(known):
            continue
        info = registry.get(names[-1])
        metric, shown = _in_per_cent(row["metric"], row["value"])
        first = order.setdefault((row["table"], row["method"]), len(order))
        rows.append(
            {
                "dataset": row["dataset"] if alias else info.title,
                "method": row["method"],
                "fraction": row["label_fraction"],
                "metric": _named(metric, info),
                "value": float(shown),
                "shown": shown,
                "protocol": row["table"],
                "source": row["source"],
                "order": (known.index(info.name), alias, first),
            }
        )
    rows.sort(key=lambda row: row["order"])
    columns = ["dataset", "method", "fraction", "metric", "value", "shown", "protocol", "source"]
    return ReferenceTable(modality, pd.DataFrame(rows, columns=columns))


def _in_per_cent(metric: str, value: str) -> tuple[str, str]:
    """Dice that the source gives as a share, in per cent and with no more digits than it has."""
    if not metric.startswith("Dice") or "(%)" in metric:
        return metric, value
    return metric.replace("Dice", "Dice (%)"), f"{(Decimal(value) * 100).normalize():f}"


def _named(metric: str, info: DatasetInfo) -> str:
    """The metric with the name of the class that it numbers."""
    found = re.search(r"class (\d+)$", metric)
    return f"{metric}, {info.classes[int(found[1]) - 1]}" if found else metric
