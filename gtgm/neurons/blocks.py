"""Blocks of a volume larger than memory, and Zarr arrays that are filled block by block.

A block has a core, which it writes, and a halo, which it only reads. An array remembers how many
blocks are complete: a run that was killed continues behind them, and gives what an uninterrupted
run would have given. Chunks are replaced atomically, so no kill leaves half of one.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from gtgm.errors import DataError, SettingsError

#: Largest chunk (z, y, x) of an array.
CHUNK = (32, 256, 256)
#: Sections that identify an array (:func:`fingerprint`).
SAMPLES = 9


@dataclass(frozen=True)
class Block:
    """A box of voxels.

    Attributes:
        index: (z, y, x) number of the block in the grid.
        core: slices of the voxels that belong to this block and to no other.
        outer: slices of the core with its halo, clipped to the volume.
    """

    index: tuple[int, int, int]
    core: tuple[slice, slice, slice]
    outer: tuple[slice, slice, slice]

    @property
    def inner(self) -> tuple[slice, slice, slice]:
        """The core inside an array that was read from ``outer``."""
        return within(self.core, self.outer)


def split_blocks(
    shape: Sequence[int], block: Sequence[int], halo: Sequence[int] = (0, 0, 0)
) -> list[Block]:
    """All blocks of a volume, x fastest; those at the far faces may be smaller.

    Args:
        shape, block, halo: (z, y, x) in voxels; the halo is added on both sides.
    Raises:
        SettingsError: a block below one voxel, or a negative halo.
    """
    for name, sizes, least in (("block", block, 1), ("halo", halo, 0)):
        if len(sizes) != 3 or min(sizes) < least:
            raise SettingsError(
                f"is {tuple(sizes)}", where=name, expected=f"(z, y, x), each at least {least}"
            )
    axes = [
        [
            (i, slice(start, min(start + b, n)), slice(max(0, start - h), min(start + b + h, n)))
            for i, start in enumerate(range(0, n, b))
        ]
        for n, b, h in zip(shape, block, halo, strict=True)
    ]
    return [Block(*zip(*parts, strict=True)) for parts in itertools.product(*axes)]


def within(part: Sequence[slice], whole: Sequence[slice]) -> tuple[slice, ...]:
    """The slices ``part`` of a volume, as slices of an array that was read from ``whole``."""
    return tuple(
        slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole, strict=True)
    )


def open_resumable(
    path: str | Path,
    shape: tuple[int, ...],
    dtype: str,
    key: str,
    chunk: Sequence[int] = CHUNK,
) -> zarr.Array:
    """A Zarr array to be filled block by block, new or continued.

    ``attrs["done"]`` counts the blocks that are complete; who writes a block raises it afterwards.

    Args:
        shape: (…, D, H, W); axes before the last three are not split into chunks.
        key: names what the array is made from; an array with another key is refused.
        chunk: (z, y, x), clipped to the shape.
    Raises:
        SettingsError: the folder holds an array made from other data or settings.
        DataError: the disk cannot hold the array uncompressed.
    """
    path = Path(path)
    if (path / ".zattrs").is_file():
        array = zarr.open_array(str(path), mode="r+")
        if array.attrs.get("key") != key:
            raise SettingsError(
                "was made from other data or settings",
                where=path,
                fix="delete it to start over, or name another folder",
            )
        return array
    path.parent.mkdir(parents=True, exist_ok=True)
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"the disk has {free / 1e9:.1f} GB left",
            where=path.parent,
            expected=f"{needed / 1e9:.1f} GB for {path.name}",
            fix="free some space, or name a folder on another disk",
        )
    chunks = (*shape[:-3], *(min(c, n) for c, n in zip(chunk, shape[-3:], strict=True)))
    array = zarr.open_array(
        str(path), mode="w", shape=shape, dtype=dtype, chunks=chunks, fill_value=0
    )
    array.attrs.put({"key": key, "done": 0})
    return array


def fingerprint(array: Any) -> str:
    """Short hash of an array (…, D, H, W) that slices: shape, type and some of its sections."""
    digest = hashlib.sha256(f"{tuple(array.shape)} {np.dtype(array.dtype).name}".encode())
    depth = array.shape[-3]
    for z in sorted({round(z) for z in np.linspace(0, depth - 1, min(depth, SAMPLES))}):
        before = (slice(None),) * (len(array.shape) - 3)
        digest.update(np.ascontiguousarray(array[(*before, z)]).tobytes())
    return digest.hexdigest()[:16]
