"""Volumes on disk: every box is that of the volume, damage is found, memory stays flat."""

from __future__ import annotations

import json

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gtgm import paths
from gtgm.errors import DataError
from gtgm.volume_store import StoredVolume, VolumeStore, write_chunks

SHAPE = (2, 37, 70, 33)


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[torch.Tensor, StoredVolume]:
    path = tmp_path_factory.mktemp("store") / "image.npy"
    volume = torch.randn(SHAPE)
    write_chunks(path, volume.numpy())
    return volume, StoredVolume(path, SHAPE)


@settings(max_examples=60)
@given(st.data())
def test_a_box_is_that_of_the_volume(stored, data):
    volume, read = stored
    box = []
    for side in SHAPE:
        start = data.draw(st.integers(0, side - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, side + 20))))
    assert torch.equal(read[tuple(box)], volume[tuple(box)])


def test_an_item_is_made_once(tmp_path):
    item = {"image": torch.randn(1, 20, 40, 9), "places": torch.arange(7)}
    made = []

    def load() -> dict[str, torch.Tensor]:
        made.append(1)
        return item

    store = VolumeStore(tmp_path, "data", 1.5)
    for _ in range(2):
        found = store.get("case 1", load)
        assert found["image"].shape == (1, 20, 40, 9)
        whole = found["image"][(slice(None),) * 4]
        assert torch.equal(whole, item["image"])
        assert torch.equal(found["places"], item["places"])
    assert len(made) == 1
    VolumeStore(tmp_path, "data", 2.5).get("case 1", load)
    assert len(made) == 2


@pytest.mark.parametrize("harm", ["truncated", "no note", "broken note"])
def test_what_a_killed_run_left_is_made_again(tmp_path, harm):
    store = VolumeStore(tmp_path, "data")
    volume = torch.randn(1, 20, 40, 9)
    store.get("a", lambda: {"image": volume})
    folder = store.folder / "a"
    if harm == "truncated":
        with (folder / "image.npy").open("r+b") as file:
            file.truncate(1000)
    elif harm == "no note":
        (folder / "stored.json").unlink()
    else:
        (folder / "stored.json").write_text('{"shapes"')
    again = store.get("a", lambda: {"image": volume + 1})
    assert torch.equal(again["image"][(slice(None),) * 4], volume + 1)


def test_a_damaged_volume_is_named(stored, tmp_path):
    path = tmp_path / "image.npy"
    path.write_bytes(b"no array")
    with pytest.raises(DataError, match=r"image.npy: cannot be read .*delete"):
        StoredVolume(path, SHAPE)[(slice(0, 1),) * 4]
    with pytest.raises(DataError, match="cannot be read"):
        StoredVolume(tmp_path / "gone.npy", SHAPE)[(slice(0, 1),) * 4]


def test_memory_does_not_grow_with_what_is_read(tmp_path):
    """200 MB on disk, of which boxes all over are read."""
    volume = np.zeros((1, 160, 640, 512), np.float32)
    write_chunks(tmp_path / "image.npy", volume)
    size = volume.nbytes
    del volume
    read = StoredVolume(tmp_path / "image.npy", (1, 160, 640, 512))
    process, generator = psutil.Process(), np.random.default_rng(0)
    read[(slice(0, 1), *(slice(0, 32),) * 3)]
    before = process.memory_info().rss
    for _ in range(300):
        z, y, x = (int(generator.integers(n - 32)) for n in read.shape[1:])
        read[(slice(0, 1), slice(z, z + 32), slice(y, y + 32), slice(x, x + 32))]
    assert process.memory_info().rss - before < size / 10


def test_the_note_says_what_is_stored(tmp_path):
    store = VolumeStore(tmp_path, "data")
    store.get("a", lambda: {"image": torch.zeros(1, 20, 40, 9)})
    note = json.loads((store.folder / "a" / "stored.json").read_text())
    assert note["shapes"] == {"image": [1, 20, 40, 9]}
    assert note["bytes"]["image"] == (store.folder / "a" / "image.npy").stat().st_size
    assert paths.sha256(store.folder / "a" / "image.npy")
