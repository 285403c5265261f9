"""Where things are, and how they are written.

Every folder that the project reads or writes is named here once. Writes are atomic: a killed
run leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
WORKFLOW = ROOT / "workflow"
RESULTS = ROOT / "results"
REPORTED = RESULTS / "reported"
MEASURED = RESULTS / "measured"
FIGURES = RESULTS / "figures"


def runs_dir() -> Path:
    """Folder of working files: ``$GTGM_RUNS``, else ``runs/`` of the checkout."""
    return Path(os.environ.get("GTGM_RUNS") or ROOT / "runs")


def data_dirs(data: str | Path | None = None) -> list[Path]:
    """Folders that may hold real datasets, the explicit one first, then ``$GTGM_DATA``.

    ``$GTGM_DATA`` may name several folders, separated as in ``$PATH``.
    """
    named = [str(data)] if data else []
    named += [p for p in os.environ.get("GTGM_DATA", "").split(os.pathsep) if p]
    return [Path(p).expanduser() for p in dict.fromkeys(named)]


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that replaces it when the block ends without error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept because writers such as nibabel choose the format by it.
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as indented JSON with a final newline, atomically; NaN is refused."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
