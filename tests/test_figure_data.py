"""Data of figures: what is written comes back, and nothing else is read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from gtgm.errors import ResultError
from gtgm.figure_data import find_figure_data, read_figure_data, write_figure_data

VALUES = {
    "matrix": np.arange(6, dtype=np.float16).reshape(2, 3),
    "labels": np.array([1, 2**63], dtype=np.uint64),
    "pictures": {"a": (np.eye(2), None), "array": [np.zeros(1), "text", 1.5, True]},
    "names": ["x", "y"],
    "number": np.float32(0.25),
    "nothing": {},
}


def test_everything_comes_back(tmp_path: Path) -> None:
    path = write_figure_data(tmp_path / "f" / "one.npz", VALUES, "what", "whose")
    kept = read_figure_data(path)
    assert (kept.caption, kept.credit, kept.path) == ("what", "whose", path)
    assert list(kept.values) == list(VALUES)
    for name in ("matrix", "labels"):
        assert kept.values[name].dtype == VALUES[name].dtype
        np.testing.assert_array_equal(kept.values[name], VALUES[name])
    first, second = kept.values["pictures"].values()
    np.testing.assert_array_equal(first[0], np.eye(2))
    assert first[1] is None and second[1:] == ["text", 1.5, True]
    assert kept.values["names"] == ["x", "y"] and kept.values["nothing"] == {}
    assert kept.values["number"] == 0.25
    assert [p.name for p in path.parent.iterdir()] == ["one.npz"]


@pytest.mark.parametrize("value", [object(), np.array([{}]), {"deep": [Path("x")]}])
def test_other_values_are_refused_before_anything_is_written(tmp_path: Path, value) -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        write_figure_data(tmp_path / "one.npz", {"value": value})
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_named(tmp_path: Path) -> None:
    good = write_figure_data(tmp_path / "good.npz", VALUES).read_bytes()
    cut, text, other = (tmp_path / name for name in ("cut.npz", "text.npz", "other.npz"))
    cut.write_bytes(good[: len(good) // 2])
    text.write_text("not a figure")
    np.savez(other, array=np.eye(2))
    for path in (cut, text, other):
        with pytest.raises(ResultError, match=rf"{path.name}: cannot be read.*write_figure_data"):
            read_figure_data(path)
    with pytest.raises(ResultError, match=r"none\.npz: does not exist"):
        read_figure_data(tmp_path / "none.npz")


def test_pickles_are_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "trap.npz"
    np.savez(path, values=np.array([Trap()], dtype=object))
    with pytest.raises(ResultError):
        read_figure_data(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ResultError):
        read_figure_data(path)
    assert not (tmp_path / "executed").exists()


def test_figures_are_found_by_the_start_of_their_name(tmp_path: Path) -> None:
    for name in ("b/x-2", "a/x-1", "y-1"):
        write_figure_data(tmp_path / f"{name}.npz", {"name": name})
    assert [found.values["name"] for found in find_figure_data(tmp_path, "x-")] == [
        "a/x-1",
        "b/x-2",
    ]
    with pytest.raises(ResultError, match=r"holds no z-\*\.npz"):
        find_figure_data(tmp_path, "z-")
