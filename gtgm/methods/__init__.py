"""The methods of the comparison, in the order of tables and figures.

A method is one file of this package and one line here.
"""

from __future__ import annotations

from importlib import import_module

from gtgm.errors import SettingsError
from gtgm.methods.method import Method

__all__ = ["METHODS", "Method", "get"]

#: Files of this package, each with ``METHOD``, or with ``METHODS`` if it holds several.
_FILES = (
    "random_init",
    "byol",
    "simsiam",
    "barlow",
    "vlp",
    "pcrlv2",
    "gtgm",
    "text_sources",
)


def _of_file(name: str) -> tuple[Method, ...]:
    module = import_module(f"{__name__}.{name}")
    return module.METHODS if hasattr(module, "METHODS") else (module.METHOD,)


METHODS: dict[str, Method] = {m.name: m for name in _FILES for m in _of_file(name)}


def get(name: str) -> Method:
    """The method of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in METHODS:
        raise SettingsError(f"unknown method {name!r}", expected=f"one of {', '.join(METHODS)}")
    return METHODS[name]
