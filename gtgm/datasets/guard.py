"""What every reader asks before it opens a file, and before it allocates what the file declares.

A reader that opens a pipe waits for ever, and says of a web page only that its header is wrong.
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

from gtgm.container import free_memory
from gtgm.errors import DataError

# What stands at the begin of files that are saved under the name of another, in lower case.
FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer", "get the file itself with `git lfs pull`"),
    (b"<!doctype html", "a web page", "download it again, the address gave a page"),
    (b"<html", "a web page", "download it again, the address gave a page"),
    (b"<?xml", "an XML text", "download it again, the address gave an answer in XML"),
)


def same_letters(name: str) -> str:
    """What names have in common that differ in code points alone (NFC)."""
    return unicodedata.normalize("NFC", name)


def check_regular(path: Path) -> bytes:
    """The first 64 bytes of a regular file; a link to one counts as one.

    Raises:
        DataError: nothing is there, a broken link, a folder, a pipe or a device; no permission; an
            empty file, a Git LFS pointer, or a web page.
    """
    if not os.path.isfile(path):
        raise DataError(_what_is_there(path), where=path, expected="a file", fix="check the path")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise DataError(
            f"the file cannot be read ({error.strerror})",
            where=path,
            expected="a file that may be read",
            fix="check its permissions and the disk",
        ) from error
    if not head:
        raise DataError(
            "the file cannot be read: it is empty",
            where=path,
            fix="download or copy it again, and check that the disk is not full",
        )
    for sign, what, fix in FOREIGN:
        if head.lstrip().lower().startswith(sign):
            raise DataError(f"the file cannot be read: it is {what}", where=path, fix=fix)
    return head


def of_macos(name: str) -> bool:
    """Whether macOS left this file beside those of a person: ``._NAME`` or ``.DS_Store``."""
    return name.startswith("._") or name == ".DS_Store"


def as_on_disk(root: Path, name: str, key: Callable[[str], str] = same_letters) -> str:
    """The path ``name`` below ``root`` as the disk spells it.

    What is not there is looked for by ``key``, part by part: systems write the same name with
    other code points (é as one, or as e with an accent). ``name`` itself if nothing, or more than
    one thing, is found.
    """
    if os.path.lexists(root / name):
        return name
    folder, last = os.path.split(name)
    folder = folder and as_on_disk(root, folder, key)
    found = []
    with contextlib.suppress(OSError, ValueError):  # no such folder, or a name that none can have
        found = [other for other in os.listdir(root / folder) if key(other) == key(last)]
    return os.path.join(folder, found[0]) if len(found) == 1 else name


def check_memory(what: str, needed: int, path: Path, fix: str) -> None:
    """DataError if ``needed`` bytes for ``what`` are more than the memory that is free now."""
    free = free_memory()
    if needed > free:
        raise DataError(
            f"{what} take {needed / 2**30:.1f} GiB",
            where=path,
            expected=f"no more than the {free / 2**30:.1f} GiB of memory that are free",
            fix=fix,
        )


def _what_is_there(path: Path) -> str:
    if os.path.isdir(path):
        return "this is a folder"
    if os.path.exists(path):
        return "this is a pipe or a device, not a file"
    if os.path.islink(path):
        return "there is no such file: the symbolic link leads nowhere"
    return "there is no such file"
