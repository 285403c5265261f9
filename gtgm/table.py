"""A table of results and how it is written: Markdown, HTML, Jupyter."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

_NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """Rows of results.

    Attributes:
        title: what is measured, and in which unit.
        modality: ``CT``, ``MRI`` or ``EM``.
        frame: one row per dataset × label fraction × setting, as plain values.
        notes: remarks on the whole table; those on single cells are in ``frame["notes"]``.
    """

    title: str
    modality: str
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def has_phantoms(self) -> bool:
        """Whether a row was measured on phantom data."""
        return bool((self.frame["source"] == "phantom").any())

    def header(self) -> list[str]:
        """Column titles as shown."""
        columns = [
            "dataset", "labels", "data", "setting", "cases train / test", "draws × seeds × folds",
            "random, measured", "GTGM, measured", "gain",
            "random, reported", "GTGM, reported", "gap", "command",
        ]  # fmt: skip
        if self.modality == "EM":
            columns[4] = "sections train / test"
            columns[9:9] = ["border-masked VOI random / GTGM", "ARAND random / GTGM"]
            columns[4:4] = ["post-processing"]
        return columns

    def rows(self) -> list[list[str]]:
        """Cells as shown; ``[n]`` in a reported cell points to a note."""
        marks = {note: n for n, note in enumerate(self._cell_notes(), start=1)}
        return [self._cells(row, marks) for row in self.frame.to_dict("records")]

    def footnotes(self) -> list[str]:
        """All notes, those of single cells first, with their numbers."""
        cells = [f"[{n}] {note}." for n, note in enumerate(self._cell_notes(), start=1)]
        return [*cells, *self.notes]

    def to_markdown(self) -> str:
        """GitHub Markdown: the table, then its notes."""
        lines = [_line(self.header()), _line(["---"] * len(self.header()))]
        before = None
        for row in self.rows():
            lines.append(_line(["" if row[0] == before else row[0], *row[1:]]))
            before = row[0]
        notes = [f"- {_escape(note)}" for note in self.footnotes()]
        return "\n".join([*lines, *(["", *notes] if notes else [])])

    def to_html(self) -> str:
        """An HTML fragment without a style of its own; phantom rows have the class ``phantom``."""
        head = "".join(f"<th scope='col'>{html.escape(h)}</th>" for h in self.header())
        rows = self.rows()
        body, start = [], 0
        while start < len(rows):
            block = [r for r in rows[start:] if r[0] == rows[start][0]]
            for i, row in enumerate(block):
                phantom = row[2] == "phantom"
                name = (
                    f"<th scope='rowgroup' rowspan='{len(block)}'>{html.escape(row[0])}</th>"
                    if i == 0
                    else ""
                )
                cells = "".join(f"<td>{html.escape(c)}</td>" for c in row[1:-1])
                command = f"<td><code>{html.escape(row[-1])}</code></td>"
                kind = " class='phantom'" if phantom else ""
                body.append(f"<tr{kind}>{name}{cells}{command}</tr>")
            start += len(block)
        notes = "".join(f"<li>{html.escape(n)}</li>" for n in self.footnotes())
        return (
            f"<table class='results'><caption>{html.escape(self.title)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
            f"<ul class='notes'>{notes}</ul>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()

    def _cell_notes(self) -> list[str]:
        return list(dict.fromkeys(n for notes in self.frame["notes"] for n in notes))

    def _cells(self, row: dict[str, Any], marks: dict[str, int]) -> list[str]:
        digits = 3 if self.modality == "EM" else 1
        runs = row["draws"] * row["seeds"] * row["folds"]
        reported = [_reported(row[f"reported_{m}"], digits) for m in ("random", "gtgm")]
        if all(_missing(row[f"reported_{m}"]) for m in ("random", "gtgm")):
            reported = ["not reported", "not reported"]
        mark = "".join(f" [{marks[n]}]" for n in row["notes"])
        cells = [
            row["title"],
            f"{100 * row['fraction']:g} %",
            row["source"],
            _text(row["setting"]),
            f"{row['n_train']} / {row['n_test']}" if runs else _NOTHING,
            f"{row['draws']} × {row['seeds']} × {row['folds']}" if runs else _NOTHING,
            _value(row["random"], row["random_sd"], digits),
            _value(row["gtgm"], row["gtgm_sd"], digits),
            _value(row["gain"], row["gain_sd"], digits, signed=True),
            reported[0],
            reported[1] + mark,
            _value(row["gap"], None, digits, signed=True),
            _text(row["command"]),
        ]
        if self.modality == "EM":
            cells[9:9] = [
                " / ".join(_value(row[f"{m}_{metric}"], None, digits) for m in ("random", "gtgm"))
                for metric in ("voi_sum_border_masked", "arand")
            ]
            cells[4:4] = [_text(row["post"]).replace("_", " ")]
        return cells


def _value(mean: float | None, sd: float | None, digits: int, signed: bool = False) -> str:
    if _missing(mean):
        return _NOTHING
    text = f"{mean:{'+' if signed else ''}.{digits}f}".replace("-", "−")
    return text if _missing(sd) else f"{text} ± {sd:.{digits}f}"


def _text(value: str | float | None) -> str:
    # pandas turns None in a column of texts into NaN.
    return value if isinstance(value, str) and value else _NOTHING


def _reported(value: float | None, digits: int) -> str:
    # One digit more than measured: the source's own precision.
    return _NOTHING if _missing(value) else f"{value:.{max(digits, 2)}f}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_escape(c) for c in cells) + " |"
