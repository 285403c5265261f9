"""HDF5, Zarr and N5: arrays are found by name or kind, sized in nm, and checked for damage."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr

from gtgm.datasets import em
from gtgm.datasets.em_array import AbsentBlocks
from gtgm.datasets.em_store import LABELS, RAW
from gtgm.errors import DataError

RNG = np.random.default_rng(0)
SHAPE = (20, 12, 14)
GREY = RNG.integers(0, 255, SHAPE).astype(np.uint8)
IDS = RNG.integers(0, 9, SHAPE).astype(np.uint64)
NAMES = {RAW: GREY, LABELS: IDS}


def store(
    path: Path, arrays: dict[str, np.ndarray], size: Any = (40, 4, 4), **options: Any
) -> Path:
    """An HDF5, Zarr or N5 file by its suffix; ``size`` becomes the attribute ``resolution``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix in (".zarr", ".n5"):
            kind = zarr.N5Store if path.suffix == ".n5" else zarr.DirectoryStore
            group: Any = zarr.group(kind(str(path)))
        else:
            group = h5py.File(path, "w")
        for name, values in arrays.items():
            array = group.create_dataset(name, data=values, chunks=(8, 6, 7), **options)
            if size is not None:
                array.attrs["resolution"] = list(size)
        if isinstance(group, h5py.File):
            group.close()
    return path


def blocks(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and p.name[0].isdigit())


@pytest.mark.parametrize("suffix", [".hdf", ".h5", ".hdf5", ".zarr", ".n5"])
@pytest.mark.parametrize("named", [True, False])
def test_all_kinds_hold_the_same(tmp_path: Path, suffix: str, named: bool) -> None:
    names = NAMES if named else {"main/grey": GREY, "seg": IDS}
    size = (4, 5, 40) if suffix == ".n5" else (40, 5, 4)
    path = store(tmp_path / f"a{suffix}", names, size)
    for sections in (None, slice(0, 1), slice(3, 11), slice(17, 40)):
        volume = em.read(path, sections)
        part = sections or slice(None)
        np.testing.assert_array_equal(volume.raw, GREY[part])
        np.testing.assert_array_equal(volume.labels, IDS[part])
        assert volume.resolution == (40.0, 5.0, 4.0) and volume.n_sections == 20
    assert em.n_sections(path) == 20 and em.is_volume(path)


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize(
    "codec", [None, numcodecs.Blosc(), numcodecs.Zstd(), numcodecs.GZip()], ids=str
)
def test_blocks_that_are_cut_off_or_absent(tmp_path: Path, separator: str, codec: Any) -> None:
    path = store(tmp_path / "a.zarr", NAMES, compressor=codec, dimension_separator=separator)
    first, last = blocks(path / RAW)[0], blocks(path / RAW)[-1]
    last.unlink()
    with pytest.raises(DataError, match=r"1 of 12 blocks of volumes/raw are absent: 2.1.1 \(z.y.x"):
        em.read(path)
    first.write_bytes(first.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read as ZARR"):
        em.read(path, slice(0, 8), labels=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AbsentBlocks)
        np.testing.assert_array_equal(em.read(path, slice(8, 16)).raw, GREY[8:16])


def test_n5_blocks_that_are_cut_off(tmp_path: Path) -> None:
    path = store(tmp_path / "a.n5", NAMES, compressor=numcodecs.Blosc())
    first = blocks(path / RAW)[0]
    first.write_bytes(first.read_bytes()[:-40])
    with pytest.raises(DataError, match="cut off"):
        em.read(path)


@pytest.mark.parametrize("suffix", [".hdf", ".zarr", ".n5"])
def test_blocks_that_were_never_written(tmp_path: Path, suffix: str) -> None:
    """Of grey values they are refused, of labels named, and refused if there is none."""
    path = tmp_path / f"a{suffix}"
    store(path, NAMES, (40, 4, 4) if suffix != ".n5" else (4, 4, 40))

    def anew(name: str, values: np.ndarray | None, fill: int = 0) -> None:
        """The array with only its first block, or with none."""
        group: Any = h5py.File(path, "a") if suffix == ".hdf" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind = zarr.N5Store if suffix == ".n5" else zarr.DirectoryStore
            group = group or zarr.open_group(kind(str(path)), mode="a")
        attributes = dict(group[name].attrs)
        del group[name]
        option = {"fillvalue" if suffix == ".hdf" else "fill_value": fill}
        options = {"shape": SHAPE, "chunks": (8, 6, 7), "dtype": IDS.dtype, **option}
        array = group.create_dataset(name, **{**options, "dtype": NAMES[name].dtype})
        array.attrs.update(attributes)
        if values is not None:
            array[:8, :6, :7] = values[:8, :6, :7]
        if suffix == ".hdf":
            group.close()

    anew(LABELS, IDS)
    names = r"0\.0\.1, 0\.1\.0, 0\.1\.1, … \(z\.y\.x\)"
    with pytest.warns(AbsentBlocks, match=f"11 of 12 blocks of {LABELS} are absent: {names}"):
        labels = em.read(path).labels
    np.testing.assert_array_equal(labels[:8, :6, :7], IDS[:8, :6, :7])
    assert not labels[8:].any() and not labels[:, 6:].any()
    if suffix != ".n5":  # which has no other fill value
        anew(LABELS, IDS, 5)
        with pytest.raises(DataError, match="11 of 12 blocks .* stand for the label 5"):
            em.read(path)
    anew(LABELS, None)
    with pytest.raises(DataError, match=f"12 of 12 blocks of {LABELS} are absent"):
        em.read(path)
    anew(RAW, GREY)
    with pytest.raises(DataError, match=f"11 of 12 blocks of {RAW} are absent: {names}"):
        em.read(path, labels=False)
    with pytest.raises(DataError, match=f"3 of 4 blocks of {RAW} are absent"):
        em.read(path, slice(0, 8), labels=False)


@pytest.mark.parametrize("layout", [".", "/"])
def test_blocks_that_lie_otherwise_than_described(tmp_path: Path, layout: str) -> None:
    """As Zarr v2 of other programs does: nested, without saying so."""
    path = store(tmp_path / "a.zarr", NAMES, dimension_separator=layout)
    described = path / RAW / ".zarray"
    right = json.loads(described.read_text())
    wrong = {key: value for key, value in right.items() if key != "dimension_separator"}
    wrong = wrong if layout == "/" else {**wrong, "dimension_separator": "/"}
    described.write_text(json.dumps(wrong))
    words = "nested folders" if layout == "/" else "one folder"
    with pytest.raises(DataError, match=f"12 of 12 blocks of {RAW} are absent.*{words}") as caught:
        em.read(path)
    told = re.search(r'write "(\w+)": "(.)" into (.*)$', caught.value.fix)
    Path(told[3]).write_text(json.dumps({**wrong, told[1]: told[2]}))
    np.testing.assert_array_equal(em.read(path).raw, GREY)


@pytest.mark.parametrize("suffix", [".hdf", ".zarr"])
def test_names_that_are_given(tmp_path: Path, suffix: str) -> None:
    wide = {"a": GREY, "b": 255 - GREY, "c/d": IDS, "c/e": IDS + np.uint64(1)}
    path = store(tmp_path / f"a{suffix}", wide)
    with pytest.raises(DataError, match=r"2 others of 3D uint8 or uint16.*found: a \(20, 12, 14\)"):
        em.read(path)
    with pytest.raises(DataError, match="others of 3D integer"):
        em.read(path, raw_key="a")
    volume = em.read(path, raw_key="/b", labels_key="c/e")
    np.testing.assert_array_equal(volume.raw, 255 - GREY)
    np.testing.assert_array_equal(volume.labels, IDS + 1)
    for key in ("z", "a/z", "c", "../a", ""):
        with pytest.raises(DataError, match="no dataset"):
            em.read(path, raw_key=key, labels_key="c/e")
        with pytest.raises(DataError, match="no dataset"):
            em.n_sections(path, key)


def test_the_same_name_in_two_files(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", {"main": GREY})
    other = store(tmp_path / "b.h5", {"main": IDS.astype(np.uint16)})
    for key in (None, "main", "/main"):
        volume = em.read(path, labels_path=other, labels_key=key)
        assert np.array_equal(volume.raw, GREY) and np.array_equal(volume.labels, IDS)


def test_narrow_labels_are_told_from_grey_values_by_a_key_only(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", {"grey": GREY, "ids": IDS.astype(np.uint16)})
    with pytest.raises(DataError, match="raw_key and labels_key"):
        em.read(path)
    for keys in ({"raw_key": "grey"}, {"labels_key": "ids"}):
        volume = em.read(path, **keys)
        assert np.array_equal(volume.raw, GREY) and np.array_equal(volume.labels, IDS)


def test_other_labels_of_a_cremi_file_are_not_taken_for_neurons(tmp_path: Path) -> None:
    path = store(tmp_path / "a.hdf", {RAW: GREY, "volumes/labels/clefts": IDS})
    with pytest.raises(DataError, match="no dataset volumes/labels/neuron_ids"):
        em.read(path)


@pytest.mark.parametrize("levels", [1, 3])
def test_ome_ngff(tmp_path: Path, levels: int) -> None:
    arrays = {str(i): GREY[None, None, :, :: 2**i, :: 2**i] for i in range(levels)}
    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w")
    for name, values in arrays.items():
        group.create_dataset(name, data=values)
    group.create_dataset("labels/ids/0", data=IDS[3:9, 2:, 2:])
    space = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *space]

    def scale(*numbers: float) -> dict[str, Any]:
        return {"type": "scale", "scale": [1.0, 1.0, *numbers][-5 if len(numbers) == 3 else 0 :]}

    datasets = [
        {"path": str(i), "coordinateTransformations": [scale(0.02, 0.002 * 2**i, 0.002 * 2**i)]}
        for i in range(levels)
    ]
    whole = [scale(2, 2, 2)]
    group.attrs["multiscales"] = [
        {"axes": axes, "datasets": datasets, "coordinateTransformations": whole}
    ]
    shift = {"type": "translation", "translation": [0.12, 0.008, 0.008]}
    size = {"type": "scale", "scale": [0.04, 0.004, 0.004]}
    group["labels/ids"].attrs["multiscales"] = [
        {"axes": space, "datasets": [{"path": "0", "coordinateTransformations": [size, shift]}]}
    ]
    volume = em.read(path)
    np.testing.assert_allclose(volume.resolution, (40, 4, 4))
    np.testing.assert_array_equal(volume.raw, GREY)
    np.testing.assert_array_equal(volume.labels[3:9, 2:, 2:], IDS[3:9, 2:, 2:])
    assert not volume.labels[:3].any() and not volume.labels[:, :2].any()
    axes[-3:] = axes[:-4:-1]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets}]
    with pytest.raises(DataError, match="last axes of 0 are x, y, z"):
        em.read(path)


def test_other_ways_to_write_a_resolution(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", NAMES, None)
    with pytest.raises(DataError, match="names no usable resolution"):
        em.read(path)
    with h5py.File(path, "a") as file:
        file[RAW].attrs["element_size_um"] = (0.04, 0.008, 0.004)
    np.testing.assert_allclose(em.read(path).resolution, (40, 8, 4))
    path = store(tmp_path / "a.n5", NAMES, None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(zarr.N5Store(str(path)), mode="a")
    group[RAW].attrs["pixelResolution"] = {"dimensions": [0.004, 0.008, 0.04], "unit": "um"}
    np.testing.assert_allclose(em.read(path).resolution, (40, 8, 4))
    group[RAW].attrs["pixelResolution"] = {"dimensions": [4, 8, 40], "unit": "pixel"}
    with pytest.raises(DataError, match="names no usable resolution"):
        em.read(path)
    for wrong in ("forty", [40, 4], [40, 4, None], {"z": 40}):
        path = store(tmp_path / "b.zarr", {RAW: GREY, LABELS: IDS}, None)
        zarr.open_group(str(path), mode="a")[RAW].attrs["resolution"] = wrong
        with pytest.raises(DataError, match="names no usable resolution"):
            em.read(path)
        (tmp_path / "b.zarr").rename(tmp_path / f"b{len(list(tmp_path.iterdir()))}.zarr")


def test_an_array_without_group(tmp_path: Path) -> None:
    for name, values in (("a", GREY), ("a_labels", IDS)):
        zarr.save_array(str(tmp_path / f"{name}.zarr"), values)
    volume = em.read(tmp_path / "a.zarr", resolution=(40, 4, 4))
    assert np.array_equal(volume.raw, GREY) and np.array_equal(volume.labels, IDS)


def test_damaged_folders(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(DataError, match="cannot be read as ZARR"):
        em.read(tmp_path / "a.zarr")
    path = store(tmp_path / "b.zarr", NAMES)
    (path / RAW / ".zarray").write_text("{")
    with pytest.raises(DataError, match="cannot be read as ZARR|no dataset"):
        em.read(path)
    (tmp_path / "c.zarr").mkdir()
    (tmp_path / "c.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(DataError, match="Zarr version 3"):
        em.read(tmp_path / "c.zarr")
    (tmp_path / "d.n5").mkdir()
    with pytest.raises(DataError):
        em.read(tmp_path / "d.n5")


@pytest.mark.parametrize("suffix", [".hdf", ".zarr"])
def test_a_declared_shape_without_content_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    group: Any = h5py.File(path, "w") if suffix == ".hdf" else zarr.open_group(str(path), mode="w")
    huge = (1_000_000, 100_000, 100_000)
    data = group.create_dataset(RAW, shape=huge, dtype="u1", chunks=(8, 64, 64))
    data.attrs["resolution"] = [40, 4, 4]
    data[0, :64, :64] = 7
    if suffix == ".hdf":
        group.close()
    for sections in (None, slice(0, 10)):
        with pytest.raises(DataError, match="declares the shape"):
            em.read(path, sections, labels=False)


def test_an_empty_array_and_huge_blocks_are_refused(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_dataset(RAW, shape=(20, 0, 5), dtype="u1")
    with pytest.raises(DataError, match="is empty"):
        em.read(tmp_path / "a.zarr", labels=False, resolution=(1, 1, 1))
    group = zarr.open_group(str(tmp_path / "b.zarr"), mode="w")
    group.create_dataset(RAW, shape=(20, 4, 5), chunks=(2000, 2000, 2000), dtype="u1")
    with pytest.raises(DataError, match="blocks of 8000000000 bytes"):
        em.read(tmp_path / "b.zarr", labels=False, resolution=(1, 1, 1))
    path = store(tmp_path / "c.zarr", {RAW: GREY})
    zarr.open_group(str(path)).create_dataset(LABELS, shape=SHAPE, chunks=(1000,) * 3, dtype="u8")
    with pytest.raises(DataError, match="blocks of 8000000000 bytes"):
        em.read(path)
    assert em.read(path, labels=False).n_sections == 20
