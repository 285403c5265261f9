"""Whether a small text model need not be trained again."""

from __future__ import annotations

import json

import pytest

from gtgm.text.trained import RECORD, trained


def test_the_record_of_the_same_texts_and_settings_counts(tmp_path):
    stats = {"key": "a", "loss": [[1, 0.5]]}
    (tmp_path / RECORD).write_text(json.dumps(stats))
    assert trained(tmp_path, "a") == stats
    assert (tmp_path / RECORD).exists()
    assert trained(tmp_path, "b") is None
    assert not (tmp_path / RECORD).exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '"a"', pytest.param("[" * 100_000, id="deep"), "\xff"]
)
def test_a_damaged_record_does_not(tmp_path, content):
    (tmp_path / RECORD).write_text(content, encoding="latin-1")
    assert trained(tmp_path, "a") is None
    assert not (tmp_path / RECORD).exists()


def test_no_record(tmp_path):
    assert trained(tmp_path, "a") is None
