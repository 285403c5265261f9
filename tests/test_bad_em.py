"""EM volumes that cannot be right (HDF5, Zarr, N5, TIFF) are refused by name and reason."""

from __future__ import annotations

import base64
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import types
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import psutil
import pytest
import tifffile
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from small_files import em as cremi
from small_files import refused

from gtgm.datasets import em, registry
from gtgm.datasets.dataset import em_case
from gtgm.datasets.em_store import LABELS, RAW
from gtgm.errors import DataError
from gtgm.neurons import segment_file

pytestmark = pytest.mark.timeout(120)  # a pipe that is opened hangs for ever
INFO = registry.get("CREMI_A")
RNG = np.random.default_rng(0)
SHAPE = (20, 9, 10)
GREY = RNG.integers(0, 255, SHAPE).astype(np.uint8)
IDS = RNG.integers(1, 9, SHAPE).astype(np.uint64)
WIDE = IDS.astype(np.uint32)
SIZE = (40.0, 4.0, 4.0)
NAN, INF = float("nan"), float("inf")
Builder = Callable[[Path], Path]
HTML = b"<!DOCTYPE html><html>404"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"


def content(name: str, raw: bytes) -> Builder:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(raw)
        return folder / name

    return build


def pipe(name: str) -> Builder:
    def build(folder: Path) -> Path:
        os.mkfifo(folder / name)
        return folder / name

    return build


def link(name: str, target: str) -> Builder:
    def build(folder: Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    return build


def hdf(**arguments: Any) -> Builder:
    return lambda folder: cremi(folder / "volume.hdf", **arguments)


def edited(change: Callable[[h5py.File], None]) -> Builder:
    """A right HDF5 file after a change."""

    def build(folder: Path) -> Path:
        path = cremi(folder / "volume.hdf", raw=GREY, labels=IDS)
        with h5py.File(path, "a") as file:
            change(file)
        return path

    return build


def raw_of(**options: Any) -> Builder:
    """The grey values made anew."""

    def change(file: h5py.File) -> None:
        del file[RAW]
        file.create_dataset(RAW, **options).attrs["resolution"] = SIZE

    return edited(change)


def attribute(key: str, value: Any, name: str = RAW) -> Builder:
    return edited(lambda file: file[name].attrs.__setitem__(key, value))


def linked(target: Any) -> Builder:
    def change(file: h5py.File) -> None:
        del file[RAW]
        file[RAW] = target

    return edited(change)


def external(file: h5py.File) -> None:
    del file[RAW]
    Path(file.filename).with_name("outside.raw").write_bytes(GREY.tobytes())
    data = file.create_dataset(RAW, SHAPE, "u1", external=[("outside.raw", 0, GREY.size)])
    data.attrs["resolution"] = SIZE


def virtual(file: h5py.File) -> None:
    del file[RAW]
    layout = h5py.VirtualLayout(SHAPE, "u1")
    layout[:] = h5py.VirtualSource("outside.h5", "raw", SHAPE)
    file.create_virtual_dataset(RAW, layout).attrs["resolution"] = SIZE


def group_for_array(file: h5py.File) -> None:
    del file[RAW]
    file.create_group(RAW)


def cut_hdf(share: float) -> Builder:
    def build(folder: Path) -> Path:
        path = cremi(folder / "volume.hdf")
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return build


def damaged_block(folder: Path) -> Path:
    path = cremi(folder / "volume.hdf")
    with h5py.File(path, "a") as file:
        del file[RAW]
        data = file.create_dataset(RAW, data=GREY, chunks=(20, 9, 10), compression="gzip")
        data.attrs["resolution"] = SIZE
        place = data.id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[place : place + 40] = b"\xff" * 40
    path.write_bytes(raw)
    return path


def unknown_filter(folder: Path) -> Path:
    """The number of the gzip filter in the file replaced by one that nobody has."""
    path = cremi(folder / "volume.hdf")
    with h5py.File(path, "a") as file:
        del file[RAW]
        file.create_dataset(RAW, data=GREY, chunks=(20, 9, 10), shuffle=True)
        file[RAW].attrs["resolution"] = SIZE
    raw = path.read_bytes()
    found = b"\x02\x00\x08\x00\x01\x00\x01\x00shuffle\0"
    assert raw.count(found) == 1
    path.write_bytes(raw.replace(found, b"\x39\x30\x08\x00\x00\x00\x01\x00shuffle\0"))
    return path


def nan(value: float) -> np.ndarray:
    values = GREY.astype(np.float32)
    values[3, 2, 1] = value
    return values


BAD_HDF5: dict[str, tuple[Builder, str]] = {
    "absent": (lambda folder: folder / "volume.hdf", "no such file"),
    "empty": (content("volume.hdf", b""), "is empty"),
    "text": (content("volume.hdf", b"no volume\n" * 99), "cannot be read as HDF5"),
    "a web page": (content("volume.h5", HTML), "a web page"),
    "a Git LFS pointer": (content("volume.hdf5", LFS), "Git LFS pointer"),
    "the magic bytes alone": (content("volume.hdf", b"\x89HDF\r\n\x1a\n"), "cannot be read as"),
    "a named pipe": (pipe("volume.hdf"), "a pipe"),
    "a broken symbolic link": (link("volume.hdf", "elsewhere.hdf"), "link leads nowhere"),
    "a symbolic link to itself": (link("volume.hdf", "volume.hdf"), "link leads nowhere"),
    "another suffix": (content("volume.mat", b"\x89HDF\r\n\x1a\n"), "known kind"),
    "cut off at 90 %": (cut_hdf(0.9), "cannot be read as HDF5"),
    "cut off at 50 %": (cut_hdf(0.5), "cannot be read as HDF5"),
    "cut off at 10 %": (cut_hdf(0.1), "cannot be read as HDF5"),
    "a damaged compressed block": (damaged_block, "cannot be read as HDF5"),
    "an unknown compression filter": (unknown_filter, "cannot be read as HDF5"),
    "without grey values": (edited(lambda file: file.__delitem__(RAW)), f"no dataset {RAW}"),
    "without labels": (edited(lambda file: file.__delitem__(LABELS)), f"no dataset {LABELS}"),
    "a name that is not UTF-8": (
        edited(lambda file: (file.move(RAW, b"volumes/r\xffw"), None)[1]),
        "volumes/r\\xffw (20, 9, 10) uint8",
    ),
    "without anything": (edited(lambda file: file.__delitem__("volumes")), "found: nothing"),
    "a group where the array should be": (edited(group_for_array), f"no dataset {RAW}"),
    "a link to another file": (
        linked(h5py.ExternalLink("outside.h5", "/raw")),
        "a link to another file",
    ),
    "a link to another name": (linked(h5py.SoftLink(f"/{LABELS}")), "a link to another name"),
    "a dangling link": (linked(h5py.SoftLink("/nowhere")), "a link to another name"),
    "a link to itself": (linked(h5py.SoftLink(f"/{RAW}")), "a link to another name"),
    "voxels outside of the file": (edited(external), "lie in other files"),
    "a virtual dataset": (edited(virtual), "lie in other files"),
    "a scalar": (raw_of(data=np.uint8(3)), "not a 3D dataset"),
    "a null dataspace": (raw_of(data=h5py.Empty("u1")), f"no dataset {RAW}"),
    "one section without axis": (hdf(raw=GREY[0], labels=IDS[0]), "not a 3D dataset"),
    "four axes": (hdf(raw=np.stack([GREY] * 2)), "not a 3D dataset"),
    "no sections": (hdf(raw=GREY[:0], labels=IDS[:0]), "is empty"),
    "no rows": (hdf(raw=GREY[:, :0], labels=IDS[:, :0]), "is empty"),
    "signed grey values": (hdf(raw=GREY.astype(np.int16)), "grey values as uint8"),
    "32-bit grey values": (hdf(raw=GREY.astype(np.uint32)), "grey values as uint8"),
    "complex grey values": (hdf(raw=GREY.astype(np.complex64)), "grey values as uint8"),
    "truth values as grey values": (hdf(raw=GREY > 9), "grey values as uint8"),
    "texts": (raw_of(data=np.full(SHAPE, b"a", "S3")), "grey values as uint8"),
    "texts of any length": (
        raw_of(shape=SHAPE, dtype=h5py.string_dtype()),
        "grey values as uint8",
    ),
    "references": (raw_of(shape=SHAPE, dtype=h5py.ref_dtype), "grey values as uint8"),
    "a compound type": (raw_of(shape=SHAPE, dtype=[("a", "u1"), ("b", "f4")]), "grey values as"),
    "opaque bytes": (raw_of(shape=SHAPE, dtype="V16"), "grey values as uint8"),
    "grey values with a NaN": (hdf(raw=nan(NAN)), "NaN or infinite"),
    "grey values with an infinity": (hdf(raw=nan(INF)), "NaN or infinite"),
    "float64 beyond float32": (hdf(raw=nan(1e30).astype(float) * 1e30), "NaN or infinite"),
    "all black": (hdf(raw=np.zeros(SHAPE, np.uint8)), "constant"),
    "never written, in blocks": (
        raw_of(shape=SHAPE, dtype="u1", chunks=(10, 9, 10)),
        "2 of 2 blocks of volumes/raw are absent: 0.0.0, 1.0.0 (z.y.x)",
    ),
    "never written, not in blocks": (raw_of(shape=SHAPE, dtype="u1"), "1 of 1 blocks of"),
    "terabytes declared, no block stored": (
        raw_of(shape=(1_000_000,) * 3, dtype="u1", chunks=(8, 64, 64)),
        "declares the shape",
    ),
    "terabytes declared, not in blocks": (
        raw_of(shape=(100_000, 10_000, 10_000), dtype="u2"),
        "declares the shape",
    ),
    "blocks of 3 GiB": (
        raw_of(shape=(1500, 1500, 1500), dtype="u1", chunks=(1500, 1500, 1500), compression="gzip"),
        "declares the shape",
    ),
    "resolution absent": (
        edited(lambda file: file[RAW].attrs.__delitem__("resolution")),
        "names no usable resolution",
    ),
    "resolution of two numbers": (attribute("resolution", (40, 4)), "names no usable resolution"),
    "resolution of four numbers": (attribute("resolution", (1,) * 4), "names no usable resolution"),
    "resolution is one number": (attribute("resolution", 4), "names no usable resolution"),
    "resolution empty": (attribute("resolution", h5py.Empty("f8")), "names no usable resolution"),
    "resolution a text": (attribute("resolution", "40 4 4"), "names no usable resolution"),
    "resolution of texts": (attribute("resolution", ["40", "4", "4"]), "names no usable resol"),
    "resolution complex": (attribute("resolution", [40j, 4, 4]), "names no usable resolution"),
    "resolution NaN": (attribute("resolution", (NAN, 4, 4)), "names no usable resolution"),
    "resolution infinite": (attribute("resolution", (INF, 4, 4)), "names no usable resolution"),
    "resolution 0": (attribute("resolution", (40, 0, 4)), "the resolution is"),
    "resolution negative": (attribute("resolution", (40, 4, -4)), "the resolution is"),
    "resolution of a metre": (attribute("resolution", (1e9, 4, 4)), "the resolution is"),
    "resolution in metres": (attribute("resolution", (4e-8, 4e-9, 4e-9)), "the resolution is"),
    "labels of another resolution": (
        attribute("resolution", (40, 8, 8), LABELS),
        "labels on the grid",
    ),
    "labels smaller, without offset": (hdf(labels=IDS[2:]), "has the shape"),
    "labels larger": (hdf(raw=GREY[2:], labels=IDS), "has the shape"),
    "labels larger, with offset": (hdf(raw=GREY[2:], labels=IDS, offset=(0, 0, 0)), "does not fit"),
    "labels of two axes": (hdf(labels=IDS[0]), "not a 3D dataset"),
    "offset outside": (hdf(labels=IDS[:5], offset=(4000, 0, 0)), "does not fit"),
    "offset negative": (hdf(labels=IDS[:5], offset=(-40, 0, 0)), "does not fit"),
    "offset between voxels": (hdf(labels=IDS[:5], offset=(50, 0, 0)), "not on the grid"),
    "offset NaN": (hdf(labels=IDS[:5], offset=(NAN, 0, 0)), "no usable attribute"),
    "offset infinite": (hdf(labels=IDS[:5], offset=(INF, 0, 0)), "no usable attribute"),
    "offset beyond int64": (hdf(labels=IDS[:5], offset=(1e300, 0, 0)), "not on the grid"),
    "offset of two numbers": (hdf(labels=IDS[:5], offset=(0, 0)), "no usable attribute"),
    "labels negative": (hdf(labels=-IDS.astype(np.int64)), "negative ids"),
    "labels as floats": (hdf(labels=IDS.astype(np.float32)), "integer neuron ids"),
    "labels as truth values": (hdf(labels=IDS > 4), "integer neuron ids"),
}


def zarr_with(options: dict[str, Any] | None = None, **changes: Any) -> Builder:
    """A right Zarr folder, but for these fields of the grey values' description."""

    def build(folder: Path) -> Path:
        path = stored(folder / "volume.zarr", **(options or {}))
        described = path / RAW / ".zarray"
        value = {**json.loads(described.read_text()), **changes}
        described.write_text(json.dumps(value))
        return path

    return build


def stored(path: Path, **options: Any) -> Path:
    kind = zarr.N5Store if path.suffix == ".n5" else zarr.DirectoryStore
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        group = zarr.group(kind(str(path)))
        for name, values in ((RAW, GREY), (LABELS, IDS)):
            array = group.create_dataset(name, data=values, chunks=(20, 9, 10), **options)
            array.attrs["resolution"] = SIZE if path.suffix == ".zarr" else SIZE[::-1]
    return path


def written(suffix: str, name: str, raw: bytes, **options: Any) -> Builder:
    """A right Zarr or N5 folder, in which one file holds something else."""

    def build(folder: Path) -> Path:
        path = stored(folder / f"volume{suffix}", **options)
        assert (path / name).is_file()
        (path / name).write_bytes(raw)
        return path

    return build


def n5_with(**changes: Any) -> Builder:
    def build(folder: Path) -> Path:
        path = stored(folder / "volume.n5")
        described = path / RAW / "attributes.json"
        value = {**json.loads(described.read_text()), **changes}
        described.write_text(json.dumps(value))
        return path

    return build


def made(name: str, *files: tuple[str, bytes]) -> Builder:
    def build(folder: Path) -> Path:
        (folder / name).mkdir()
        for file, raw in files:
            (folder / name / file).write_bytes(raw)
        return folder / name

    return build


CODECS = {
    "Blosc": numcodecs.Blosc(),
    "Zstd": numcodecs.Zstd(),
    "LZ4": numcodecs.LZ4(),
    "gzip": numcodecs.GZip(),
    "not compressed": None,
}
BLOSC = numcodecs.Blosc().encode(GREY)
DEEP = b"[" * 200_000
BAD_ZARR: dict[str, tuple[Builder, str]] = {
    "an empty folder": (made("volume.zarr"), "cannot be read as ZARR"),
    "a file, not a folder": (content("volume.zarr", b"x"), "known kind"),
    "version 3": (made("volume.zarr", ("zarr.json", b"{}")), "Zarr version 3"),
    "a group without arrays": (made("volume.zarr", (".zgroup", b'{"zarr_format": 2}')), "nothing"),
    "a group of another version": (
        made("volume.zarr", (".zgroup", b'{"zarr_format": 7}')),
        "cannot be read as ZARR",
    ),
    "a group that is no JSON": (made("volume.zarr", (".zgroup", b"{")), "cannot be read as ZARR"),
    "description cut off": (written(".zarr", f"{RAW}/.zarray", b"{"), "cannot be read as ZARR"),
    "description empty": (written(".zarr", f"{RAW}/.zarray", b""), "cannot be read as ZARR"),
    "description a list": (written(".zarr", f"{RAW}/.zarray", b"[]"), "cannot be read as ZARR"),
    "description binary": (written(".zarr", f"{RAW}/.zarray", b"\xff" * 9), "cannot be read as"),
    "description nested 200 000 deep": (written(".zarr", f"{RAW}/.zarray", DEEP), "cannot be read"),
    "attributes cut off": (written(".zarr", f"{RAW}/.zattrs", b"{"), "cannot be read as ZARR"),
    "attributes a list": (written(".zarr", f"{RAW}/.zattrs", b"[]"), "volume.zarr"),
    "shape negative": (zarr_with(shape=[-20, 9, 10]), "its shape is (-20, 9, 10)"),
    "shape of texts": (zarr_with(shape=["20", "9", "10"]), "volume.zarr"),
    "shape of fractions": (zarr_with(shape=[20.5, 9, 10]), "volume.zarr"),
    "shape null": (zarr_with(shape=None), "cannot be read as ZARR"),
    "shape of 60 axes": (zarr_with(shape=[2] * 60, chunks=[2] * 60), "volume.zarr"),
    "shape of terabytes": (zarr_with(shape=[10**6] * 3), "declares the shape"),
    "shape beyond int64": (zarr_with(shape=[10**30, 9, 10]), "volume.zarr"),
    "blocks of 0 voxels": (zarr_with(chunks=[0, 9, 10]), "volume.zarr"),
    "blocks of a negative size": (zarr_with(chunks=[-20, 9, 10]), "in blocks of the shape"),
    "blocks of two axes": (zarr_with(chunks=[20, 9]), "volume.zarr"),
    "blocks of terabytes": (zarr_with(chunks=[10**6] * 3), "blocks of"),
    "blocks smaller than those stored": (zarr_with(chunks=[10, 9, 10]), "1 of 2 blocks of"),
    "blocks larger than those stored": (zarr_with(chunks=[40, 9, 10]), "cannot be read as ZARR"),
    **{
        f"a type of twice the size, {codec}": (
            zarr_with({"compressor": made_by}, dtype="<u2"),
            "cannot be read as ZARR",
        )
        for codec, made_by in CODECS.items()
    },
    "a type that does not exist": (zarr_with(dtype="<q9"), "cannot be read as ZARR"),
    "complex": (zarr_with(dtype="<c8", fill_value=[0, 0]), "grey values as uint8"),
    "texts": (zarr_with(dtype="<U9", fill_value=""), "grey values as uint8"),
    "objects": (zarr_with(dtype="|O"), "cannot be read as ZARR"),
    "a type with fields": (zarr_with(dtype=[["a", "|u1"]], fill_value=None), "grey values as"),
    "an unknown compressor": (zarr_with(compressor={"id": "zip9"}), "cannot be read as ZARR"),
    "a compressor without name": (zarr_with(compressor={}), "cannot be read as ZARR"),
    "another compressor than that of the blocks": (
        zarr_with(compressor={"id": "gzip", "level": 1}),
        "cannot be read as ZARR",
    ),
    "a fill value that is a text": (zarr_with(fill_value="grey"), "cannot be read as ZARR"),
    "an order that does not exist": (zarr_with(order="Z"), "cannot be read as ZARR"),
    "a block of zero bytes": (written(".zarr", f"{RAW}/0.0.0", b""), "cannot be read as ZARR"),
    "a block cut off": (written(".zarr", f"{RAW}/0.0.0", BLOSC[:-30]), "cut off"),
    "a block of random bytes": (
        written(".zarr", f"{RAW}/0.0.0", bytes(range(256)) * 5),
        "cannot be read as ZARR",
    ),
    "a block cut off, not compressed": (
        written(".zarr", f"{RAW}/0.0.0", GREY.tobytes()[:-1], compressor=None),
        "cannot be read as ZARR",
    ),
    "blocks nested in folders, which is not described": (
        lambda folder: nested(folder),
        "1 of 1 blocks of volumes/raw are absent: 0.0.0 (z.y.x); there are blocks in nested",
    ),
    "half of the blocks not copied": (
        lambda folder: half(folder),
        "1 of 2 blocks of volumes/raw are absent: 1.0.0",
    ),
    "a block that is a pipe": (
        lambda folder: with_block(folder, lambda block: os.mkfifo(block)),
        "1 of 1 blocks of volumes/raw are absent: 0.0.0",
    ),
    "a block that is a broken link": (
        lambda folder: with_block(folder, lambda block: block.symlink_to("elsewhere")),
        "1 of 1 blocks of volumes/raw are absent: 0.0.0",
    ),
    "a link to the folder itself": (
        lambda folder: looped(folder),
        "found: nothing",
    ),
}


def with_block(folder: Path, make: Callable[[Path], None]) -> Path:
    path = stored(folder / "volume.zarr")
    (path / RAW / "0.0.0").unlink()
    make(path / RAW / "0.0.0")
    return path


def nested(folder: Path) -> Path:
    path = stored(folder / "volume.zarr")
    (path / RAW / "0.0.0").rename(path / RAW / "block")
    (path / RAW / "0" / "0").mkdir(parents=True)
    (path / RAW / "block").rename(path / RAW / "0" / "0" / "0")
    return path


def half(folder: Path) -> Path:
    path = stored(folder / "volume.zarr")
    options = {"data": GREY, "chunks": (10, 9, 10), "overwrite": True}
    zarr.open_group(str(path)).create_dataset(RAW, **options).attrs["resolution"] = SIZE
    (path / RAW / "1.0.0").unlink()
    return path


def looped(folder: Path) -> Path:
    path = folder / "volume.zarr"
    zarr.open_group(str(path), mode="w")
    (path / "again").symlink_to(".")
    return path


BAD_N5: dict[str, tuple[Builder, str]] = {
    "an empty folder": (made("volume.n5"), "volume.n5"),
    "description cut off": (written(".n5", f"{RAW}/attributes.json", b"{"), "cannot be read as N5"),
    "description a list": (written(".n5", f"{RAW}/attributes.json", b"[]"), "cannot be read as N5"),
    "dimensions negative": (n5_with(dimensions=[10, 9, -20]), "volume.n5"),
    "dimensions null": (n5_with(dimensions=None), "cannot be read as N5"),
    "dimensions of terabytes": (n5_with(dimensions=[10**6] * 3), "declares the shape"),
    "blocks of 0 voxels": (n5_with(blockSize=[10, 9, 0]), "volume.n5"),
    "blocks of terabytes": (n5_with(blockSize=[10**6] * 3), "blocks of"),
    "a type that does not exist": (n5_with(dataType="uint7"), "cannot be read as N5"),
    "objects": (n5_with(dataType="object"), "volume.n5"),
    "an unknown compression": (n5_with(compression={"type": "zip9"}), "cannot be read as N5"),
    "compression without type": (n5_with(compression={}), "cannot be read as N5"),
    "a block of random bytes": (
        written(".n5", f"{RAW}/0/0/0", bytes(range(256)) * 5),
        "cannot be read as N5",
    ),
    "a block of four bytes": (written(".n5", f"{RAW}/0/0/0", b"\0\0\0\3"), "cannot be read as N5"),
    "a block that declares another size": (
        lambda folder: declares_another_size(folder),
        "cannot be read as N5",
    ),
}


def declares_another_size(folder: Path) -> Path:
    path = stored(folder / "volume.n5")
    block = path / RAW / "0" / "0" / "0"
    raw = bytearray(block.read_bytes())
    raw[4:8] = (99).to_bytes(4, "big")
    block.write_bytes(raw)
    return path


def tiff(values: np.ndarray, labels: np.ndarray = WIDE, **options: Any) -> Builder:
    def build(folder: Path) -> Path:
        tifffile.imwrite(folder / "volume.tif", values, **options)
        tifffile.imwrite(folder / "volume_labels.tif", labels)
        return folder / "volume.tif"

    return build


def pages(*sections: np.ndarray) -> Builder:
    def build(folder: Path) -> Path:
        with tifffile.TiffWriter(folder / "volume.tif") as writer:
            for section in sections:
                writer.write(section, contiguous=False)
        return folder / "volume.tif"

    return build


def tagged(**tags: int) -> Builder:
    """A deflated stack whose pages declare something else."""

    def build(folder: Path) -> Path:
        path = tiff(GREY, compression="zlib", rowsperstrip=9)(folder)
        with tifffile.TiffFile(path, mode="r+") as file:
            for page in file.pages:
                for name, value in tags.items():
                    page.tags[name].overwrite(value)
                if "ImageDescription" in page.tags:
                    page.tags["ImageDescription"].overwrite("", dtype="s")
        return path

    return build


def cut_tiff(count: int, **options: Any) -> Builder:
    def build(folder: Path) -> Path:
        path = tiff(GREY, **options)(folder)
        path.write_bytes(path.read_bytes()[:count])
        return path

    return build


def ring(folder: Path) -> Path:
    """The last page is followed by the first."""
    path = pages(*GREY[:3])(folder)
    with tifffile.TiffFile(path) as file:
        last, first = file.pages.next_page_offset, file.pages[0].offset
    raw = bytearray(path.read_bytes())
    raw[last : last + 4] = first.to_bytes(4, "little")
    path.write_bytes(raw)
    return path


def sections(folder: Path, **wrong: Callable[[Path], None]) -> Path:
    """A folder of sections, some of them written by others."""
    for name, values in (("volume", GREY), ("volume_labels", WIDE)):
        (folder / name).mkdir()
        for i, section in enumerate(values):
            tifffile.imwrite(folder / name / f"s{i}.tif", section)
    for name, write in wrong.items():
        write(folder / "volume" / f"{name}.tif")
    return folder / "volume"


BAD_TIFF: dict[str, tuple[Builder, str]] = {
    "empty": (content("volume.tif", b""), "is empty"),
    "text": (content("volume.tif", b"no volume\n" * 99), "cannot be read as TIFF"),
    "a web page": (content("volume.tiff", HTML), "a web page"),
    "a Git LFS pointer": (content("volume.tif", LFS), "Git LFS pointer"),
    "a named pipe": (pipe("volume.tif"), "a pipe"),
    "a broken symbolic link": (link("volume.tif", "elsewhere.tif"), "link leads nowhere"),
    "the magic bytes alone": (content("volume.tif", b"II*\0"), "cannot be read as TIFF"),
    "no page": (content("volume.tif", b"II*\0\0\0\0\0"), "cannot be read as TIFF"),
    "the first page behind the end": (content("volume.tif", b"II*\0\xff\xff\0\0"), "cannot be rea"),
    "another byte order mark": (content("volume.tif", b"IM*\0" + bytes(99)), "cannot be read"),
    "cut off in the first page": (cut_tiff(60), "cannot be read as TIFF"),
    "cut off in the voxels": (cut_tiff(900), "cannot be read as TIFF"),
    "cut off in the voxels, deflated": (cut_tiff(2500, compression="zlib"), "cannot be read as"),
    "pages in a ring": (ring, "cannot be read as TIFF"),
    "colours": (tiff(np.stack([GREY] * 3, -1), photometric="rgb"), "no single stack"),
    "one section": (tiff(GREY[0], IDS[0].astype(np.uint32)), "no single stack"),
    "time and sections": (
        tiff(np.stack([GREY] * 2), imagej=True, metadata={"axes": "TZYX"}),
        "no single stack",
    ),
    "pages of two shapes": (pages(GREY[0], GREY[1, 1:]), "no single stack"),
    "pages of two types": (pages(GREY[0], GREY[1].astype(np.uint16)), "no single stack"),
    "signed grey values": (tiff(GREY.astype(np.int16)), "grey values as uint8"),
    "complex": (tiff(GREY.astype(np.complex64)), "grey values as uint8"),
    "a NaN": (tiff(nan(NAN)), "NaN or infinite"),
    "all black": (tiff(np.zeros(SHAPE, np.uint8)), "constant"),
    "a width of 60 000": (
        tagged(ImageWidth=60_000, ImageLength=60_000, RowsPerStrip=60_000),
        "declares the shape",
    ),
    "a width of 0": (tagged(ImageWidth=0), "volume.tif"),
    "a type of 7 bits": (tagged(BitsPerSample=7), "volume.tif"),
    "an unknown compression": (tagged(Compression=9999), "cannot be read as TIFF"),
    "two samples a pixel": (tagged(SamplesPerPixel=2), "volume.tif"),
    "labels of another shape": (tiff(GREY, IDS[1:].astype(np.uint32)), "has the shape"),
    "labels as floats": (tiff(GREY, IDS.astype(np.float32)), "integer neuron ids"),
    "labels negative": (tiff(GREY, -IDS.astype(np.int32)), "negative ids"),
    "without labels beside it": (pages(*GREY), "no labels beside"),
    "labels beside it a broken link": (
        lambda folder: (pages(*GREY)(folder), link("volume_labels.tif", "none")(folder))[0],
        "link leads nowhere",
    ),
    "a folder without sections": (made("volume", ("a.txt", b"x")), "no TIFF files"),
    "a folder with a section of another shape": (
        lambda folder: sections(folder, s7=lambda p: tifffile.imwrite(p, GREY[0, 1:])),
        "s7.tif: the section has shape",
    ),
    "a folder with a section of another type": (
        lambda folder: sections(folder, s7=lambda p: tifffile.imwrite(p, GREY[0].astype("u2"))),
        "s7.tif: the section has shape",
    ),
    "a folder with an empty section": (
        lambda folder: sections(folder, s7=lambda p: p.write_bytes(b"")),
        "s7.tif: the file cannot be read as TIFF",
    ),
    "a folder with a stack in it": (
        lambda folder: sections(folder, s7=lambda p: tifffile.imwrite(p, GREY)),
        "s7.tif: the file has 20 page",
    ),
}

BAD = {
    (kind, name): case
    for kind, cases in (
        ("HDF5", BAD_HDF5),
        ("Zarr", BAD_ZARR),
        ("N5", BAD_N5),
        ("TIFF", BAD_TIFF),
    )
    for name, case in cases.items()
}


@pytest.mark.parametrize(("kind", "name"), BAD)
def test_bad_volumes_are_refused(tmp_path: Path, kind: str, name: str, evidence: Callable) -> None:
    evidence("input", kind, name)
    build, reason = BAD[kind, name]
    path = build(tmp_path)
    refused(lambda: em.read_case(em_case(INFO, path), INFO), "volume", reason)


@pytest.fixture
def segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``segment_em_file`` of a network that was never trained."""
    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    network.encoder = types.SimpleNamespace(divisor=(1, 1, 1))
    about = {"task": "neurons", "chosen": {"waterz": 0.5}, "resolution": SIZE}
    about["settings"] = {"patch": (4, 8, 8), "bf16": False}
    monkeypatch.setattr(segment_file, "load_segmenter", lambda weights: (network, about))
    return lambda path, **given: segment_file.segment_em_file(path, tmp_path / "out", "W", **given)


@pytest.mark.parametrize(("kind", "name"), BAD)
def test_what_is_read_in_parts_is_refused_as_what_is_read_at_once(
    tmp_path: Path, kind: str, name: str, segment: Callable
) -> None:
    """Segmentation reads grey values a few sections at a time, and sees all that ``read`` sees."""
    path = BAD[kind, name][0](tmp_path)
    given = {"resolution": SIZE if kind == "TIFF" else None}
    try:
        em.read(path, labels=False, **given)
    except DataError as error:
        with pytest.raises(DataError, match=re.escape(str(error))):
            segment(path, **given)
        assert not (tmp_path / "out" / "fragments.zarr").exists()
    else:
        assert any(word in name for word in ("label", "offset"))


def test_a_volume_that_begins_black_is_segmented_in_parts(
    tmp_path: Path, segment: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtgm.neurons.segment.SLAB", 300)  # three sections
    black = GREY * (np.arange(20) > 9)[:, None, None].astype(np.uint8)
    path = cremi(tmp_path / "volume.hdf", raw=black)
    labels = segment(path)
    assert labels.shape == SHAPE and labels.attrs["neurons"] > 0
    with h5py.File(path, "a") as file:
        file[RAW][10:] = 0
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(DataError, match="sections 0–19 are constant .every grey value is 0"):
        segment(path)


HOLD = """
import h5py, sys
file = h5py.File(sys.argv[1], "w", libver="latest")
file["volumes/raw"] = range(999)
file.flush()
if sys.argv[2] == "swmr":
    file.swmr_mode = True
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["open", "swmr"])
def test_a_file_that_is_open_or_was_not_closed_is_not_called_damaged(
    tmp_path: Path, how: str, evidence: Callable
) -> None:
    evidence("input", "HDF5", f"open in another program, {how}")
    evidence("input", "HDF5", f"not closed by a program that was killed, {how}")
    path = tmp_path / "volume of mine.hdf"
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        error = refused(lambda: em.read(path), "volume", "another program")
        assert error.fix.startswith("close it in the other program")
        other.kill()
    error = refused(lambda: em.read(path), "volume", "was not closed properly")
    assert f"h5clear -s '{path}'" in error.fix and "download" not in str(error)
    path = cut_hdf(0.5)(tmp_path)
    assert "download it again" in refused(lambda: em.read(path), "volume", "cannot be read").fix


class Runs:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("where", ["filter", "compressor", "fill value", "N5 compression"])
def test_nothing_is_unpickled(tmp_path: Path, where: str, evidence: Callable) -> None:
    evidence("input", "Zarr" if where != "N5 compression" else "N5", f"code to unpickle: {where}")
    code = pickle.dumps(Runs(tmp_path / "ran"))
    if where == "N5 compression":
        path = n5_with(compression={"type": "pickle", "id": "pickle"})(tmp_path)
        (path / RAW / "0" / "0" / "0").write_bytes(bytes(16) + code)
    elif where == "fill value":
        path = zarr_with(
            dtype=[["a", "|O"]],
            filters=[{"id": "pickle", "protocol": 5}],
            fill_value=base64.b64encode(code).decode(),
        )(tmp_path)
    else:
        given_ = {"filters": [{"id": "pickle"}], "compressor": None}
        given_ = given_ if where == "filter" else {"compressor": {"id": "pickle"}}
        path = zarr_with(**given_)(tmp_path)
        (path / RAW / "0.0.0").write_bytes(code)
    refused(lambda: em.read(path), path.name, "cannot be read as")
    assert not (tmp_path / "ran").exists()
    pickle.loads(code)
    assert (tmp_path / "ran").exists()  # so it would have


def test_more_than_the_free_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Callable
) -> None:
    evidence("input", "HDF5", "zeros that unpack to more than the free memory")
    path = tmp_path / "volume.hdf"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(RAW, (200, 500, 500), "u1", chunks=True, compression="gzip")
        data[...] = 0
        data.attrs["resolution"] = SIZE
    memory = types.SimpleNamespace(available=20 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    refused(lambda: em.read(path, labels=False), "volume.hdf", "of memory that are free")


@pytest.mark.parametrize(
    "name",
    ["a volume", "Größe", unicodedata.normalize("NFD", "Å é"), "海馬体", "🧠", "two\nlines", "-rf"],
)
@pytest.mark.parametrize("suffix", [".hdf", ".zarr", ".n5", ".tif"])
def test_names_of_all_kinds_work(tmp_path: Path, name: str, suffix: str) -> None:
    folder = tmp_path / f"store {name}"
    folder.mkdir()
    path = folder / f"{name}{suffix}"
    if suffix == ".tif":
        tiff(GREY)(folder).rename(path)
        (folder / "volume_labels.tif").rename(folder / f"{name}_labels.tif")
    elif suffix == ".hdf":
        cremi(path, raw=GREY, labels=IDS)
    else:
        stored(path)
    (tmp_path / "linked").symlink_to(folder)
    for found in (path, tmp_path / "linked" / path.name):
        volume = em.read_case(em_case(INFO, found), INFO)
        np.testing.assert_array_equal(volume.raw, GREY)
        np.testing.assert_array_equal(volume.labels, IDS)


@pytest.mark.filterwarnings("ignore::gtgm.datasets.em_array.AbsentBlocks")
@settings(max_examples=150)
@given(
    suffix=st.sampled_from([".hdf", ".zarr", ".n5", ".tif"]),
    chosen=st.integers(0, 30),
    cut=st.one_of(st.none(), st.integers(0, 2000)),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4),
)
def test_a_damaged_volume_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    chosen: int,
    cut: int | None,
    changes: list[tuple[int, int]],
) -> None:
    """Whatever bytes of whatever file are changed or missing: a volume or a DataError."""
    folder = tmp_path_factory.mktemp("damaged")
    build = {".tif": tiff(GREY), ".hdf": hdf(raw=GREY, labels=IDS)}
    path = build.get(suffix, lambda folder: stored(folder / f"volume{suffix}"))(folder)
    files = sorted(p for p in path.rglob("*") if p.is_file()) or [path]
    file = files[chosen % len(files)]
    raw = bytearray(file.read_bytes())
    for place, value in changes:
        raw[place % len(raw)] = value
    file.write_bytes(raw[:cut])
    try:
        volume = em.read_case(em_case(INFO, path), INFO)
    except DataError as error:
        assert "volume" in str(error)
    else:
        assert volume.raw.ndim == 3 and volume.labels.shape == volume.raw.shape
