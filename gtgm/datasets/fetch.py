"""One file over HTTP: continued where the last attempt stopped, and never a mix of two files."""

from __future__ import annotations

import email.utils
import http.client
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep, time

from gtgm import paths
from gtgm.errors import DataError
from gtgm.faults import FULL
from gtgm.progress import tqdm

CHUNK = 1 << 20
#: Seconds without a single byte after which a connection counts as broken.
TIMEOUT = 60.0
#: Attempts in a row that bring less than PROGRESS bytes.
ATTEMPTS = 5
PROGRESS = 1 << 20
#: Seconds before the second attempt; each later pause is four times as long, at most LONGEST.
PAUSE, LONGEST = 1.0, 60.0
#: Most seconds that a server's Retry-After is obeyed.
PATIENCE = 300.0
#: Answers below 500 after which the same request may succeed later.
_LATER = (408, 425, 429)
_NUMBER = "[0-9]{1,18}"


class FetchError(DataError):
    """This address does not give the file; another one may."""


class _Broken(Exception):
    """An attempt failed in a way that the next one may not; ``wait`` is what the server asks."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


class _Stale(Exception):
    """What was there is no part of the file on the server, and has been dropped."""


@dataclass(frozen=True)
class _Begun:
    """What is kept beside a part: its address, the server's mark of the version, and the size."""

    url: str = ""
    validator: str = ""
    size: int | None = None


def fetch(
    url: str,
    part: Path,
    checked: bool,
    attempts: int = ATTEMPTS,
    timeout: float = TIMEOUT,
    progress: bool = True,
) -> bool:
    """Bring ``part`` to its full length, in as many connections as it takes.

    Broken and stalled connections, short answers, and the answers 408, 425, 429 and 5xx are tried
    again, after growing pauses or what ``Retry-After`` asks for. What is there is continued with
    ``Range``, guarded by ``If-Range``: a file that has changed meanwhile is fetched from its start.
    The ETag (or date) and the size stand in ``<part>.json``, so that a later command knows them.

    Args:
        url: an http(s) address; redirections never lead from https to http.
        part: the file; what it holds is taken for the beginning.
        checked: a checksum follows. Without one, only what the server marks as the same version is
            continued.
        attempts: in a row that bring less than ``PROGRESS`` bytes, until it is given up.
        timeout: seconds without a byte after which a connection is broken; slow ones go on.
        progress: show a bar, which starts at what is there.

    Returns:
        Whether all bytes came in one answer.

    Raises:
        FetchError: the address does not give the file.
        DataError: the disk has no room for it.
    """
    failed, most = 0, _size(part)
    with tqdm(initial=most, unit="B", unit_scale=True, desc=part.stem, disable=not progress) as bar:
        while True:
            try:
                return _attempt(url, part, checked, timeout, bar)
            except _Stale as error:
                if progress:
                    tqdm.write(f"{error}; starting over")
            except _Broken as error:
                failed = 1 if _size(part) >= most + PROGRESS else failed + 1
                most = max(most, _size(part))
                if failed >= attempts:
                    raise FetchError(
                        f"{error}, {failed} times in a row" if failed > 1 else str(error),
                        where=without_query(url),
                        fix="run the same command again, which continues, give a --mirror, or "
                        f"fetch the file to {part} yourself",
                    ) from error
                pause = max(min(PAUSE * 4 ** (failed - 1), LONGEST), min(error.wait, PATIENCE))
                if progress:
                    tqdm.write(f"{error}; again in {pause:.0f} s")
                sleep(pause)


def forget(part: Path) -> None:
    """Empty a part, so that the next attempt begins anew. The file stays: it may be locked."""
    if part.exists():
        part.write_bytes(b"")
    note(part).unlink(missing_ok=True)


def note(part: Path) -> Path:
    """The file beside a part that says what it is a part of."""
    return part.with_name(f"{part.name}.json")


def is_short(part: Path) -> bool:
    """Whether a part is known to lack something."""
    size = _read(part).size
    return size is not None and _size(part) != size


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse what the disk cannot hold.

    Raises:
        DataError: fewer than ``needed`` bytes are free where ``folder`` lies.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise _no_room(folder, f"{what} needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free")


def not_written(error: OSError, path: Path) -> DataError:
    """The error of a file that could not be written, because the disk is full or otherwise."""
    if error.errno in FULL:
        return _no_room(path, "cannot be written: the disk is full")
    return DataError(f"cannot be written ({error.strerror})", where=path)


def _no_room(where: Path, what: str) -> DataError:
    fix = "free some space, or name a folder on a larger disk with --to"
    return DataError(what, where=where, fix=f"{fix}; then run the command again, which continues")


def without_query(url: str) -> str:
    """The address as it may be shown and kept: keys of access stand in the query."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


class _Redirections(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        schemes = [urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl)]
        if schemes[1] not in ("http", "https") or schemes == ["https", "http"]:
            raise FetchError(
                f"the server sends us from {schemes[0]} on to {schemes[1]}",
                where=without_query(req.full_url),
                expected="an address that stays with https" if "https" in schemes else "http(s)",
                fix="give another address with --url or --mirror",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_Redirections)


def _attempt(url: str, part: Path, checked: bool, timeout: float, bar: tqdm) -> bool:
    done, begun = _size(part), _read(part)
    same = begun.url == without_query(url)
    request = urllib.request.Request(url, headers={"User-Agent": "gtgm"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        if same and begun.validator:
            request.add_header("If-Range", begun.validator)
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            if response.status == 206:
                total = _continues(response, done, begun, same, checked)
                if total is None and not done:
                    raise _refused(url, "a part of it came without being asked for")
                if total is None:
                    forget(part)
                    raise _Stale("the rest on the server does not belong to the part")
            elif response.status == 200:
                done, total = 0, _begin(response, url, part, checked)
            else:
                raise _refused(url, f"{response.status} {response.reason}")
            require_room(part.parent, (total or done) - done, "the rest of the download")
            bar.n, bar.total = done, total
            bar.refresh()
            _copy(response, part, total, bar)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and done:
                return _is_all(error, part, done, checked)
            if error.code >= 500 or error.code in _LATER:
                wait = _seconds(error.headers.get("Retry-After", ""))
                raise _Broken(f"the server answers {error.code} {error.reason}", wait) from error
            raise _refused(url, f"{error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
            raise _refused(url, f"{reason.strerror}: is there a network?") from error
        if isinstance(reason, (ssl.SSLCertVerificationError, http.client.InvalidURL)):
            raise _refused(url, str(reason)) from error
        raise _Broken(f"the connection failed ({reason or type(error).__name__})") from error
    if total is not None and _size(part) < total:
        raise _Broken(f"the connection ended at {_size(part)} of {total} bytes")
    return done == 0


def _begin(response: http.client.HTTPResponse, url: str, part: Path, checked: bool) -> int | None:
    """Start a part anew; the total length, None if the server does not say it."""
    length = response.headers.get("Content-Length", "")
    total = int(length) if re.fullmatch(_NUMBER, length) else None
    if total is None and not response.chunked and not checked:
        raise _refused(url, "neither length nor checksum say when the file is whole")
    tag = response.headers.get("ETag", "")
    strong = tag if tag.startswith('"') else ""  # If-Range takes no weak one
    validator = strong or response.headers.get("Last-Modified", "")
    forget(part)  # before the new note: bytes of the old file are never taken for the new one's
    paths.write_json(note(part), asdict(_Begun(without_query(url), validator, total)))
    return total


def _continues(
    response: http.client.HTTPResponse, done: int, begun: _Begun, same: bool, checked: bool
) -> int | None:
    """The total length, if the answer goes on where the part of the same file ends."""
    found = re.fullmatch(
        rf"bytes ({_NUMBER})-{_NUMBER}/({_NUMBER})", response.headers.get("Content-Range", "")
    )
    if not found or int(found[1]) != done or begun.size not in (None, int(found[2])):
        return None
    if same and begun.validator:
        now = [response.headers.get(name) for name in ("ETag", "Last-Modified")]
        vouched = begun.validator in now or now == [None, None]
    else:
        vouched = checked
    return int(found[2]) if vouched else None


def _is_all(answer: urllib.error.HTTPError, part: Path, done: int, checked: bool) -> bool:
    """416: nothing lies behind the part. It is whole if it has the length of the file."""
    found = re.fullmatch(rf"bytes \*/({_NUMBER})", answer.headers.get("Content-Range", ""))
    if int(found[1]) == done if found else checked:
        note(part).unlink(missing_ok=True)  # it may name a length that the server only promised
        return False
    forget(part)
    raise _Stale("the file on the server has another length than the part")


def _copy(response: http.client.HTTPResponse, part: Path, total: int | None, bar: tqdm) -> None:
    with part.open("ab") as file:
        while total is None or file.tell() < total:
            # At most one chunk and at least one byte: what came before a break is not lost.
            chunk = response.read1(CHUNK)
            if not chunk:
                return
            try:
                file.write(chunk)
                file.flush()
            except OSError as error:
                raise not_written(error, part) from error
            bar.update(len(chunk))


def _refused(url: str, what: str) -> FetchError:
    return FetchError(
        f"the server does not give the file ({what})",
        where=without_query(url),
        fix="check the address, or give another one with --url or --mirror",
    )


def _seconds(text: str) -> float:
    """What Retry-After asks for: a number of seconds, or a date."""
    if re.fullmatch(_NUMBER, text):
        return float(text)
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() - time()
    except ValueError:
        return 0.0


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _read(part: Path) -> _Begun:
    try:
        return _Begun(**paths.read_json(note(part)))
    except (DataError, TypeError):  # none, or a broken one: nothing is known
        return _Begun()
