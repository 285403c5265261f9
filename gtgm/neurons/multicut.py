"""Multicut: all fragments of a volume are joined or separated at once, at the lowest total cost.

Every pair of touching fragments gets a cost from the mean affinity of their common surface:
positive if they had better be joined, negative if they had better be cut. The number of neurons
follows from the costs. The lifted multicut also weighs pairs that do not touch, by the affinities
of more distant voxels. Both are solved by greedy contraction and Kernighan–Lin moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import bioimage_cpp as bic
import numpy as np
from elf.segmentation.lifted_multicut import lifted_multicut_kernighan_lin
from elf.segmentation.multicut import multicut_kernighan_lin, transform_probabilities_to_costs

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.affinities import NEAREST, check_offsets
from gtgm.neurons.agglomeration import prepare

BETAS = tuple(round(0.05 * i, 2) for i in range(1, 20))  # 0.05 … 0.95

WEIGHTINGS = ("none", "all", "xyz")

Offsets = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Problem:
    """Pairs of fragments and the affinity between them.

    Attributes:
        nodes: number of nodes; node 0 is the background and has no pair.
        pairs: (E, 2) uint64, pairs of labels that touch, the lower one first.
        affinity: (E,) mean over the surface, in [0, 1].
        size: (E,) area of the surface in voxel faces.
        between: (E,) bool, the fragments lie in different sections; ``None`` if fragments are 3D.
        lifted: (L, 2) uint64, pairs that do not touch but that a longer offset connects.
        lifted_affinity, lifted_size: (L,) mean over the connected voxels, and their number.
    """

    nodes: int
    pairs: np.ndarray
    affinity: np.ndarray
    size: np.ndarray
    between: np.ndarray | None
    lifted: np.ndarray
    lifted_affinity: np.ndarray
    lifted_size: np.ndarray


def multicut(
    affinities: np.ndarray,
    fragments: np.ndarray,
    beta: float = 0.5,
    offsets: Offsets = NEAREST,
    lifted: bool = False,
    weighting: str | None = None,
) -> np.ndarray:
    """Neurons as the optimal joining of fragments.

    Args:
        affinities: (C, D, H, W) in [0, 1], one channel per offset.
        fragments: (D, H, W) labels; 0 is background and is never merged.
        beta: boundary bias in (0, 1). A pair of mean affinity beta costs nothing either way, one
            above it draws together; a lower beta merges more.
        offsets: (z, y, x) in voxels; the first three are ``NEAREST``. Further ones count only if
            ``lifted``.
        lifted: also weigh pairs that do not touch.
        weighting: ``all``, a pair counts in proportion to its surface; ``xyz``, the same, but
            surfaces within and between sections are measured against the largest of their own kind,
            which needs fragments that lie in one section each; ``none``. By default ``xyz`` for
            such fragments, else ``all``. Lifted pairs are a kind of their own.
    Returns:
        (D, H, W) uint64, 0 where the fragments are 0, else 1 … N.
    Raises:
        DataError: shapes that do not fit, or affinities that are not finite or not in [0, 1].
        SettingsError: a beta outside (0, 1), offsets that do not fit, an unknown weighting, or
            ``xyz`` with 3D fragments.
    Source: multicut, Beier et al. 2017 (Nature Methods 14); lifted edges, Keuper et al. 2015
        (ICCV) and Beier et al. 2016 (ECCV).
    """
    ((_, result),) = multicuts(affinities, fragments, (beta,), offsets, lifted, weighting)
    return result


def multicuts(
    affinities: np.ndarray,
    fragments: np.ndarray,
    betas: Iterable[float] = BETAS,
    offsets: Offsets = NEAREST,
    lifted: bool = False,
    weighting: str | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
    """Multicuts at rising beta of one problem; arguments and errors as in :func:`multicut`.

    Yields:
        (beta, segmentation (D, H, W) uint64).
    """
    betas = sorted({float(b) for b in betas})
    if not betas or not all(0 < b < 1 for b in betas):
        raise SettingsError(
            f"betas {betas} cannot be used", where="beta", expected="between 0 and 1, both excluded"
        )
    if weighting not in (None, *WEIGHTINGS):
        raise SettingsError(
            f"there is no weighting {weighting!r}",
            where="weighting",
            expected=", ".join(WEIGHTINGS),
        )
    if lifted:
        check_long_range(offsets, len(affinities))
    else:
        check_nearest(offsets)
        offsets = offsets[:3]
    used, labels = prepare(affinities, fragments, len(offsets))
    stated = problem(used, labels, offsets)
    if weighting == "xyz" and stated.between is None:
        raise SettingsError(
            "fragments reach over several sections",
            where="weighting",
            expected="fragments in one section each",
            fix="use the weighting all",
        )
    return _cuts(stated, labels, betas, weighting)


def problem(affinities: np.ndarray, fragments: np.ndarray, offsets: Offsets = NEAREST) -> Problem:
    """Mean affinities of all pairs of fragments that touch, or that a longer offset connects.

    Args:
        affinities: (C, D, H, W) float32 in [0, 1], one channel per offset.
        fragments: (D, H, W) uint64 labels 0, 1, 2, … without a gap, 0 = background.
        offsets: the first three are ``NEAREST``.
    """
    # One thread, so that sums do not depend on the machine.
    rag = bic.graph.region_adjacency_graph(fragments, number_of_threads=1)
    near = bic.graph.features.affinity_features(
        rag, fragments, affinities[:3], offsets[:3], number_of_threads=1
    )
    pairs = np.asarray(rag.uv_ids(), dtype=np.uint64)
    kept = pairs.min(axis=1) > 0 if len(pairs) else np.zeros(0, bool)
    pairs, near = pairs[kept], near[kept]
    lifted, far = np.zeros((0, 2), np.uint64), np.zeros((0, 2))
    if len(offsets) > 3:
        lifted = bic.graph.features.lifted_edges_from_affinities(
            rag, fragments, offsets[3:], number_of_threads=1
        )
        lifted = lifted[lifted.min(axis=1) > 0] if len(lifted) else lifted
    if len(lifted):
        far = bic.graph.features.lifted_affinity_features(
            fragments, affinities[3:], offsets[3:], lifted, number_of_threads=1
        )
    sections = _sections(fragments, int(rag.number_of_nodes))
    return Problem(
        nodes=int(rag.number_of_nodes),
        pairs=pairs,
        affinity=near[:, 0],
        size=near[:, 1],
        between=None if sections is None else np.diff(sections[pairs], axis=1)[:, 0] != 0,
        lifted=lifted,
        lifted_affinity=far[:, 0],
        lifted_size=far[:, 1],
    )


def check_nearest(offsets: Offsets) -> None:
    """Refuse offsets whose first three are not the bonds along z, y, x."""
    check_offsets(offsets)
    if tuple(tuple(o) for o in offsets[:3]) != NEAREST:
        raise SettingsError(
            f"offsets {offsets} do not begin with the nearest ones",
            where="offsets",
            expected=f"{NEAREST} first",
        )


def check_long_range(offsets: Offsets, channels: int) -> None:
    """Refuse offsets that are only the nearest ones, or not one for each channel."""
    check_nearest(offsets)
    if len(offsets) != channels:
        raise DataError(f"{channels} channels of affinities for {len(offsets)} offsets")
    if len(offsets) < 4:
        raise SettingsError(
            f"offsets {offsets} have no long-range one",
            where="offsets",
            expected="at least one offset beyond the three nearest",
            fix="train with more offsets, or use waterz or multicut",
        )


def _cuts(
    stated: Problem, fragments: np.ndarray, betas: list[float], weighting: str | None
) -> Iterator[tuple[float, np.ndarray]]:
    for beta in betas:
        labels = np.zeros(stated.nodes, dtype=np.uint64)
        labels[1:] = np.unique(_solve(stated, beta, weighting)[1:], return_inverse=True)[1] + 1
        yield beta, labels[fragments]


def _solve(stated: Problem, beta: float, weighting: str | None) -> np.ndarray:
    """Part of each node; nodes of one part are joined."""
    if not len(stated.pairs):
        return np.arange(stated.nodes)
    structure = bic.graph.UndirectedGraph.from_edges(stated.nodes, stated.pairs)
    kinds = None
    apart = stated.between is not None and 0 < stated.between.sum() < len(stated.between)
    if weighting in (None, "xyz") and apart:
        kinds = [stated.between, ~stated.between]

    def costs(affinity: np.ndarray, size: np.ndarray, kinds: list | None) -> np.ndarray:
        size = None if weighting == "none" else size
        boundary = 1 - np.clip(affinity, 0, 1)
        return transform_probabilities_to_costs(
            boundary, beta, edge_sizes=size, edge_populations=kinds
        )

    near = costs(stated.affinity, stated.size, kinds)
    if not len(stated.lifted):
        return multicut_kernighan_lin(structure, near)
    far = costs(stated.lifted_affinity, stated.lifted_size, None)
    return lifted_multicut_kernighan_lin(structure, near, stated.lifted, far)


def _sections(fragments: np.ndarray, nodes: int) -> np.ndarray | None:
    """The section of each label, or ``None`` if one lies in several (the background may)."""
    first, last = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    for z, section in enumerate(fragments):
        last[section] = z
    for z in range(len(fragments) - 1, -1, -1):
        first[fragments[z]] = z
    return first if (first[1:] == last[1:]).all() else None
