"""Tables of texts as GitHub Markdown and as HTML, and templates of pages; what stands in them is
others' business."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import jinja2

#: A text and the address that it leads to.
Link = tuple[str, str]
#: Shown in a cell that has no value.
NOTHING = "–"


def page_templates(folder: Path) -> jinja2.Environment:
    """The templates of a folder; texts are escaped, and a value that is missing is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def markdown_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
    groups: int = 1,
) -> str:
    """GitHub Markdown: the table, then its notes as a list.

    Args:
        header: column titles.
        rows: cells, as many per row as there are titles.
        notes: remarks.
        groups: so many leading columns leave a cell empty that repeats the row above.
    """
    lines = [_line(header), _line(["---"] * len(header))]
    for row, spans in zip(rows, _spans(rows, groups), strict=True):
        lines.append(_line([*("" if n == 0 else row[i] for i, n in enumerate(spans)),
                            *row[groups:]]))  # fmt: skip
    listed = [f"- {_escape(note)}" for note in notes]
    return "\n".join([*lines, *(["", *listed] if listed else [])])


def html_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
    groups: int = 1,
    heads: Collection[int] = (),
    code: Collection[int] = (),
    marked: Collection[str] = (),
    links: Mapping[tuple[int, int], Sequence[Sequence[Link]]] = MappingProxyType({}),
) -> str:
    """An HTML fragment without a style of its own; wide tables scroll.

    Args:
        title: the caption.
        header, rows, notes, groups: as in :func:`markdown_table`; a repeated cell spans its rows.
        heads: columns whose cells are headings of their row.
        code: columns whose cells are commands.
        marked: texts that are highlighted wherever they are a whole cell; a row that has one gets
            the text as its class.
        links: by row and column of a cell, a list of links that unfolds below its text.
    """

    def cell(text: str, row: int, column: int) -> str:
        shown = html.escape(text)
        if text in marked:
            shown = f"<mark>{shown}</mark>"
        elif column in code and text != NOTHING:
            shown = f"<code>{shown}</code>"
        shown += _unfolding(links.get((row, column), ()))
        return f"<th scope='row'>{shown}</th>" if column in heads else f"<td>{shown}</td>"

    body = []
    for number, (row, spans) in enumerate(zip(rows, _spans(rows, groups), strict=True)):
        kinds = [text for text in row if text in marked]
        kind = f" class='{html.escape(kinds[0])}'" if kinds else ""
        first = "".join(
            f"<th scope='rowgroup' rowspan='{n}'>{html.escape(row[i])}</th>"
            for i, n in enumerate(spans)
            if n
        )
        rest = "".join(cell(text, number, i) for i, text in enumerate(row[groups:], start=groups))
        body.append(f"<tr{kind}>{first}{rest}</tr>")
    head = "".join(f"<th scope='col'>{html.escape(text)}</th>" for text in header)
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        f"<div class='scroll' style='overflow-x:auto' tabindex='0'>"
        f"<table class='results'><caption>{html.escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        + (f"<ul class='notes'>{listed}</ul>" if listed else "")
    )


def _unfolding(entries: Sequence[Sequence[Link]]) -> str:
    if not entries:
        return ""
    items = "".join(
        "<li>"
        + ", ".join(f"<a href='{html.escape(to)}'>{html.escape(text)}</a>" for text, to in entry)
        + "</li>"
        for entry in entries
    )
    count = f"{len(entries)} run{'s' if len(entries) > 1 else ''}"
    return f"<details><summary>{count}</summary><ul>{items}</ul></details>"


def _spans(rows: Sequence[Sequence[str]], groups: int) -> list[list[int]]:
    """For each row and leading column, how many rows its cell stands for; 0 where it repeats."""
    spans = [[1] * groups for _ in rows]
    for column in range(groups):
        start = 0
        for i in range(1, len(rows)):
            if list(rows[i][: column + 1]) == list(rows[start][: column + 1]):
                spans[start][column] += 1
                spans[i][column] = 0
            else:
                start = i
    return spans


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escape(c) for c in cells) + " |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def between(text: str, begin: str, end: str, new: str) -> str | None:
    """``text`` with ``new`` between two marks, which stay; None if it lacks one."""
    head, found, rest = text.partition(begin)
    _, ended, tail = rest.partition(end)
    return f"{head}{begin}\n{new}{end}{tail}" if found and ended else None
