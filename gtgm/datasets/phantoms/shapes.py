"""Building blocks of phantom anatomy: warped space, ellipsoids, tubes, branching trees, noise.

Axes are z y x = inferior→superior, posterior→anterior, patient's left→right, in mm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

Vector = Sequence[float]


class Frame:
    """A voxel grid whose points are displaced smoothly, so that simple shapes become anatomy.

    Args:
        shape: voxels (D, H, W).
        spacing: voxel size in mm (z, y, x).
        rng: source of everything random in this volume.
        centre: mm (z, y, x) of the anatomy at the middle of the grid.
        warp: standard deviation of the displacement in mm.
        scale: length in mm over which the displacement changes.

    ``points`` are the displaced coordinates in mm, float32 (3, D, H, W).
    """

    def __init__(
        self,
        shape: Sequence[int],
        spacing: Vector,
        rng: np.random.Generator,
        centre: Vector = (0.0, 0.0, 0.0),
        warp: float = 4.0,
        scale: float = 60.0,
    ) -> None:
        self.shape, self.spacing, self.rng = tuple(shape), tuple(spacing), rng
        axes = [
            (np.arange(n) - (n - 1) / 2) * s + c
            for n, s, c in zip(self.shape, self.spacing, centre, strict=True)
        ]
        straight = np.meshgrid(*axes, indexing="ij")
        self.points = np.stack([a + warp * self.noise(scale) for a in straight]).astype(np.float32)

    @property
    def zyx(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The three displaced coordinates, each (D, H, W), in mm."""
        return self.points[0], self.points[1], self.points[2]

    def noise(self, scale: float) -> np.ndarray:
        """Smooth noise (D, H, W) of unit variance that changes over ``scale`` mm."""
        return smooth_noise(self.rng, self.shape, [max(scale / s, 1.0) for s in self.spacing])

    def jitter(self, centre: Vector, spread: float) -> np.ndarray:
        """``centre`` moved by a normal displacement of ``spread`` mm."""
        return np.asarray(centre, float) + self.rng.normal(0, spread, 3)

    def ellipsoid(self, centre: Vector, radii: Vector, tilt: float = 0.0) -> np.ndarray:
        """Relative radius (D, H, W), below 1 inside; ``tilt`` turns it from x to y (rad)."""
        z, y, x = (p - np.float32(c) for p, c in zip(self.points, centre, strict=True))
        if tilt:
            c, s = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
            x, y = c * x + s * y, c * y - s * x
        rz, ry, rx = (np.float32(r) for r in radii)
        return np.sqrt((z / rz) ** 2 + (y / ry) ** 2 + (x / rx) ** 2)

    def tube(
        self, path: np.ndarray, radius: float | np.ndarray, where: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distance to a dense ``path`` (N, 3) in units of its radius, and the place on the path.

        Returns:
            Relative distance (D, H, W), below 1 inside the tube and infinite far from it or
            outside of ``where``; index of the nearest point of the path, N where far.
        """
        radii = np.append(np.broadcast_to(radius, len(path)), 1.0)
        reach = 2 * radii[:-1].max()
        near = np.ones(self.shape, bool) if where is None else where.copy()
        for p, low, high in zip(self.points, path.min(0), path.max(0), strict=True):
            near &= (p > low - reach) & (p < high + reach)
        ratio, place = np.full(self.shape, np.inf), np.full(self.shape, len(path))
        distance, index = cKDTree(path).query(self.points[:, near].T, distance_upper_bound=reach)
        ratio[near], place[near] = distance / radii[index], index
        return ratio, place


def curve(controls: Sequence[Vector], step: float = 2.0) -> np.ndarray:
    """Smooth path (N, 3) through control points in mm, a point about every ``step`` mm."""
    points = np.asarray(controls, float)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    samples = np.linspace(0, along[-1], max(int(along[-1] / step), 2) + 1)
    return CubicSpline(along, points)(samples)


def tree(
    rng: np.random.Generator,
    start: Vector,
    direction: Vector,
    length: float,
    radius: float,
    levels: int,
) -> tuple[np.ndarray, np.ndarray]:
    """A vessel that splits in two ``levels`` times: points (N, 3) and radii (N,), in mm.

    Each daughter has 0.78 of its parent's radius and length (near Murray's law 2^(−1/3) = 0.79).
    """
    heading = np.asarray(direction, float) / np.linalg.norm(direction)
    steps = np.linspace(0, 1, max(int(length / 1.5), 2))[:, None]
    bend = rng.normal(0, 0.15, 3) * length
    points = np.asarray(start, float) + steps * heading * length + steps * (1 - steps) * bend
    radii = np.full(len(points), radius)
    if levels > 0:
        side = np.cross(heading, rng.normal(size=3))
        side /= np.linalg.norm(side)
        for sign in (-1, 1):
            turned = heading + sign * rng.uniform(0.45, 0.85) * side
            more = tree(rng, points[-1], turned, 0.78 * length, 0.78 * radius, levels - 1)
            points, radii = np.concatenate([points, more[0]]), np.concatenate([radii, more[1]])
    return points, radii


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], scale: Sequence[float]
) -> np.ndarray:
    """Noise of zero mean and unit variance at every voxel: random cubic B-splines.

    Args:
        rng: random numbers.
        shape: voxels along each axis.
        scale: distance of the spline's knots along each axis, in voxels.
    """
    bases = []
    for size, distance in zip(shape, scale, strict=True):
        at = np.arange(size) / distance
        knots = np.arange(-1, int(at[-1]) + 3)
        t = np.abs(at[:, None] - knots[None])
        basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6)
        bases.append(basis / np.linalg.norm(basis, axis=1, keepdims=True))
    values = rng.normal(size=[b.shape[1] for b in bases])
    for basis in bases:
        # The first axis is replaced and goes to the end; after all axes the order is restored.
        values = np.tensordot(values, basis, axes=(0, 1))
    return values
