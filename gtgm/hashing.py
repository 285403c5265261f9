"""Settings as plain values, and a hash that names them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any


def to_dict(settings: Any) -> dict[str, Any]:
    """Plain values that JSON keeps: tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def how(default: Any) -> Any:
    """A field of settings that changes time and memory, and no number: it enters no hash."""
    return dataclasses.field(default=default, metadata={"how": True})


def settings_hash(*parts: Any) -> str:
    """Short, stable hash of settings and other plain values."""
    plain = [_identity(p) if dataclasses.is_dataclass(p) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _identity(settings: Any) -> dict[str, Any]:
    left_out = {f.name for f in dataclasses.fields(settings) if f.metadata.get("how")}
    return {name: v for name, v in to_dict(settings).items() if name not in left_out}
