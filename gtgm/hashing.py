"""Settings as plain values, and a hash that names them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any


def to_dict(settings: Any) -> dict[str, Any]:
    """Plain values that JSON keeps: tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def settings_hash(*parts: Any) -> str:
    """Short, stable hash of settings and other plain values."""
    plain = [to_dict(p) if dataclasses.is_dataclass(p) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
