"""Where a segmentation is wrong: the objects that cost most variation of information.

VOI is a sum over objects. The split term has one part for each true neuron, how its voxels are
spread over segments, and the merge term one for each segment, how its voxels are spread over
neurons. The largest parts are the mistakes to look at first; each gets a place to look at, and
:func:`closest_view` cuts the section there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
        centre: (z, y, x) where its two largest pieces touch; where they do not, the voxel of the
            second that is nearest to the first.
    """

    kind: Literal["split", "merge"]
    truth: tuple[int, ...]
    segments: tuple[int, ...]
    voi_bits: float
    voxels: int
    centre: tuple[int, int, int]


@dataclass(frozen=True)
class View:
    """A section around a mistake, (H, W).

    Attributes:
        plane: such as ``xy, z = 12``.
        cut: index of the section in the volumes.
        pieces: (H, W) uint8; 1, 2, 3 where the three largest pieces of the object are, else 0.
        size: width and height in nm.
        place: x and y of the mistake's centre in nm from the upper left corner.
    """

    plane: str
    cut: tuple[slice | int, ...]
    pieces: np.ndarray
    size: tuple[float, float]
    place: tuple[float, float]


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


def closest_view(
    mistake: Mistake,
    segmentation: np.ndarray,
    truth: np.ndarray,
    resolution: Sequence[float],
    width_nm: float = 1000.0,
) -> View:
    """The section through a mistake's centre that shows it.

    It is cut in xy, unless xz or yz shows twice as much of the less visible one of the two largest
    pieces: pieces that meet along z are never seen together in xy.

    Args:
        segmentation, truth: those that the mistake was found in.
        resolution: nm per voxel (z, y, x).
        width_nm: width and height; less where the volume is smaller. At the edge of the volume the
            section is moved inwards.
    """
    box = []
    for c, n, r in zip(mistake.centre, truth.shape, resolution, strict=True):
        size = min(n, max(1, round(width_nm / r)))
        start = min(max(0, c - size // 2), n - size)
        box.append(slice(start, start + size))
    views, seen = [], []
    for axis, plane in enumerate(("xy, z", "xz, y", "yz, x")):
        cut = tuple(mistake.centre[i] if i == axis else box[i] for i in range(3))
        pieces = _pieces(mistake, segmentation[cut], truth[cut])
        rows, columns = (i for i in range(3) if i != axis)
        size = (pieces.shape[1] * resolution[columns], pieces.shape[0] * resolution[rows])
        x, y = ((mistake.centre[i] - box[i].start + 0.5) * resolution[i] for i in (columns, rows))
        views.append(View(f"{plane} = {mistake.centre[axis]}", cut, pieces, size, (x, y)))
        seen.append(min((pieces == 1).mean(), (pieces == 2).mean()))
    return views[0 if 2 * seen[0] >= max(seen) else int(np.argmax(seen))]


def mistake_pictures(
    mistakes: Sequence[Mistake],
    raw: np.ndarray,
    truth: np.ndarray,
    segmentation: np.ndarray,
    resolution: Sequence[float],
    width_nm: float = 1000.0,
) -> list[dict[str, Any]]:
    """What :func:`gtgm.figures_em.mistakes_panels` draws of each mistake.

    Args:
        mistakes: of :func:`find_mistakes`.
        raw, truth, segmentation: (D, H, W).
        resolution: nm per voxel (z, y, x).
        width_nm: width and height of the pictures.

    Returns:
        For each: ``kind``, ``bits``, ``neurons`` and ``segments`` of the mistake; ``plane``,
        ``size``, ``place`` and ``pieces`` of its :class:`View`; ``em``, ``truth`` and
        ``segmentation`` there (H, W); and ``window``, the grey values shown black and white.
    """
    window = [float(value) for value in np.percentile(raw, (1, 99))]
    found = []
    for mistake in mistakes:
        view = closest_view(mistake, segmentation, truth, resolution, width_nm)
        found.append(
            {
                "kind": mistake.kind,
                "bits": mistake.voi_bits,
                "neurons": list(mistake.truth),
                "segments": list(mistake.segments),
                "plane": view.plane,
                "size": list(view.size),
                "place": list(view.place),
                "pieces": view.pieces,
                "em": raw[view.cut],
                "truth": truth[view.cut],
                "segmentation": segmentation[view.cut],
                "window": window,
            }
        )
    return found


def _pieces(mistake: Mistake, segmentation: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1, 2, 3 where the three largest pieces are, else 0."""
    pieces = np.zeros(truth.shape, dtype=np.uint8)
    pairs = [(neuron, segment) for neuron in mistake.truth for segment in mistake.segments]
    for number, (neuron, segment) in enumerate(pairs[:3], start=1):
        pieces[(truth == neuron) & (segmentation == segment)] = number
    return pieces


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
    """A voxel where two masks touch, near the middle of their contact, or come closest."""
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
    # Between them may lie another neuron: the place is on the second, where it comes closest.
    return tuple(int(v) for v in b[cKDTree(a).query(b)[0].argmin()])


def _surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of a mask that have a neighbour outside of it, (N, 3)."""
    corner, stop = (f(np.argwhere(mask), axis=0) for f in (np.min, np.max))
    part = mask[tuple(slice(a, b + 1) for a, b in zip(corner, stop, strict=True))]
    return np.argwhere(part & ~binary_erosion(part)) + corner
