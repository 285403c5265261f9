"""The figure-prefix filter."""

from __future__ import annotations

import re

import pytest

from gtgm.text.filters import strip_figure_prefix

# The release's pattern, as documented in its settings table; ours removes at least what it does
# at the beginning of a caption.
RELEASED = r"^figure\s\d+\s:\s|^fig\.\s\d+\.\s|^figure\s\d+\.\s|^fig\.\s\d+\s|^figure\s\d+\s"


@pytest.mark.parametrize(
    "prefix",
    [
        "figure 3 : ", "fig. 2. ", "figure 1. ", "fig. 4 ", "figure 12 ",
        "Figure 3: ", "FIG. 2. ", "Fig 7 - ", "fig . 2 . ", "figure 2a) ", "Figs. 1-3: ",
        "figures 1–2 ", "  figure 5:", "figure 2.1 : ", "fig. 2. figure 3 : ", "figure 1 ; ",
    ],
)  # fmt: skip
def test_prefix_goes(prefix):
    assert strip_figure_prefix(prefix + "ct of the liver.") == "ct of the liver."


@pytest.mark.parametrize(
    "text",
    [
        "ct of the liver, as in figure 2.",
        "figure of eight shaped structure",
        "figurine 3 on a shelf",
        "config 2 of the scanner",
        "figure shows the heart",
        "3 figures",
        "",
    ],
)
def test_rest_stays(text):
    assert strip_figure_prefix(text) == text


@pytest.mark.parametrize("number", [1, 10, 123])
@pytest.mark.parametrize(
    "form", ["figure {} : ", "fig. {}. ", "figure {}. ", "fig. {} ", "figure {} "]
)
def test_covers_the_released_cases(form, number):
    text = form.format(number) + "axial slice"
    assert strip_figure_prefix(text) == re.sub(RELEASED, "", text) == "axial slice"


def test_white_space_and_bare_number():
    assert strip_figure_prefix(" a \n b\t c ") == "a b c"
    assert strip_figure_prefix("Figure 3.") == ""


def test_idempotent():
    once = strip_figure_prefix("fig. 1. fig. 2. text  here")
    assert strip_figure_prefix(once) == once == "text here"
