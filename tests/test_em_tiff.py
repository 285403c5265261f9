"""TIFF stacks and folders of sections: voxels, sizes, labels beside them, and damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from gtgm.datasets import em
from gtgm.errors import DataError

RNG = np.random.default_rng(0)
SHAPE = (12, 9, 11)
GREY = RNG.integers(0, 255, SHAPE).astype(np.uint8)
IDS = RNG.integers(0, 900, SHAPE).astype(np.uint32)
SIZE = (40.0, 4.0, 4.0)


def pages(path: Path, values: np.ndarray) -> None:
    """Page after page, as scripts write them."""
    with tifffile.TiffWriter(path) as writer:
        for section in values:
            writer.write(section, contiguous=False)


def pillow(path: Path, values: np.ndarray) -> None:
    first, *rest = (Image.fromarray(section) for section in values)
    first.save(path, save_all=True, append_images=rest)


WRITERS = {
    "plain": tifffile.imwrite,
    "deflate": lambda path, values: tifffile.imwrite(path, values, compression="zlib"),
    "big": lambda path, values: tifffile.imwrite(path, values, bigtiff=True, byteorder=">"),
    "imagej": lambda path, values: tifffile.imwrite(path, values, imagej=True),
    "pages": pages,
    "pillow": pillow,
    "tiles": lambda path, values: tifffile.imwrite(path, values, tile=(16, 16), compression="zlib"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_stacks_of_all_writers(tmp_path: Path, writer: str, kind: type) -> None:
    raw = GREY.astype(kind) * np.array(kind(1) if kind == np.uint8 else 200).astype(kind)
    WRITERS[writer](tmp_path / "a.tif", raw)
    tifffile.imwrite(tmp_path / "a_labels.tiff", IDS, compression="zlib")
    for sections in (None, slice(3, 7), slice(11, 12)):
        volume = em.read(tmp_path / "a.tif", sections, resolution=SIZE)
        part = sections or slice(None)
        assert volume.raw.dtype == kind and volume.raw.dtype.isnative
        np.testing.assert_array_equal(volume.raw, raw[part])
        np.testing.assert_array_equal(volume.labels, IDS[part])
    assert em.n_sections(tmp_path / "a.tif") == 12 and volume.n_sections == 12


@pytest.mark.parametrize("writer", sorted(set(WRITERS)))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_truncated_stacks_are_refused(tmp_path: Path, writer: str, share: float) -> None:
    WRITERS[writer](tmp_path / "a.tif", GREY)
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError):
        em.read(tmp_path / "cut.tif", labels=False, resolution=SIZE)


def test_only_the_pages_asked_for_are_read(tmp_path: Path) -> None:
    pages(tmp_path / "a.tif", GREY)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages[5].dataoffsets[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[start : start + 99] = bytes(99)
    (tmp_path / "a.tif").write_bytes(content)
    read = em.read(tmp_path / "a.tif", slice(0, 5), False, resolution=SIZE).raw
    np.testing.assert_array_equal(read, GREY[:5])
    assert not em.read(tmp_path / "a.tif", slice(4, 6), False, resolution=SIZE).raw[1].any()


@pytest.mark.parametrize("unit", ["um", "micron", "µm", "\\u00B5m", "nm"])
def test_imagej_resolution(tmp_path: Path, unit: str) -> None:
    factor = 1 if unit == "nm" else 1000
    tifffile.imwrite(
        tmp_path / "a.tif",
        GREY,
        imagej=True,
        resolution=(factor / 4, factor / 8),
        metadata={"spacing": 40 / factor, "unit": unit.replace("µ", "\\u00B5"), "axes": "ZYX"},
    )
    read = em.read(tmp_path / "a.tif", labels=False)
    np.testing.assert_allclose(read.resolution, (40, 8, 4), rtol=1e-4)


def test_ome_resolution(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 4, "PhysicalSizeY": 8, "PhysicalSizeZ": 0.04}
    units = {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata={**sizes, **units})
    np.testing.assert_allclose(em.read(tmp_path / "a.ome.tif", labels=False).resolution, (40, 8, 4))


def test_without_resolution_the_argument_is_asked_for(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    with pytest.raises(DataError, match="names no usable resolution.*give them in nm"):
        em.read(tmp_path / "a.tif", labels=False)
    unit = {"spacing": 40, "unit": "pixel", "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "b.tif", GREY, imagej=True, resolution=(1, 1), metadata=unit)
    with pytest.raises(DataError, match="names no usable resolution"):
        em.read(tmp_path / "b.tif", labels=False)


def test_labels_absent_or_of_another_kind(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    with pytest.raises(DataError, match="no labels beside.*a_labels.tif"):
        em.read(tmp_path / "a.tif", resolution=SIZE)
    wrong = {
        "integer neuron ids": IDS.astype(np.float32),
        "has the shape": IDS[:, 1:],
        "negative": -IDS.astype(np.int32) - 1,
        "no single stack": IDS[0],
    }
    for message, values in wrong.items():
        tifffile.imwrite(tmp_path / "ids.tif", values)
        with pytest.raises(DataError, match=message):
            em.read(tmp_path / "a.tif", labels_path=tmp_path / "ids.tif", resolution=SIZE)


def test_files_that_are_no_stack(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(GREY[0])
        writer.write(GREY[0, 1:])
    with pytest.raises(DataError, match="no single stack"):
        em.read(path, labels=False, resolution=SIZE)
    tifffile.imwrite(path, GREY[..., None].repeat(3, -1), photometric="rgb")
    with pytest.raises(DataError, match="no single stack"):
        em.read(path, labels=False, resolution=SIZE)
    tifffile.imwrite(path, GREY[None].repeat(2, 0), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(DataError, match="no single stack"):
        em.n_sections(path)
    tifffile.imwrite(path, np.full(SHAPE, 7, np.uint8))
    with pytest.raises(DataError, match="constant"):
        em.read(path, labels=False, resolution=SIZE)
    path.write_text("no TIFF")
    with pytest.raises(DataError, match="cannot be read as TIFF"):
        em.read(path, labels=False)


def test_a_declared_shape_without_content_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, compression="zlib", rowsperstrip=9)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for page in file.pages:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                page.tags[name].overwrite(60000)
            if "ImageDescription" in page.tags:
                page.tags["ImageDescription"].overwrite("", dtype="s")
    with pytest.raises(DataError, match="declares the shape"):
        em.read(tmp_path / "a.tif", labels=False, resolution=SIZE)


def folder(path: Path, values: np.ndarray) -> Path:
    path.mkdir()
    for i, section in enumerate(values):
        tifffile.imwrite(path / f"section{i}.tif", section)
    return path


def test_folder_of_sections(tmp_path: Path) -> None:
    path = folder(tmp_path / "brain", GREY)
    folder(tmp_path / "brain_labels", IDS)
    assert em.is_volume(path) and em.n_sections(path) == 12
    for sections in (None, slice(2, 11)):
        volume = em.read(path, sections, resolution=SIZE)
        np.testing.assert_array_equal(volume.raw, GREY[sections or slice(None)])
        np.testing.assert_array_equal(volume.labels, IDS[sections or slice(None)])
    (path / "._section0.tif").write_bytes(b"of macOS")
    assert em.n_sections(path) == 12
    with pytest.raises(DataError, match="names no usable resolution"):
        em.read(path)
    tifffile.imwrite(path / "section7.tif", GREY[7, 1:])
    with pytest.raises(DataError, match=r"section7.tif: the section has shape \(8, 11\)"):
        em.read(path, resolution=SIZE)
    assert em.read(path, slice(0, 7), resolution=SIZE).n_sections == 12
    content = (path / "section3.tif").read_bytes()
    (path / "section3.tif").write_bytes(content[:-20])
    with pytest.raises(DataError, match="section3.tif: the file cannot be read as TIFF"):
        em.read(path, slice(0, 7), resolution=SIZE)
    tifffile.imwrite(path / "section0.tif", GREY)
    with pytest.raises(DataError, match="12 page"):
        em.n_sections(path)
    (tmp_path / "empty").mkdir()
    assert not em.is_volume(tmp_path / "empty")
    with pytest.raises(DataError, match="no TIFF files"):
        em.read(tmp_path / "empty")
