"""NIfTI files that cannot be right are refused by name and reason; odd names and links work."""

from __future__ import annotations

import dataclasses
import gzip
import os
import types
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import nifti, refused

from gtgm.datasets import nifti as reader
from gtgm.datasets import registry
from gtgm.datasets.geometry import load_volume
from gtgm.datasets.msd import Case
from gtgm.errors import DataError

pytestmark = pytest.mark.timeout(120)  # a pipe that is opened hangs for ever
INFO = registry.get("Task04_Hippocampus")
SHAPE = (6, 5, 4)
IMAGE = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
LABEL = (np.arange(120).reshape(SHAPE) % 3).astype(np.uint8)
AFFINE = nib.affines.from_matvec(np.diag([1.0, 2.0, 3.0]), [4.0, 5.0, 6.0])
NAN, INF = float("nan"), float("inf")
# Field of a NIfTI-1 header → (byte, type).
FIELDS = {
    "sizeof_hdr": (0, "<i4"),
    "dim": (40, "<i2"),
    "datatype": (70, "<i2"),
    "bitpix": (72, "<i2"),
    "pixdim": (76, "<f4"),
    "vox_offset": (108, "<f4"),
    "scl_slope": (112, "<f4"),
    "scl_inter": (116, "<f4"),
    "xyzt_units": (123, "u1"),
    "qform_code": (252, "<i2"),
    "sform_code": (254, "<i2"),
    "quatern": (256, "<f4"),
    "qoffset": (268, "<f4"),
    "srow": (280, "<f4"),
    "magic": (344, "S4"),
    "extended": (348, "u1"),
}
Builder = Callable[[Path], Path]


def whole(array: np.ndarray = IMAGE) -> bytes:
    return nib.Nifti1Image(array, AFFINE).to_bytes()


def header(**fields: Any) -> Builder:
    """A file that is right but for these fields of its header."""

    def build(folder: Path) -> Path:
        return save(folder / "scan.nii", changed(whole(), **fields))

    return build


def changed(content: bytes, **fields: Any) -> bytes:
    raw = bytearray(content)
    for field, values in fields.items():
        start, kind = FIELDS[field]
        values = np.atleast_1d(np.array(values, dtype=kind)).tobytes()
        raw[start : start + len(values)] = values
    return bytes(raw)


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def content(name: str, value: Callable[[], bytes]) -> Builder:
    return lambda folder: save(folder / name, value())


def array(values: np.ndarray, affine: np.ndarray = AFFINE) -> Builder:
    return lambda folder: nifti(folder / "scan.nii.gz", values, affine)


def voxel(value: float) -> np.ndarray:
    values = IMAGE.copy()
    values[1, 2, 3] = value
    return values


def packed() -> bytes:
    return gzip.compress(whole())


def flipped() -> bytes:
    """Stored without compression, so that only gzip's checksum can tell the changed voxel."""
    raw = bytearray(gzip.compress(whole(), compresslevel=0))
    raw[-40] ^= 0x10
    return bytes(raw)


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "scan.nii.gz")
    return folder / "scan.nii.gz"


def link(target: str) -> Builder:
    def build(folder: Path) -> Path:
        (folder / "scan.nii.gz").symlink_to(target)
        return folder / "scan.nii.gz"

    return build


def make_folder(folder: Path) -> Path:
    (folder / "scan.nii.gz").mkdir()
    return folder / "scan.nii.gz"


def sparse(folder: Path) -> Path:
    """As long as its header says, 800 GiB, and empty on the disk."""
    path = save(folder / "scan.nii", changed(whole(), dim=[3, 32767, 32767, 200]))
    os.truncate(path, 352 + 32767 * 32767 * 200 * 4)
    return path


def structured() -> bytes:
    return nib.Nifti1Image(np.zeros(SHAPE, np.dtype([(c, "u1") for c in "RGB"])), AFFINE).to_bytes()


def nifti2(**fields: Any) -> Builder:
    def build(folder: Path) -> Path:
        image = nib.Nifti2Image(IMAGE, AFFINE)
        raw = bytearray(image.to_bytes())
        for start, kind, value in fields.values():
            number = np.array(value, kind).tobytes()
            raw[start : start + len(number)] = number
        return save(folder / "scan.nii", bytes(raw))

    return build


EXTENDED = changed(whole(), vox_offset=384, extended=1)[:352]
SQUARE = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=float)

BAD: dict[str, tuple[Builder, str]] = {
    # What lies at the path
    "absent": (lambda folder: folder / "scan.nii.gz", "no such file"),
    "a folder": (make_folder, "a folder"),
    "a named pipe": (pipe, "a pipe"),
    "a broken symbolic link": (link("elsewhere.nii.gz"), "link leads nowhere"),
    "a symbolic link to itself": (link("scan.nii.gz"), "link leads nowhere"),
    "a symbolic link to a device": (link("/dev/zero"), "a pipe or a device"),
    "a name of 300 characters": (lambda folder: folder / ("a" * 293 + ".nii.gz"), "no such file"),
    "another suffix": (content("scan.nii.bz2", packed), "no NIfTI file"),
    # What the file is
    "empty": (content("scan.nii.gz", lambda: b""), "is empty"),
    "one byte": (content("scan.nii", lambda: b"\\"), "cannot be read"),
    "random bytes": (content("scan.nii", lambda: bytes(range(7, 207)) * 5), "begins with"),
    "text": (content("scan.nii", lambda: b"no image, a note\n" * 40), "begins with"),
    "a web page": (content("scan.nii.gz", lambda: b"\n<!DOCTYPE html><p>404"), "a web page"),
    "a web page without doctype": (content("scan.nii", lambda: b"<HTML>404"), "a web page"),
    "an answer in XML": (content("scan.nii", lambda: b"<?xml version='1.0'?>"), "XML"),
    "a Git LFS pointer": (
        content("scan.nii.gz", lambda: b"version https://git-lfs.github.com/spec/v1\noid x"),
        "Git LFS pointer",
    ),
    "compressed and called nii": (content("scan.nii", packed), "it is gzip-compressed"),
    "not compressed and called nii.gz": (content("scan.nii.gz", whole), "not gzip-compressed"),
    "text inside gzip": (content("scan.nii.gz", lambda: gzip.compress(b"a note")), "begins with"),
    "compressed twice": (content("scan.nii.gz", lambda: gzip.compress(packed())), "begins with"),
    "nothing inside gzip": (content("scan.nii.gz", lambda: gzip.compress(b"")), "cannot be read"),
    "Analyze 7.5": (header(magic=b""), "Analyze"),
    "half of a pair": (header(magic=b"ni1"), "half of a pair"),
    "magic of another version": (header(magic=b"n+3"), "magic text"),
    "size of the header 0": (header(sizeof_hdr=0), "begins with"),
    "size of the header 349": (header(sizeof_hdr=349), "begins with"),
    "size of the header of NIfTI-2": (header(sizeof_hdr=540), "magic text"),
    "byte order of the header's size alone": (
        content("scan.nii", lambda: (348).to_bytes(4, "big") + whole()[4:]),
        "768 axes",
    ),
    # Cut off or damaged
    "cut off in the header": (content("scan.nii", lambda: whole()[:200]), "the header alone"),
    "cut off behind the header": (content("scan.nii", lambda: whole()[:348]), "more than the file"),
    "cut off in the voxels": (content("scan.nii", lambda: whole()[:-1]), "more than the file"),
    "cut off in the gzip header": (content("scan.nii.gz", lambda: packed()[:5]), "cannot be read"),
    "cut off in the compressed header": (
        content("scan.nii.gz", lambda: packed()[:40]),
        "cannot be read",
    ),
    "cut off in the compressed voxels": (
        content("scan.nii.gz", lambda: packed()[:-60]),
        "cannot be read",
    ),
    "without the gzip checksum": (content("scan.nii.gz", lambda: packed()[:-8]), "cannot be read"),
    "cut off in the gzip checksum": (
        content("scan.nii.gz", lambda: packed()[:-3]),
        "cannot be read",
    ),
    "one bit of a compressed voxel changed": (content("scan.nii.gz", flipped), "CRC"),
    "damaged compression": (
        content("scan.nii.gz", lambda: packed()[:80] + b"\xff" * 80 + packed()[160:]),
        "cannot be read",
    ),
    "a foreign text behind gzip": (
        content("scan.nii.gz", lambda: packed() + b"<html>"),
        "cannot be read",
    ),
    "more voxels than declared": (
        content("scan.nii", lambda: whole() + bytes(2 << 20)),
        "goes on behind the voxels",
    ),
    "a long file inside gzip, few voxels declared": (
        content("scan.nii.gz", lambda: gzip.compress(whole() + bytes(9 << 20))),
        "goes on behind the voxels",
    ),
    # Shape
    "no axes": (header(dim=0), "0 axes"),
    "eight axes": (header(dim=8), "8 axes"),
    "a negative number of axes": (header(dim=-3), "-3 axes"),
    "an axis of 0 voxels": (header(dim=[3, 6, 0, 4]), "(6, 0, 4)"),
    "an axis of a negative length": (header(dim=[3, 6, -5, 4]), "(6, -5, 4)"),
    "one axis": (header(dim=[1, 120]), "the shape (120,)"),
    "two axes": (header(dim=[2, 30, 4]), "the shape (30, 4)"),
    "four axes, one channel declared": (header(dim=[4, 6, 5, 2, 2]), "the shape (6, 5, 2, 2)"),
    "five axes": (header(dim=[5, 6, 5, 2, 1, 2]), "the shape (6, 5, 2, 1, 2)"),
    "seven axes": (header(dim=[7, 2, 3, 5, 2, 1, 1, 2]), "the shape"),
    "32767 voxels a side in a small file": (
        header(dim=[3, 32767, 32767, 32767]),
        "more than the file can hold",
    ),
    "32767 voxels a side in a small gzip file": (
        content(
            "scan.nii.gz",
            lambda: gzip.compress(changed(whole(), dim=[3, 32767, 32767, 32767])),
        ),
        "more than the file can hold",
    ),
    "seven axes of 32767 voxels": (header(dim=[7, *[32767] * 7]), "more than the file can hold"),
    "a sparse file of 800 GiB": (sparse, "GiB"),
    "NIfTI-2, 2 to the 62 voxels": (
        nifti2(dim=(24, "<i8", 1 << 62)),
        "more than the file can hold",
    ),
    "NIfTI-2, a negative axis": (nifti2(dim=(24, "<i8", -6)), "-6"),
    # Voxels
    "voxels begin at byte 0": (header(vox_offset=0), "begin at byte 0"),
    "voxels begin before the file": (header(vox_offset=-352), "begin at byte -352"),
    "voxels begin nowhere (NaN)": (header(vox_offset=NAN), "begin at byte nan"),
    "voxels begin at infinity": (header(vox_offset=INF), "begin at byte inf"),
    "voxels begin behind the file": (header(vox_offset=1e9), "more than the file can hold"),
    "an extension without length": (
        content("scan.nii", lambda: EXTENDED + bytes(32) + whole()[352:]),
        "declares 0 bytes",
    ),
    "an extension of 2 GiB": (
        content("scan.nii", lambda: EXTENDED + b"\xf0\xff\xff\x7f" + bytes(28) + whole()[352:]),
        "declares 2147483632 bytes",
    ),
    "an extension of a negative length": (
        content("scan.nii", lambda: EXTENDED + b"\xff" * 32 + whole()[352:]),
        "declares -1 bytes",
    ),
    "datatype 0, unknown": (header(datatype=0, bitpix=0), "voxels are"),
    "a datatype that does not exist": (header(datatype=77), "unknown datatype 77"),
    "one bit a voxel": (header(datatype=1, bitpix=1), "unknown datatype 1"),
    "complex voxels": (array(np.ones(SHAPE, np.complex64)), "complex"),
    "colours": (content("scan.nii", structured), "real numbers"),
    "bits that do not fit the datatype": (header(bitpix=16), "16 bits"),
    "slope infinite": (header(scl_slope=INF, scl_inter=0), "scaling"),
    "intercept infinite": (header(scl_slope=1, scl_inter=INF), "scaling"),
    "intercept NaN": (header(scl_slope=2, scl_inter=NAN), "scaling"),
    "slope that makes voxels infinite": (header(scl_slope=3e38, scl_inter=3e38), "infinite"),
    "all NaN": (array(np.full(SHAPE, NAN, np.float32)), "120 voxels are NaN"),
    "one NaN": (array(voxel(NAN)), "1 voxels are NaN"),
    "one infinite": (array(voxel(INF)), "1 voxels are NaN or infinite"),
    "one minus infinite": (array(voxel(-INF)), "1 voxels are NaN or infinite"),
    "float64 beyond float32": (array(voxel(1e30).astype(float) * 1e30), "infinite"),
    "all zero": (array(np.zeros(SHAPE, np.int16)), "constant"),
    "all one value": (array(np.full(SHAPE, 7, np.int16)), "constant"),
    "two channels, one declared": (array(np.stack([IMAGE] * 2, -1)), "1 channel(s)"),
    # Place and size
    "spacing 0": (header(pixdim=[1, 0]), "voxel spacing"),
    "spacing negative": (header(pixdim=[1, 1, -2]), "voxel spacing"),
    "spacing NaN": (header(pixdim=[1, 1, 2, NAN]), "voxel spacing"),
    "spacing infinite": (header(pixdim=[1, INF]), "voxel spacing"),
    "spacing of a kilometre": (header(pixdim=[1, 1e6, 1, 1]), "voxel spacing"),
    "spacing of a nanometre": (header(pixdim=[1, 1e-6, 1, 1]), "voxel spacing"),
    "lengths in metres": (header(xyzt_units=1), "in metres"),
    "lengths in micrometres": (header(xyzt_units=3), "in micrometres"),
    "sform NaN": (header(srow=NAN), "affine"),
    "sform infinite": (header(srow=INF), "affine"),
    "sform of zeros": (header(srow=np.zeros(12)), "affine"),
    "sform with one axis twice": (header(srow=SQUARE[[0, 0, 2]]), "affine"),
    "sform nearly flat": (header(srow=SQUARE[[0, 0, 2]] + 1e-5 * SQUARE[[1, 1, 2]]), "affine"),
    "sform of a kilometre a voxel": (header(srow=SQUARE * 1e6), "affine"),
    "sform a light-year away": (header(srow=[1, 0, 0, 9e18]), "affine"),
    "qform quaternion longer than 1": (
        header(sform_code=0, qform_code=1, quatern=[1, 1, 1]),
        "cannot be read",
    ),
    "qform quaternion NaN": (
        header(sform_code=0, qform_code=1, quatern=[NAN, 0, 0]),
        "affine",
    ),
    "qform place NaN": (header(sform_code=0, qform_code=1, qoffset=[0, NAN, 0]), "affine"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused(tmp_path: Path, name: str, evidence: Callable) -> None:
    evidence("input", "NIfTI", name)
    build, reason = BAD[name]
    path = build(tmp_path)
    refused(lambda: load_volume(Case(INFO.name, "case", path, None), INFO), path.name, reason)


def turned(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return AFFINE @ np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[0, 3] += mm
    return affine


def labelled(value: float, kind: str = "f4") -> np.ndarray:
    values = LABEL.astype(kind)
    values[0, 0, 0] = value
    return values


BAD_LABELS: dict[str, tuple[Builder, str]] = {
    "label with fractions": (array(labelled(1.5)), "declared classes: 1.5"),
    "label negative": (array(labelled(-1, "i2")), "declared classes: -1"),
    "label above the classes": (array(labelled(3, "i2")), "declared classes: 3"),
    "label of 255, as of a mask": (array(LABEL * 255), "declared classes: 254"),
    "label NaN": (array(labelled(NAN)), "declared classes: nan"),
    "label infinite": (array(labelled(INF)), "declared classes: inf"),
    "label beyond int16": (array(labelled(2.0**40, "f8")), "declared classes"),
    "label scaled to fractions": (header(scl_slope=0.3, scl_inter=0), "declared classes"),
    "label complex": (array(LABEL.astype(np.complex64)), "complex"),
    "label of another shape": (array(LABEL[:, :, 1:]), "that of the image (6, 5, 4)"),
    "label with axes exchanged": (array(LABEL.transpose(1, 0, 2)), "its shape is (5, 6, 4)"),
    "label one-hot, four axes": (array(np.stack([LABEL % 2] * 3, -1)), "the shape (6, 5, 4, 3)"),
    "label of one section": (array(LABEL[:, :, 0]), "its shape is (6, 5)"),
    "label shifted by one voxel": (array(LABEL, moved(1)), "its affine differs"),
    "label shifted by a fifth of a voxel": (array(LABEL, moved(0.2)), "its affine differs"),
    "label flipped": (array(LABEL, AFFINE @ np.diag([-1.0, 1, 1, 1])), "its affine differs"),
    "label rotated": (array(LABEL, turned(0.1)), "its affine differs"),
    "label scaled": (array(LABEL, np.diag([1.1, 2.2, 3.3, 1])), "its affine differs"),
    "label absent": (lambda folder: folder / "label.nii.gz", "no such file"),
    "label empty file": (content("label.nii.gz", lambda: b""), "is empty"),
    "label a named pipe": (pipe, "a pipe"),
    "label cut off": (content("label.nii", lambda: whole(LABEL)[:-9]), "more than the file"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_bad_labels_are_refused(tmp_path: Path, name: str, evidence: Callable) -> None:
    evidence("input", "NIfTI", name)
    image = nifti(tmp_path / "image" / "image.nii.gz", IMAGE, AFFINE)
    build, reason = BAD_LABELS[name]
    path = build(tmp_path)
    refused(lambda: load_volume(Case(INFO.name, "case", image, path), INFO), path.name, reason)


@pytest.mark.parametrize("values", [LABEL * np.float32(0.99999994), LABEL + 0.0009 * (LABEL > 1)])
def test_nearly_whole_labels_are_rounded_and_said(tmp_path: Path, values: np.ndarray) -> None:
    image, label = nifti(tmp_path / "a.nii.gz", IMAGE, AFFINE), tmp_path / "labels.nii.gz"
    nifti(label, values, AFFINE)
    shown = str(values.max())
    with pytest.warns(UserWarning) as caught:
        volume = load_volume(Case(INFO.name, "case", image, label), INFO)
    (said,) = [str(warning.message) for warning in caught]
    assert str(label) in said and f"such as {shown} are taken for 2" in said
    np.testing.assert_array_equal(volume.label.numpy().transpose(2, 1, 0), LABEL)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.9989999, "0.9989999"), (2.0010998, "2.0010998"), (-0.0011, "-0.0011")]
)
def test_labels_are_refused_with_their_real_value(tmp_path: Path, value: float, shown: str) -> None:
    image = nifti(tmp_path / "a.nii.gz", IMAGE, AFFINE)
    label = nifti(tmp_path / "labels.nii.gz", labelled(value), AFFINE)
    with pytest.raises(DataError, match=rf"declared classes: {shown}\. Expected"):
        load_volume(Case(INFO.name, "case", image, label), INFO)


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (OSError(5, "Input/output error"), "check the disk"),
        (MemoryError(), ".* more memory"),
        (EOFError("cut"), "if a program is still writing it, .*download or copy it again"),
    ],
)
def test_the_advice_is_that_of_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, fix: str
) -> None:
    path = nifti(tmp_path / "scan.nii.gz", IMAGE)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(gzip.GzipFile, "read", fail)
    with pytest.raises(DataError, match=f"What to do: {fix}") as caught:
        reader.read_nifti(path)
    assert ("download" in str(caught.value)) is isinstance(error, EOFError)


def test_more_than_the_free_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Callable
) -> None:
    evidence("input", "NIfTI", "zeros that unpack to more than the free memory")
    path = save(tmp_path / "scan.nii.gz", gzip.compress(whole(np.zeros((200, 200, 100), "f4"))))
    memory = types.SimpleNamespace(available=20 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    refused(lambda: reader.read_nifti(path), path.name, "of memory that are free")


def test_a_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Callable
) -> None:
    evidence("input", "NIfTI", "no permission to read")
    path = nifti(tmp_path / "scan.nii.gz", IMAGE)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    error = refused(lambda: reader.read_nifti(path), path.name, "Permission denied")
    assert "permissions" in error.fix


@pytest.mark.parametrize(
    "name",
    [
        "a scan with spaces",
        "Größe und Maß",
        unicodedata.normalize("NFC", "Å scan é"),
        unicodedata.normalize("NFD", "Å scan é"),
        "海馬体",
        "🧠",
        "two\nlines",
        "tab\tand\x07bell",
        "-rf",
        "100 % {x} [0] * ? $HOME ~ ' \" `",
        "a.nii",
        "e" * 240,
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_names_of_all_kinds_work(tmp_path: Path, name: str, suffix: str) -> None:
    image = nifti(tmp_path / name / f"{name}{suffix}", IMAGE, AFFINE)
    label = nifti(tmp_path / f"{name} labels"[-99:] / f"{name}{suffix}", LABEL, AFFINE)
    volume = load_volume(Case(INFO.name, name, image, label), INFO)
    np.testing.assert_array_equal(volume.image[0].numpy().transpose(2, 1, 0), IMAGE)
    np.testing.assert_array_equal(volume.label.numpy().transpose(2, 1, 0), LABEL)


def test_links_to_files_elsewhere_work(tmp_path: Path) -> None:
    image = nifti(tmp_path / "store" / "a.nii.gz", IMAGE, AFFINE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan.nii.gz").symlink_to("../store/a.nii.gz")
    (tmp_path / "linked").symlink_to("data")
    path = tmp_path / "linked" / "scan.nii.gz"
    (array,) = load_volume(Case(INFO.name, "case", path, None), INFO).image
    np.testing.assert_array_equal(array.numpy().transpose(2, 1, 0), IMAGE)
    image.unlink()
    refused(lambda: reader.read_nifti(path), "scan.nii.gz", "link leads nowhere")


@pytest.mark.parametrize(
    "fields",
    [
        {"scl_slope": NAN, "scl_inter": NAN},  # as nibabel writes floats
        {"scl_slope": 0, "scl_inter": NAN},  # no scaling, says the standard
        {"xyzt_units": 0},
        {"xyzt_units": 10},
        {"sform_code": 0, "qform_code": 0},
        {"quatern": NAN, "qform_code": 1},  # the sform is what counts
        {"dim": [4, 6, 5, 4, 1]},
        {"pixdim": [0, 1, 2, 3]},
    ],
    ids=str,
)
def test_what_real_files_do_is_read(tmp_path: Path, fields: dict[str, Any]) -> None:
    path = save(tmp_path / "scan.nii", changed(whole(), **fields))
    volume = load_volume(Case(INFO.name, "case", path, None), INFO)
    assert sorted(volume.image.numpy().flat) == sorted(IMAGE.flat)


def test_a_header_extension_is_kept(tmp_path: Path) -> None:
    image = nib.Nifti1Image(IMAGE, AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"seen"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"twice"))
    for name in ("scan.nii", "scan.nii.gz"):
        nib.save(image, tmp_path / name)
        found, voxels = reader.read_nifti(tmp_path / name)
        assert [e.get_content() for e in found.header.extensions] == [b"seen", b"twice"]
        np.testing.assert_array_equal(voxels, IMAGE)


@settings(max_examples=300)
@given(
    packed_=st.booleans(),
    second=st.booleans(),
    cut=st.one_of(st.none(), st.integers(0, 900)),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    packed_: bool,
    second: bool,
    cut: int | None,
    changes: list[tuple[int, int]],
) -> None:
    """Whatever bytes are changed or missing: a volume or a DataError, and nothing else."""
    image_class = nib.Nifti2Image if second else nib.Nifti1Image
    raw = image_class(IMAGE, AFFINE).to_bytes()
    raw = bytearray(gzip.compress(raw, mtime=0) if packed_ else raw)
    for place, value in changes:
        raw[place % len(raw)] = value
    folder = tmp_path_factory.getbasetemp()
    path = save(folder / ("damaged.nii.gz" if packed_ else "damaged.nii"), bytes(raw[:cut]))
    try:
        volume = load_volume(Case(INFO.name, "case", path, None), INFO)
    except DataError as error:
        assert path.name in str(error)
    else:
        assert volume.image.ndim == 4 and np.isfinite(volume.image).all()


def test_label_of_several_channels_is_named_by_its_file(tmp_path: Path) -> None:
    info = dataclasses.replace(INFO, channels=("FLAIR", "T1w"))
    image = nifti(tmp_path / "image.nii.gz", np.stack([IMAGE] * 2, -1), AFFINE)
    label = nifti(tmp_path / "label.nii.gz", np.stack([LABEL] * 2, -1), AFFINE)
    with pytest.raises(DataError, match=r"label.nii.gz: the label has the shape \(6, 5, 4, 2\)"):
        load_volume(Case(INFO.name, "case", image, label), info)
