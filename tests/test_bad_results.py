"""Result files and arrays of figures that cannot be used are refused with file and reason."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gtgm.errors import ResultError
from gtgm.figure_data import read_figure_data, write_figure_data
from gtgm.results import load_result, load_results, save_result

FIELDS = {
    "id": "finetune-a",
    "stage": "finetune",
    "dataset": "Task04_Hippocampus",
    "source": "phantom",
    "method": "random",
    "fraction": 0.1,
    "fold": 0,
    "draw": 0,
    "seed": 0,
    "summary": {"dice": 0.5},
    "metrics": [{"case": "a", "class": "anterior", "metric": "dice", "value": 0.5}],
    "curves": {"loss": [[1, 0.5], [2, 0.25]]},
    "settings": {"steps": 2},
    "data": {"cases": {"a": "0" * 64}},
    "wall_seconds": 1.5,
    "peak_memory_gb": 0.5,
}
Break = Callable[[Path], object]


def write(content: bytes) -> Break:
    return lambda path: path.write_bytes(content)


def values(**changed: object) -> Break:
    """The result with other values; ``...`` removes one."""

    def break_(path: Path) -> None:
        whole = {**json.loads(path.read_text()), **changed}
        path.write_text(json.dumps({k: v for k, v in whole.items() if v is not ...}))

    return break_


def metric(**changed: object) -> Break:
    return values(metrics=[{**FIELDS["metrics"][0], **changed}])


RESULTS: dict[str, tuple[Break, str]] = {
    "empty file": (write(b""), "not valid JSON"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[:-30]), "not valid JSON"),
    "binary": (write(bytes(range(256))), "not valid JSON"),
    "UTF-16": (lambda p: p.write_text(p.read_text(), "utf-16"), "not valid JSON"),
    "HTML page of an error": (write(b"<html>404</html>"), "not valid JSON"),
    "too deep": (write(b"[" * 100_000), "deep"),
    "a number of 5000 digits": (write(b"1" * 5000), "not valid JSON"),
    "half of two files": (lambda p: p.write_text(p.read_text() * 2), "not valid JSON"),
    "a list": (write(b"[]"), "not a result"),
    "null": (write(b"null"), "not a result"),
    "absent": (lambda p: p.unlink(), "no such"),
    "a folder in its place": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    "link to itself": (lambda p: (p.unlink(), p.symlink_to(p.name)), "cannot be read|no such"),
    "no version": (values(schema_version=...), "not a result"),
    "version 0": (values(schema_version=0), "run the unit again"),
    "a version of the future": (values(schema_version=99), "update gtgm"),
    "version as text": (values(schema_version="1"), "schema version '1'"),
    "version as a truth value": (values(schema_version=True), "schema version True"),
    "unknown field": (values(accuracy=1), "unknown fields accuracy"),
    "no id": (values(id=...), "lacks id"),
    "no stage": (values(stage=...), "lacks stage"),
    "no dataset": (values(dataset=...), "lacks dataset"),
    "no source": (values(source=...), "lacks source"),
    "id that leads to another folder": (values(id="../../etc"), "has the id"),
    "id with a script": (values(id="<script>"), "has the id"),
    "id that is a number": (values(id=7), "has the id"),
    "empty id": (values(id=""), "has the id"),
    "unknown stage": (values(stage="dream"), "stage 'dream'"),
    "stage that is a list": (values(stage=["finetune"]), "stage"),
    "unknown source": (values(source="imagined"), "source 'imagined'"),
    "dataset that is a number": (values(dataset=4), "dataset"),
    "datasets that are numbers": (values(dataset=[4]), "dataset"),
    "no datasets": (values(dataset=[]), "dataset"),
    "fraction above one": (values(fraction=10), "fraction 10"),
    "fraction of nothing": (values(fraction=0), "fraction 0"),
    "fraction as text": (values(fraction="10%"), "fraction '10%'"),
    "fraction that is no number": (values(fraction=float("nan")), "fraction"),
    "fold as text": (values(fold="0"), "fold"),
    "negative draw": (values(draw=-1), "draw"),
    "method that is a list": (values(method=["gtgm"]), "method"),
    "negative time": (values(wall_seconds=-1), "wall_seconds"),
    "time as text": (values(wall_seconds="1 s"), "wall_seconds"),
    "infinite memory": (values(peak_memory_gb=float("inf")), "peak_memory_gb"),
    "metrics that are a mapping": (values(metrics={}), "metrics"),
    "metric without its case": (values(metrics=[{"class": "a"}]), "metric row"),
    "metric with more": (metric(extra=1), "metric row"),
    "metric that is a list": (values(metrics=[[1, 2]]), "metric row"),
    "metric that is no number": (metric(value=float("nan")), "metric value"),
    "infinite metric": (metric(value=float("inf")), "metric value"),
    "metric as text": (metric(value="0.5"), "metric value"),
    "metric that is true": (metric(value=True), "metric value"),
    "metric of a case that is a number": (metric(case=1), "metric row"),
    "summary that is a list": (values(summary=[0.5]), "summary"),
    "summary as text": (values(summary={"dice": "0.5"}), "metric value"),
    "summary that is no number": (values(summary={"dice": float("nan")}), "metric value"),
    "curves that are a list": (values(curves=[]), "curves"),
    "curve of single numbers": (values(curves={"loss": [1, 2]}), "curve"),
    "curve of texts": (values(curves={"loss": [["1", "2"]]}), "curve"),
    "settings that are a list": (values(settings=[]), "settings"),
    "data that is a text": (values(data="here"), "data"),
    "hardware that is a list": (values(hardware=[]), "hardware"),
    "versions that are numbers": (values(versions=[1]), "versions"),
    "a start that is a number": (values(started=5), "started"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_broken_results(tmp_path, name, evidence):
    evidence("input", "results JSON", name)
    damage, words = RESULTS[name]
    path = tmp_path / "Läufe 结果" / "result.json"
    save_result(path, **FIELDS)
    assert load_result(path).summary == FIELDS["summary"]
    damage(path)
    with pytest.raises(ResultError, match=words) as caught:
        load_result(path)
    assert str(path) in str(caught.value)
    assert caught.value.expected or caught.value.fix


def test_one_broken_result_among_others_is_named(tmp_path):
    for name in ("a", "b", "c"):
        save_result(tmp_path / name / "result.json", **{**FIELDS, "id": name})
    (tmp_path / "b" / "result.json").write_text("{")
    with pytest.raises(ResultError, match=r"b/result\.json"):
        load_results(tmp_path)


def npz(**arrays: np.ndarray) -> Break:
    return lambda path: np.savez(path, **arrays)


def tree(value: object) -> Break:
    text = value if isinstance(value, str) else json.dumps(value)
    return npz(values=np.array(text))


def header(shape: tuple[int, ...]) -> Break:
    """An array that says it is larger than it is."""

    def break_(path: Path) -> None:
        content = io.BytesIO()
        about = {"descr": "<f8", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(content, about)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("values.npy", content.getvalue() + bytes(64))

    return break_


FIGURES: dict[str, tuple[Break, str]] = {
    "empty file": (write(b""), "cannot be read"),
    "cut off": (lambda p: p.write_bytes(p.read_bytes()[:-40]), "cannot be read"),
    "text": (write(b"no archive"), "cannot be read"),
    "one array without an archive": (
        lambda p: p.write_bytes(b"\x93NUMPY\x01\x00" + bytes(100)),
        "cannot be read",
    ),
    "absent": (lambda p: p.unlink(), "does not exist"),
    "a folder in its place": (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    "an array of 2^60 numbers in a small file": (header((1 << 60,)), "cannot be read"),
    "an array of negative size": (header((-5,)), "cannot be read"),
    "no description": (npz(raw=np.zeros(3)), "cannot be read"),
    "description that is no JSON": (tree("{"), "cannot be read"),
    "description too deep": (tree("[" * 100_000), "cannot be read"),
    "description that is a list": (tree([1, 2]), "cannot be read"),
    "description without values": (tree({"caption": "a", "credit": ""}), "cannot be read"),
    "an array that is not there": (
        tree({"values": {"raw": {"array": "gone"}}, "caption": "", "credit": ""}),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_broken_figure_data(tmp_path, name, evidence):
    evidence("input", "arrays of a figure", name)
    damage, words = FIGURES[name]
    path = write_figure_data(tmp_path / "Bild 图.npz", {"raw": np.eye(3)}, "a caption")
    assert read_figure_data(path).caption == "a caption"
    damage(path)
    with pytest.raises(ResultError, match=words) as caught:
        read_figure_data(path)
    assert path.name in str(caught.value) and caught.value.fix
