"""Where a segmentation is wrong: the objects that cost most variation of information.

VOI is a sum over objects. The split term has one part for each true neuron, how its voxels are
spread over segments, and the merge term one for each segment, how its voxels are spread over
neurons. The largest parts are the mistakes to look at first; each gets a place to look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.metrics import Contingency, contingency


@dataclass(frozen=True)
class Mistake:
    """One neuron that is split, or one segment that merges neurons.

    Attributes:
        kind: ``split`` or ``merge``.
        truth: the neuron that is split, or the merged neurons, those with most voxels first.
        segments: the segments of the split neuron, most voxels first, or the one that merges.
        voi_bits: what it contributes to the split or merge term of VOI.
        voxels: voxels of the neuron (or segment) outside its largest piece.
        centre: (z, y, x) where its two largest pieces touch, or are nearest to each other.
    """

    kind: Literal["split", "merge"]
    truth: tuple[int, ...]
    segments: tuple[int, ...]
    voi_bits: float
    voxels: int
    centre: tuple[int, int, int]


def find_mistakes(
    segmentation: np.ndarray,
    truth: np.ndarray,
    ignore: tuple[int, ...] = (0,),
    top: int | None = 10,
) -> list[Mistake]:
    """The splits and merges that contribute most to VOI, largest first.

    The contributions of all splits sum to the split term of :func:`gtgm.neurons.metrics.voi`, those
    of all merges to its merge term. As there, segment 0 is a segment like any other.

    Args:
        segmentation, truth: label volumes (D, H, W).
        ignore: true labels that do not count.
        top: how many, all if None. Every one takes time for its place, so all of a large volume
            take long.
    Raises:
        DataError: not two volumes of integers on one grid, or nothing left to score.
        SettingsError: ``top`` below 1.
    """
    segmentation, truth = np.asarray(segmentation), np.asarray(truth)
    if top is not None and top < 1:
        raise SettingsError(f"is {top}", where="top", expected="at least 1, or None for all")
    table = contingency(segmentation, truth, ignore)
    if truth.ndim != 3:
        raise DataError(f"the truth has shape {truth.shape}", expected="(D, H, W)")
    found = _parts("split", table) + _parts("merge", table)
    found.sort(key=lambda part: -part[1])
    return [_mistake(segmentation, truth, table, *part) for part in found[:top]]


def _parts(kind: str, table: Contingency) -> list[tuple[str, float, np.ndarray]]:
    """Kind, contribution in bits and pairs (largest first) of every object in several pieces."""
    objects = table.truth if kind == "split" else table.segmentation
    pieces = table.segmentation if kind == "split" else table.truth
    order = np.lexsort((pieces, -table.counts, objects))
    starts = np.flatnonzero(np.r_[True, objects[order][1:] != objects[order][:-1]])
    total = table.counts.sum()
    parts = []
    for pairs in np.split(order, starts[1:]):
        if len(pairs) > 1:
            counts = table.counts[pairs]
            bits = -(counts * np.log2(counts / counts.sum())).sum() / total
            parts.append((kind, float(bits), pairs))
    return parts


def _mistake(
    segmentation: np.ndarray,
    truth: np.ndarray,
    table: Contingency,
    kind: Literal["split", "merge"],
    bits: float,
    pairs: np.ndarray,
) -> Mistake:
    neurons, segments = table.truth[pairs], table.segmentation[pairs]
    first, second = ((truth == neurons[i]) & (segmentation == segments[i]) for i in range(2))
    return Mistake(
        kind=kind,
        truth=tuple(int(v) for v in (neurons[:1] if kind == "split" else neurons)),
        segments=tuple(int(v) for v in (segments if kind == "split" else segments[:1])),
        voi_bits=bits,
        voxels=int(table.counts[pairs][1:].sum()),
        centre=_meeting_place(first, second),
    )


def _meeting_place(first: np.ndarray, second: np.ndarray) -> tuple[int, int, int]:
    """A voxel where two masks touch, near the middle of their contact; else between the nearest."""
    # Contacts lie within one voxel of the second, smaller mask: only its surroundings are searched.
    inside = np.argwhere(second)
    corner = np.maximum(inside.min(0) - 1, 0)
    around = tuple(slice(c, stop + 2) for c, stop in zip(corner, inside.max(0), strict=True))
    contacts = []
    for axis in range(3):
        a, b = np.moveaxis(first[around], axis, 0), np.moveaxis(second[around], axis, 0)
        pairs = np.argwhere((a[:-1] & b[1:]) | (b[:-1] & a[1:]))
        # Axes back in their order: the moved one came to the front.
        contacts.append(np.insert(pairs[:, 1:], axis, pairs[:, 0], axis=1) + corner)
    voxels = np.concatenate(contacts)
    if len(voxels):
        middle = ((voxels - voxels.mean(0)) ** 2).sum(1).argmin()
        return tuple(int(v) for v in voxels[middle])
    a, b = _surface(first), _surface(second)
    distances, partner = cKDTree(a).query(b)
    nearest = int(distances.argmin())
    return tuple(int(v) for v in (b[nearest] + a[partner[nearest]]) // 2)


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask that have a neighbour outside of it, (N, 3)."""
    corner, stop = (f(np.argwhere(mask), axis=0) for f in (np.min, np.max))
    part = mask[tuple(slice(a, b + 1) for a, b in zip(corner, stop, strict=True))]
    return np.argwhere(part & ~binary_erosion(part)) + corner
