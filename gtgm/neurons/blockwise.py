"""Neurons of volumes larger than memory, from affinities that are on disk.

Fragments are cut block by block, each block seen with a halo. Where two blocks meet, both have cut
the same voxels: the pieces that agree there are one fragment. The surfaces between fragments are
added up to one graph, which is agglomerated as a whole. Where the halo is wide enough for the
fragments, the result is that of :func:`gtgm.neurons.segment.segment_neurons`; at a narrow halo the
fragments along the block faces differ a little.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from gtgm import paths
from gtgm.errors import DataError, SettingsError
from gtgm.hashing import settings_hash
from gtgm.neurons.blocks import Block, fingerprint, open_resumable, split_blocks, within
from gtgm.neurons.fragments import watershed_fragments
from gtgm.neurons.region_graph import (
    RegionGraph,
    agglomerate_graph,
    empty_graph,
    join,
    region_graph,
)
from gtgm.progress import tqdm

#: Voxels (z, y, x) that a block writes, and that it sees beyond them.
BLOCK = (64, 512, 512)
HALO = (32, 64, 64)
HIGHEST = 2**32 - 1  # label of a fragment
PENDING = 5_000_000  # edges kept before they are added up


def segment_blockwise(
    affinities: Any,
    folder: str | Path,
    threshold: float,
    two_d: bool = False,
    block: tuple[int, int, int] = BLOCK,
    halo: tuple[int, int, int] = HALO,
) -> zarr.Array:
    """Neurons by watershed and mean-affinity agglomeration, in the memory of a few blocks.

    Called again with the same folder, a run that was killed continues, and another threshold costs
    the last two steps only.

    Args:
        affinities: (C, D, H, W) floats in [0, 1]; anything with a shape and a type that slices
            (:func:`gtgm.neurons.blockwise_prediction.predict_blockwise`, NumPy, h5py, Zarr).
        folder: gets ``fragments.zarr``, ``faces/``, ``graph.npz`` and
            ``segmentation-THRESHOLD.zarr``.
        threshold: of the agglomeration, in [0, 1].
        two_d: cut fragments section by section (anisotropic volumes).
        block: (z, y, x) voxels. Memory is about 70 bytes for each voxel of a block with its halo.
        halo: (z, y, x) voxels, about the size of a fragment; with ``two_d`` z needs none. On
            FIB-25, 32 pixels in 2D changed nothing, and 24 to 32 voxels in 3D gave a VOI to the
            unblocked result of at most 0.002 bits at thresholds from 0.5, where neurons are best;
            at lower thresholds one fragment that differs changes more (up to 0.15 bits).
    Returns:
        (D, H, W) uint64, labels 1 … N without a gap, in ``folder``; its attribute ``neurons`` is N.
    Raises:
        DataError: affinities of another shape or type or not finite, or a full disk.
        SettingsError: an impossible threshold, block or halo, or a folder with other data.
    """
    if not 0 <= threshold <= 1:
        raise SettingsError(f"is {threshold}", where="threshold", expected="within [0, 1]")
    if len(affinities.shape) != 4 or affinities.shape[0] < 3:
        raise DataError(
            f"affinities have shape {affinities.shape}", expected="(C, D, H, W) with C ≥ 3"
        )
    if np.dtype(affinities.dtype).kind != "f":
        raise DataError(
            f"affinities have type {affinities.dtype}", expected="floats between 0 and 1"
        )
    if two_d:
        halo = (0, *halo[1:])
    shape = tuple(affinities.shape[1:])
    blocks = split_blocks(shape, block, halo)
    folder = Path(folder)
    key = settings_hash(fingerprint(affinities), list(block), list(halo), two_d)
    fragments = open_resumable(folder / "fragments.zarr", shape, "uint64", key)
    _cut_blocks(affinities, fragments, blocks, two_d, folder / "faces")
    graph, joined = _graph(affinities, fragments, blocks, folder)
    name = f"segmentation-{float(threshold)}.zarr"
    segmentation = open_resumable(folder / name, shape, "uint64", key)
    if segmentation.attrs["done"] < len(blocks):
        table = agglomerate_graph(graph, int(joined.max()), threshold)[joined]
        segmentation.attrs["neurons"] = int(table.max())
        for number in _missing(segmentation, blocks, "label"):
            core = blocks[number].core
            segmentation[core] = table[fragments[core]]
            segmentation.attrs["done"] = number + 1
    return segmentation


def _cut_blocks(
    affinities: Any, fragments: zarr.Array, blocks: list[Block], two_d: bool, faces: Path
) -> None:
    """Fill ``fragments``; ``attrs["highest"]`` is the highest label after each block."""
    highest = list(fragments.attrs.get("highest", []))
    for number in _missing(fragments, blocks, "fragments"):
        block, offset = blocks[number], highest[-1] if highest else 0
        read = np.asarray(affinities[(slice(0, 3), *block.outer)], dtype=np.float32)
        if not np.isfinite(read).all():
            raise DataError(
                f"the affinities of voxels {_text(block.outer)} hold NaN or infinity",
                expected="values in [0, 1]",
            )
        labels = watershed_fragments(read, two_d)
        del read
        # Fragments that lie in the halo only get label 0: another block has them.
        inside = np.unique(labels[block.inner])
        if offset + inside.size > HIGHEST:
            raise DataError(
                f"there are more than {HIGHEST} fragments", fix="segment parts of the volume"
            )
        table = np.zeros(int(labels.max()) + 1, dtype=np.uint64)
        table[inside] = np.arange(offset + 1, offset + inside.size + 1)
        labels = table[labels]
        with paths.atomic(faces / f"{number}.npz") as temporary:
            np.savez_compressed(temporary, **_faces(labels, block))
        fragments[block.core] = labels[block.inner]
        highest = [*highest, offset + int(inside.size)]
        fragments.attrs.update({"done": number + 1, "highest": highest})


def _faces(labels: np.ndarray, block: Block) -> dict[str, np.ndarray]:
    """Labels of the two planes on both sides of each face that the halo reaches beyond.

    ``low0`` is the face with the previous block along z, ``high2`` the one with the next along x.
    """
    planes = {}
    for axis in range(3):
        core, outer = block.core[axis], block.outer[axis]
        for name, face in (("low", core.start), ("high", core.stop)):
            if outer.start < face < outer.stop:
                part = list(block.core)
                part[axis] = slice(face - 1, face + 1)
                planes[f"{name}{axis}"] = labels[within(part, block.outer)]
    return planes


def _graph(
    affinities: Any, fragments: zarr.Array, blocks: list[Block], folder: Path
) -> tuple[RegionGraph, np.ndarray]:
    """The graph of the joined fragments, and the joined label of each fragment."""
    path = folder / "graph.npz"
    if path.is_file():
        with np.load(path) as saved:
            if str(saved["key"]) == fragments.attrs["key"]:
                return RegionGraph(saved["pairs"], saved["sums"], saved["counts"]), saved["joined"]
    highest = fragments.attrs["highest"][-1]
    joined = join(_agreeing(blocks, folder / "faces"), highest)
    graph, parts, pending = empty_graph(), [], 0
    for block in tqdm(blocks, desc="graph", leave=False):
        shared = tuple(int(core.start > 0) for core in block.core)
        read = tuple(
            slice(core.start - s, core.stop) for core, s in zip(block.core, shared, strict=True)
        )
        bonds = np.asarray(affinities[(slice(0, 3), *read)])
        parts.append(region_graph(bonds, joined[fragments[read]], shared))
        pending += len(parts[-1].counts)
        if pending > PENDING:
            graph, parts, pending = sum(parts, graph), [], 0
    graph = sum(parts, graph)
    with paths.atomic(path) as temporary:
        np.savez(
            temporary,
            key=fragments.attrs["key"],
            pairs=graph.pairs,
            sums=graph.sums,
            counts=graph.counts,
            joined=joined,
        )
    return graph, joined


def _agreeing(blocks: list[Block], faces: Path) -> np.ndarray:
    """Pairs (P, 2) of fragments of neighbouring blocks that are one fragment."""
    numbers = {block.index: number for number, block in enumerate(blocks)}
    pairs = [np.zeros((0, 2), dtype=np.uint64)]
    for number, block in enumerate(blocks):
        for axis in range(3):
            index = list(block.index)
            index[axis] += 1
            neighbour = numbers.get(tuple(index))
            if neighbour is None:
                continue
            with (
                np.load(faces / f"{number}.npz") as here,
                np.load(faces / f"{neighbour}.npz") as there,
            ):
                if f"high{axis}" in here:
                    pairs.append(_same(here[f"high{axis}"], there[f"low{axis}"]))
    return np.concatenate(pairs)


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairs of labels of two labellings that share more than half of the voxels of either."""
    both = (a != 0) & (b != 0)
    keys, shared = np.unique((a[both] << np.uint64(32)) | b[both], return_counts=True)
    pairs = np.stack([keys >> np.uint64(32), keys & np.uint64(HIGHEST)], axis=1)
    larger = np.zeros(len(pairs), dtype=np.int64)
    for column, labels in enumerate((a, b)):
        names, sizes = np.unique(labels, return_counts=True)
        larger = np.maximum(larger, sizes[np.searchsorted(names, pairs[:, column])])
    return pairs[2 * shared > larger]


def _missing(array: zarr.Array, blocks: list[Block], label: str) -> tqdm:
    """Numbers of the blocks that are not complete."""
    done = array.attrs["done"]
    return tqdm(range(done, len(blocks)), initial=done, total=len(blocks), desc=label, leave=False)


def _text(box: tuple[slice, ...]) -> str:
    return " × ".join(f"{axis.start}–{axis.stop}" for axis in box)
