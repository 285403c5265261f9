"""Download a dataset: licence first, resumable, checked, unpacked without leaving its folder."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from gtgm.datasets import registry
from gtgm.datasets.registry import DatasetInfo
from gtgm.errors import DataError, SettingsError

CHUNK = 1 << 20
TIMEOUT = 60
DIGITS = {"md5": 32, "sha256": 64}


def get(
    name: str,
    folder: str | Path,
    url: str | None = None,
    checksum: str | None = None,
    allow_unverified: bool = False,
    progress: bool = True,
) -> Path:
    """Download ``name`` into ``folder``, where ``open_dataset(name, folder)`` finds it.

    Prints licence and citation first. An interrupted download leaves a ``.part`` file and is
    continued by the next call if the server can. Nothing is unpacked before the checksum agrees.

    Args:
        name: a name of the registry.
        folder: data folder, made if absent.
        url: another http(s) address of the same file.
        checksum: ``"md5:…"`` or ``"sha256:…"`` instead of the registry's.
        allow_unverified: accept a file for which no checksum is known.
        progress: show a progress bar.

    Returns:
        The dataset's folder (MSD) or its HDF5 file (CREMI layout). One that is there is kept.

    Raises:
        SettingsError: unknown name, malformed address or checksum, or no checksum and not allowed.
        DataError: no address, connection lost, wrong checksum, unsafe or unexpected archive.
    """
    info = registry.get(name)
    folder = Path(folder).expanduser()
    url = url or info.url
    if url is None:
        raise DataError(
            f"{info.title} has no download address",
            where=name,
            expected=info.note or "an address in the registry",
            fix="give the address of a copy and its checksum",
        )
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not Path(parts.path).name:
        raise SettingsError(f"{url!r} is no download address", expected="http(s)://…/file")
    algorithm, digest = _checksum(info, checksum or info.checksum, allow_unverified)
    target = folder / (info.name if info.format == "msd" else info.files[-1])
    print(f"{info.title}: licence {info.licence}\nPlease cite: {info.citation}", flush=True)
    if target.exists():
        print(f"{target} is there already", flush=True)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{Path(parts.path).name}.part"
    if not (algorithm and part.is_file() and _digest(part, algorithm) == digest):
        _fetch(url, part, progress)
        _check(part, algorithm, digest)
    if info.format == "msd":
        _unpack(part, info, target)
        part.unlink()
    else:
        part.replace(target)
    return target


def _checksum(
    info: DatasetInfo, checksum: str | None, allow_unverified: bool
) -> tuple[str | None, str]:
    if checksum is None:
        if allow_unverified:
            return None, ""
        raise SettingsError(
            f"no checksum of {info.title} is known",
            expected="md5:… or sha256:…",
            fix="give --checksum, or say that an unverified file is accepted",
        )
    algorithm, _, digest = checksum.lower().partition(":")
    if len(digest) != DIGITS.get(algorithm) or not set(digest) <= set("0123456789abcdef"):
        raise SettingsError(
            f"{checksum!r} is no checksum",
            expected="md5: and 32, or sha256: and 64 hexadecimal digits",
        )
    return algorithm, digest


def _fetch(url: str, part: Path, progress: bool) -> None:
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "gtgm"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            resumed = response.status == 206 and _starts_at(response, done)
            if response.status == 206 and not resumed:
                raise DataError("the server sent another range than was asked for", where=url)
            done = done if resumed else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            with (
                part.open("ab" if resumed else "wb") as file,
                tqdm(
                    total=total,
                    initial=done,
                    unit="B",
                    unit_scale=True,
                    desc=part.stem,
                    disable=not progress,
                ) as bar,
            ):
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
    except urllib.error.HTTPError as error:
        # 416: the part is complete already; its checksum will tell.
        if error.code == 416 and done:
            return
        raise _lost(url, part, f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _lost(url, part, f"the download failed ({error})") from error
    if total is not None and part.stat().st_size < total:
        raise _lost(url, part, f"the connection ended at {part.stat().st_size} of {total} bytes")


def _starts_at(response: http.client.HTTPResponse, start: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _lost(url: str, part: Path, what: str) -> DataError:
    return DataError(
        what,
        where=url,
        fix=f"run the same command again, which continues, or fetch the file to {part} yourself",
    )


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _check(part: Path, algorithm: str | None, digest: str) -> None:
    if algorithm is None:
        return
    found = _digest(part, algorithm)
    if found != digest:
        part.unlink()
        raise DataError(
            f"the {algorithm} of the downloaded file is {found}",
            where=part.name,
            expected=digest,
            fix="run the command again; if it stays, the file at this address is another one",
        )


def _unpack(archive: Path, info: DatasetInfo, target: Path) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{info.name}.", dir=target.parent))
    try:
        try:
            with tarfile.open(archive, "r:*") as tar:
                tar.extractall(temporary, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(
                f"the archive was refused or is damaged ({error})",
                where=archive.name,
                expected=f"a tar file with the folder {info.name} and nothing outside of it",
                fix=f"get it from another address; {archive.name} is kept for inspection",
            ) from error
        root = temporary / info.name
        if not (root / "dataset.json").is_file():
            raise DataError(
                f"the archive has no {info.name}/dataset.json",
                where=archive.name,
                expected=f"the folder {info.name}",
                fix="check that the address belongs to this dataset",
            )
        root.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
