"""What a figure shows, kept beside it: arrays, texts and numbers in one ``.npz`` file.

A figure can so be drawn again, in another style or for another reader, without the data, the
weights and the hours behind it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gtgm import paths
from gtgm.errors import ResultError

#: Start of the names of files that hold a test section of a run.
EXAMPLES = "example-"
_TREE = "values"
_ARRAY = "array"


@dataclass(frozen=True)
class FigureData:
    """Arguments of a figure, and what is to be said about it.

    Attributes:
        values: arguments by name.
        caption: what the figure shows; of a phantom it says so.
        credit: attribution and licence of the images in it.
        path: the file.
    """

    values: dict[str, Any] = field(repr=False)
    caption: str = ""
    credit: str = ""
    path: Path = field(default=Path(), repr=False)

    def _repr_markdown_(self) -> str:
        return f"*{self.caption}.*" + (f" Images: {self.credit}." if self.credit else "")


def write_figure_data(
    path: str | Path, values: Mapping[str, Any], caption: str = "", credit: str = ""
) -> Path:
    """Write the arguments of a figure, atomically.

    Args:
        path: ends in ``.npz``.
        values: arrays (not of objects), texts, numbers, booleans and None, and lists, tuples
            (which come back as lists) and mappings with texts as keys of these.
        caption, credit: see :class:`FigureData`.

    Raises:
        TypeError: a value of another kind.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _packed({"values": dict(values), "caption": caption, "credit": credit}, arrays)
    with paths.atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{_TREE: np.array(json.dumps(tree)), **arrays})
    return Path(path)


def read_figure_data(path: str | Path) -> FigureData:
    """Read what :func:`write_figure_data` wrote; nothing in the file is executed.

    Raises:
        ResultError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            tree = _unpacked(json.loads(str(file[_TREE])), file)
        return FigureData(tree["values"], tree["caption"], tree["credit"], path)
    except FileNotFoundError:
        raise ResultError(
            "does not exist", where=path, fix="run the notebook that draws this figure first"
        ) from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        MemoryError,
        RecursionError,
        zipfile.BadZipFile,
    ) as error:
        raise ResultError(
            f"cannot be read ({type(error).__name__})",
            where=path,
            expected="a file that gtgm.figure_data.write_figure_data wrote",
            fix="delete it and run the notebook that draws this figure again",
        ) from None


def find_figure_data(folder: str | Path, start: str) -> list[FigureData]:
    """The data of all figures under a folder whose names begin with ``start``, in their order.

    Args:
        folder: searched at any depth; ``results/figures`` or a folder of runs.
        start: such as ``similarity-``.

    Raises:
        ResultError: there is none, or one cannot be read.
    """
    files = sorted(Path(folder).rglob(f"{start}*.npz"), key=lambda file: file.name)
    if not files:
        raise ResultError(
            f"holds no {start}*.npz",
            where=folder,
            expected="data of figures, which the walk-through notebooks write",
            fix="run `make reproduce`, or name a folder of runs",
        )
    return [read_figure_data(file) for file in files]


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            raise TypeError("an array of objects cannot be kept")
        name = f"{_ARRAY}_{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        # Pairs, because a mapping with one key stands for an array.
        return {"pairs": [[str(key), _packed(item, arrays)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_packed(item, arrays) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept")


def _unpacked(value: Any, file: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if _ARRAY in value:
            return file[value[_ARRAY]]
        return {key: _unpacked(item, file) for key, item in value["pairs"]}
    return [_unpacked(item, file) for item in value] if isinstance(value, list) else value
