"""Affinities of volumes larger than memory.

InstanceNorm and the blending of patches make a voxel's affinity depend on where the patches lie,
and standardised grey values depend on the whole volume. So the patches are those of
:func:`gtgm.neurons.segment.predict_affinities`, the statistics are those of the whole volume, and
what is written is what that function returns, bit for bit (several patches at a time may differ
in the last digit, because they are grouped otherwise).
"""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from monai.data.utils import compute_importance_map, dense_patch_slices
from torch import nn

from gtgm.errors import DataError, SettingsError
from gtgm.hashing import settings_hash
from gtgm.neurons.blocks import CHUNK, fingerprint, open_resumable, split_blocks
from gtgm.neurons.segment import Predictor, affinities_of, statistics
from gtgm.neurons.training import patch_for
from gtgm.progress import tqdm

#: Voxels (y, x) of a section that are predicted together.
TILE = (2048, 2048)
DTYPES = ("float32", "float16")


@torch.no_grad()
def predict_blockwise(
    network: nn.Module,
    raw: Any,
    folder: str | Path,
    patch: tuple[int, int, int],
    overlap: float = 0.5,
    device: str | torch.device = "cpu",
    batch: int = 2,
    bf16: bool = False,
    multiple: tuple[int, int, int] = (1, 1, 1),
    tile: tuple[int, int] = TILE,
    dtype: str = "float32",
) -> zarr.Array:
    """Affinities of a volume from overlapping patches, written while they are made.

    Patches are predicted from the first section to the last, and only the sections under the
    present row of patches are in memory. Called again with the same folder, a run that was killed
    continues behind the last sections that it wrote.

    Args:
        network, patch, overlap, device, batch, bf16, multiple: as in
            :func:`gtgm.neurons.segment.predict_affinities`.
        raw: (D, H, W) grey values; anything with a shape and a type that slices (NumPy, h5py,
            Zarr).
        folder: gets ``affinities.zarr``.
        tile: (y, x) voxels that are kept in memory, about 30 bytes for each voxel of a tile in
            each section of a patch. Patches that cross the border of a tile are predicted for
            both tiles, so a tile that holds the whole section is fastest.
        dtype: ``float32``, or ``float16``, which takes half of the disk and rounds by up to
            0.0003. Watersheds and agglomeration see the rounding: on FIB-25 it changed
            segmentations by a VOI of up to 0.08 bits at low thresholds.
    Returns:
        (C, D, H, W) in [0, 1], in ``folder``.
    Raises:
        DataError: ``raw`` is not a volume, or the disk is full.
        SettingsError: an impossible tile, overlap or type, or a folder with other data.
    """
    if len(raw.shape) != 3:
        raise DataError(f"raw has shape {raw.shape}", expected="(D, H, W)")
    if dtype not in DTYPES:
        raise SettingsError(f"is {dtype!r}", where="dtype", expected=f"one of {DTYPES}")
    if not 0 <= overlap < 1:
        raise SettingsError(f"is {overlap}", where="overlap", expected="at least 0, below 1")
    shape = tuple(raw.shape)
    columns = split_blocks(shape, (shape[0], *tile))
    patch = patch_for(shape, patch, multiple)
    starts = [_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True)]
    device = torch.device(device)
    network.to(device, memory_format=torch.channels_last_3d).eval()  # as in training
    predict = affinities_of(network, device, bf16)
    channels = predict(torch.zeros((1, 1, *patch), device=device)).shape[1]
    key = settings_hash(
        fingerprint(raw), _weights_hash(network), patch, overlap, bf16, list(tile), dtype
    )
    rows = starts[0]
    chunk = (rows[1] - rows[0] if len(rows) > 1 else CHUNK[0], *CHUNK[1:])
    result = open_resumable(Path(folder) / "affinities.zarr", (channels, *shape), dtype, key, chunk)
    done, steps = result.attrs["done"], len(rows) * len(columns)
    if done == steps:
        return result
    mean, std = statistics(raw)
    weight = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125, device=device)
    with tqdm(total=steps, initial=done, desc="affinities", leave=False) as bar:
        for number in range(done // len(rows), len(columns)):
            _, ys, xs = columns[number].core
            across = [
                [s for s in starts[axis] if s < part.stop and s + patch[axis] > part.start]
                for axis, part in ((1, ys), (2, xs))
            ]
            column = _Column(patch, across, weight, channels)
            # Sections still to be written need the earlier patches that reach into them.
            present = done - number * len(rows) if number == done // len(rows) else 0
            first = next(i for i, z in enumerate(rows) if z + patch[0] > rows[present])
            for row in range(first, len(rows)):
                column.move(rows[row])
                seen = (_read(raw, column.origin, column.weights.shape) - mean) / std
                column.add(torch.from_numpy(seen), predict, device, batch)
                if row < present:
                    continue
                end = rows[row + 1] if row + 1 < len(rows) else shape[0]
                result[:, rows[row] : end, ys, xs] = column.blended(end - rows[row], ys, xs)
                result.attrs["done"] = number * len(rows) + row + 1
                bar.update()
    return result


class _Column:
    """Sums of the patches that touch a tile, over the depth of one patch.

    Attributes:
        origin: (z, y, x) of the first voxel in memory.
        total: (C, D, H, W) weighted affinities; weights: (D, H, W) what they add up to.
    """

    def __init__(
        self,
        patch: tuple[int, int, int],
        across: list[list[int]],
        weight: torch.Tensor,
        channels: int,
    ) -> None:
        self.origin = (0, *(starts[0] for starts in across))
        size = [starts[-1] + p - starts[0] for starts, p in zip(across, patch[1:], strict=True)]
        self.total = np.zeros((channels, patch[0], *size), dtype=np.float32)
        self.weights = np.zeros((patch[0], *size), dtype=np.float32)
        self._weight = weight
        self._windows = [
            (slice(None), slice(y, y + patch[1]), slice(x, x + patch[2]))
            for y, x in itertools.product(*([s - starts[0] for s in starts] for starts in across))
        ]

    def move(self, z: int) -> None:
        """Drop the sections before ``z``."""
        step = min(z - self.origin[0], len(self.weights))
        if step:
            for array in (self.total, self.weights[None]):
                array[:, :-step] = array[:, step:]
                array[:, -step:] = 0
        self.origin = (z, *self.origin[1:])

    def add(self, seen: torch.Tensor, predict: Predictor, device: torch.device, batch: int) -> None:
        """Predict the row of patches that starts at the first section in memory."""
        weight = self._weight.cpu().numpy()
        for i in range(0, len(self._windows), batch):
            windows = self._windows[i : i + batch]
            patches = torch.stack([seen[window] for window in windows])[:, None]
            predicted = (predict(patches.to(device)) * self._weight).cpu().numpy()
            for window, affinities in zip(windows, predicted, strict=True):
                self.total[(slice(None), *window)] += affinities
                self.weights[window] += weight

    def blended(self, depth: int, ys: slice, xs: slice) -> np.ndarray:
        """Affinities of the first sections in memory, of the voxels of a tile."""
        _, y, x = self.origin
        part = slice(depth), slice(ys.start - y, ys.stop - y), slice(xs.start - x, xs.stop - x)
        return self.total[(slice(None), *part)] / self.weights[part]


def _starts(size: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the patches along one axis, as MONAI's sliding window places them."""
    step = patch if patch == max(size, patch) else max(1, int(patch * (1 - overlap)))
    return [
        int(place[0][0])
        for place in dense_patch_slices((max(size, patch),), (patch,), (step,), return_slice=False)
    ]


def _read(raw: Any, origin: tuple[int, int, int], size: tuple[int, ...]) -> np.ndarray:
    """A box of a volume as float32, reflected where it is larger than the volume."""
    box = tuple(slice(o, o + s) for o, s in zip(origin, size, strict=True))
    part = np.asarray(raw[box]).astype(np.float32)
    pads = [(0, s - n) for s, n in zip(size, part.shape, strict=True)]
    return np.pad(part, pads, mode="reflect") if any(after for _, after in pads) else part


def _weights_hash(network: nn.Module) -> str:
    """Hash of all weights and buffers of a network."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]
