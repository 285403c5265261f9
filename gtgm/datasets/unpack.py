"""Archives of others, unpacked: one folder with files and folders in it, and nothing else."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import shutil
import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from gtgm.datasets.fetch import not_written, require_room
from gtgm.datasets.guard import of_macos
from gtgm.errors import DataError

#: Most members; the largest dataset of the registry has some thousands.
MEMBERS = 100_000
#: Most that an archive may grow by default. Volumes lie compressed in it and stay as they are; raw
#: ones shrink to a half or a fifth, and label maps alone to a fiftieth.
GROWTH = 20
#: A quota below this would save nothing.
LEAST_QUOTA = 1_000_000_000
#: Most that is read at once. A longer header is no file's name, but an attack on the memory.
CHUNK = 1 << 16
#: Bytes beside the content of files that a quota leaves out: headers, padding, companions.
_HEADERS = 1 << 28
_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, RecursionError,
           zlib.error, lzma.LZMAError)  # fmt: skip


def unpack(archive: Path, target: Path, needs: str, quota: int | None = None) -> None:
    """Make ``target`` from the folder of the same name in a tar file, which may be compressed.

    Every member is looked at before anything is written. Refused are absolute paths, ``..``, links,
    devices, FIFOs, sparse files, names that are one on some disk, and what lies outside of the
    folder. macOS's companions ``._*`` are left out. Permissions and owners are not taken over.
    ``target`` appears when all of it is written.

    Args:
        archive: the file.
        target: the folder, which does not exist.
        needs: a file that the folder must have.
        quota: most bytes that it unpacks to; by default GROWTH times the archive, and at least
            LEAST_QUOTA.

    Raises:
        DataError: the archive is refused or damaged, or the disk has no room; nothing is left.
    """
    quota = quota or max(GROWTH * archive.stat().st_size, LEAST_QUOTA)
    members = _look_through(archive, target.name, quota)
    if members.get(PurePosixPath(target.name, needs), -1) < 0:
        raise _refusal(archive, f"has no {target.name}/{needs}", target.name)
    size = sum(size for size in members.values() if size > 0)
    require_room(target.parent, size, "what is in the archive")
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)  # of a command that was killed
    try:
        with _opened(archive, target.name, quota) as tar:
            _write(tar, members, temporary)
        (temporary / target.name).replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _look_through(archive: Path, root: str, quota: int) -> dict[PurePosixPath, int]:
    """Paths of all files with their sizes, and of all folders with −1; refuses the archive."""
    kept: dict[PurePosixPath, int] = {}
    seen: dict[str, tuple[PurePosixPath, bool]] = {}
    left = quota
    with _opened(archive, root, quota) as tar:
        for number, member in enumerate(iter(tar.next, None), start=1):
            tar.members.clear()  # tarfile would keep them all
            path, why = PurePosixPath(member.name), _why_not(member, root)
            companion = of_macos(path.name)
            left -= 0 if companion else member.size
            if not why and number > MEMBERS:
                why = f"is one of more than {MEMBERS}"
            if not why and left < 0:
                why = f"makes more than {quota / 1e9:g} GB of it, the most that is unpacked"
            if not why and not companion:
                why = _collision(path, member.isdir(), seen)
            if why:
                raise _refusal(archive, f"was refused: its member {member.name!r} {why}", root)
            if path.parts and not companion:
                kept[path] = -1 if member.isdir() else member.size
    return kept


def _why_not(member: tarfile.TarInfo, root: str) -> str:
    """What is wrong with a member by itself; empty if nothing is."""
    path = PurePosixPath(member.name)
    if member.size < 0:
        return "has a negative size"
    if path.is_absolute():
        return "has an absolute path"
    if ".." in path.parts:
        return "leads out of its folder by '..'"
    if "\\" in member.name or not member.name.isprintable():
        return "has a backslash or a control character in its name"
    if member.issym() or member.islnk():
        return f"is a link, to {member.linkname!r}"
    if member.isdev():  # character and block devices, and FIFOs
        return "is a device or a FIFO"
    if member.issparse():
        return "is a sparse file, which takes more than the archive holds"
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
        return f"is neither file nor folder (type {member.type!r})"
    if of_macos(path.name) or not path.parts:
        return ""
    if path.parts[0] != root:
        return f"lies outside of the folder {root}"
    return "is a file, not the folder" if len(path.parts) == 1 and not member.isdir() else ""


def _collision(path: PurePosixPath, folder: bool, seen: dict[str, tuple]) -> str:
    """Whether a disk that ignores case or accents' spelling would take two members for one."""
    for place in (path, *path.parents[:-1]) if path.parts else ():
        now = (place, folder or place != path)
        key = unicodedata.normalize("NFC", str(place)).casefold()
        first = seen.setdefault(key, now)
        if first is not now and (first != now or not now[1]):
            return f"has the name of another one, {str(first[0])!r}"
    return ""


def _write(tar: tarfile.TarFile, members: dict[PurePosixPath, int], folder: Path) -> None:
    for member in iter(tar.next, None):
        tar.members.clear()
        path = PurePosixPath(member.name)
        if path not in members:
            continue
        place = folder / path
        try:
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            file = place.open("xb")
        except OSError as error:
            raise not_written(error, place) from error
        with file, tar.extractfile(member) as data:
            while chunk := data.read(CHUNK):
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise not_written(error, place) from error


@contextlib.contextmanager
def _opened(archive: Path, root: str, quota: int) -> Iterator[tarfile.TarFile]:
    """The archive for one way through it; what tarfile cannot read becomes a DataError."""
    with archive.open("rb") as file:
        start = file.read(max(map(len, _OPENERS)))
    opener = next((o for magic, o in _OPENERS.items() if start.startswith(magic)), open)
    try:
        with (
            opener(archive, "rb") as stream,
            tarfile.open(fileobj=_Bounded(stream, quota), mode="r:", tarinfo=_Header) as tar,
        ):
            yield tar
    except _DAMAGE as error:
        raise _refusal(archive, f"was refused or is damaged ({error})", root) from error


class _Header(tarfile.TarInfo):
    """A header. tarfile takes a damaged one for the end of the archive; here it is an error."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from error


class _Bounded:
    """What tarfile reads from: forward only, never much at once, and no more than the quota."""

    def __init__(self, stream: BinaryIO, quota: int) -> None:
        self._stream, self._quota = stream, quota

    def read(self, count: int) -> bytes:
        if not 0 <= count <= CHUNK:
            raise tarfile.ReadError(f"a header of {count} bytes")
        self._check(self.tell() + count)
        return self._stream.read(count)

    def seek(self, place: int) -> int:
        if place < self.tell():
            raise tarfile.ReadError("it leads backwards")
        self._check(place)
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, place: int) -> None:
        if place > self._quota + _HEADERS:
            raise tarfile.ReadError(f"it unpacks to more than {self._quota / 1e9:g} GB")


def _refusal(archive: Path, what: str, root: str) -> DataError:
    return DataError(
        f"the archive {what}",
        where=archive.name,
        expected=f"a tar file with the folder {root}, plain files and folders, and nothing else",
        fix=f"look into {archive.name}, which is kept; if it is only large, allow more with "
        "--quota, else delete it and get it from another address",
    )
