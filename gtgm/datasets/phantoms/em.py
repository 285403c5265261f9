"""Phantom electron microscopy: a block of neuropil in which every voxel belongs to a neurite.

A section is cut by a power diagram whose seeds drift from section to section, swell and shrink; the
grid that it is evaluated on is warped, and neighbouring seeds are joined into one neurite, which
gives processes that run through z, bend, change calibre and branch. Between neurites lie dark
membranes, inside are mitochondria, vesicles and grain. CREMI's samples are serial sections
(40×4×4 nm) and get the artefacts of serial sections; FIB-25 is isotropic (10 nm) and does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import label as connected_regions

from gtgm.datasets.phantoms.shapes import smooth_noise


@dataclass(frozen=True)
class Tissue:
    """How a sample looks.

    Attributes:
        shape: voxels (D, H, W).
        resolution: nm (z, y, x).
        cell: mean diameter of a seed's cell in pixels.
        disorder: 0…1, how far seeds lie from a regular grid.
        calibre: spread of the seeds' sizes, in cells.
        join: share of seeds that are joined with a neighbour.
        drift: pixels that a seed moves per section.
        wobble: amplitude of the warp in pixels.
        membrane: half-width of a membrane in pixels.
        serial: sections are cut one by one, with their artefacts.
    """

    shape: tuple[int, int, int] = (60, 160, 160)
    resolution: tuple[float, float, float] = (40.0, 4.0, 4.0)
    cell: float = 30.0
    disorder: float = 0.5
    calibre: float = 0.4
    join: float = 0.3
    drift: float = 0.8
    wobble: float = 5.0
    membrane: float = 1.8
    serial: bool = True


TISSUES = {
    "CREMI_A": Tissue(cell=34, disorder=0.5, calibre=0.3, join=0.25, drift=0.7, wobble=4),
    "CREMI_B": Tissue(cell=25, disorder=0.8, calibre=0.65, join=0.55, drift=1.1, wobble=7),
    "CREMI_C": Tissue(cell=28, disorder=0.9, calibre=0.85, join=0.45, drift=1.3, wobble=8),
    "FIB25": Tissue((96, 144, 144), (10.0, 10.0, 10.0), 24, 0.8, 0.6, 0.5, 0.5, 6, 1.3, False),
}


def volume(
    name: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """The volume of an EM dataset.

    Returns:
        Grey values uint8 (D, H, W), neuron ids uint64 (D, H, W) from 1 (no voxel is unlabelled),
        resolution in nm (z, y, x).
    """
    tissue = TISSUES[name]
    ids = _neurites(tissue, rng)
    grey = _stain(tissue, ids, rng)
    if tissue.serial:
        grey = _section_artefacts(grey, rng)
    noise = ndimage.gaussian_filter(rng.normal(0, 1, ids.shape).astype(np.float32), (0, 0.6, 0.6))
    grey = np.clip(grey + noise * (9 / noise.std()), 1, 255)
    if tissue.serial:
        grey[int(rng.integers(0.3 * len(grey), 0.6 * len(grey)))] = 0  # a lost section
    return grey.astype(np.uint8), ids.astype(np.uint64), tissue.resolution


def _neurites(tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """Neuron ids int32 (D, H, W), each one connected region of some size."""
    depth, height, width = tissue.shape
    at, group = _seeds(tissue, rng)
    flow = np.cumsum(rng.normal(0, 0.2, (depth, 1, 2)), axis=0)
    velocity = np.zeros((depth, len(at), 2))
    for z in range(1, depth):
        velocity[z] = 0.93 * velocity[z - 1] + 0.37 * rng.normal(0, tissue.drift, at.shape)
    track = at + np.cumsum(velocity, axis=0) + flow  # (D, seeds, 2)
    slow = (max(depth / 6, 1.0), 1.0)
    swell = smooth_noise(rng, (depth, len(at)), slow) + 1.5 * rng.normal(size=len(at))
    power = tissue.calibre * tissue.cell**2 * swell / 3

    knots = (max(0.4 * tissue.cell * tissue.resolution[1] / tissue.resolution[0], 4.0),)
    coarse = knots + (0.8 * tissue.cell,) * 2
    fine = knots + (0.3 * tissue.cell,) * 2
    warp = [
        tissue.wobble * smooth_noise(rng, tissue.shape, coarse)
        + 0.2 * tissue.wobble * smooth_noise(rng, tissue.shape, fine)
        for _ in range(2)
    ]
    shift = _misalignment(depth, rng) if tissue.serial else np.zeros((depth, 2))
    rows, columns = np.mgrid[:height, :width]
    ids = np.empty(tissue.shape, np.int32)
    for z in range(depth):
        y = (rows + warp[0][z] + shift[z, 0]).ravel()
        x = (columns + warp[1][z] + shift[z, 1]).ravel()
        # Of |p − s|² − power only what depends on the seed s matters.
        points = np.stack([y, x, np.ones_like(y)], axis=1)
        seeds = np.stack([*(-2 * track[z].T), (track[z] ** 2).sum(1) - power[z]])
        ids[z] = group[(points @ seeds).argmin(1)].reshape(height, width)
    return _without_crumbs(connected_regions(ids + 1, connectivity=1).astype(np.int32), tissue)


def _seeds(tissue: Tissue, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, 2) in pixels, beyond the borders too, and each one's neurite (N,)."""
    margin = 2.5 * tissue.cell
    grid = [np.arange(-margin, n + margin, tissue.cell) for n in tissue.shape[1:]]
    at = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)
    at[::2, :, 1] += tissue.cell / 2
    at = at.reshape(-1, 2)
    at = at + tissue.disorder * tissue.cell * rng.uniform(-0.5, 0.5, at.shape)
    distance = np.linalg.norm(at[:, None] - at[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    joined = np.flatnonzero(rng.random(len(at)) < tissue.join)
    nearest = distance.argmin(1)[joined]
    edges = coo_matrix((np.ones(len(joined)), (joined, nearest)), shape=distance.shape)
    return at, connected_components(edges, directed=False)[1]


def _misalignment(depth: int, rng: np.random.Generator) -> np.ndarray:
    """Shift (D, 2) of each section in pixels: jitter, and a jump after which all stay displaced."""
    shift = rng.normal(0, 0.5, (depth, 2))
    jump = int(rng.integers(0.15 * depth, 0.85 * depth))
    shift[jump:] += rng.choice((-1, 1), 2) * rng.uniform(4, 7, 2)
    return np.rint(shift)


def _without_crumbs(ids: np.ndarray, tissue: Tissue) -> np.ndarray:
    """Give regions that are tiny or lie in fewer than four sections to their neighbours; 1, 2, …

    The voxels of a crumb go to the region that is nearest to each, which can leave a few of them
    without a face in common with that region: a new crumb for the next round.
    """
    for _ in range(10):
        boxes = ndimage.find_objects(ids)
        thin = np.array([False] + [box[0].stop - box[0].start < 4 for box in boxes])
        crumbs = (np.bincount(ids.ravel()) < 0.6 * tissue.cell**2) | thin
        crumbs[0] = False
        lost = crumbs[ids]
        if not lost.any():
            break
        nearest = ndimage.distance_transform_edt(
            lost, sampling=tissue.resolution, return_distances=False, return_indices=True
        )
        ids = connected_regions(ids[tuple(nearest)], connectivity=1).astype(np.int32)
    return ids


def _stain(tissue: Tissue, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey values float32 (D, H, W) of membranes, cytoplasm and organelles, before any artefact."""
    edge = np.zeros(ids.shape, bool)
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    edge[:, :, 1:] |= ids[:, :, 1:] != ids[:, :, :-1]
    # Distance to the membrane in the plane of the section; sections are far apart, so none in z.
    room = np.stack([ndimage.distance_transform_edt(~section) for section in edge])
    room = room.astype(np.float32)
    cytoplasm = rng.normal(164, 9, ids.max() + 1).astype(np.float32)
    grey = cytoplasm[ids]
    scale = (1.5, 4, 4) if tissue.serial else (3, 3, 3)
    grey += 7 * smooth_noise(rng, ids.shape, scale)
    _mitochondria(tissue, ids, room, grey, rng)
    _vesicles(tissue, ids, room, grey, rng)
    strength = np.clip(0.85 + 0.16 * smooth_noise(rng, ids.shape, (4, 25, 25)), 0.45, 1)
    membrane = strength * np.exp(-((room / tissue.membrane) ** 2))
    # Where a membrane is cut at a slant, the section shows a grey band instead of a line.
    slant = np.zeros(ids.shape, np.float32)
    slant[:-1] += ids[1:] != ids[:-1]
    slant[1:] += ids[1:] != ids[:-1]
    slant = ndimage.gaussian_filter(slant, (0, 0.8, 0.8)) * (0.22 if tissue.serial else 0.5)
    grey += (66 - grey) * np.clip(np.maximum(membrane, slant), 0, 1)
    blur = (0, 0.7, 0.7) if tissue.serial else (0.6, 0.6, 0.6)
    return ndimage.gaussian_filter(grey, blur)


def _places(
    tissue: Tissue, room: np.ndarray, least: float, per_megavoxel: float, rng: np.random.Generator
) -> np.ndarray:
    """Random voxels (N, 3) at least ``least`` pixels from a membrane."""
    inside = np.flatnonzero(room > least)
    count = min(len(inside), int(per_megavoxel * room.size / 1e6))
    chosen = rng.choice(inside, count, replace=False)
    return np.stack(np.unravel_index(chosen, room.shape), axis=1)


def _window(place: np.ndarray, reach: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    low = np.maximum(place - reach, 0)
    high = np.minimum(place + reach + 1, shape)
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _mitochondria(
    tissue: Tissue, ids: np.ndarray, room: np.ndarray, grey: np.ndarray, rng: np.random.Generator
) -> None:
    """Dark sausages along z with a darker outline and cristae, in the wider neurites; in place."""
    cell, ratio = tissue.cell, tissue.resolution[1] / tissue.resolution[0]
    for place in _places(tissue, room, 0.22 * cell, 26, rng):
        across = rng.uniform(0.3, 0.55, 2) * cell
        along = rng.uniform(0.8, 1.8) * cell * (0.5 + ratio / 2 if ratio == 1 else 2 * ratio)
        reach = np.ceil([along, across.max() * 1.5, across.max() * 1.5]).astype(int)
        box = _window(place, reach, ids.shape)
        z, y, x = (g - p for g, p in zip(np.mgrid[box], place, strict=True))
        lean, turn = rng.normal(0, 0.25 * cell / along, 2), rng.uniform(0, np.pi)
        y, x = y - lean[0] * z, x - lean[1] * z
        u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        radius = np.sqrt((z / along) ** 2 + (u / across[0]) ** 2 + (v / across[1]) ** 2)
        mine = (ids[box] == ids[tuple(place)]) & (room[box] > 1.6 * tissue.membrane) & (radius < 1)
        cristae = 10 * np.sin(u * 2 * np.pi / (0.22 * cell) + 0.5 * z)
        body = np.where(radius > 0.8, 84, 112 + cristae)
        grey[box] = np.where(mine, body, grey[box])


def _vesicles(
    tissue: Tissue, ids: np.ndarray, room: np.ndarray, grey: np.ndarray, rng: np.random.Generator
) -> None:
    """Clouds of small dark rings inside a neurite; in place."""
    cell, ratio = tissue.cell, tissue.resolution[1] / tissue.resolution[0]
    dots = np.zeros(ids.shape, np.float32)
    for place in _places(tissue, room, 0.15 * cell, 120, rng):
        count = int(rng.integers(15, 60))
        spread = np.array([0.35 * cell * max(ratio, 0.15), 0.3 * cell, 0.3 * cell])
        cloud = np.rint(place + rng.normal(0, 1, (count, 3)) * spread).astype(int)
        cloud = cloud[((cloud >= 0) & (cloud < ids.shape)).all(1)].T
        mine = (ids[tuple(cloud)] == ids[tuple(place)]) & (room[tuple(cloud)] > 3)
        dots[tuple(cloud[:, mine])] = 1
    wide = 1.5 if tissue.serial else 1.0
    ring = ndimage.gaussian_filter(dots, (0, wide, wide))
    ring -= 0.5 * ndimage.gaussian_filter(dots, (0, 0.6 * wide, 0.6 * wide))
    grey -= 900 * np.clip(ring, -0.02, None)


def _section_artefacts(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Contrast and brightness per section, one dark and faint section, a fold, uneven staining."""
    depth, height, width = grey.shape
    gain = np.clip(1 + 0.08 * rng.normal(size=depth), 0.75, 1.2)[:, None, None]
    offset = rng.normal(0, 5, depth)[:, None, None]
    grey = (grey - 140) * gain + 140 + offset
    grey += 6 * smooth_noise(rng, grey.shape, (1, height / 3, width / 3))
    dark, folded = rng.choice(np.arange(depth // 5, depth), 2, replace=False)
    grey[dark] = 0.45 * grey[dark] + 15
    rows, columns = np.mgrid[:height, :width]
    turn = rng.uniform(0, np.pi)
    line = (rows - height / 2) * np.cos(turn) + (columns - width / 2) * np.sin(turn)
    line += 4 * smooth_noise(rng, (height, width), (height / 3, width / 3))
    grey[folded] *= 1 - 0.6 * np.exp(-(((line - rng.uniform(-30, 30)) / 5) ** 2))
    return grey
