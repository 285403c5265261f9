"""What the fields of a result file may hold; such files come from other people and machines."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gtgm.errors import ResultError

if TYPE_CHECKING:
    from gtgm.results import Result

STAGES = ("text", "pretrain", "finetune", "neurons")
SOURCES = ("real", "phantom")
_MAPPINGS = ("summary", "curves", "settings", "versions", "data", "hardware")


def check_result(result: Result, path: Path) -> None:
    """Raise unless every field is of its kind.

    Args:
        result: as it stands in the file.
        path: of the file.

    Raises:
        ResultError: names the first field that is not.
    """

    def wrong(what: str, expected: str) -> ResultError:
        return ResultError(what, where=path, expected=expected)

    if not isinstance(result.id, str) or not re.fullmatch(r"[\w.+-]+", result.id):
        raise wrong(f"has the id {result.id!r}", "letters, digits, and any of . _ + -")
    if result.stage not in STAGES or result.source not in SOURCES:
        raise wrong(
            f"has stage {result.stage!r} and source {result.source!r}",
            f"a stage of {', '.join(STAGES)} and a source of {', '.join(SOURCES)}",
        )
    for name, (is_right, expected) in _KINDS.items():
        value = getattr(result, name)
        if value is not None and not is_right(value):
            raise wrong(f"has the {name} {value!r}", expected)
    for name, kind in {"metrics": list, **dict.fromkeys(_MAPPINGS, dict)}.items():
        if not isinstance(getattr(result, name), kind):
            raise wrong(f"has {name} that are no {kind.__name__}", "as gtgm writes them")
    for row in result.metrics:
        named = isinstance(row, dict) and set(row) == {"case", "class", "metric", "value"}
        if not named or not all(isinstance(row[k], str) for k in ("case", "class", "metric")):
            raise wrong(f"has the metric row {row!r}", "case, class and metric as texts, value")
    for value in [*result.summary.values(), *(row["value"] for row in result.metrics)]:
        if value is not None and not _is_number(value):
            raise wrong(f"has the metric value {value!r}", "a finite number, or null if undefined")
    for name, points in result.curves.items():
        if not isinstance(points, list) or not all(map(_is_point, points)):
            raise wrong(f"has the curve {name!r}", "pairs of numbers, [[step, value], …]")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_point(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and _is_number(value[0]) and (value[1] is None or _is_number(value[1]))


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_names(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list | tuple) and bool(names) and all(map(_is_text, names))


_COUNT = (_is_count, "a whole number from 0")
_AMOUNT = (lambda value: _is_number(value) and value >= 0, "a number from 0")
_TEXT = (_is_text, "a text")
#: What fields hold, where they hold something.
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (_are_names, "a name, or a list of names"),
    "fraction": (lambda value: _is_number(value) and 0 < value <= 1, "a number in (0, 1]"),
    **dict.fromkeys(("fold", "draw", "seed", "n_train", "n_test"), _COUNT),
    **dict.fromkeys(("wall_seconds", "peak_memory_gb"), _AMOUNT),
    **dict.fromkeys(("method", "backbone", "protocol", "profile"), _TEXT),
    **dict.fromkeys(("commit", "notebook", "command", "started"), _TEXT),
}
