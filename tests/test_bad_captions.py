"""Caption files that cannot be used are refused with file, line and reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gtgm.errors import DataError
from gtgm.text.store import CaptionStore

ROW = {
    "case": "a b é",
    "origin": [0, 8, 16],
    "size": [16, 24, 24],
    "slice": 3,
    "channel": 0,
    "text": "MRI of the brain, axial slice.",
    "raw": "MRI of the brain, axial slice.",
    "captioner": "describe",
}
Break = Callable[[Path], object]


def line(text: str) -> Break:
    """The file with another second line."""

    def break_(path: Path) -> None:
        lines = path.read_text(encoding="utf-8").split("\n")
        path.write_text("\n".join([lines[0], text, *lines[2:]]), encoding="utf-8")

    return break_


def row(**values: object) -> Break:
    """The second row with other values; None removes them."""
    kept = {k: v for k, v in {**ROW, **values}.items() if v is not None}
    return line(json.dumps(kept))


BROKEN: dict[str, tuple[Break, str]] = {
    "empty file": (lambda p: p.write_text(""), "no captions"),
    "blank lines alone": (lambda p: p.write_text("\n \n\n"), "no captions"),
    "cut off in a row": (lambda p: p.write_bytes(p.read_bytes()[:-20]), "line 3: this is not JSON"),
    "cut off in a letter": (
        lambda p: p.write_bytes(p.read_bytes().split("é".encode())[0] + b"\xc3"),
        "not UTF-8",
    ),
    "UTF-16": (lambda p: p.write_text(p.read_text("utf-8"), "utf-16"), "not UTF-8"),
    "binary": (lambda p: p.write_bytes(bytes(range(256))), "not UTF-8"),
    "zeros": (lambda p: p.write_bytes(bytes(100)), "not JSON"),
    "HTML page of an error": (lambda p: p.write_text("<html>404</html>"), "not JSON"),
    "one JSON list": (lambda p: p.write_text(json.dumps([ROW, ROW])), "no JSON object"),
    "a folder in its place": (lambda p: (p.unlink(), p.mkdir()), "no captions of case"),
    "absent": (lambda p: p.unlink(), "no captions of case"),
    "link to nowhere": (lambda p: (p.unlink(), p.symlink_to("nowhere")), "no captions of case"),
    "link to itself": (lambda p: (p.unlink(), p.symlink_to(p.name)), "no captions of case"),
    "a line too deep": (line("[" * 100_000), "line 2.*depth"),
    "a number of 5000 digits": (line("1" * 5000), "line 2"),
    "half a line": (line('{"case": "a'), "line 2: this is not JSON"),
    "two rows in a line": (line(json.dumps(ROW) * 2), "line 2: this is not JSON"),
    "null": (line("null"), "line 2.*no JSON object"),
    "a text": (line('"MRI"'), "line 2.*no JSON object"),
    "no text": (row(text=None), "line 2.*text"),
    "empty text": (row(text=""), "line 2.*text"),
    "blank text": (row(text=" \t"), "line 2.*text"),
    "text that is a number": (row(text=3), "line 2.*text"),
    "text that is a list": (row(text=["MRI"]), "line 2.*text"),
    "no raw words": (row(raw=None), "line 2.*raw"),
    "no captioner": (row(captioner=None), "line 2.*captioner"),
    "no case": (row(case=None), "line 2.*case"),
    "case that is a number": (row(case=4), "line 2.*case"),
    "another case": (row(case="other"), "another case, 'other'"),
    "no origin": (row(origin=None), "line 2.*origin"),
    "origin of two numbers": (row(origin=[0, 8]), "line 2.*origin"),
    "origin of four numbers": (row(origin=[0, 8, 8, 8]), "line 2.*origin"),
    "origin of fractions": (row(origin=[0, 8.5, 16]), "line 2.*origin"),
    "negative origin": (row(origin=[0, -8, 16]), "line 2.*origin"),
    "origin as text": (row(origin="0 8 16"), "line 2.*origin"),
    "origin of truth values": (row(origin=[True, False, True]), "line 2.*origin"),
    "origin with a NaN": (line(json.dumps({**ROW, "origin": [float("nan"), 0, 0]})), "origin"),
    "origin beyond every volume": (row(origin=[1 << 70, 0, 0]), "line 2.*origin"),
    "no size": (row(size=None), "line 2.*size"),
    "size with a zero": (row(size=[0, 24, 24]), "line 2.*size"),
    "no slice": (row(slice=None), "line 2.*slice"),
    "negative slice": (row(slice=-1), "line 2.*slice"),
    "slice as text": (row(slice="3"), "line 2.*slice"),
    "no channel": (row(channel=None), "line 2.*channel"),
    "channel that is true": (row(channel=True), "line 2.*channel"),
    "an infinity": (line(json.dumps({**ROW, "slice": float("inf")})), "line 2.*slice"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_captions(tmp_path, name, evidence):
    evidence("input", "captions JSONL", name)
    damage, words = BROKEN[name]
    folder = tmp_path / "légendes 文"
    path = CaptionStore(folder).write(ROW["case"], [ROW, ROW, ROW])
    assert CaptionStore(folder).rows(ROW["case"])[2]["text"] == ROW["text"]
    damage(path)
    with pytest.raises(DataError, match=words) as caught:
        CaptionStore(folder).rows(ROW["case"])
    assert path.name in str(caught.value) or str(folder) in str(caught.value)
    assert caught.value.fix
