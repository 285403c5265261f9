"""Small inputs that the text tests share."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from gtgm.datasets.registry import DatasetInfo, get
from gtgm.text.describe import Facts, facts

MRI: DatasetInfo = get("Task04_Hippocampus")
CT: DatasetInfo = get("Task09_Spleen")
EM: DatasetInfo = get("FIB25")
PATCH = (24, 32, 24)


def hippocampi(shared: Path, count: int, start: int = 0) -> list[tuple]:
    """(id, image (1, D, H, W) in SAR, spacing), read without the package's own reader."""
    files = sorted((shared / "msd/Task04_Hippocampus/imagesTr").glob("hippocampus_*.nii.gz"))
    out = []
    for path in files[start : start + count]:
        image = nib.as_closest_canonical(nib.load(path))  # x right, y anterior, z superior
        voxels = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
        out.append((path.name.split(".")[0], voxels[None], (1.0, 1.0, 1.0)))
    return out


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Uniform 0…1000, float32."""
    return np.random.default_rng(seed).uniform(0, 1000, shape).astype(np.float32)


def any_facts(info: DatasetInfo = MRI) -> Facts:
    """Facts of a patch of noise."""
    return facts(noise((len(info.channels), 8, 8, 8)), info, (0, 0, 0), (8, 8, 8), (1, 1, 1))
