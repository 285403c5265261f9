"""The graph of touching fragments, added up block by block, and its agglomeration.

An edge joins two fragments that touch; it holds the sum and the number of the affinities across
their common surface. Sums of parts of a volume add up to those of the whole, so a volume of any
size is agglomerated as one graph, exactly as waterz does with the affinities themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import bioimage_cpp as bic
import numpy as np
from elf.segmentation.gasp import run_GASP
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gtgm.errors import DataError, SettingsError


@dataclass(frozen=True)
class RegionGraph:
    """Touching fragments.

    Attributes:
        pairs: (E, 2) uint64 fragment labels, the lower one first, every pair once, ascending.
        sums: (E,) float64, sum of the affinities between the two.
        counts: (E,) int64, number of these affinities.
    """

    pairs: np.ndarray
    sums: np.ndarray
    counts: np.ndarray

    def __add__(self, other: RegionGraph) -> RegionGraph:
        """Both graphs, sums and counts of equal pairs added."""
        pairs = np.concatenate([self.pairs, other.pairs])
        sums = np.concatenate([self.sums, other.sums])
        return _collect(pairs, sums, np.concatenate([self.counts, other.counts]))

    def relabelled(self, table: np.ndarray) -> RegionGraph:
        """The graph after fragment ``i`` has become ``table[i]``; inner surfaces vanish."""
        pairs = np.sort(table[self.pairs].astype(np.uint64), axis=1)
        kept = pairs[:, 0] != pairs[:, 1]
        return _collect(pairs[kept], self.sums[kept], self.counts[kept])


def empty_graph() -> RegionGraph:
    """A graph without edges, to start a sum with."""
    return RegionGraph(np.zeros((0, 2), np.uint64), np.zeros(0), np.zeros(0, np.int64))


def region_graph(
    affinities: np.ndarray, fragments: np.ndarray, shared: tuple[int, int, int] = (0, 0, 0)
) -> RegionGraph:
    """Surfaces between the fragments of a volume or block.

    Args:
        affinities: (C, D, H, W) in [0, 1]; the first three channels are the bonds to the previous
            voxel along z, y, x.
        fragments: (D, H, W) labels below 2³²; 0 is background and has no edges.
        shared: how many leading voxels along z, y, x belong to the previous blocks (0 or 1). Bonds
            between them were counted there; bonds that lead to them are counted here.
    Raises:
        DataError: shapes that do not fit, or affinities that are not finite.
    """
    if affinities.ndim != 4 or len(affinities) < 3 or affinities.shape[1:] != fragments.shape:
        raise DataError(
            f"affinities {affinities.shape} and fragments {fragments.shape} do not fit together",
            expected="(C, D, H, W) with C ≥ 3, and (D, H, W)",
        )
    own = tuple(slice(s, None) for s in shared)
    graph = empty_graph()
    for axis in range(3):
        here = list(own)
        here[axis] = slice(1, None)
        there = list(own)
        there[axis] = slice(None, -1)
        # Section by section, so that what has to be sorted stays small.
        parts = [
            _bonds(*section)
            for section in zip(
                fragments[tuple(here)],
                fragments[tuple(there)],
                affinities[(axis, *here)],
                strict=True,
            )
        ]
        if parts:
            graph += _collect(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return graph


def agglomerate_graph(graph: RegionGraph, highest: int, threshold: float) -> np.ndarray:
    """Join the two objects with the highest mean affinity, until 1 − mean reaches ``threshold``.

    The result is that of waterz's ``OneMinus<MeanAffinity>``; pairs of equal mean may be joined in
    another order.

    Args:
        highest: highest fragment label.
        threshold: in [0, 1]; more joins more.
    Returns:
        (highest + 1,) uint64: the object 1 … N, without a gap, of each fragment; 0 stays 0.
    Raises:
        SettingsError: a threshold outside [0, 1].
    Source: GASP with mean linkage (Bailoni et al. 2022), of elf.
    """
    if not 0 <= threshold <= 1:
        raise SettingsError(f"is {threshold}", where="threshold", expected="within [0, 1]")
    table = np.zeros(highest + 1, dtype=np.uint64)
    if not len(graph.pairs):
        table[1:] = np.arange(1, highest + 1)
        return table
    nodes = bic.graph.UndirectedGraph.from_edges(highest, graph.pairs - np.uint64(1))
    attraction = graph.sums / graph.counts - (1 - threshold)
    objects, _ = run_GASP(nodes, attraction, "mean", edge_sizes=graph.counts)
    table[1:] = np.unique(objects, return_inverse=True)[1] + 1
    return table


def join(pairs: np.ndarray, highest: int) -> np.ndarray:
    """Table (highest + 1,) uint64 that gives fragments joined by ``pairs`` (P, 2) one label.

    The labels are 1 … N without a gap; 0 stays 0.
    """
    ones = np.ones(len(pairs), dtype=bool)
    links = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(highest + 1,) * 2)
    # Fragment 0 is in no pair, so it is the first component, and alone in it.
    return connected_components(links, directed=False)[1].astype(np.uint64)


def _bonds(
    here: np.ndarray, there: np.ndarray, affinities: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs, sums and counts of the bonds between two arrays of one shape."""
    across = (here != there) & (here != 0) & (there != 0)
    a, b = here[across].astype(np.uint64), there[across].astype(np.uint64)
    values = affinities[across].astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("the affinities hold NaN or infinity", expected="values in [0, 1]")
    keys, index = np.unique(
        (np.minimum(a, b) << np.uint64(32)) | np.maximum(a, b), return_inverse=True
    )
    counts = np.bincount(index, minlength=keys.size)
    return _unpack(keys), np.bincount(index, values, minlength=keys.size), counts


def _collect(pairs: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> RegionGraph:
    """Add up equal pairs."""
    keys, index = np.unique((pairs[:, 0] << np.uint64(32)) | pairs[:, 1], return_inverse=True)
    sums = np.bincount(index, sums, minlength=keys.size)
    counts = np.bincount(index, counts, minlength=keys.size)
    return RegionGraph(_unpack(keys), sums, counts.astype(np.int64))


def _unpack(keys: np.ndarray) -> np.ndarray:
    return np.stack([keys >> np.uint64(32), keys & np.uint64(2**32 - 1)], axis=1)
