"""Block grids and arrays that are continued."""

from __future__ import annotations

import shutil
from collections import namedtuple

import numpy as np
import pytest

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.blocks import fingerprint, open_resumable, split_blocks


def test_cores_tile_the_volume_and_halos_are_clipped():
    shape, halo = (7, 20, 9), (1, 0, 20)
    seen = np.zeros(shape, dtype=int)
    volume = np.arange(seen.size).reshape(shape)
    for block in split_blocks(shape, (3, 8, 5), halo):
        seen[block.core] += 1
        for core, outer, h, n in zip(block.core, block.outer, halo, shape, strict=True):
            assert (outer.start, outer.stop) == (max(0, core.start - h), min(n, core.stop + h))
        np.testing.assert_array_equal(volume[block.outer][block.inner], volume[block.core])
    assert (seen == 1).all()


@pytest.mark.parametrize(("block", "halo"), [((0, 4, 4), (0, 0, 0)), ((4, 4, 4), (0, -1, 0))])
def test_impossible_grids_are_refused(block, halo):
    with pytest.raises(SettingsError, match="each at least"):
        split_blocks((8, 8, 8), block, halo)


def test_an_array_is_continued_with_its_own_key_only(tmp_path):
    array = open_resumable(tmp_path / "a.zarr", (2, 4, 300, 5), "float16", "one")
    assert array.chunks == (2, 4, 256, 5) and array.attrs["done"] == 0
    array[:, 1] = 3
    array.attrs["done"] = 1
    again = open_resumable(tmp_path / "a.zarr", (2, 4, 300, 5), "float16", "one")
    assert again.attrs["done"] == 1 and (again[:, 1] == 3).all() and (again[:, 0] == 0).all()
    with pytest.raises(SettingsError, match="other data or settings"):
        open_resumable(tmp_path / "a.zarr", (2, 4, 300, 5), "float16", "two")


def test_a_run_killed_before_the_first_block_starts_over(tmp_path):
    open_resumable(tmp_path / "a.zarr", (4, 4, 4), "uint64", "one")
    (tmp_path / "a.zarr" / ".zattrs").unlink()
    assert open_resumable(tmp_path / "a.zarr", (4, 4, 4), "uint64", "two").attrs["done"] == 0


def test_a_full_disk_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="disk"):
        open_resumable(tmp_path / "a.zarr", (4, 4, 4), "uint64", "one")


def test_fingerprints_tell_arrays_apart():
    volume = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    changed = volume.copy()
    changed[1, 2, 3, 4] += 1
    prints = {fingerprint(a) for a in (volume, changed, volume.astype(np.int16), volume[0])}
    assert len(prints) == 4 and fingerprint(volume) == fingerprint(np.asfortranarray(volume))
