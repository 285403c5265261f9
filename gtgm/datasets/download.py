"""Download a dataset: licence first, from one address or another, checked, then unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

from gtgm import paths
from gtgm.datasets import registry
from gtgm.datasets.fetch import (
    ATTEMPTS,
    FetchError,
    fetch,
    forget,
    is_short,
    note,
    without_query,
)
from gtgm.datasets.registry import DatasetInfo
from gtgm.datasets.unpack import unpack
from gtgm.errors import DataError, SettingsError
from gtgm.lock import PATIENCE, take

DIGITS = {"md5": 32, "sha256": 64}


def get(
    name: str,
    folder: str | Path,
    url: str | None = None,
    checksum: str | None = None,
    allow_unverified: bool = False,
    progress: bool = True,
    mirrors: Sequence[str] = (),
    quota: float | None = None,
    attempts: int = ATTEMPTS,
) -> Path:
    """Download ``name`` into ``folder``, where ``open_dataset(name, folder)`` finds it.

    Prints licence and citation before a byte is fetched. An interrupted download leaves
    ``<name>.part``, which the next call continues if the server can. Nothing is unpacked before
    the checksum agrees; bytes of several connections that do not agree are fetched once more.

    Args:
        name: a name of the registry.
        folder: data folder, made if absent.
        url: another http(s) address of the same file, in place of the registry's.
        checksum: ``"md5:…"`` or ``"sha256:…"`` instead of the registry's.
        allow_unverified: accept a file for which no checksum is known.
        progress: show a progress bar.
        mirrors: further addresses, asked in this order when those before do not give the file.
        quota: most GB that an archive may unpack to, see :func:`gtgm.datasets.unpack.unpack`.
        attempts: at each address, see :func:`gtgm.datasets.fetch.fetch`.

    Returns:
        The dataset's folder (MSD) or its HDF5 file (CREMI layout). One that is there is kept.

    Raises:
        SettingsError: unknown name, malformed address, checksum or number, or no checksum and not
            allowed.
        DataError: no address gives the file or the right bytes, unsafe or unexpected archive, no
            room on the disk, or another process is at it.
    """
    info = registry.get(name)
    folder = Path(folder).expanduser()
    if attempts < 1 or (quota is not None and not 0 < quota < math.inf):
        raise SettingsError(
            f"{attempts} attempts with a quota of {quota} GB cannot be", expected="above 0"
        )
    addresses = _addresses(info, url, mirrors)
    algorithm, digest = _checksum(info, checksum or info.checksum, allow_unverified)
    target = folder / (info.name if info.format == "msd" else info.files[-1])
    print(f"{info.title}: licence {info.licence}\nPlease cite: {info.citation}", flush=True)
    if target.exists():
        print(f"{target} is there already", flush=True)
        return target
    paths.make_folder(folder)
    part = folder / f"{info.name}.part"
    with _alone(part):
        if target.exists():  # another process has finished in between
            return target
        if is_short(part) or not (algorithm and _digest(part, algorithm) == digest):
            _from_any(addresses, part, algorithm, digest, attempts, progress)
        if info.format == "msd":
            unpack(part, target, "dataset.json", round(quota * 1e9) if quota else None)
            part.unlink()
        else:
            part.replace(target)
        note(part).unlink(missing_ok=True)
    return target


def _addresses(info: DatasetInfo, url: str | None, mirrors: Sequence[str]) -> list[str]:
    addresses = list(dict.fromkeys(a for a in (url or info.url, *mirrors) if a))
    if not addresses:
        raise DataError(
            f"{info.title} has no download address",
            where=info.name,
            expected=info.note or "an address in the registry",
            fix="give the address of a copy and its checksum",
        )
    for address in addresses:
        try:
            parts = urllib.parse.urlsplit(address)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        # Names and passwords do not belong into an address that is shown and kept.
        if not good or not Path(parts.path).name or "@" in parts.netloc or not _plain(address):
            raise SettingsError(
                f"{address!r} is no download address",
                expected="http(s)://…/file, without spaces, name and password",
            )
    return addresses


def _plain(address: str) -> bool:
    return address.isascii() and address.isprintable() and " " not in address


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


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Be the only process that writes a part; an empty one is not left behind."""
    while True:
        with part.open("ab") as file:
            if not take(file.fileno(), PATIENCE):
                raise DataError(
                    "another process is downloading this dataset",
                    where=part,
                    fix="wait until it has finished; the same command then finds the dataset",
                )
            if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                continue  # who held it has finished, and the file has another name or none
            try:
                yield
            finally:
                if part.exists() and not part.stat().st_size:
                    part.unlink()
            return


def _from_any(
    addresses: Sequence[str],
    part: Path,
    algorithm: str | None,
    digest: str,
    attempts: int,
    progress: bool,
) -> None:
    """Fetch from the first address that gives the right bytes."""
    failures = []
    for address in addresses:
        try:
            return _from_one(address, part, algorithm, digest, attempts, progress)
        except FetchError as error:
            failures.append(error)
            if progress and address != addresses[-1]:
                print(f"{error}\nAsking the next address.", flush=True)
    if len(failures) == 1:
        raise failures[0]
    raise DataError(
        "no address gives the file: " + "; ".join(f"{e.where}: {e.what}" for e in failures),
        where=part.stem,
        fix=failures[-1].fix,
    )


def _from_one(
    url: str, part: Path, algorithm: str | None, digest: str, attempts: int, progress: bool
) -> None:
    for _ in range(2):
        whole = fetch(url, part, bool(algorithm), attempts, progress=progress)
        found = _digest(part, algorithm) if algorithm else digest
        if found == digest:
            return
        forget(part)
        if whole:  # pieces that do not fit together are worth another try; a whole file is not
            break
    raise FetchError(
        f"the {algorithm} of the downloaded file is {found}",
        where=without_query(url),
        expected=digest,
        fix="run the command again; if it stays, the file at this address is another one: if it "
        "is the right one, give its --checksum (nothing was kept)",
    )


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
