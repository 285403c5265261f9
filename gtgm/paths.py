"""Where things are, and how they are written.

Every folder that the project reads or writes is named here once. Writes are atomic: a killed
run leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gtgm.errors import DataError, GTGMError
from gtgm.faults import storage_error

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
WORKFLOW = ROOT / "workflow"
RESULTS = ROOT / "results"
REPORTED = RESULTS / "reported"
MEASURED = RESULTS / "measured"
FIGURES = RESULTS / "figures"
#: In the names of files that are being written.
_MARK = ".writing-"
#: What safetensors writes before it gives a file its name.
_SAFETENSORS = ".tmp??????"


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
    """Give a temporary path beside ``path`` that replaces it when the block ends without error.

    The file is on the disk, not only in memory, before it gets its name: a machine that loses its
    power, or a network disk that is full, leaves no half of it either.

    Raises:
        StorageError: the disk is full, read-only or forbidden; ``path`` is what it was.
    """
    path = Path(path)
    temporary = None
    try:
        temporary = make_folder(path.parent) / temporary_name(path)
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors makes files that only their owner reads
        temporary.replace(path)
    except GTGMError:
        raise
    except Exception as error:  # each library reports a full disk in its own way
        explanation = storage_error(error, path, temporary)
        if explanation is None:
            raise
        raise explanation from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "") -> None:
    """Delete what killed processes left, in a folder and below it, of files whose names begin with
    ``name`` and that they were writing.

    Only where nobody else writes: see :func:`gtgm.lock.held`.
    """
    patterns = [f".{glob.escape(name)}*{_MARK}*", *([] if name else [_SAFETENSORS])]
    for left in [left for pattern in patterns for left in folder.rglob(pattern)]:
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def temporary_name(path: Path) -> str:
    """A new name for what becomes ``path``, by which :func:`sweep` knows it if that fails."""
    # The suffix is kept because writers such as nibabel choose the format by it.
    suffix = "".join(path.suffixes[-2:]) if path.name.lower().endswith(".gz") else path.suffix
    return f".{path.name[:180]}{_MARK}{secrets.token_hex(4)}{suffix.lower()}"


def make_folder(path: Path) -> Path:
    """The folder, made with those above it if it is absent.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically.

    Raises:
        DataError: it holds what is no text, such as the name of a file that is not UTF-8.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"cannot be written: {text[: error.end].splitlines()[-1][-80:]!r} is not UTF-8",
            where=path,
            expected="names of files and folders that are UTF-8",
            fix="rename it; where the locale is not UTF-8, set PYTHONUTF8=1",
        ) from None
    with atomic(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as indented JSON with a final newline, atomically; NaN is refused."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(
    path: str | Path, error: type[GTGMError] = DataError, expected: str = "", fix: str = ""
) -> Any:
    """The value that a JSON file holds (UTF-8, with or without a byte order mark).

    Args:
        path: of the file.
        error: that is raised.
        expected, fix: what that error says.

    Raises:
        GTGMError: of the kind ``error``: the file is absent, unreadable, not UTF-8 or not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_once)
    except FileNotFoundError:
        what = "there is no such file"
    except OSError as problem:
        what = f"cannot be read ({problem.strerror})"
    except UnicodeDecodeError:
        what = "is not valid JSON (not UTF-8 text)"
    except RecursionError:
        what = "is not valid JSON (too deeply nested)"
    except ValueError as problem:  # also of numbers with thousands of digits
        what = f"is not valid JSON ({problem})"
    raise error(what, where=path, expected=expected or None, fix=fix or None)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a name that stands in it twice, nobody knows which is meant."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice in an object")
    return value


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
