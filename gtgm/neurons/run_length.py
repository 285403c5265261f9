"""Expected run length: how far one can follow a neuron before a segmentation makes an error.

VOI weighs voxels, so thick dendrites dominate it. The expected run length (ERL) weighs cable: it
is the mean length of the error-free run that a random point on the skeletons lies in. Skeletons
are traced by people and read from SWC files; :func:`skeletonise` derives them from true labels
where nobody traced any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, dijkstra, minimum_spanning_tree
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from gtgm.datasets.guard import check_regular, of_macos
from gtgm.errors import DataError, SettingsError
from gtgm.neurons.metrics import check_resolution

_NEIGHBOUR = 1.8  # voxels: beyond the longest step to one of the 26 neighbours, sqrt(3)


@dataclass(frozen=True)
class Skeleton:
    """The centre line of one neuron: ``nodes`` (N, 3) in nm (z, y, x), ``edges`` (E, 2) indices."""

    nodes: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class RunLength:
    """Result of :func:`expected_run_length`.

    Attributes:
        erl_nm: expected run length.
        max_erl_nm: that of a segmentation without errors.
        correct, split, merged: shares of the skeletons' length in edges of each kind; they sum
            to 1.
    """

    erl_nm: float
    max_erl_nm: float
    correct: float
    split: float
    merged: float


def expected_run_length(
    segmentation: np.ndarray,
    skeletons: Mapping[int, Skeleton],
    resolution: tuple[float, float, float],
    offset_nm: tuple[float, float, float] = (0, 0, 0),
    tolerance: int = 0,
) -> RunLength:
    """Expected run length of a segmentation, from the segments that skeleton nodes lie in.

    An edge is split if its nodes lie in two segments or if one lies in the background 0. A
    segment that covers more than one skeleton is a merger, and the edges in it are merged. The
    other edges are correct; those of one skeleton in one segment make a run. ERL = sum of squared
    run lengths / length of all skeletons, so a merger has run length 0.

    Args:
        segmentation: (D, H, W) labels; 0 is background.
        skeletons: one per neuron id.
        resolution: nm per voxel (z, y, x); a node belongs to the voxel that it lies in.
        offset_nm: position of the outer corner of voxel (0, 0, 0).
        tolerance: a segment covers a skeleton if more than so many of its nodes lie in it; above
            0, nodes that are slightly misplaced do not turn a neighbour into a merger.
    Raises:
        DataError: a segmentation or skeleton that cannot be used, nodes outside the volume, or
            skeletons without any length.
        SettingsError: a resolution that is not three positive numbers, or a negative tolerance.
    Source: Januszewski et al. 2018 (flood-filling networks).
    """
    segmentation = np.asarray(segmentation)
    if segmentation.ndim != 3 or segmentation.dtype.kind not in "iu":
        raise DataError(
            f"the segmentation has shape {segmentation.shape} and type {segmentation.dtype}",
            expected="integer labels (D, H, W)",
        )
    check_resolution(resolution)
    if tolerance < 0:
        raise SettingsError(f"is {tolerance}", where="tolerance", expected="nodes, at least 0")
    lengths = {name: _edge_lengths(skeleton, name) for name, skeleton in skeletons.items()}
    total = sum(float(each.sum()) for each in lengths.values())
    if not total > 0:
        raise DataError(
            f"the {len(lengths)} skeletons have no length", expected="at least one edge"
        )
    segments = {
        name: _segment_of_nodes(segmentation, skeleton, name, resolution, offset_nm)
        for name, skeleton in skeletons.items()
    }
    mergers = _mergers(segments.values(), tolerance)
    squares = whole = correct = split = merged = 0.0
    for name, skeleton in skeletons.items():
        here, there = segments[name][np.asarray(skeleton.edges, dtype=np.int64).reshape(-1, 2).T]
        one = (here == there) & (here != 0)
        bad = one & np.isin(here, mergers)
        split += float(lengths[name][~one].sum())
        merged += float(lengths[name][bad].sum())
        _, run = np.unique(here[one & ~bad], return_inverse=True)
        runs = np.bincount(run, weights=lengths[name][one & ~bad])
        correct += float(runs.sum())
        squares += float((runs**2).sum())
        whole += float(lengths[name].sum()) ** 2
    return RunLength(
        erl_nm=squares / total,
        max_erl_nm=whole / total,
        correct=correct / total,
        split=split / total,
        merged=merged / total,
    )


def read_swc(path: str | Path, unit_nm: float = 1.0) -> Skeleton:
    """Read one skeleton from an SWC file: lines of ``id type x y z radius parent``.

    Args:
        path: the file; lines that begin with ``#`` are comments, parent −1 is a root.
        unit_nm: nm per unit of the file, which does not say it; 1000 if it is in µm.
    Raises:
        DataError: absent, not text, a line that is not such a node, an id that occurs twice, a
            parent that does not exist, nodes in a ring, or no node.
    Source: Cannon et al. 1998.
    """
    path = Path(path)
    check_regular(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the file cannot be read ({error})"[:200], where=path, expected="an SWC text file"
        ) from error
    rows: dict[int, int] = {}
    nodes, parents = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, place, parent = _swc_node(line, f"{path}, line {number}")
        if name in rows:
            raise DataError(
                f"node {name} occurs a second time",
                where=f"{path}, line {number}",
                expected="an id of its own for every node",
            )
        rows[name] = len(nodes)
        nodes.append(place)
        parents.append((name, parent))
    if not nodes:
        raise DataError("the file has no node", where=path, expected="one line per node")
    edges = []
    for name, parent in parents:
        if parent < 0:
            continue
        if parent not in rows or parent == name:
            raise DataError(
                f"node {name} has parent {parent}"[:200],
                where=path,
                expected="the id of another node of the file, or −1 for a root",
            )
        edges.append((rows[name], rows[parent]))
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    joined = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(nodes), len(nodes)))
    # Every node but the roots has one parent, so that a part without a root is a ring.
    if connected_components(joined, directed=False)[0] != len(nodes) - len(pairs):
        raise DataError(
            "some nodes are parents of each other in a ring",
            where=path,
            expected="trees, each with a root (parent −1)",
            fix="cut the ring at one node",
        )
    return Skeleton(np.array(nodes, dtype=float) * unit_nm, pairs)


def read_skeletons(folder: str | Path, unit_nm: float = 1.0) -> dict[int, Skeleton]:
    """Every ``.swc`` file of a folder, numbered in the order of their names; see ``read_swc``.

    Raises:
        DataError: no such folder, none of these files in it, or one that cannot be used.
    """
    files = sorted(file for file in Path(folder).glob("*.swc") if not of_macos(file.name))
    if not files:
        raise DataError(
            "there is no SWC file", where=folder, expected="a folder with one .swc file per neuron"
        )
    return {number: read_swc(path, unit_nm) for number, path in enumerate(files, start=1)}


def skeletonise(labels: np.ndarray, resolution: tuple[float, float, float]) -> dict[int, Skeleton]:
    """Skeletons derived from true labels, where none were traced by a person.

    The volume of each label is thinned (Lee et al. 1994), the voxels that remain are joined by
    their minimum spanning tree, and branches no longer than the neurite is wide are cut off. A run
    length on such skeletons is a derived figure: it depends on the labels and on the thinning, and
    does not compare with one on traced skeletons. Nodes are one voxel apart, closer than people
    trace: without a ``tolerance`` of several nodes every sliver makes a merger.

    Args:
        labels: (D, H, W) integers; 0 has no skeleton.
        resolution: nm per voxel (z, y, x). Thinning itself works in voxels.
    Returns:
        A skeleton per label; a label that thins to a single voxel has none. Nodes are the centres
        of voxels whose outer corner (0, 0, 0) lies at 0 nm.
    Raises:
        DataError: labels that are not a volume of integers.
        SettingsError: a resolution that is not three positive numbers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels have shape {labels.shape} and type {labels.dtype}",
            expected="integers (D, H, W)",
        )
    check_resolution(resolution)
    names, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape) + 1  # find_objects passes over 0
    skeletons = {}
    for number, (name, box) in enumerate(zip(names, find_objects(index), strict=True), start=1):
        if name == 0:
            continue
        line = _centre_line(index[box] == number, resolution)
        if len(line.edges):
            corner = [s.start + 0.5 for s in box]
            skeletons[int(name)] = Skeleton(
                line.nodes + np.multiply(corner, resolution), line.edges
            )
    return skeletons


def _mergers(segments: Iterable[np.ndarray], tolerance: int) -> np.ndarray:
    """Segments that hold more than ``tolerance`` nodes of two skeletons or more."""
    covered = []
    for nodes in segments:
        labels, counts = np.unique(nodes[nodes != 0], return_counts=True)
        covered.append(labels[counts > tolerance])
    labels, skeletons = np.unique(np.concatenate(covered), return_counts=True)
    return labels[skeletons > 1]


def _segment_of_nodes(
    segmentation: np.ndarray,
    skeleton: Skeleton,
    name: int,
    resolution: tuple[float, float, float],
    offset_nm: tuple[float, float, float],
) -> np.ndarray:
    voxels = np.floor((np.asarray(skeleton.nodes, float) - offset_nm) / resolution)
    outside = ((voxels < 0) | (voxels >= segmentation.shape)).any(axis=1)
    if outside.any():
        first = np.asarray(skeleton.nodes)[outside][0].tolist()
        raise DataError(
            f"{outside.sum()} of {len(voxels)} nodes lie outside the volume, the first at {first}",
            where=f"skeleton {name}",
            expected=f"nm (z, y, x) within {segmentation.shape} voxels of {tuple(resolution)} nm",
            fix="check units and axes, give offset_nm, or cut the skeleton to the volume",
        )
    return segmentation[tuple(voxels.astype(np.int64).T)]


def _edge_lengths(skeleton: Skeleton, name: int) -> np.ndarray:
    nodes, edges = np.asarray(skeleton.nodes), np.asarray(skeleton.edges)
    good = nodes.ndim == 2 and nodes.shape[1] == 3 and np.isfinite(nodes).all()
    if edges.size:
        good = good and edges.ndim == 2 and edges.shape[1] == 2 and edges.dtype.kind in "iu"
        good = good and edges.min() >= 0 and edges.max() < len(nodes)
    if not good:
        raise DataError(
            f"nodes {nodes.shape} and edges {edges.shape} cannot be used",
            where=f"skeleton {name}",
            expected="finite nodes (N, 3), and edges (E, 2) that are rows of the nodes",
        )
    edges = edges.reshape(-1, 2).astype(np.int64)
    return np.linalg.norm(nodes[edges[:, 0]] - nodes[edges[:, 1]], axis=1)


def _centre_line(mask: np.ndarray, resolution: tuple[float, float, float]) -> Skeleton:
    """Skeleton of a mask without its spurs; places are relative to the centre of voxel 0, 0, 0."""
    mask = np.pad(mask, 1)  # the thinning would take the edge of the box for inside
    voxels = np.argwhere(skeletonize(mask))
    if not len(voxels):  # a few small shapes thin to nothing
        return Skeleton(np.zeros((0, 3)), np.zeros((0, 2), dtype=np.int64))
    nodes = (voxels - 1.0) * resolution
    pairs = cKDTree(voxels).query_pairs(_NEIGHBOUR, output_type="ndarray").reshape(-1, 2)
    lengths = np.linalg.norm(nodes[pairs[:, 0]] - nodes[pairs[:, 1]], axis=1)
    graph = coo_array((lengths, tuple(pairs.T)), (len(nodes), len(nodes))).tocsr()
    radius = distance_transform_edt(mask, resolution)[tuple(voxels.T)]
    edges = _without_spurs(minimum_spanning_tree(graph), radius)
    used, edges = np.unique(edges, return_inverse=True)
    return Skeleton(nodes[used], edges.reshape(-1, 2).astype(np.int64))


def _without_spurs(tree: csr_array, radius: np.ndarray) -> np.ndarray:
    """Edges (E, 2) of a forest, less the branches no longer than the neurite is wide.

    The longest path of each tree is kept; the other tips follow by their distance from its end.
    """
    edges = []
    for part in _members(connected_components(tree, directed=False)[1]):
        here = tree[part][:, part]
        ends = dijkstra(here, directed=False, indices=0)
        away, parent = dijkstra(
            here, directed=False, indices=int(ends.argmax()), return_predecessors=True
        )
        kept = parent < 0  # the root
        for rank, tip in enumerate(np.argsort(-away, kind="stable")):
            path = [tip]
            while not kept[path[-1]]:
                path.append(parent[path[-1]])
            width = 2 * radius[part[path[-1]]]
            if rank == 0 or away[tip] - away[path[-1]] > width:
                kept[path] = True
        nodes = np.flatnonzero(kept & (parent >= 0))
        edges.append(np.stack([part[nodes], part[parent[nodes]]], axis=1))
    return np.concatenate(edges)


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Indices of each group."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.bincount(groups))[:-1])


def _swc_node(line: str, where: str) -> tuple[int, tuple[float, float, float], int]:
    """Id, place (z, y, x) and parent."""
    columns = line.split()
    try:
        if len(columns) < 7:
            raise ValueError
        x, y, z = (float(value) for value in columns[2:5])
        name, parent = int(columns[0]), int(columns[6])
    except ValueError:
        x = y = z = np.nan
    if not np.isfinite((x, y, z)).all():
        raise DataError(
            f'"{line.strip()[:60]}" is not a node',
            where=where,
            expected="seven numbers: id, type, x, y, z, radius, parent",
        )
    return name, (z, y, x), parent
