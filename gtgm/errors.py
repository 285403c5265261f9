"""Errors that tell a person what is wrong, where, what was expected and what to do."""

from __future__ import annotations

from pathlib import Path


class GTGMError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        what: what is wrong, as one sentence without a full stop.
        where: the file, folder or setting that is wrong.
        expected: what would have been right.
        fix: what the reader can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.fix = what, where, expected, fix
        parts = [f"{where}: {what}." if where is not None else f"{what}."]
        if expected:
            parts.append(f"Expected: {expected}.")
        if fix:
            parts.append(f"What to do: {fix}{'' if fix.endswith('?') else '.'}")
        super().__init__(" ".join(parts))


class DataError(GTGMError):
    """A dataset, volume, label or caption file cannot be used."""


class SettingsError(GTGMError):
    """A setting, notebook parameter or command-line option is unknown or out of range."""


class WeightsError(GTGMError):
    """Weights do not fit the network that should receive them."""


class ResultError(GTGMError):
    """A result file is missing, damaged or of an unknown schema version."""
