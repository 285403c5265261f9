"""What a check says: one line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal


@dataclass(frozen=True)
class Line:
    """One thing that was looked at. ``stops`` means that `make reproduce` would fail by it."""

    state: Literal["ok", "note", "problem"]
    what: str
    advice: str = ""
    stops: bool = False
    section: str = ""


ok = partial(Line, "ok")
note = partial(Line, "note")
problem = partial(Line, "problem", stops=True)
