"""Objects in a notebook: facts that are true, pictures that are there, nothing unescaped."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from gtgm.datasets.splits import make_split
from gtgm.models.encoder import build_encoder, read_config, save_pretrained
from gtgm.rich import encoder_html, facts_html, pairs_html, picture_html
from gtgm.stages import Study, caption, pretrain


def pictures(html):
    found = re.findall(r"src='data:image/png;base64,([^']*)'", html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_facts_are_escaped_and_what_stands_below_is_not():
    html = facts_html("a <b>", {"x & y": "<i>"}, "<hr>")
    assert "a &lt;b&gt;" in html and "x &amp; y" in html and "&lt;i&gt;" in html and "<hr>" in html


def test_a_picture_goes_from_black_to_white_and_may_be_constant():
    grey = np.linspace(-3, 5, 60).reshape(6, 10)
    (shown,) = pictures(picture_html(grey, "a 'quoted' text"))
    assert shown.shape == (6, 10) and shown.min() == 0 and shown.max() == 255
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()
    assert "quoted&#x27;" in picture_html(grey, "a 'quoted' text")
    assert len(pictures(picture_html(np.ones((2, 3)), ""))) == 1


def test_pairs_have_each_text_below_its_picture():
    html = pairs_html([(np.eye(3), "one"), (np.eye(4), "two <b>")])
    assert [p.shape for p in pictures(html)] == [(3, 3), (4, 4)]
    assert html.index("one") < html.index("two &lt;b&gt;")


def test_a_split_shows_each_test_case_once_in_its_fold():
    split = make_split("Task04_Hippocampus", [f"case_{i:02}" for i in range(23)])
    html = split._repr_html_()
    bars = re.findall(r"<rect x='(\d+)' y='(\d+)'", html)
    assert sorted(int(x) for x, _ in bars) == list(range(23))
    for fold in range(5):
        here = {split.ids[int(x)] for x, y in bars if int(y) == 10 * fold}
        assert here == set(split.test(fold))
    assert f"{len(split.labelled(0, 0.1))} at 10 %" in html and "23" in html


def test_an_encoder_shows_its_sizes_and_scores(tmp_path):
    encoder = build_encoder("unet", features=(4, 8, 8, 8))
    save_pretrained(encoder, tmp_path, held_out={"r@1": 0.25}, steps=7)
    html = encoder_html(read_config(tmp_path), 1_234_567)
    for text in ("unet, 1.23 million weights", "features [4, 8, 8, 8]", "r@1 0.250", "steps"):
        assert text in html
    assert "held-out" not in encoder_html({"backbone": "unet"}, 1)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(
        ("Task04_Hippocampus",),
        "tiny",
        runs=str(tmp_path_factory.mktemp("runs")),
        changes={"text": {"captioner": "describe", "encoder_steps": 2}, "pretrain": {"steps": 2}},
    )


def test_captions_and_a_pretraining_show_themselves(study):
    captions = caption(study)
    html = captions._repr_html_()
    shown = pictures(html)
    assert len(shown) == 4 and all(picture.std() > 0 for picture in shown)
    texts = set(captions.texts)
    assert sum(text in html for text in texts) >= 1 and "describe" in html
    html = pretrain(study)._repr_html_()
    assert "million weights" in html and "phantom" in html and "gtgm" in html
