"""Random training patches: from the NIfTI file each time, and from the store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import torch
from tqdm import tqdm

from benchmarks.measure import timed
from gtgm.volume_store import StoredVolume, VolumeStore, write_chunks

NAME, UNIT = "training patch", "s per patch"
STOCK = "NIfTI read for each patch"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    STOCK: ("", {}),
    "store on disk (gtgm)": (STOCK, {"store": True}),
}
PATCH = (32, 160, 160)
#: Volumes that are NIfTI files too, for the stock row.
KEPT = 4


def measure(name: str, options: Any) -> dict[str, Any]:
    """Seconds per patch, and how much the process grows while it reads them."""
    volumes = _prepare(options)
    generator = np.random.default_rng(0)
    files = sorted((Path(options.work) / "nifti").glob("*.nii.gz"))

    def from_nifti() -> None:
        image = nib.load(files[generator.integers(len(files))])
        volume = np.asarray(image.dataobj, np.float32).transpose()
        torch.from_numpy(np.ascontiguousarray(volume[_box(generator, volume.shape)]))

    def from_store() -> None:
        volume = volumes[generator.integers(len(volumes))]
        volume[(slice(0, 1), *_box(generator, volume.shape[1:]))]

    if not ROWS[name][1]:
        return timed(from_nifti, 2 * options.repeats)
    process = psutil.Process()
    from_store()
    whole = volumes[0][(slice(None),) * 4].numpy()
    begin = time.perf_counter()
    write_chunks(Path(options.work) / "again.npy", whole)
    convert = time.perf_counter() - begin
    del whole
    from_store()
    before, seconds = process.memory_info().rss, []
    for _ in range(options.patches):
        begin = time.perf_counter()
        from_store()
        seconds.append(time.perf_counter() - begin)
    grown = process.memory_info().rss - before
    return {
        "seconds": float(np.mean(seconds)),
        "slowest": max(seconds),
        "grown_mb": grown / 1e6,
        "convert_seconds": convert,
    }


def describe(options: Any) -> str:
    """The sizes, for a reader."""
    size = "×".join(map(str, options.size))
    return f"patches of 32×160×160 from {options.volumes} volumes of {size}"


def _box(generator: np.random.Generator, shape: Any) -> tuple[slice, ...]:
    starts = [int(generator.integers(max(n - p, 0) + 1)) for n, p in zip(shape, PATCH, strict=True)]
    return tuple(slice(s, s + p) for s, p in zip(starts, PATCH, strict=True))


def _prepare(options: Any) -> list[StoredVolume]:
    """Smooth volumes with noise as NIfTI, as a scanner writes them (int16), and in the store."""
    nifti, store = Path(options.work) / "nifti", VolumeStore(Path(options.work) / "store", "speed")
    nifti.mkdir(parents=True, exist_ok=True)
    depth, height, width = options.size
    volumes = []
    for number in tqdm(range(options.volumes), desc="volumes", leave=False):
        path = nifti / f"{number:03d}.nii.gz"

        def load(path: Path = path, number: int = number) -> dict[str, torch.Tensor]:
            generator = np.random.default_rng(number)
            z, y, x = (np.sin(np.arange(n) / (20 + number)) for n in (depth, height, width))
            smooth = 400 * z[:, None, None] * y[:, None] * x
            noise = generator.integers(-20, 20, (height, width), dtype=np.int16)
            voxels = smooth.astype(np.int16) + noise
            if number < KEPT:
                nib.save(nib.Nifti1Image(voxels.transpose(), np.eye(4)), path)
            return {"image": torch.from_numpy(voxels.astype(np.float32))[None]}

        volumes.append(store.get(path.stem, load)["image"])
    return volumes
