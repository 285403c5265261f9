"""Downloads from a server in a thread: resumed, checked, unpacked without leaving the folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_files import em, hippocampus

from gtgm.datasets import download
from gtgm.datasets.dataset import open_dataset
from gtgm.errors import DataError, SettingsError

NAME = "Task04_Hippocampus"


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cut`` ends each body early, ``ranges`` says whether it can resume."""

    files: dict[str, bytes] = {}
    cut: int | None = None
    ranges = True
    lie = False
    asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        body = self.server.files.get(self.path)
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if body is None:
            return self.send_error(404)
        start = 0
        if asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.send_error(416)
            said = start + 1 if self.server.lie else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {said}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.server.cut])
        return None

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


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


def test_wrong_checksum_leaves_nothing(tmp_path: Path, archive: str) -> None:
    with pytest.raises(DataError, match="md5 of the downloaded file"):
        get(tmp_path / "data", archive, "md5:" + "0" * 32)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_continues(
    tmp_path: Path, server: Server, archive: str, ranges: bool
) -> None:
    body, folder = server.files["/a/hippo.tar"], tmp_path / "data"
    server.ranges, server.cut = ranges, 5000
    with pytest.raises(DataError, match="run the same command again"):
        get(folder, archive, md5(body))
    assert (folder / "hippo.tar.part").read_bytes() == body[:5000]
    assert not (folder / NAME).exists()
    server.cut = None
    assert (get(folder, archive, md5(body)) / "dataset.json").is_file()
    assert server.asked == [None, "bytes=5000-"]


def test_another_range_than_asked_for_is_refused(
    tmp_path: Path, server: Server, archive: str
) -> None:
    server.lie = True
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hippo.tar.part").write_bytes(b"x" * 10)
    with pytest.raises(DataError, match="another range"):
        get(tmp_path / "data", archive, md5(server.files["/a/hippo.tar"]))


def test_a_file_fetched_by_hand_needs_no_server(tmp_path: Path, server: Server) -> None:
    hdf = em(tmp_path / "data" / "a.hdf.part").read_bytes()
    url = f"{server.url}/a.hdf"
    path = download.get("CREMI_A", tmp_path / "data", url, md5(hdf))
    assert path.read_bytes() == hdf and server.asked == []


def test_complete_part_of_another_file_is_dropped(
    tmp_path: Path, server: Server, archive: str
) -> None:
    part = tmp_path / "data" / "hippo.tar.part"
    part.parent.mkdir()
    body = server.files["/a/hippo.tar"]
    part.write_bytes(b"x" * (len(body) + 1))
    with pytest.raises(DataError, match="run the command again"):
        get(part.parent, archive, md5(body))
    assert get(part.parent, archive, md5(body)).is_dir()


@pytest.mark.parametrize("kind", ["parent", "absolute", "link"])
def test_archive_that_leaves_its_folder_is_refused(
    tmp_path: Path, server: Server, kind: str
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(
            {"parent": "../evil", "absolute": f"{tmp_path}/evil", "link": f"{NAME}/link"}[kind]
        )
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "../../../evil"
            tar.addfile(member)
        else:
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    server.files["/evil.tar"] = stream.getvalue()
    folder = tmp_path / "data"
    with pytest.raises(DataError, match="archive"):
        get(folder, f"{server.url}/evil.tar", md5(stream.getvalue()))
    assert not (tmp_path / "evil").exists() and not (folder / "evil").exists()
    assert [p.name for p in folder.iterdir()] == ["evil.tar.part"]


def test_damaged_and_foreign_archives(tmp_path: Path, server: Server) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("Task02_Heart/dataset.json"))
    for body, match in [(b"no tar", "damaged"), (stream.getvalue(), f"no {NAME}/dataset.json")]:
        server.files["/b.tar"] = body
        with pytest.raises(DataError, match=match):
            get(tmp_path / match.split("/")[0], f"{server.url}/b.tar", md5(body))


def test_missing_file_and_dead_server(tmp_path: Path, server: Server) -> None:
    with pytest.raises(DataError, match="404"):
        get(tmp_path, f"{server.url}/absent.tar", "md5:" + "0" * 32)
    with pytest.raises(DataError, match="download failed"):
        get(tmp_path, "http://127.0.0.1:9/a.tar", "md5:" + "0" * 32)


def test_settings(tmp_path: Path, server: Server) -> None:
    for checksum in ("crc:12", "md5:12", "0" * 32, "sha256:" + "g" * 64):
        with pytest.raises(SettingsError, match="is no checksum"):
            get(tmp_path, f"{server.url}/a.tar", checksum)
    for url in ("file:///etc/passwd", "ftp://host/a.tar", "http://host/"):
        with pytest.raises(SettingsError, match="no download address"):
            get(tmp_path, url, "md5:" + "0" * 32)
    with pytest.raises(DataError, match="FIB-25 has no download address"):
        download.get("FIB25", tmp_path)


def test_unverified_only_if_allowed(tmp_path: Path, server: Server) -> None:
    server.files["/fib.hdf"] = em(tmp_path / "source.hdf").read_bytes()
    url, folder = f"{server.url}/fib.hdf", tmp_path / "data"
    with pytest.raises(SettingsError, match="no checksum of FIB-25 is known"):
        download.get("FIB25", folder, url)
    path = download.get("FIB25", folder, url, allow_unverified=True)
    assert open_dataset("FIB25", folder).cases[0].image == path
