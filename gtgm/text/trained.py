"""The record of a small text model that was trained here: whether it need not be trained again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gtgm import paths
from gtgm.errors import DataError

RECORD = "training.json"


def trained(folder: Path, key: str) -> dict[str, Any] | None:
    """What ``training.json`` holds; None, and it is gone, if the model is to be trained anew.

    Args:
        folder: of the model.
        key: hash of settings and texts; a record of another key, or a damaged one, does not count.
    """
    record = folder / RECORD
    try:
        stats = paths.read_json(record)
        if isinstance(stats, dict) and stats.get("key") == key:
            return stats
    except DataError:
        pass
    # The record is written last: where it is, the weights are whole.
    record.unlink(missing_ok=True)
    return None
