"""Checks of single settings: each raises a SettingsError that names the setting."""

from __future__ import annotations

import json
import math
from typing import Any

from gtgm.errors import SettingsError

#: Lists and dictionaries among the parameters of notebooks: what each looks like, and what may be
#: in it.
_PARAMETERS: dict[str, tuple[list | dict, tuple[type, ...]]] = {
    "datasets": (["Task04_Hippocampus"], (str,)),
    "pool": (["Task04_Hippocampus"], (str,)),
    "methods": (["random", "gtgm"], (str,)),
    "fractions": ([0.1], (int, float)),
    "draws": ([1], (int, list, tuple)),
    "rows": ([2, 3], (int,)),
    "changes": ({"pretrain": {"steps": 100}}, (dict,)),
}


def check_parameters(**given: Any) -> None:
    """Raise unless each of these parameters of a notebook is the list or dictionary that it must
    be; ``papermill -p`` makes a number or a text of everything."""
    for name, value in given.items():
        example, kinds = _PARAMETERS[name]
        is_dict = isinstance(example, dict)
        if isinstance(value, dict if is_dict else (list, tuple)):
            entries = value.values() if is_dict else value
            wrong = [v for v in entries if not isinstance(v, kinds) or isinstance(v, bool)]
            if not wrong:
                continue
            what = f"`{name}` holds {_kind(wrong[0])}"
        else:
            what = f"`{name}` is {_kind(value)}"
        raise SettingsError(
            what,
            expected=f"a {'dictionary' if is_dict else 'list'} such as {example}",
            fix=f"on papermill's command line: -y '{name}: {json.dumps(example)}'",
        )


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value!r}"
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int | float):
        return "a number"
    return {list: "a list", tuple: "a list", dict: "a dictionary"}.get(type(value), repr(value))


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raise unless ``value`` is among ``choices``."""
    if value not in choices:
        raise SettingsError(f"unknown {name} {value!r}", expected=f"one of {', '.join(choices)}")


def check_axes(where: str, axes: str) -> None:
    """Raise unless ``axes`` is a subset of the letters D, H, W."""
    if set(axes) - set("DHW") or len(set(axes)) != len(axes):
        raise SettingsError(f"is {axes!r}", where=where, expected="letters of 'DHW', such as 'DH'")


def check_sides(
    where: str, sides: tuple, empty: bool = True, kind: type | tuple[type, ...] = int
) -> None:
    """Raise unless ``sides`` holds three positive numbers (z, y, x) of a kind, or nothing."""
    right = len(sides) == 3 and all(
        isinstance(side, kind) and not isinstance(side, bool) and 0 < side < math.inf
        for side in sides
    )
    if not right and (sides or not empty):
        what = "whole numbers" if kind is int else "numbers"
        raise SettingsError(f"is {sides}", where=where, expected=f"three positive {what} (z, y, x)")


def check_least(stage: str, settings: Any, least: int, *names: str) -> None:
    """Raise if one of the named settings is below ``least``."""
    for name in names:
        if getattr(settings, name) < least:
            raise SettingsError(
                f"is {getattr(settings, name)}",
                where=f"{stage}.{name}",
                expected=f"at least {least}",
            )


def check_positive(stage: str, settings: Any, *names: str) -> None:
    """Raise if one of the named settings is not above zero."""
    for name in names:
        if not getattr(settings, name) > 0:
            raise SettingsError(
                f"is {getattr(settings, name)}", where=f"{stage}.{name}", expected="above 0"
            )


def like(default: Any, value: Any, where: str) -> Any:
    """``value`` as the type of ``default``; JSON and TOML lists become tuples."""
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(tuple(v) if isinstance(v, list) else v for v in value)
    if isinstance(default, float) and type(value) is int and abs(value) < 1e300:
        return float(value)
    endless = isinstance(value, float) and not math.isfinite(value)
    if type(value) is not type(default) or endless:
        expected = f"a value like {default!r}"
        if isinstance(default, bool):
            expected = "true or false"
        elif default == ():
            expected = "a list, such as [1, 2, 3]"
        raise SettingsError(f"is {value!r}", where=where, expected=expected)
    return value
