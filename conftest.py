"""How the test run is laid out: notebooks share one working folder and one worker."""

from __future__ import annotations

import os
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Notebooks run in a folder of their own, from nothing, on phantoms."""
    if not hasattr(config, "workerinput"):  # workers inherit it
        folder = tempfile.TemporaryDirectory(prefix="gtgm-notebooks-")
        config.add_cleanup(folder.cleanup)
        os.environ["GTGM_RUNS"] = folder.name
        os.environ.pop("GTGM_DATA", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notebooks read what earlier ones wrote, so they stay together, in order."""
    for item in items:
        notebook = item.nodeid.startswith("notebooks/")
        item.add_marker(pytest.mark.xdist_group("notebooks" if notebook else str(item.path)))
