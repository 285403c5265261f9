"""Bright and dark structures of a patch: how many, how large, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

#: Share of the patch below which a connected component is not counted.
SMALLEST = 0.005
#: Share of the patch from which the largest component is called large.
LARGE = 0.12
#: A centroid nearer than this share of the patch to its middle has no side.
MIDDLE = 0.15


@dataclass(frozen=True)
class Structures:
    """Connected components of one kind in a patch.

    Attributes:
        count: ``no``, ``one`` or ``several``.
        size: of the largest one: ``small`` or ``large``; empty if there is none.
        offset: centroid of a single one from the patch's middle along (D, H, W), as a share of the
            patch: −0.5…0.5; zero if there are several, which may lie anywhere.
    """

    count: str
    size: str = ""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def side(self, axes: Sequence[int]) -> tuple[int, int] | None:
        """The axis among ``axes`` along which it lies farthest off the middle, and −1 or 1."""
        axis = max(axes, key=lambda a: abs(self.offset[a]), default=None)
        if axis is None or abs(self.offset[axis]) < MIDDLE:
            return None
        return axis, int(np.sign(self.offset[axis]))


def find(mask: np.ndarray) -> Structures:
    """Count, size and place of the face-connected components of a mask (D, H, W)."""
    labels, number = ndimage.label(mask)
    shares = np.bincount(labels.ravel(), minlength=number + 1)[1:] / mask.size
    counted = int((shares >= SMALLEST).sum())
    if not counted:
        return Structures("no")
    largest = int(shares.argmax())
    size = "large" if shares[largest] >= LARGE else "small"
    if counted > 1:
        return Structures("several", size)
    centre = ndimage.center_of_mass(labels == largest + 1)
    offset = tuple(
        round(float((c + 0.5) / n - 0.5), 3) for c, n in zip(centre, mask.shape, strict=True)
    )
    return Structures("one", size, offset)
