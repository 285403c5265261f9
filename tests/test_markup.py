"""Markdown and HTML of tables: repeated cells, escaping, marks."""

from __future__ import annotations

import re

from gtgm.markup import NOTHING, html_table, markdown_table

HEADER = ["a", "b", "c"]
ROWS = [["x", "1", "p"], ["x", "1", "q"], ["x", "2", "q"], ["y", "2", "q"], ["x", "2", "q"]]


def test_markdown_leaves_repeated_leading_cells_empty() -> None:
    lines = markdown_table(HEADER, ROWS, groups=2).splitlines()
    assert lines[2:] == [
        "| x | 1 | p |", "|  |  | q |", "|  | 2 | q |",
        "| y | 2 | q |",  # the same b under another a is a new cell
        "| x | 2 | q |",
    ]  # fmt: skip


def test_html_rowspans_cover_every_row_once() -> None:
    text = html_table("t", HEADER, ROWS, groups=2)
    grid: list[list[str]] = []
    open_cells: dict[int, tuple[int, str]] = {}
    for row in re.findall(r"<tr>(.*?)</tr>", text.split("<tbody>")[1]):
        cells = iter(re.findall(r"<t[hd][^>]*?(?:rowspan='(\d+)')?>(.*?)</t[hd]>", row))
        line = []
        for column in range(len(HEADER)):
            left, content = open_cells.get(column, (0, ""))
            if not left:
                span, content = next(cells)
                left = int(span or 1)
            open_cells[column] = (left - 1, content)
            line.append(content)
        assert next(cells, None) is None
        grid.append(line)
    assert grid == ROWS


def test_everything_is_escaped() -> None:
    rows = [["<b>", "a | b", "<i>"]]
    for text in (
        html_table("<u>", ["<s>"] * 3, rows, ["<em>"], heads={1}, code={2}),
        markdown_table(["<s>"] * 3, rows, ["<em>"]),
    ):
        assert not re.search(r"<(b|i|u|s|em)>", text)
    assert "a \\| b" in markdown_table(HEADER, rows)


def test_marked_rows_have_their_class_and_commands_are_code() -> None:
    rows = [["x", "phantom", "run me"], ["x", "real", NOTHING]]
    text = html_table("t", HEADER, rows, heads={1}, code={2}, marked={"phantom"})
    assert text.count("<tr class='phantom'>") == 1
    assert "<th scope='row'><mark>phantom</mark></th>" in text
    assert text.count("<code>") == 1 and "<code>run me</code>" in text


def test_notes_follow_the_table() -> None:
    assert markdown_table(HEADER, ROWS, ["first", "second"]).endswith("|\n\n- first\n- second")
    assert "<ul" not in html_table("t", HEADER, ROWS)
    assert "<li>first</li>" in html_table("t", HEADER, ROWS, ["first"])
