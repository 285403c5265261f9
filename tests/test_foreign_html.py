"""HTML of notebooks: ours stays what it was, and nothing of others' runs or is fetched."""

from __future__ import annotations

import re

import hostile
import numpy as np
import pandas as pd
import pytest
from hostile import Seen

from gtgm.datasets.splits import make_split
from gtgm.foreign_html import TAGS, clean
from gtgm.markup import html_table
from gtgm.rich import facts_html, pairs_html


@pytest.mark.parametrize("name", hostile.FRAGMENTS)
def test_nothing_of_it_can_run_or_be_fetched(name):
    seen = Seen(clean(hostile.FRAGMENTS[name]))
    for tag, attributes in seen.tags:
        assert tag in TAGS
        assert not [key for key in attributes if key.startswith("on")]
        assert re.match(r"https?:|mailto:|[^:]*$", attributes.get("href") or "")
        assert (attributes.get("src") or "data:image/").startswith("data:image/")
        assert "url" not in (attributes.get("style") or "")


def test_a_script_is_shown_as_the_text_that_it_is():
    assert clean("a <script>x</script> <b>c</b>") == "a &lt;script&gt;x&lt;/script&gt; <b>c</b>"
    assert Seen(clean(hostile.FRAGMENTS["a script"])).text == hostile.FRAGMENTS["a script"]


def test_what_the_package_shows_stays_the_same():
    split = make_split("Task04_Hippocampus", [f"case_{i:02}" for i in range(23)])
    links = {(0, 1): [[("run 1", "results/a.json"), ("notebook", "b.html")]]}
    for shown in (
        split._repr_html_(),
        facts_html("a & b", {"<x>": "y"}),
        pairs_html([(np.eye(3), "one <b>")]),
        html_table("t", ["a", "b"], [["x", "y"]], ["note"], 1, heads=[1], links=links),
    ):
        before, after = Seen(shown), Seen(clean(shown))
        assert after.text == before.text
        # A parser puts in the tbody that browsers put in as well.
        tags = [[one for one in seen.tags if one[0] != "tbody"] for seen in (before, after)]
        for (tag, old), (same, new) in zip(*tags, strict=True):
            assert tag == same
            styles = [(values.get("style") or "").replace(" ", "").rstrip(";")
                      for values in (old, new)]  # fmt: skip
            assert {**old, "style": styles[0]} == {**new, "style": styles[1]}


def test_tables_of_pandas_stay_without_their_style_sheet():
    frame = pd.DataFrame({"dice": [0.5]}, index=["<i>"])
    seen = Seen(clean(frame.style.format_index(escape="html").set_caption("c").to_html()))
    assert "dice" in seen.text and "<i>" in seen.text and "0.5" in seen.text
    assert "{" not in seen.text and "style" not in dict(seen.tags)
    assert "dice" in clean(frame._repr_html_().encode())
