"""EM volumes as TIFF: one file of many pages, or a folder with one file per section.

Resolution: ImageJ's metadata (``spacing``, ``unit`` and the x and y resolution tags) or OME's
``PhysicalSize``. A single section says nothing of its thickness, so a folder has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from gtgm.datasets.em_array import EMArray, Triple, check_size, in_nm, readable
from gtgm.datasets.guard import of_macos
from gtgm.errors import DataError

SUFFIXES = (".tif", ".tiff")
SAVE_AGAIN = "save it again, uncompressed or with deflate"


def section_files(folder: Path) -> list[Path]:
    """The TIFF files of a folder in the order of the numbers in their names (2 before 10)."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    files = [p for p in found if not of_macos(p.name)]
    return sorted(files, key=lambda p: [_number(s) for s in re.split(r"(\d+)", p.name)])


@contextmanager
def open_array(path: Path) -> Iterator[EMArray]:
    """Open a stack; nothing but headers is read before ``load``, and then only its sections.

    Raises:
        DataError: not TIFF, damaged, no stack of grey-value pages of one shape, or more voxels
            declared than the file can hold.
    """
    if path.is_dir():
        yield _folder(path)
        return
    with readable(path, "TIFF", SAVE_AGAIN):
        file = tifffile.TiffFile(path)
    with file:
        with readable(path, "TIFF", SAVE_AGAIN):
            array = _stack(file, path)
        yield array


def _folder(path: Path) -> EMArray:
    files = section_files(path)
    if not files:
        raise DataError(
            "the folder holds no TIFF files", where=path, expected="one .tif per section"
        )
    shape, dtype = _page(files[0])[:2]

    def load(start: int, stop: int) -> np.ndarray:
        sections = np.empty((stop - start, *shape), dtype.newbyteorder("="))
        for i, file in enumerate(files[start:stop]):
            found_shape, found_dtype, section = _page(file, voxels=True)
            if found_shape != shape or found_dtype != dtype:
                raise DataError(
                    f"the section has shape {found_shape} and type {found_dtype}",
                    where=file,
                    expected=f"{shape} and {dtype}, as {files[0].name}",
                )
            sections[i] = section
        return sections

    stored = sum(file.stat().st_size for file in files)
    return EMArray(path, path.name, (len(files), *shape), dtype, load, stored)


def _page(path: Path, voxels: bool = False) -> tuple[tuple[int, int], np.dtype, np.ndarray | None]:
    with readable(path, "TIFF", SAVE_AGAIN), tifffile.TiffFile(path) as file:
        _check_complete(file)
        page = file.pages[0]
        if len(file.pages) != 1 or page.ndim != 2 or page.dtype is None:
            raise DataError(
                f"the file has {len(file.pages)} page(s) of the shape {page.shape}",
                where=path,
                expected="one section of grey values or ids per file, (y, x)",
            )
        check_size(path, path.name, page.shape, page.dtype, path.stat().st_size)
        return page.shape, page.dtype, _voxels(page, path) if voxels else None


def _stack(file: tifffile.TiffFile, path: Path) -> EMArray:
    _check_complete(file)
    pages, series = file.pages, file.series
    first = series[0]
    leading = [n for n in first.shape[:-2] if n != 1]
    if len(series) > 1 and len({(s.shape, s.dtype) for s in series}) == 1 and first.ndim == 2:
        # Writers that add page after page, each with a description of its own.
        leading = [len(pages)]
    elif len(series) > 1 or not first.axes.endswith("YX"):
        leading = []
    if len(leading) != 1 or first.dtype is None or first.keyframe.samplesperpixel != 1:
        found = ", ".join(f"{s.axes} {s.shape} {s.dtype}" for s in series[:4])
        raise DataError(
            f"the file is no single stack of grey-value pages; it holds {found}",
            where=path,
            expected="one stack (z, y, x) of two sections or more, one sample per pixel",
            fix="save the sections as one TIFF stack without colours, channels or time",
        )
    shape = (leading[0], *first.shape[-2:])
    dtype = first.dtype
    contiguous = len(series) == 1 and first.dataoffset is not None

    def load(start: int, stop: int) -> np.ndarray:
        with readable(path, "TIFF", SAVE_AGAIN):
            if contiguous:
                area = shape[1] * shape[2]
                voxels = file.filehandle.read_array(
                    dtype.newbyteorder(file.byteorder),
                    (stop - start) * area,
                    first.dataoffset + start * area * dtype.itemsize,
                ).reshape(stop - start, *shape[1:])
            else:
                chosen = pages if len(series) > 1 else first.pages
                voxels = np.stack([_voxels(chosen[i], path) for i in range(start, stop)])
            return voxels.astype(dtype.newbyteorder("="), copy=False)

    resolution = _imagej(file) or _ome(file)
    stored = path.stat().st_size
    return EMArray(path, path.name, shape, dtype, load, stored, resolution=resolution)


def _voxels(page: Any, path: Path) -> np.ndarray:
    """The voxels of a page; tifffile fills up what a truncated file lacks, which is refused."""
    ends = [a + b for a, b in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if max(ends, default=0) > path.stat().st_size:
        raise ValueError(f"page {page.index} ends behind the file")
    return page.asarray()


def _check_complete(file: tifffile.TiffFile) -> None:
    """ValueError if the chain of pages breaks off; tifffile takes it for the end."""
    count, handle = len(file.pages), file.filehandle
    handle.seek(file.pages.next_page_offset)
    following = handle.read(file.tiff.offsetsize)
    if len(following) < file.tiff.offsetsize or any(following):
        raise ValueError(f"the page after {count} pages is not in the file")


def _imagej(file: tifffile.TiffFile) -> Triple | None:
    metadata = file.imagej_metadata
    if not metadata or "spacing" not in metadata:
        return None
    tags = file.pages[0].tags
    sizes = [metadata["spacing"]]
    for name in ("YResolution", "XResolution"):
        pixels, units = tags[name].value if name in tags else (0, 1)
        if not pixels:
            return None
        sizes.append(units / pixels)
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ")
    return in_nm(sizes, unit)


def _ome(file: tifffile.TiffFile) -> Triple | None:
    if not file.is_ome:
        return None
    image: Any = tifffile.xml2dict(file.ome_metadata).get("OME", {}).get("Image")
    image = image[0] if isinstance(image, list) else image
    pixels = image["Pixels"] if image else {}
    if not all(f"PhysicalSize{axis}" in pixels for axis in "ZYX"):
        return None
    sizes = [
        in_nm([pixels[f"PhysicalSize{axis}"]] * 3, pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    ]
    return None if None in sizes else tuple(size[0] for size in sizes)


def _number(text: str) -> tuple[int, int | str]:
    return (0, int(text)) if text.isdecimal() else (1, text)
