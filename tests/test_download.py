"""Downloads from a server in a thread: resumed, checked, unpacked without leaving the folder."""

from __future__ import annotations

import fcntl
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from breaking_server import Answer, Server, serving
from small_files import em, hippocampus

from gtgm.cli import make_parser
from gtgm.datasets import download, fetch, registry
from gtgm.datasets.dataset import open_dataset
from gtgm.errors import DataError, SettingsError

NAME = "Task04_Hippocampus"
PART = f"{NAME}.part"
NOBODY = "md5:" + "0" * 32  # no file has it
Evidence = Callable[[str, str, str], None]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "sleep", lambda seconds: None)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def archive(tmp_path: Path, server: Server) -> str:
    """The address of a Hippocampus archive of five cases."""
    hippocampus(tmp_path / "source" / NAME)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(tmp_path / "source" / NAME, arcname=NAME)
    server.files["/a/hippo.tar"] = stream.getvalue()
    return f"{server.url}/a/hippo.tar"


def md5(data: bytes) -> str:
    return f"md5:{hashlib.md5(data).hexdigest()}"


def get(folder: Path, url: str, checksum: str | None, **more: object) -> Path:
    return download.get(NAME, folder, url, checksum, progress=False, **more)


def test_archive_is_unpacked_and_opens(
    tmp_path: Path, server: Server, archive: str, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "data"
    body = server.files["/a/hippo.tar"]
    path = get(folder, archive, md5(body))
    assert path == folder / NAME and len(open_dataset(NAME, folder).cases) == 5
    assert [p.name for p in folder.iterdir()] == [NAME]
    printed = capsys.readouterr().out
    assert "CC-BY-SA 4.0" in printed and "Antonelli" in printed
    asked = len(server.asked)
    assert get(folder, archive, md5(body)) == path and len(server.asked) == asked


def test_hdf5_file_is_found_afterwards(tmp_path: Path, server: Server) -> None:
    server.files["/a.hdf"] = em(tmp_path / "a.hdf").read_bytes()
    digest = hashlib.sha256(server.files["/a.hdf"]).hexdigest()
    folder = tmp_path / "data"
    path = download.get("CREMI_A", folder, f"{server.url}/a.hdf", f"sha256:{digest}")
    assert path.name == "sample_A_20160501.hdf"
    assert open_dataset("CREMI_A", folder).cases[0].image == path


def test_the_licence_comes_before_any_byte(
    tmp_path: Path, server: Server, archive: str, capsys: pytest.CaptureFixture
) -> None:
    server.usual = Answer(404)
    with pytest.raises(DataError):
        get(tmp_path / "data", archive, NOBODY)
    assert "licence CC-BY-SA 4.0" in capsys.readouterr().out

    def asked(*_: object, **__: object) -> bool:
        assert "licence CC-BY-SA 4.0" in capsys.readouterr().out and len(server.asked) == 1
        raise fetch.FetchError("asked")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError, match="asked"):
        patch.setattr(download, "fetch", asked)
        get(tmp_path / "data", archive, NOBODY)


def test_wrong_bytes_leave_nothing(
    tmp_path: Path, server: Server, archive: str, evidence: Evidence
) -> None:
    evidence("archive", "download", "wrong bytes of the right length")
    body = server.files["/a/hippo.tar"]
    server.usual = Answer(body=bytes(len(body)))
    with pytest.raises(DataError, match="md5 of the downloaded file"):
        get(tmp_path / "data", archive, md5(body))
    assert list((tmp_path / "data").iterdir()) == [] and len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_continues(
    tmp_path: Path, server: Server, archive: str, ranges: bool
) -> None:
    body, folder = server.files["/a/hippo.tar"], tmp_path / "data"
    server.plan, server.usual = [Answer(cut=5000)], Answer(ranges=ranges)
    with pytest.raises(DataError, match="run the same command again"):
        get(folder, archive, md5(body), attempts=1)
    assert (folder / PART).read_bytes() == body[:5000]
    assert not (folder / NAME).exists()
    assert (get(folder, archive, md5(body)) / "dataset.json").is_file()
    assert [asked for _, asked, _ in server.asked] == [None, "bytes=5000-"]
    assert [p.name for p in folder.iterdir()] == [NAME]


@pytest.mark.parametrize("begun", ["by another file", "too long", "by nobody knows what"])
def test_pieces_that_do_not_fit_are_fetched_once_more(
    tmp_path: Path, server: Server, archive: str, evidence: Evidence, begun: str
) -> None:
    evidence("archive", "download", f"a part begun {begun}")
    body, folder = server.files["/a/hippo.tar"], tmp_path / "data"
    folder.mkdir()
    if begun == "by another file":  # of the same length, on a server without marks
        server.usual = Answer(marked=False)
        server.plan = [Answer(body=b"x" * len(body), cut=5000, marked=False)]
    else:
        (folder / PART).write_bytes(b"x" * (len(body) + 1 if begun == "too long" else 5000))
    assert (get(folder, archive, md5(body)) / "dataset.json").is_file()
    assert len(server.asked) == (3 if begun == "by another file" else 2)
    server.files["/b/hippo.tar"] = body
    (folder / PART).write_bytes(b"x" * 5000)
    (folder / NAME).rename(folder / "other")
    with pytest.raises(DataError, match="md5 of the downloaded file"):
        get(folder, f"{server.url}/b/hippo.tar", NOBODY)
    assert [path for path, *_ in server.asked].count("/b/hippo.tar") == 2


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("a main address that is gone", Answer(404)),
        ("a main address with wrong bytes", Answer(body=b"wrong")),
        ("a main address that always breaks", Answer(cut=3000)),
        ("a main address that answers 503 only", Answer(503)),
    ],
)
def test_mirrors_are_asked_in_order(
    tmp_path: Path, server: Server, archive: str, evidence: Evidence, name: str, answer: Answer
) -> None:
    evidence("archive", "download", name)
    body = server.files["/a/hippo.tar"]
    server.plan = [answer, answer, Answer(404)]
    if answer.body or answer.status == 404:
        server.plan = [answer, Answer(404)]
    urls = [f"{server.url}/{mirror}/hippo.tar" for mirror in "bcde"]
    server.files["/c/hippo.tar"] = body
    path = get(tmp_path / "data", archive, md5(body), mirrors=urls, attempts=2)
    assert len(open_dataset(NAME, path.parent).cases) == 5
    asked = list(dict.fromkeys(path for path, *_ in server.asked))
    assert asked == ["/a/hippo.tar", "/b/hippo.tar", "/c/hippo.tar"]


def test_all_addresses_are_named_if_none_gives_the_file(tmp_path: Path, server: Server) -> None:
    server.plan = [Answer(404), Answer(body=b"wrong")]
    urls = [f"{server.url}/{name}.tar" for name in "ab"]
    with pytest.raises(DataError, match="no address gives.*a.tar: .*404.*b.tar: the md5") as caught:
        get(tmp_path, urls[0], NOBODY, mirrors=urls)
    assert len(server.asked) == 2 and NAME in str(caught.value)


def test_the_registry_comes_first_and_a_mirror_may_stand_alone(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(url: str, *_: object, **__: object) -> bool:
        asked.append(url)
        raise fetch.FetchError("no", where=url)

    monkeypatch.setattr(download, "fetch", refuse)
    mirror = f"{server.url}/a.tar"
    for name, checksum in ((NAME, None), ("FIB25", NOBODY)):
        with pytest.raises(DataError):
            download.get(name, tmp_path, None, checksum, mirrors=[mirror], progress=False)
    assert asked == [registry.get(NAME).url, mirror, mirror]


def test_an_unverified_part_of_another_address_is_dropped(
    tmp_path: Path, server: Server, evidence: Evidence
) -> None:
    evidence("archive", "download", "a part of another address, and no checksum")
    server.files["/good.hdf"] = em(tmp_path / "source.hdf").read_bytes()
    body, folder = server.files["/good.hdf"], tmp_path / "data"
    server.plan = [Answer(body=bytes(len(body)), cut=3000)]
    urls = [f"{server.url}/{name}.hdf" for name in ("bad", "good")]
    path = download.get(
        "FIB25", folder, urls[0], allow_unverified=True, progress=False, mirrors=urls, attempts=1
    )
    assert path.read_bytes() == body


def test_a_second_command_says_that_another_is_at_it(
    tmp_path: Path, server: Server, archive: str, evidence: Evidence
) -> None:
    evidence("archive", "download", "the same dataset by two commands at once")
    body = server.files["/a/hippo.tar"]
    (tmp_path / PART).write_bytes(body[:100])
    with (tmp_path / PART).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is downloading"):
            get(tmp_path, archive, md5(body))
        assert server.asked == [] and (tmp_path / PART).read_bytes() == body[:100]
    assert get(tmp_path, archive, md5(body)).is_dir()


def test_a_part_that_another_command_has_used_up_is_not_written(
    tmp_path: Path, server: Server, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, taken = server.files["/a/hippo.tar"], []

    def late(file: int, pauses: tuple[float, ...]) -> bool:
        taken.append(file)
        if len(taken) == 1:  # the one before us removed the file that we have opened
            (tmp_path / PART).unlink()
        return True

    monkeypatch.setattr(download, "take", late)
    assert get(tmp_path, archive, md5(body)).is_dir() and len(taken) == 2


def test_a_file_fetched_by_hand_needs_no_server(tmp_path: Path, server: Server) -> None:
    em(tmp_path / "data" / "a.hdf").rename(tmp_path / "data" / "CREMI_A.part")
    hdf = (tmp_path / "data" / "CREMI_A.part").read_bytes()
    url = f"{server.url}/a.hdf"
    path = download.get("CREMI_A", tmp_path / "data", url, md5(hdf))
    assert path.read_bytes() == hdf and server.asked == []


def test_an_archive_that_is_refused_is_kept(tmp_path: Path, server: Server) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(f"{NAME}/dataset.json"))
        tar.addfile(tarfile.TarInfo("../evil"))
    server.files["/evil.tar"] = stream.getvalue()
    folder = tmp_path / "data"
    for _ in range(2):
        with pytest.raises(DataError, match="archive was refused: its member '../evil'"):
            get(folder, f"{server.url}/evil.tar", md5(stream.getvalue()))
    assert len(server.asked) == 1 and (folder / PART).is_file()
    assert not (folder / NAME).exists() and not (tmp_path / "evil").exists()


def test_the_quota_is_in_gigabytes(tmp_path: Path, server: Server, archive: str) -> None:
    body = server.files["/a/hippo.tar"]
    with pytest.raises(DataError, match="more than 1e-06 GB"):
        get(tmp_path, archive, md5(body), quota=1e-6)
    assert get(tmp_path, archive, md5(body), quota=1).is_dir()


def test_damaged_and_foreign_archives(tmp_path: Path, server: Server) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("Task02_Heart/dataset.json"))
    for body, match in [(b"no tar", "damaged"), (stream.getvalue(), "outside of the folder")]:
        server.files["/b.tar"] = body
        with pytest.raises(DataError, match=match):
            get(tmp_path / match.split()[0], f"{server.url}/b.tar", md5(body))


def test_settings(tmp_path: Path, server: Server) -> None:
    for checksum in ("crc:12", "md5:12", "0" * 32, "sha256:" + "g" * 64):
        with pytest.raises(SettingsError, match="is no checksum"):
            get(tmp_path, f"{server.url}/a.tar", checksum)
    for url in (
        "file:///etc/passwd", "ftp://host/a.tar", "http://host/", "http:///a.tar", "http://[a/b",
        "http://me:secret@host/a.tar", "http://host/a b.tar", "http://host/a\nb", "http://h:x/a",
        "http://höst/a.tar",
    ):  # fmt: skip
        with pytest.raises(SettingsError, match="no download address"):
            get(tmp_path, url, NOBODY)
        with pytest.raises(SettingsError, match="no download address"):
            get(tmp_path, f"{server.url}/a.tar", NOBODY, mirrors=[url])
    for more in ({"attempts": 0}, {"quota": 0}, {"quota": -1}, {"quota": float("nan")}):
        with pytest.raises(SettingsError, match="cannot be"):
            get(tmp_path, f"{server.url}/a.tar", NOBODY, **more)
    with pytest.raises(DataError, match="FIB-25 has no download address"):
        download.get("FIB25", tmp_path)


def test_unverified_only_if_allowed(tmp_path: Path, server: Server) -> None:
    server.files["/fib.hdf"] = em(tmp_path / "source.hdf").read_bytes()
    url, folder = f"{server.url}/fib.hdf", tmp_path / "data"
    with pytest.raises(SettingsError, match="no checksum of FIB-25 is known"):
        download.get("FIB25", folder, url)
    path = download.get("FIB25", folder, url, allow_unverified=True)
    assert open_dataset("FIB25", folder).cases[0].image == path


def test_the_command_has_the_numbers_of_the_modules() -> None:
    parsed = make_parser().parse_args(["data", "get", NAME, "--mirror", "a", "--mirror", "b"])
    assert parsed.attempts == fetch.ATTEMPTS and parsed.mirror == ["a", "b"]
