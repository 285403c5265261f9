"""A table of results and how its cells are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from gtgm import paths
from gtgm.markup import NOTHING, Link, html_table, markdown_table
from gtgm.methods import METHODS

_TITLES = {
    "dataset": "dataset",
    "labels": "labels",
    "post": "post-processing",
    "method": "method",
    "data": "data",
    "setting": "setting",
    "cases": "cases train / test",
    "runs": "draws × seeds × folds",
    "measured": "measured",
    "difference": "difference to random",
    "border_masked": "border-masked VOI",
    "arand": "ARAND",
    "arand_border_masked": "border-masked ARAND",
    "reported": "reported",
    "gap": "gap",
    "command": "command",
}
_ONLY_EM = ("post", "border_masked", "arand", "arand_border_masked")
_LATEX = {"−": "$-$", "±": "$\\pm$", "×": "$\\times$", "≤": "$\\leq$"}


@dataclass(frozen=True)
class Table:
    """Rows of results.

    Attributes:
        title: what is measured, and in which unit.
        modality: ``CT``, ``MRI`` or ``EM``.
        frame: one row per dataset × label fraction × setting × method (× post-processing for EM),
            as plain values.
        notes: remarks on the whole table; those on single cells are in ``frame["notes"]``.
        hidden: columns that are not shown; see :meth:`compact`.
    """

    title: str
    modality: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    hidden: frozenset[str] = frozenset()

    @property
    def has_phantoms(self) -> bool:
        """Whether a row was measured on phantom data."""
        return bool((self.frame["source"] == "phantom").any())

    def header(self) -> list[str]:
        """Column titles as shown."""
        titles = _TITLES | ({"cases": "sections train / test"} if self.modality == "EM" else {})
        return [titles[column] for column in self._columns()]

    def rows(self) -> list[list[str]]:
        """Cells as shown; ``[n]`` in a reported cell points to a note."""
        marks = {note: n for n, note in enumerate(self._cell_notes(), start=1)}
        cells = [self._cells(row, marks) for row in self.frame.to_dict("records")]
        return [[row[column] for column in self._columns()] for row in cells]

    def footnotes(self) -> list[str]:
        """All notes, those of single cells first, with their numbers."""
        cells = [f"[{n}] {note}." for n, note in enumerate(self._cell_notes(), start=1)]
        return [*cells, *self.notes]

    def compact(self) -> Table:
        """The same rows without commands, and without columns that say the same in every row.

        The title then says it: data, setting, and that nothing of it was reported.
        """
        frame, hidden, words = self.frame, {"command"}, []
        if frame["source"].nunique() == 1:
            hidden.add("data")
            words.append(f"{frame['source'].iloc[0]} data")
        if frame["setting"].nunique() == 1:
            hidden.add("setting")
            words.append(frame["setting"].iloc[0])
        if frame["reported"].isna().all():
            hidden |= {"reported", "gap"}
            words.append("not reported")
        said = "; ".join(word for word in words if word)
        title = f"{self.title} ({said})" if said else self.title
        return replace(self, title=title, hidden=frozenset(hidden))

    def to_markdown(self) -> str:
        """GitHub Markdown: the table, then its notes."""
        return markdown_table(self.header(), self.rows(), self.footnotes(), self._groups())

    def to_html(self, sources: Mapping[str, Sequence[Link]] = MappingProxyType({})) -> str:
        """An HTML fragment without a style of its own; phantom rows have the class ``phantom``.

        Args:
            sources: by the id of a run, links to what it left; they unfold below measured values.
        """
        places = {column: i for i, column in enumerate(self._columns())}
        links = {
            (row, places["measured"]): [sources[id] for id in ids if id in sources]
            for row, ids in enumerate(self.frame["ids"])
        }
        return html_table(
            self.title,
            self.header(),
            self.rows(),
            self.footnotes(),
            self._groups(),
            heads={places["method"]},
            code={places[c] for c in ("command",) if c in places},
            marked={"phantom"},
            links={place: found for place, found in links.items() if found},
        )

    def to_csv(self) -> str:
        """Plain values, a line per row: numbers as they are, without rounding or signs."""
        frame = self.frame.assign(
            notes=["; ".join(notes) for notes in self.frame["notes"]],
            ids=[" ".join(ids) for ids in self.frame["ids"]],
        )
        return frame.to_csv(index=False, lineterminator="\n")

    def to_latex(self) -> str:
        """A table for print, without commands; LaTeX packages booktabs and longtable."""
        short = replace(self, hidden=self.hidden | {"command"})
        frame = pd.DataFrame(short.rows(), columns=short.header())
        text = frame.to_latex(index=False, escape=True, longtable=True, caption=self.title)
        for sign, command in _LATEX.items():
            text = text.replace(sign, command)
        notes = "".join(f"% {note}\n" for note in self.footnotes())
        return f"{text}{notes}"

    def write(self, path: str | Path) -> list[Path]:
        """Write ``<path>.md``, ``.csv`` and ``.tex``; returns the paths."""
        texts = {".md": self.to_markdown() + "\n", ".csv": self.to_csv(), ".tex": self.to_latex()}
        path = Path(path)
        return [paths.write_text(path.with_name(path.name + e), t) for e, t in texts.items()]

    def _repr_html_(self) -> str:
        return self.to_html()

    def _columns(self) -> list[str]:
        absent = {*self.hidden, *(_ONLY_EM if self.modality != "EM" else ())}
        return [column for column in _TITLES if column not in absent]

    def _groups(self) -> int:
        return self._columns().index("method")

    def _cell_notes(self) -> list[str]:
        return list(dict.fromkeys(n for notes in self.frame["notes"] for n in notes))

    def _cells(self, row: dict[str, Any], marks: dict[str, int]) -> dict[str, str]:
        digits = 3 if self.modality == "EM" else 1
        runs, method = row["runs"], METHODS[row["method"]]
        complete = row["draws"] * row["seeds"] * row["folds"]
        counts = f"{row['draws']} × {row['seeds']} × {row['folds']}"
        pairs = f" ({row['pairs']} in common)" if 0 < row["pairs"] < runs else ""
        reported = "not reported" if method.reported else NOTHING
        if not _missing(row["reported"]):
            # At least the two digits that the source has.
            reported = f"{row['reported']:.{max(digits, 2)}f}"
        cells = {
            "dataset": row["title"],
            "labels": f"{100 * row['fraction']:g} %",
            "method": method.label,
            "data": row["source"],
            "setting": row["setting"] or NOTHING,
            "cases": f"{row['n_train']} / {row['n_test']}" if runs else NOTHING,
            "runs": (counts if runs == complete else f"{runs} of {counts}") if runs else NOTHING,
            "measured": _value(row["measured"], row["measured_sd"], digits),
            "difference": _value(row["difference"], row["difference_sd"], digits, True) + pairs,
            "reported": reported + "".join(f" [{marks[note]}]" for note in row["notes"]),
            "gap": _value(row["gap"], None, digits, signed=True),
            "command": row["command"] or NOTHING,
        }
        if self.modality == "EM":
            cells["post"] = (row["post"] or NOTHING).replace("_", " ")
            for metric in _ONLY_EM[1:]:
                cells[metric] = _value(row[metric], None, digits)
        return cells


def _value(mean: float | None, sd: float | None, digits: int, signed: bool = False) -> str:
    if _missing(mean):
        return NOTHING
    text = f"{mean:{'+' if signed else ''}.{digits}f}".replace("-", "−")
    return text if _missing(sd) else f"{text} ± {sd:.{digits}f}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
