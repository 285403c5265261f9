"""Archives that want out of their folder, or to fill the disk: refused before anything is there."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import stat
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest

from gtgm.datasets import fetch
from gtgm.datasets import unpack as module
from gtgm.datasets.unpack import unpack
from gtgm.errors import DataError

ROOT = "Task04_Hippocampus"
NEEDS = (f"{ROOT}/dataset.json", b"{}")
GB = 1_000_000_000
Member = tuple[str, bytes] | tarfile.TarInfo


def special(name: str, kind: bytes, **fields: object) -> tarfile.TarInfo:
    """A member without content."""
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in fields.items():
        setattr(member, key, value)
    return member


def tar(*members: Member) -> bytes:
    """A tar file of names with contents, and of members that are ready."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mode = len(member[1]), 0o644
                file.addfile(info, io.BytesIO(member[1]))
    return stream.getvalue()


def sparse(name: str, size: int) -> bytes:
    """A member of GNU's sparse kind: one real block of 512 bytes, and ``size`` as it will be."""
    header = bytearray(special(name, tarfile.GNUTYPE_SPARSE, size=512).tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000001000\0"  # the block's place and length, octal
    header[483:495] = b"%011o\0" % size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header) + b"x" * 512


@pytest.fixture
def target(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / ROOT


def run(target: Path, content: bytes, quota: int | None = None) -> None:
    archive = target.with_name("a.part")
    archive.write_bytes(content)
    unpack(archive, target, "dataset.json", quota)


def refused(target: Path, content: bytes, match: str, quota: int | None = None) -> None:
    """Refused with these words, and nothing but the archive is there."""
    with pytest.raises(DataError, match=f"(?s)^a.part: the archive .*{match}"):
        run(target, content, quota)
    assert [p.name for p in target.parent.iterdir()] == ["a.part"]
    assert [p.name for p in target.parent.parent.iterdir()] == ["data"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_files_and_folders_arrive_and_modes_and_companions_do_not(target, pack):
    modes = special(f"{ROOT}/imagesTr", tarfile.DIRTYPE, mode=0o7000)
    secret = special(f"{ROOT}/imagesTr/empty", tarfile.REGTYPE, mode=0o6000)
    members = [special("./", tarfile.DIRTYPE), modes, (f"./._{ROOT}", b"x"), NEEDS, secret]
    long = "n" * 120  # needs an extended header
    members += [(f"./{ROOT}/a/{long}/Grün 1.nii", b"abc" * 50_000), (f"{ROOT}/._x", b"y"), modes]
    members += [(".DS_Store", b"z"), (f"{ROOT}/.DS_Store", b"z")]
    run(target, pack(tar(*members)))
    assert (target / "a" / long / "Grün 1.nii").read_bytes() == b"abc" * 50_000
    found = {str(p.relative_to(target)) for p in target.rglob("*")}
    folders = {"imagesTr", "a", f"a/{long}"}
    assert found == {*folders, "dataset.json", "imagesTr/empty", f"a/{long}/Grün 1.nii"}
    plain = target.parent / "plain"
    plain.touch()
    for path in target.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert path.is_dir() or mode == stat.S_IMODE(plain.stat().st_mode)
        assert not mode & 0o7000 and mode & 0o400
    assert {p.name for p in target.parent.iterdir()} == {ROOT, "a.part", "plain"}


BAD = {
    "an absolute path": (("/evil", b"x"), "absolute path"),
    "an absolute path with two slashes": (("//evil", b"x"), "absolute path"),
    "a path that leads up": (("../evil", b"x"), "'..'"),
    "a path that leads up from within": ((f"{ROOT}/a/../../../evil", b"x"), "'..'"),
    "a path that leads up and back": ((f"{ROOT}/../{ROOT}/a", b"x"), "'..'"),
    "a folder that leads up": (special("../evil", tarfile.DIRTYPE), "'..'"),
    "a companion file that leads up": (("../._evil", b"x"), "'..'"),
    "backslashes": ((f"{ROOT}\\..\\evil", b"x"), "backslash"),
    "a line break in the name": ((f"{ROOT}/a\nb", b"x"), "control character"),
    "an escape sequence in the name": ((f"{ROOT}/\x1b[2J", b"x"), "control character"),
    "a symbolic link up": (
        special(f"{ROOT}/l", tarfile.SYMTYPE, linkname="../.."), "is a link, to '../..'"),
    "a symbolic link within": (
        special(f"{ROOT}/l", tarfile.SYMTYPE, linkname="dataset.json"), "is a link"),
    "a hard link": (special(f"{ROOT}/l", tarfile.LNKTYPE, linkname=NEEDS[0]), "is a link"),
    "a link in place of the folder": (
        special(ROOT, tarfile.SYMTYPE, linkname="/"), "is a link"),
    "a companion file that is a link": (
        special(f"{ROOT}/._l", tarfile.SYMTYPE, linkname="/"), "is a link"),
    "a character device": (
        special(f"{ROOT}/d", tarfile.CHRTYPE, devmajor=1, devminor=3), "device or a FIFO"),
    "a block device": (special(f"{ROOT}/d", tarfile.BLKTYPE), "device or a FIFO"),
    "a FIFO": (special(f"{ROOT}/d", tarfile.FIFOTYPE), "device or a FIFO"),
    "an unknown type": (special(f"{ROOT}/d", b"Z"), "neither file nor folder"),
    "a file beside the folder": (("Task02_Heart/a", b"x"), f"outside of the folder {ROOT}"),
    "a file in place of the folder": ((ROOT, b"x"), "a file, not the folder"),
    "a name twice": (NEEDS, "name of another one, .*dataset.json"),
    "names that differ in case": ((f"{ROOT}/Dataset.JSON", b"x"), "name of another one"),
    "folders that differ in case": ((f"{ROOT.lower()}/a", b"x"), "outside of the folder"),
    "a file with the name of a folder": ((f"{ROOT}/dataset.json/a", b"x"), "name of another one"),
    "a negative size": (
        special(f"{ROOT}/n", tarfile.REGTYPE, pax_headers={"size": "-512"}), "negative size"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("first", [True, False])
def test_a_member_is_refused_and_named(evidence, target, name, first):
    evidence("archive", "archive member", name)
    member, why = BAD[name]
    refused(target, tar(*([member, NEEDS] if first else [NEEDS, member])), f"its member .*{why}")


def test_spellings_of_one_name_are_refused(evidence, target):
    evidence("archive", "archive member", "names that differ in how an accent is spelt")
    pair = [(f"{ROOT}/gr\u00fcn", b""), (f"{ROOT}/gru\u0308n", b"")]
    refused(target, tar(NEEDS, *pair), "name of another one")
    folders = [(f"{ROOT}/A/1", b""), (f"{ROOT}/a/2", b"")]
    refused(target, tar(NEEDS, *folders), "name of another one")


def test_sparse_members_are_refused(evidence, target):
    evidence("archive", "archive member", "a sparse file of a terabyte in a block")
    refused(target, sparse(f"{ROOT}/s", 10**9 * 7) + tar(NEEDS), "is a sparse file")
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": f"{ROOT}/s",
               "GNU.sparse.realsize": str(10**12)}  # fmt: skip
    info = special("x", tarfile.REGTYPE, size=1024, pax_headers=headers)
    content = info.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512
    refused(target, content + tar(NEEDS), "is a sparse file")


def test_the_quota_is_for_what_comes_out(evidence, target):
    evidence("archive", "archive as a whole", "more than the quota")
    content = tar(NEEDS, (f"{ROOT}/a", b"x" * 600), (f"{ROOT}/b", b"x" * 600))
    refused(target, content, f"'{ROOT}/b' makes more than 1.201e-06 GB.*--quota", 1201)
    run(target, content, 1202)
    assert len(list(target.iterdir())) == 3


def test_a_gzip_bomb_is_refused_by_its_headers(evidence, target):
    evidence("archive", "archive as a whole", "a gzip bomb")
    header = special(f"{ROOT}/zeros", tarfile.REGTYPE, size=3 * GB).tobuf()
    bomb = gzip.compress(tar(NEEDS)[:1024] + header + bytes(10**6))
    assert len(bomb) < 10_000
    refused(target, bomb, "zeros' makes more than 1 GB")


def test_a_bomb_of_companions_is_refused(evidence, target, monkeypatch):
    evidence("archive", "archive as a whole", "a bomb in files that are left out")
    monkeypatch.setattr(module, "_HEADERS", 1 << 20)
    content = tar((f"{ROOT}/._a", bytes(1 << 21)), NEEDS)
    refused(target, gzip.compress(content), "unpacks to more than 2e-05 GB", 20_000)
    run(target, content, 1 << 21)


def test_a_header_that_would_fill_the_memory_is_refused(evidence, target):
    evidence("archive", "archive as a whole", "a header of a gigabyte")
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        header = special("x", kind, size=GB).tobuf(tarfile.GNU_FORMAT)
        refused(target, header + bytes(1024) + tar(NEEDS), "a header of .* bytes")
    chain = special("x", tarfile.XHDTYPE, size=0).tobuf() * 5000
    refused(target, chain + tar(NEEDS), "damaged")


def test_too_many_members_are_refused(evidence, target, monkeypatch):
    evidence("archive", "archive as a whole", "too many members")
    monkeypatch.setattr(module, "MEMBERS", 20)
    members = [(f"{ROOT}/{n}", b"") for n in range(20)]
    refused(target, tar(NEEDS, *members), f"'{ROOT}/19' is one of more than 20")
    run(target, tar(NEEDS, *members[:-1]))


def test_a_disk_that_is_too_small_is_said_before(evidence, target, monkeypatch):
    evidence("archive", "archive as a whole", "more than the disk has free")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage(1, 1, 600))
    with pytest.raises(DataError, match="what is in the archive needs .* GB are free"):
        run(target, tar(NEEDS, (f"{ROOT}/a", b"x" * 600)))
    assert [p.name for p in target.parent.iterdir()] == ["a.part"]
    run(target, tar(NEEDS, (f"{ROOT}/a", b"x" * 598)))


def test_a_disk_that_ends_meanwhile_leaves_nothing(evidence, target, monkeypatch):
    evidence("archive", "archive as a whole", "a disk that ends while it is unpacked")
    real = Path.open

    def end(path, mode="r", *more):
        if mode == "xb" and path.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *more)

    monkeypatch.setattr(Path, "open", end)
    with pytest.raises(DataError, match="b: cannot be written: the disk is full"):
        run(target, tar(NEEDS, (f"{ROOT}/b", b"x")))
    assert [p.name for p in target.parent.iterdir()] == ["a.part"]


GOOD = tar(NEEDS, (f"{ROOT}/a", b"x" * 3000), (f"{ROOT}/b", b"x" * 3000))
DAMAGED = {
    "no tar file": b"no tar",
    "nothing": b"",
    "truncated in a member": GOOD[:3000],
    "truncated between members": GOOD[: 1024 + 512 + 3072],
    "truncated in a header": GOOD[: 1024 + 512 + 3072 + 100],
    "a damaged header": GOOD[:1024] + b"?" + GOOD[1025:],
    "a truncated gzip file": gzip.compress(GOOD)[:-200],
    "a damaged gzip file": gzip.compress(GOOD)[:40] + b"????" + gzip.compress(GOOD)[44:],
    "a truncated xz file": lzma.compress(GOOD)[:100],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_is_refused(evidence, target, name):
    evidence("archive", "archive as a whole", name)
    refused(target, DAMAGED[name], "damaged")


def test_the_archive_of_something_else_is_refused(evidence, target):
    evidence("archive", "archive as a whole", "without dataset.json")
    refused(target, tar((f"{ROOT}/a", b"x")), f"has no {ROOT}/dataset.json")
    refused(target, tar(special(NEEDS[0], tarfile.DIRTYPE)), f"has no {ROOT}/dataset.json")
    refused(target, tar(), "has no")


def test_what_a_killed_command_left_is_removed(target):
    left = target.with_name(f".{ROOT}.unpacking")
    (left / ROOT).mkdir(parents=True)
    (left / ROOT / "half").write_text("x")
    run(target, GOOD)
    assert sorted(p.name for p in target.iterdir()) == ["a", "b", "dataset.json"]
    assert not left.exists()
