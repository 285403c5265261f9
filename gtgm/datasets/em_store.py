"""EM volumes in HDF5, Zarr (version 2) and N5: which array is what, and its size in nm.

Names: those that are given, else CREMI's (https://cremi.org/data), else the only 3D array that can
be grey values (uint8, uint16) and the only other 3D array of integers. Resolution and offset: the
attributes ``resolution`` and ``offset`` (nm; z y x, but x y z in N5, as its tools write them),
``element_size_um`` (µm, Fiji), ``pixelResolution`` (N5) or OME-NGFF ``multiscales``.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numcodecs
import numpy as np
import zarr
from numcodecs.registry import codec_registry

from gtgm.datasets.em_array import MAX_COMPRESSION, AbsentBlocks, EMArray, Triple, in_nm, readable
from gtgm.errors import DataError

RAW = "volumes/raw"
LABELS = "volumes/labels/neuron_ids"
HDF5_SUFFIXES = (".hdf", ".h5", ".hdf5")
ZARR_SUFFIXES = (".zarr", ".n5")
SINGLE = "(the array itself)"
# Unpickling runs what the file says, already when zarr decodes a fill value.
codec_registry.pop("pickle", None)


@contextmanager
def open_array(
    path: Path,
    role: Literal["raw", "labels"],
    key: str | None = None,
    other: str | None = None,
) -> Iterator[EMArray]:
    """Open the grey values or the labels of a file; nothing is read before ``load``.

    Arrays of more than three axes are accepted if the leading ones have length 1.

    Args:
        path: an HDF5 file, or a Zarr or N5 folder.
        role: which of the two.
        key: name of the array; None to look for it.
        other: name of the array of the other role, if it lies in the same file and is known.

    Warns:
        AbsentBlocks: in ``check``, as ``_check_blocks`` says.

    Raises:
        DataError: not such a file, damaged, or no array, or none that is the only candidate.
    """
    kind = "HDF5" if path.suffix.lower() not in ZARR_SUFFIXES else path.suffix[1:].upper()
    with _root(path, kind) as root:
        with readable(path, kind):
            arrays = _arrays(root)
        name = key if key is not None else _find(arrays, role, other, path)
        name = name.strip("/") or SINGLE
        if name not in arrays:
            raise _no_array(f"has no dataset {name}{_link(root, name)}", arrays, path)
        array = arrays[name]
        if isinstance(array, h5py.Dataset) and (array.is_virtual or array.external):
            raise DataError(
                f"the voxels of {name} lie in other files",
                where=path,
                expected="voxels in the file itself",
                fix="copy the dataset into one file, for example with h5repack",
            )
        if array.ndim < 3 or any(n != 1 for n in array.shape[:-3]):
            raise _no_array(f"{name} is not a 3D dataset, its shape is {array.shape}", arrays, path)
        if array.chunks and min(array.chunks) < 1:
            raise DataError(
                f"{name} is stored in blocks of the shape {tuple(array.chunks)}",
                where=path,
                expected="blocks of at least one voxel",
                fix="write the volume again",
            )
        with readable(path, kind):
            described = _describe(array, name, role, root, path, kind)
        yield described


@contextmanager
def _root(path: Path, kind: str) -> Iterator[Any]:
    if kind == "HDF5":
        with readable(path, kind):
            file = h5py.File(path, "r")
        with file:
            yield file
        return
    if (path / "zarr.json").is_file():
        raise DataError(
            "this is Zarr version 3",
            where=path,
            expected="version 2 (.zgroup, .zarray), or N5",
            fix="write it with zarr_format=2",
        )
    with readable(path, kind), warnings.catch_warnings():
        # N5Store says with each use that zarr 3 will not have it.
        warnings.simplefilter("ignore", FutureWarning)
        store = zarr.N5Store(str(path)) if kind == "N5" else zarr.DirectoryStore(str(path))
        root = zarr.open(store, mode="r")
    yield root


def _arrays(root: Any) -> dict[str, Any]:
    """All arrays by name; of an OME-NGFF pyramid only the finest."""
    if isinstance(root, zarr.Array):
        return {SINGLE: root}
    found: dict[str, Any] = {}
    coarse: set[str] = set()

    def visit(name: str | bytes, node: Any) -> None:
        if isinstance(name, bytes):  # h5py, of names that are not UTF-8
            name = name.decode("utf-8", "backslashreplace")
        if isinstance(node, h5py.Dataset | zarr.Array):
            if node.shape is not None:  # HDF5 knows arrays without a shape
                found[name] = node
        else:
            add_coarse(name, node)

    def add_coarse(name: str, group: Any) -> None:
        for scales in _multiscales(group):
            coarse.update(f"{name}/{d['path']}".strip("/") for d in scales["datasets"][1:])

    add_coarse("", root)
    root.visititems(visit)
    return {name: array for name, array in found.items() if name not in coarse}


def _find(arrays: Mapping[str, Any], role: str, other: str | None, path: Path) -> str:
    if RAW in arrays or LABELS in arrays:
        return RAW if role == "raw" else LABELS
    taken = (other or "").strip("/")
    volumes = {n: a.dtype for n, a in arrays.items() if a.ndim >= 3 and n != taken}
    if role == "raw":
        fitting = [n for n, t in volumes.items() if t.kind == "u" and t.itemsize <= 2]
    else:
        fitting = [n for n, t in volumes.items() if t.kind in "ui"]
        if len(fitting) > 1:
            fitting = [n for n in fitting if volumes[n].itemsize > 2]
    if len(fitting) == 1:
        return fitting[0]
    name = RAW if role == "raw" else LABELS
    what = {"raw": "3D uint8 or uint16", "labels": "3D integer"}[role]
    raise _no_array(f"has no dataset {name} and {len(fitting)} others of {what}", arrays, path)


def _link(root: Any, name: str) -> str:
    """Says so if the name is a link of HDF5, which is not followed."""
    try:
        link = root.get(name, getlink=True) if isinstance(root, h5py.File) else None
    except (KeyError, ValueError, RuntimeError):
        return ""
    kinds = {h5py.ExternalLink: "another file", h5py.SoftLink: "another name"}
    return f", only a link to {kinds[type(link)]}" if type(link) in kinds else ""


def _no_array(what: str, arrays: Mapping[str, Any], path: Path) -> DataError:
    found = [f"{name} {tuple(array.shape)} {array.dtype}" for name, array in arrays.items()]
    return DataError(
        what,
        where=path,
        expected=f"{RAW} and {LABELS} as (z, y, x), or names that are given; "
        f"found: {', '.join(found) or 'nothing'}",
        fix="name the arrays with raw_key and labels_key, or convert the volume to the CREMI "
        "layout (https://cremi.org/data)",
    )


def _describe(array: Any, name: str, role: str, root: Any, path: Path, kind: str) -> EMArray:
    leading = (0,) * (array.ndim - 3)

    def load(start: int, stop: int) -> np.ndarray:
        with readable(path, kind):
            if isinstance(array, zarr.Array):
                _check_whole(array, leading, start, stop)
                return _by_slabs(array, leading, start, stop)
            part = array[(*leading, slice(start, stop))]
            return np.ascontiguousarray(part, dtype=array.dtype.newbyteorder("="))

    def check(start: int, stop: int) -> None:
        _check_blocks(array, name, role, path, kind, start, stop)

    resolution, offset = _grid(array, name, root, path, kind)
    return EMArray(
        path=path,
        name=name,
        shape=tuple(int(n) for n in array.shape[-3:]),
        dtype=array.dtype.newbyteorder("="),
        load=load,
        stored=_stored(array, path),
        check=check,
        block=math.prod(array.chunks) * array.dtype.itemsize if array.chunks else 0,
        resolution=resolution,
        offset=offset,
    )


def _by_slabs(array: zarr.Array, leading: tuple[int, ...], start: int, stop: int) -> np.ndarray:
    """Sections start…stop, read by layers of blocks.

    Into contiguous memory zarr unpacks a block without looking whether it fills it, and what was
    in the memory would be taken for voxels; a view that is not contiguous makes it look.
    """
    depth, (height, width) = array.chunks[-3], array.shape[-2:]
    sections = np.empty((stop - start, height, width), array.dtype.newbyteorder("="))
    for first in range(start - start % depth, stop, depth):
        a, b = max(first, start), min(first + depth, stop)
        slab = np.empty((b - a, height, width + 1), array.dtype)[..., :width]
        array.get_basic_selection((*leading, slice(a, b)), out=slab)
        sections[a - start : b - start] = slab
    return sections


def _check_blocks(
    array: Any, name: str, role: str, path: Path, kind: str, start: int, stop: int
) -> None:
    """Refuse or name blocks of sections start…stop that are not in the file; none is read.

    Zarr, N5 and HDF5 allow it: the voxels of such a block have the fill value. But nothing in the
    file tells a block that was left out because it is empty from one that was never copied or
    written. So grey values must be whole (who has black blocks writes them). Labels may be sparse,
    0 is unlabelled: their absent blocks are a warning, unless it is all of them, or the fill value
    is not 0. Blocks that lie as the other ``dimension_separator`` says are not found either.
    """
    with readable(path, kind):
        absent, total = _absent(array, start, stop)
        separator = _other_separator(array, path) if absent else ""
    if not absent:
        return
    what = f"{len(absent)} of {total} blocks of {name} are absent: {', '.join(absent[:3])}"
    what += ", … (z.y.x)" if len(absent) > 3 else " (z.y.x)"
    expected, fix = "all blocks", "copy or download it again"
    fill = array.fillvalue if isinstance(array, h5py.Dataset) else array.fill_value
    if separator:
        layout = {"/": "nested folders (0/0/0)", ".": "one folder (0.0.0)"}[separator]
        what += f"; there are blocks in {layout}, which its .zarray does not say"
        fix = f'write "dimension_separator": "{separator}" into {path / array.path / ".zarray"}'
    elif role == "raw":
        fix += "; if these voxels are black, write them too (in Zarr: write_empty_chunks=True)"
    elif len(absent) == total:
        fix += ", or label something"
    elif fill != 0:
        what += f", and stand for the label {fill}"
        expected = "all blocks, or a fill value of 0 (unlabelled)"
    else:
        warnings.warn(f"{path}: {what}, and read as unlabelled", AbsentBlocks, stacklevel=4)
        return
    raise DataError(what, where=path, expected=expected, fix=fix)


def _absent(array: Any, start: int, stop: int) -> tuple[list[str], int]:
    """Absent blocks of sections start…stop as z.y.x, and how many there should be of all."""
    if not array.chunks:  # HDF5 in one piece, which has no place in the file until it is written
        return ([] if array.id.get_storage_size() else ["0.0.0"]), 1
    sizes = array.chunks[-3:]
    counts = [-(-n // size) for n, size in zip(array.shape[-3:], sizes, strict=True)]
    rows = range(start // sizes[0], (stop - 1) // sizes[0] + 1)
    blocks = [(z, y, x) for z in rows for y, x in np.ndindex(*counts[1:])]
    if isinstance(array, h5py.Dataset):
        found: set[tuple[int, ...]] = set()
        array.id.chunk_iter(
            lambda chunk: found.add(
                tuple(at // size for at, size in zip(chunk.chunk_offset[-3:], sizes, strict=True))
            )
        )
        absent = [block for block in blocks if block not in found]
    else:
        leading = (0,) * (array.ndim - 3)
        keys, key = array.chunk_store, array._chunk_key
        absent = [block for block in blocks if key((*leading, *block)) not in keys]
    return [".".join(map(str, block)) for block in absent], len(blocks)


def _other_separator(array: Any, path: Path) -> str:
    """The ``dimension_separator`` of blocks that lie otherwise than .zarray says, else empty."""
    if isinstance(array, h5py.Dataset) or isinstance(array.store, zarr.N5Store):
        return ""
    flat = array._dimension_separator != "/"
    other = re.compile(r"\d+" if flat else r"\d+(\.\d+)+")
    with os.scandir(path / array.path) as entries:
        found = any(e.is_dir() == flat and other.fullmatch(e.name) for e in entries)
    return ("/" if flat else ".") if found else ""


def _check_whole(array: zarr.Array, leading: tuple[int, ...], start: int, stop: int) -> None:
    """ValueError if a block of sections start…stop is cut off: Blosc itself reads on behind it."""
    wrapped = isinstance(array.store, zarr.N5Store)
    codec = array.compressor._compressor if wrapped else array.compressor
    head = 4 + 4 * array.ndim if wrapped else 0
    if not isinstance(codec, numcodecs.Blosc):
        return
    depth = array.chunks[-3]
    counts = array.cdata_shape
    for z in range(start // depth, (stop - 1) // depth + 1):
        for y, x in np.ndindex(*counts[-2:]):
            block = array.chunk_store.get(array._chunk_key((*leading, z, y, x)))
            if block is not None:
                length = int.from_bytes(block[head + 12 : head + 16], "little")
                if len(block) - head != length:
                    raise ValueError(f"block {z}, {y}, {x} of {array.path} is cut off")


def _stored(array: Any, path: Path) -> int:
    """Bytes of the array in the file; for Zarr counted only until they are known to suffice."""
    if isinstance(array, h5py.Dataset):
        return array.id.get_storage_size()
    total, enough = 0, array.nbytes // MAX_COMPRESSION
    for file in (path / array.path).rglob("*"):
        total += file.stat().st_size if file.is_file() else 0
        if total > enough:
            break
    return total


def _grid(
    array: Any, name: str, root: Any, path: Path, kind: str
) -> tuple[Triple | None, Triple | None]:
    """Resolution and offset in nm (z, y, x), None where the file does not say."""
    attributes = array.attrs
    if "resolution" in attributes or "offset" in attributes:
        return tuple(_triple(attributes, key, name, path, kind) for key in ("resolution", "offset"))
    if "element_size_um" in attributes:
        return in_nm(attributes["element_size_um"], "um"), None
    if isinstance(attributes.get("pixelResolution"), Mapping):
        pixel = attributes["pixelResolution"]
        return in_nm(list(pixel.get("dimensions", ()))[::-1], pixel.get("unit")), None
    parts = [] if name == SINGLE else name.split("/")
    for depth in range(len(parts) - 1, -1, -1):
        group = root["/".join(parts[:depth])] if depth else root
        for scales in _multiscales(group):
            for dataset in scales["datasets"]:
                if dataset["path"].strip("/") == "/".join(parts[depth:]):
                    return _ome(scales, dataset, name, path)
    return None, None


def _triple(attributes: Any, key: str, name: str, path: Path, kind: str) -> Triple | None:
    if key not in attributes:
        return None
    values = in_nm(attributes[key], "nm")
    # A resolution can be given instead; labels at a wrong place could not be noticed.
    if values is None and key == "offset":
        raise DataError(
            f'{name} has no usable attribute "{key}"',
            where=path,
            expected="three numbers in nm, (z, y, x)",
            fix="correct the attribute",
        )
    return values[::-1] if values and kind == "N5" else values


def _multiscales(group: Any) -> list[dict[str, Any]]:
    """OME-NGFF metadata of a group; entries that are not of that form are left out."""
    value = group.attrs.get("multiscales")
    entries = value if isinstance(value, list) else []
    return [
        entry
        for entry in entries
        if isinstance(entry, Mapping)
        and isinstance(entry.get("datasets"), list)
        and all(isinstance(d, Mapping) and "path" in d for d in entry["datasets"])
    ]


def _ome(
    scales: Mapping[str, Any], dataset: Mapping[str, Any], name: str, path: Path
) -> tuple[Triple | None, Triple | None]:
    """Scale and translation of OME-NGFF 0.4 (https://ngff.openmicroscopy.org/0.4/)."""
    axes = [a if isinstance(a, Mapping) else {"name": a} for a in scales.get("axes", ())]
    names = [str(axis.get("name")).lower() for axis in axes[-3:]]
    if axes and names != ["z", "y", "x"]:
        raise DataError(
            f"the last axes of {name} are {', '.join(names)}",
            where=path,
            expected="z, y, x",
            fix="transpose the volume",
        )
    scale, shift = np.ones(3), np.zeros(3)
    for transform in (
        *dataset.get("coordinateTransformations", ()),
        *scales.get("coordinateTransformations", ()),
    ):
        if transform.get("type") == "scale":
            scale, shift = scale * transform["scale"][-3:], shift * transform["scale"][-3:]
        elif transform.get("type") == "translation":
            shift = shift + transform["translation"][-3:]
    units = {axis.get("unit") for axis in axes[-3:]}
    unit = units.pop() if len(units) == 1 else None
    return in_nm(scale, unit), in_nm(shift, unit)
