"""Versions of packages: what this project needs, what its lock names, what is installed."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from email.parser import HeaderParser
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "gtgm-companion"
#: A requirement of an extra and of nothing else: most of them are, and to parse all takes long.
_OF_EXTRA = re.compile(r";(?!.*\bor\b).*\bextra\s*==")


def declared(checkout: Path) -> list[str]:
    """Requirements of this project: those of the checkout, else those of the installed package.

    Raises:
        importlib.metadata.PackageNotFoundError: there is neither.
    """
    file = checkout / "pyproject.toml"
    if file.is_file():
        return tomllib.loads(file.read_text(encoding="utf-8"))["project"]["dependencies"]
    return needs(PROJECT)


def locked(file: Path) -> dict[str, str]:
    """Versions of a ``requirements.lock`` by canonical name; empty if there is none."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    pins = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pins}


def installed(name: str) -> str | None:
    """Version of an installed package; None if it is missing."""
    try:
        return re.search(r"^Version: *(.*)$", _head(name), re.MULTILINE)[1].strip()
    except (metadata.PackageNotFoundError, TypeError):
        return None


def needs(name: str) -> list[str]:
    """Requirements of an installed package.

    Raises:
        importlib.metadata.PackageNotFoundError: it is missing.
    """
    return HeaderParser().parsestr(_head(name)).get_all("Requires-Dist", [])


@cache
def _head(name: str) -> str:
    """What a package says of itself, without the long description."""
    found = metadata.distribution(name)
    text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    return text.partition("\n\n")[0]


def holding(texts: Iterable[str], extras: Iterable[str] = ()) -> list[Requirement]:
    """Those requirements whose markers hold here, with these extras."""
    every = [Requirement(text) for text in texts if extras or not _OF_EXTRA.search(text)]
    return [
        requirement
        for requirement in every
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))
    ]


def required(texts: Iterable[str]) -> list[tuple[str, Requirement]]:
    """Everything that is needed, directly and by what is needed: (who needs it, requirement)."""
    waiting = [(PROJECT, requirement) for requirement in holding(texts)]
    found = []
    followed = set()
    while waiting:
        by, requirement = waiting.pop(0)
        found.append((by, requirement))
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key not in followed and installed(name) is not None:
            followed.add(key)
            waiting += [(name, need) for need in holding(needs(name), requirement.extras)]
    return found


def as_locked(name: str, lock: dict[str, str]) -> bool:
    """Whether a locked package is installed in that version, or in a local build of it."""
    version = installed(name)
    return version is not None and version.partition("+")[0] == lock[name]


def fits(requirement: Requirement, version: str) -> bool:
    """Whether a version is in the range of a requirement; pre-releases count."""
    return requirement.specifier.contains(version, prereleases=True)
