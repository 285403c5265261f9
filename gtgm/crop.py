"""Crops around labelled voxels, from volumes in memory or in a store."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.transforms import RandCropByPosNegLabeld, SpatialCrop
from monai.transforms.utils import map_binary_to_indices

from gtgm.pool import pad_to

FOREGROUND, BACKGROUND = "foreground_places", "background_places"
#: Places that are kept of each kind; a crop's centre is drawn among them.
PLACES = 250_000


def with_places(item: Mapping[str, torch.Tensor], patch: Sequence[int]) -> dict[str, torch.Tensor]:
    """An item, padded to at least ``patch``, with where its labelled and other voxels are.

    Args:
        item: ``image`` (C, D, H, W) and ``label`` (1, D, H, W).
        patch: voxels (z, y, x).

    Returns:
        ``image`` and ``label``, and flat indices (at most 250,000 each, of all voxels alike)
        of voxels with a label and without one.
    """
    label = pad_to(item["label"], patch, 0)
    kinds = zip((FOREGROUND, BACKGROUND), map_binary_to_indices(label), strict=True)
    places = {name: _some(torch.as_tensor(found)) for name, found in kinds}
    return {"image": pad_to(item["image"], patch), "label": label, **places}


class RandCropStoredd(RandCropByPosNegLabeld):
    """MONAI's crop at the same random places; it reads no more than the crop, and needs items of
    :func:`with_places`."""

    def __call__(
        self, data: Mapping[Hashable, torch.Tensor], lazy: bool | None = None
    ) -> list[dict[Hashable, torch.Tensor]]:
        """A dictionary → one dictionary with the cut ``keys`` per sample."""
        self.randomize(data[self.label_key], data[FOREGROUND], data[BACKGROUND])
        size = self.cropper.spatial_size
        boxes = [SpatialCrop.compute_slices(c, size) for c in self.cropper.centers]
        return [{key: data[key][(slice(None), *box)] for key in self.keys} for box in boxes]


def _some(places: torch.Tensor) -> torch.Tensor:
    if len(places) <= PLACES:
        return places
    chosen = np.random.default_rng(0).choice(len(places), PLACES, replace=False)
    return places[torch.from_numpy(np.sort(chosen))]
