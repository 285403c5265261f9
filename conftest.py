"""Notebooks under test run in a folder of their own, from nothing, on phantoms."""

from __future__ import annotations

import os
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """One working folder per worker: notebooks of a worker read what earlier ones wrote."""
    folder = tempfile.TemporaryDirectory(prefix="gtgm-notebooks-")
    config.add_cleanup(folder.cleanup)
    os.environ["GTGM_RUNS"] = folder.name
    os.environ.pop("GTGM_DATA", None)
