"""Captions on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gtgm.errors import DataError
from gtgm.text.store import CaptionStore


def row(origin=(0, 0, 0), text="a caption", **more):
    return {
        "origin": list(origin), "size": [4, 4, 4], "slice": 1, "channel": 0, "text": text,
        "raw": text, "captioner": "describe[DH]", **more,
    }  # fmt: skip


def test_round_trip(tmp_path):
    store = CaptionStore(tmp_path / "captions")
    rows = [row((0, 0, 0), "erste\u2028Zeile «é» 中"), row((0, 2, 4), "b")]
    path = store.write("case_1", rows)
    assert path.name == "case_1.jsonl" and len(path.read_text("utf-8").split("\n")) == 3
    assert "中" in path.read_text("utf-8")  # readable, not escaped
    again = CaptionStore(tmp_path / "captions")
    assert again.rows("case_1") == [{"case": "case_1", **r} for r in rows]
    assert "case_1" in again and "case_2" not in again
    assert again.unique_texts() == ["b", "erste\u2028Zeile «é» 中"]


def test_writing_again_replaces(tmp_path):
    store = CaptionStore(tmp_path)
    store.write("a", [row(text="old")])
    assert store.unique_texts() == ["old"]
    store.write("a", [row(text="new")])
    assert store.unique_texts() == ["new"] and [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_nearest_by_brute_force(tmp_path):
    store = CaptionStore(tmp_path)
    rng = np.random.default_rng(0)
    origins = [tuple(map(int, o)) for o in rng.integers(0, 50, (30, 3))]
    store.write("a", [row(o, f"text {i}") for i, o in enumerate(origins)])
    for query in rng.integers(0, 60, (40, 3)):
        distances = [sum((a - b) ** 2 for a, b in zip(o, query, strict=True)) for o in origins]
        best = distances.index(min(distances))
        assert store.nearest("a", query)["text"] == f"text {best}"


@pytest.mark.parametrize("case", ["../../escape", "a/b", "ü 中", "con:1", ".hidden", "x" * 300])
def test_any_case_id_stays_inside_the_folder(tmp_path, case):
    store = CaptionStore(tmp_path / "captions")
    path = store.write(case, [row()])
    assert path.resolve().parent == (tmp_path / "captions").resolve()
    assert store.cases() == [case] and store.rows(case)[0]["case"] == case


def test_similar_ids_do_not_collide(tmp_path):
    store = CaptionStore(tmp_path)
    ids = ["a/b", "a:b", "a_b", "a b"]
    for case in ids:
        store.write(case, [row(text=case)])
    assert {case: store.rows(case)[0]["text"] for case in ids} == {case: case for case in ids}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "not JSON"),
        ("[1]", "no JSON object"),
        (json.dumps({"case": "a", **row(), "origin": [0, 0]}), "origin"),
        (json.dumps({"case": "a", **row(), "origin": [0, 0, -1]}), "origin"),
        (json.dumps({"case": "a", **row(), "slice": "1"}), "slice"),
        (json.dumps({"case": "a", **row(), "text": " "}), "text"),
        (json.dumps({"case": "a", "text": "b"}), "origin, size, slice"),
    ],
)
def test_damage_names_file_and_line(tmp_path, line, message):
    store = CaptionStore(tmp_path)
    path = store.write("a", [row()])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=rf"a\.jsonl, line 2.*{message}.*again"):
        CaptionStore(tmp_path).rows("a")


def test_other_damage(tmp_path):
    store = CaptionStore(tmp_path)
    with pytest.raises(DataError, match="no captions of case 'a'"):
        store.rows("a")
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match="no captions"):
        store.rows("a")
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        store.rows("a")
    with pytest.raises(DataError, match="row 1"):
        store.write("b", [{"text": "x"}])
    with pytest.raises(DataError, match="no captions to write"):
        store.write("b", [])
    assert "b" not in store


def test_html_is_escaped(tmp_path):
    store = CaptionStore(tmp_path)
    assert "0 captioned cases" in store._repr_html_()
    store.write("a", [row(text="<b>x</b>")])
    shown = store._repr_html_()
    assert "&lt;b&gt;x&lt;/b&gt;" in shown and "<b>x</b>" not in shown and "1 captioned" in shown
