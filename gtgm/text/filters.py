"""The paper's caption filter: a leading "figure 3 :", "fig. 2." and the like goes."""

from __future__ import annotations

import re

# One figure number: "figure 3", "Fig. 2", "figs . 1-3", "figure 2b", "fig 4.1"; then its separator.
_PREFIX = re.compile(
    r"""\s* fig(?:ure)?s? \s* \.? \s*
        \d+ (?:\.\d+)? [a-z]? (?:\s*[-–]\s*\d+[a-z]?)? (?![\w])
        \s* [:.,;)–-]* \s*""",
    re.IGNORECASE | re.VERBOSE,
)


def strip_figure_prefix(text: str) -> str:
    """``text`` without leading figure numbers, repeated ones included, and with single spaces.

    Only the beginning is touched: "shown in figure 2" stays. What is nothing but a figure number
    becomes empty.
    """
    end = 0
    while match := _PREFIX.match(text, end):
        end = match.end()
    return " ".join(text[end:].split())
