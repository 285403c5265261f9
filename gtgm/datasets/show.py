"""How a volume shows itself in a notebook: a line of facts and its three middle slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from gtgm.rich import HEIGHT, facts_html, picture_html

if TYPE_CHECKING:
    from gtgm.datasets.geometry import Volume

PLANES = ("axial", "coronal", "sagittal")
EM_PLANES = ("z", "y", "x")


def volume_html(volume: Volume) -> str:
    """HTML of a volume: shape, spacing, orientation, classes and a PNG of its middle slices."""
    info = volume.info
    spacing = " × ".join(f"{s:.3g}" for s in volume.spacing)
    shape = " × ".join(str(n) for n in volume.image.shape)
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(info.classes, 1))
    planes = EM_PLANES if info.format == "cremi" else PLANES
    rows = {
        "shape (C, D, H, W)": f"{shape}, spacing {spacing} {info.unit}",
        "file": f"{volume.case.image.name}"
        + (f", orientation {volume.meta.orientation}" if volume.meta else ""),
        "channels": ", ".join(info.channels),
        "classes": classes or "neuron instances",
        "source": info.attribution,
    }
    picture = picture_html(thumbnail(volume), f"middle {', '.join(planes)} slices")
    return facts_html(f"{info.title}, {volume.case.id}", rows, picture)


def thumbnail(volume: Volume) -> np.ndarray:
    """The middle slice of each plane (first channel) side by side, isotropic, superior/anterior
    up."""
    image = volume.image[0]
    slices = []
    for axis in range(3):
        plane = image.select(axis, image.shape[axis] // 2).float()
        rest = [s for i, s in enumerate(volume.spacing) if i != axis]
        width = round(HEIGHT * plane.shape[1] * rest[1] / (plane.shape[0] * rest[0]))
        size = (HEIGHT, min(max(width, 8), 4 * HEIGHT))
        plane = F.interpolate(plane[None, None], size=size, mode="bilinear")[0, 0]
        # Rows of EM run down the picture as in every viewer; those of SAR run up.
        slices.append(plane if volume.info.format == "cremi" else plane.flip(0))
    return torch.cat(slices, dim=1).numpy()
