"""The record of a small text model that was trained here: whether it need not be trained again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORD = "training.json"


def trained(folder: Path, key: str) -> dict[str, Any] | None:
    """What ``training.json`` holds; None, and it is gone, if the model is to be trained anew.

    Args:
        folder: of the model.
        key: hash of settings and texts; a record of another key, or a damaged one, does not count.
    """
    record = folder / RECORD
    if not record.is_file():
        return None
    try:
        stats = json.loads(record.read_bytes())
        if isinstance(stats, dict) and stats.get("key") == key:
            return stats
    except (ValueError, RecursionError):
        pass
    # The record is written last: where it is, the weights are whole.
    record.unlink()
    return None
