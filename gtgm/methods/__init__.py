"""The methods of the comparison, in the order of tables and figures.

A method is one file of this package and one line here.
"""

from __future__ import annotations

from gtgm.errors import SettingsError
from gtgm.methods import barlow, byol, gtgm, pcrlv2, random_init, simsiam, text_sources, vlp
from gtgm.methods.method import Method

__all__ = ["METHODS", "Method", "get"]

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        random_init.METHOD,
        byol.METHOD,
        simsiam.METHOD,
        barlow.METHOD,
        vlp.METHOD,
        pcrlv2.METHOD,
        gtgm.METHOD,
        text_sources.NONE,
        text_sources.SHUFFLED,
        text_sources.DESCRIBE,
        text_sources.METADATA,
        text_sources.BLIP,
    )
}


def get(name: str) -> Method:
    """The method of that name.

    Raises:
        SettingsError: there is none.
    """
    if name not in METHODS:
        raise SettingsError(f"unknown method {name!r}", expected=f"one of {', '.join(METHODS)}")
    return METHODS[name]
