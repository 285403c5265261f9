"""Volumes on disk in chunks, of which a patch reads only what it needs.

A NIfTI file must be unpacked as a whole to cut a patch from it. Here a volume is converted once to
a plain ``.npy`` of its chunks (C, nz, ny, nx, cz, cy, cx), which is mapped into memory for one
patch and let go again: a patch costs milliseconds, and memory does not grow with the volumes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from gtgm import paths
from gtgm.errors import DataError
from gtgm.hashing import settings_hash
from gtgm.lock import held

#: Part of every key: stored volumes of another version are made anew.
VERSION = 1
CHUNK = (16, 32, 32)
DONE = "stored.json"


class StoredVolume:
    """A volume (C, D, H, W) on disk, indexed like a tensor by slices without steps.

    Attributes:
        path: of the chunks.
        shape: (C, D, H, W).
    """

    def __init__(self, path: str | Path, shape: Sequence[int]) -> None:
        self.path, self.shape = Path(path), tuple(shape)

    def __getitem__(self, box: tuple[slice, ...]) -> torch.Tensor:
        """The voxels of a box, read from the chunks that it touches.

        Raises:
            DataError: the file is gone or damaged.
        """
        ranges = [s.indices(n)[:2] for s, n in zip(box, self.shape, strict=True)]
        channels, *spatial = ranges
        sizes = [max(stop - start, 0) for start, stop in ranges]
        whole = tuple(
            slice(start // c, -(-stop // c))
            for (start, stop), c in zip(spatial, CHUNK, strict=True)
        )
        try:
            chunks = np.load(self.path, mmap_mode="r")[(slice(*channels), *whole)]
        except (OSError, ValueError) as error:
            raise DataError(
                f"cannot be read ({error})",
                where=self.path,
                expected="the chunks of a volume",
                fix=f"delete {self.path.parent}; it is made again from the original",
            ) from error
        # (C, nz, ny, nx, cz, cy, cx) → (C, nz·cz, ny·cy, nx·cx)
        voxels = chunks.transpose(0, 1, 4, 2, 5, 3, 6).reshape(
            sizes[0], *(n * c for n, c in zip(chunks.shape[1:4], CHUNK, strict=True))
        )
        inside = tuple(
            slice(start % c, start % c + size)
            for (start, _), c, size in zip(spatial, CHUNK, sizes[1:], strict=True)
        )
        return torch.from_numpy(voxels[(slice(None), *inside)].copy())


class VolumeStore:
    """Items of a dataset, each converted once.

    Args:
        root: folder of all stores.
        identity: what the volumes are made from and by: dataset, files, transform. Another
            identity, or version of this file format, is another store.
    """

    def __init__(self, root: str | Path, *identity: object) -> None:
        self.folder = Path(root) / settings_hash(VERSION, list(CHUNK), *identity)

    def get(
        self, name: str, load: Callable[[], Mapping[str, torch.Tensor]]
    ) -> dict[str, StoredVolume | torch.Tensor]:
        """An item: its volumes from the store, its other tensors in memory.

        Args:
            name: of the item, such as a case.
            load: makes the item, if it is not stored yet: tensors, of which those (C, D, H, W) are
                stored in chunks.
        """
        folder = self.folder / name
        shapes = self._shapes(folder)
        if shapes is None:
            with held(folder):
                shapes = self._shapes(folder) or self._write(folder, load())
        return {
            key: StoredVolume(folder / f"{key}.npy", shape)
            if len(shape) == 4
            else torch.from_numpy(np.load(folder / f"{key}.npy"))
            for key, shape in shapes.items()
        }

    @staticmethod
    def _shapes(folder: Path) -> dict[str, list[int]] | None:
        """Shapes of an item, if it is there with all of its bytes."""
        try:
            stored = json.loads((folder / DONE).read_text(encoding="utf-8"))
            sizes = {key: (folder / f"{key}.npy").stat().st_size for key in stored["bytes"]}
            return stored["shapes"] if sizes == stored["bytes"] else None
        except (OSError, ValueError, KeyError):
            return None

    @staticmethod
    def _write(folder: Path, item: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
        for key, tensor in item.items():
            with paths.atomic(folder / f"{key}.npy") as temporary:
                if tensor.ndim == 4:
                    write_chunks(temporary, tensor.numpy())
                else:
                    np.save(temporary, tensor.numpy())
        shapes = {key: list(tensor.shape) for key, tensor in item.items()}
        paths.write_json(
            folder / DONE,
            {
                "shapes": shapes,
                "bytes": {key: (folder / f"{key}.npy").stat().st_size for key in item},
            },
        )
        return shapes


def write_chunks(path: Path, volume: np.ndarray) -> None:
    """Write a volume (C, D, H, W) in chunks, filled up with zeros at its far ends."""
    depth, height, width = (-(-n // c) for n, c in zip(volume.shape[1:], CHUNK, strict=True))
    header = {
        "descr": np.lib.format.dtype_to_descr(volume.dtype),
        "fortran_order": False,
        "shape": (len(volume), depth, height, width, *CHUNK),
    }
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for channel in volume:
            for start in range(0, depth * CHUNK[0], CHUNK[0]):
                slab = channel[start : start + CHUNK[0]]
                full = (CHUNK[0], height * CHUNK[1], width * CHUNK[2])
                slab = np.pad(slab, [(0, n - m) for n, m in zip(full, slab.shape, strict=True)])
                parts = slab.reshape(CHUNK[0], height, CHUNK[1], width, CHUNK[2])
                file.write(np.ascontiguousarray(parts.transpose(1, 3, 0, 2, 4)).data)
