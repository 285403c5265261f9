"""Captions on disk: one JSONL file per case, a line per patch position."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gtgm import paths
from gtgm.errors import DataError

Row = dict[str, Any]

_TRIPLES = ("origin", "size")
_NUMBERS = ("slice", "channel")
_TEXTS = ("case", "text", "raw", "captioner")


class CaptionStore:
    """Folder of captions, readable and auditable as text.

    A row is ``{"case", "origin": [z, y, x], "size": [d, h, w], "slice", "channel", "text", "raw",
    "captioner"}``: the patch and the slice of it (counted inside the patch) that the captioner
    saw, its words as they came (``raw``) and as they are used (``text``).

    Args:
        folder: made when the first case is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._cache: dict[str, tuple[list[Row], np.ndarray]] = {}

    def write(self, case_id: str, rows: Iterable[Row]) -> Path:
        """Replace the captions of a case, atomically; ``case`` is added to each row.

        Raises:
            DataError: a row lacks an entry or has one of a wrong kind, or there is none.
        """
        path = self.path(case_id)
        rows = [{"case": case_id, **row} for row in rows]
        if not rows:
            raise DataError("there are no captions to write", where=path)
        for number, row in enumerate(rows, 1):
            _check(row, f"{path.name}, row {number}")
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        self._cache.pop(case_id, None)
        return paths.write_text(path, "\n".join(lines) + "\n")

    def rows(self, case_id: str) -> list[Row]:
        """The captions of a case, in the order of the grid.

        Raises:
            DataError: the case has none, or its file is damaged (the message names the line).
        """
        return self._read(case_id)[0]

    def nearest(self, case_id: str, origin: Sequence[int]) -> Row:
        """The row whose origin has the smallest squared Euclidean distance (voxels) to ``origin``.

        The first of equally near ones; this is the lookup of the released loaders.
        """
        rows, origins = self._read(case_id)
        return rows[int(np.square(origins - np.asarray(origin)).sum(1).argmin())]

    def __contains__(self, case_id: str) -> bool:
        return self.path(case_id).is_file()

    def cases(self) -> list[str]:
        """Ids of the cases that have captions, sorted."""
        return sorted(_parse(path)[0]["case"] for path in self._files())

    def unique_texts(self, case_ids: Iterable[str] | None = None) -> list[str]:
        """Distinct captions of some cases, or of all, sorted."""
        ids = self.cases() if case_ids is None else case_ids
        return sorted({row["text"] for case in ids for row in self.rows(case)})

    def path(self, case_id: str) -> Path:
        """File of a case; an id that is no plain file name gets a hash, so that ids stay apart."""
        safe = re.sub(r"[^\w.-]", "_", case_id).lstrip(".")[:120]
        if safe != case_id:
            safe += "-" + hashlib.sha256(case_id.encode()).hexdigest()[:8]
        return self.folder / f"{safe}.jsonl"

    def _repr_html_(self, most: int = 5) -> str:
        cases = self.cases()
        rows = [row for case in cases[:most] for row in self.rows(case)[:1]]
        body = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:left'>{html.escape(str(cell))}</td>"
                for cell in (row["case"], tuple(row["origin"]), row["text"])
            )
            + "</tr>"
            for row in rows
        )
        unique = len(self.unique_texts(cases))
        return (
            f"<table><caption>{len(cases)} captioned cases, {unique} different captions; "
            f"the first of each</caption><tr><th>case</th><th>origin (z, y, x)</th>"
            f"<th>caption</th></tr>{body}</table>"
        )

    def _read(self, case_id: str) -> tuple[list[Row], np.ndarray]:
        if case_id not in self._cache:
            path = self.path(case_id)
            if not path.is_file():
                raise DataError(
                    f"there are no captions of case {case_id!r}",
                    where=self.folder,
                    fix="generate them first (gtgm caption)",
                )
            rows = _parse(path)
            others = {row["case"] for row in rows} - {case_id}
            if others:
                raise DataError(
                    f"it has captions of another case, {sorted(others)[0]!r}",
                    where=path,
                    expected=f"captions of {case_id!r} alone",
                    fix=_AGAIN,
                )
            self._cache[case_id] = rows, np.array([row["origin"] for row in rows])
        return self._cache[case_id]

    def _files(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("*.jsonl") if not p.name.startswith("."))


def _parse(path: Path) -> list[Row]:
    rows = []
    try:
        # Not splitlines(): captions may hold characters that it takes for line ends.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8 text", where=path, fix=_AGAIN) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", error)
            raise DataError(f"this is not JSON ({reason})", where=where, fix=_AGAIN) from error
        _check(row, where)
        rows.append(row)
    if not rows:
        raise DataError("the file has no captions", where=path, fix=_AGAIN)
    return rows


_AGAIN = "delete the file and caption this case again"


def _check(row: Any, where: str) -> None:
    wrong = "is no JSON object"
    if isinstance(row, dict):
        bad = [k for k in _TRIPLES if not _is_triple(row.get(k))]
        bad += ["size"] if "size" not in bad and 0 in row["size"] else []
        bad += [k for k in _NUMBERS if not _is_count(row.get(k))]
        bad += [k for k in _TEXTS if not isinstance(row.get(k), str)]
        bad += ["text"] if isinstance(row.get("text"), str) and not row["text"].strip() else []
        if not bad:
            return
        wrong = f"has no usable {', '.join(bad)}"
    raise DataError(
        f"the row {wrong}",
        where=where,
        expected="case, text, raw, captioner, slice, channel; origin and size of three numbers",
        fix=_AGAIN,
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31


def _is_triple(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_count, value))
