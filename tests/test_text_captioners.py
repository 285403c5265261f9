"""Rule-based captioners and how settings name a captioner."""

from __future__ import annotations

import numpy as np
import pytest
from text_samples import EM, any_facts

from gtgm.errors import DataError, SettingsError
from gtgm.text.captioners import load_captioner

SLICES = [np.zeros((4, 4), np.uint8)] * 2


def test_describe_says_the_facts_along_its_axes():
    measured = [any_facts(), any_facts(EM)]
    captioner = load_captioner("describe", axes="H")
    assert captioner(SLICES, measured) == [f.sentence("H") for f in measured]
    assert captioner.name != load_captioner("describe", axes="DH").name


def test_metadata_says_nothing_about_the_image():
    captions = load_captioner("metadata")(SLICES, [any_facts(), any_facts(EM)])
    assert captions == [
        "MRI of the hippocampus", "electron micrograph of the medulla of a fly brain",
    ]  # fmt: skip


def test_wrong_names(tmp_path):
    with pytest.raises(DataError, match="no such model folder"):
        load_captioner(tmp_path / "absent")
    with pytest.raises(DataError, match="no such model folder"):
        load_captioner(f"chat:{tmp_path / 'absent'}")
    with pytest.raises(SettingsError, match="only chat models"):
        load_captioner("describe", prompt="Describe.")
    with pytest.raises(SettingsError, match="DHW"):
        load_captioner("describe", axes="q")
    for name in ("descirbe", "chat:descirbe"):
        with pytest.raises(SettingsError, match=f"unknown captioner '{name}'.*describe, metadata"):
            load_captioner(name)


def test_no_captioner_says_the_same_of_everything():
    captioner = load_captioner("none")
    assert captioner.name == "none"
    texts = captioner([None, None, None], [None, None, None])
    assert len(texts) == 3 and len(set(texts)) == 1 and texts[0].strip()
