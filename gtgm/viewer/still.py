"""The picture that every view puts first: three planes, then the objects as surfaces."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from scipy import ndimage
from skimage.measure import marching_cubes

from gtgm.figures import _in_style
from gtgm.style import PAGE
from gtgm.viewer.planes import draw_planes, plane_handles, proportions
from gtgm.viewer.scene import Layer, Scene

#: Longest side, in voxels, of the grid on which surfaces are found.
SURFACE_GRID = 72
#: Most objects that get a surface, the largest first.
MOST_SURFACES = 12
_SURFACE_HEIGHT = 2.3
_ELEVATION, _AZIMUTH = 22, -35
_LIGHT = np.array([0.35, -0.5, 0.8]) / np.linalg.norm([0.35, -0.5, 0.8])


@_in_style
def still_figure(
    scene: Scene, solid: bool = True, centre: tuple[int, int, int] | None = None
) -> Figure:
    """Axial, coronal and sagittal plane through the objects, and below each map as a surface.

    Classes are outlined, truth solid and prediction dashed; instances are filled. Surfaces are
    seen from the right, from behind and above.

    Args:
        scene: see :func:`gtgm.viewer.scene.make_scene`.
        solid: whether to draw surfaces.
        centre: voxel (z, y, x) that the planes meet in; by default the objects decide.
    """
    widths, ratio = proportions(scene)
    flat = PAGE * ratio + 0.75
    below = _SURFACE_HEIGHT if solid and scene.layers else 0.0
    figure = Figure(figsize=(PAGE, flat + below + 0.3))
    upper, lower = figure, None
    if below:
        upper, lower = figure.subfigures(2, 1, height_ratios=(flat, below))
        panels = lower.subplots(1, len(scene.layers), subplot_kw={"projection": "3d"})
        for axes, layer in zip(np.atleast_1d(panels), scene.layers, strict=True):
            _draw_surfaces(axes, layer, scene)
    draw_planes(upper.subplots(1, 3, width_ratios=widths), scene, centre)
    if handles := plane_handles(scene):
        upper.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6))
    if scene.title:
        figure.suptitle(scene.title)
    return figure


def surfaces(
    layer: Layer, spacing: tuple[float, float, float]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Surface of each shown label, at a resolution that is enough for a picture.

    Args:
        layer: label map.
        spacing: voxel size (z, y, x).

    Returns:
        By label: vertices (N, 3) as (z, y, x) in the unit of ``spacing``, and faces (M, 3).
        Labels with fewer than eight voxels have none.
    """
    step = max(1, -(-max(layer.values.shape) // SURFACE_GRID))
    counts = np.bincount(layer.values.ravel(), minlength=len(layer.names) + 1)
    largest = sorted((n for n in layer.shown if counts[n] >= 8), key=lambda n: -counts[n])
    found = {}
    for number in largest[:MOST_SURFACES]:
        mask = (layer.values == number).astype(np.float32)
        # Blurring before thinning out keeps what is thinner than a step.
        blurred = ndimage.gaussian_filter(mask, max(0.6, step / 2))[::step, ::step, ::step]
        padded = np.pad(blurred, 1)
        level = min(0.5, 0.5 * float(padded.max()))
        vertices, faces, _, _ = marching_cubes(padded, level)
        found[number] = ((vertices - 1) * step * np.array(spacing), faces)
    return found


def _draw_surfaces(axes: Axes, layer: Layer, scene: Scene) -> None:
    extent = np.array(scene.image.shape) * scene.spacing
    low, high = extent.copy(), np.zeros(3)
    for number, (vertices, faces) in surfaces(layer, scene.spacing).items():
        triangles = vertices[faces][..., ::-1]  # (M, 3, xyz)
        if scene.em:
            triangles = triangles * (1, -1, 1) + (0, extent[1], 0)
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        shade = 0.55 + 0.45 * np.abs(normals @ _LIGHT)
        rgb = shade[:, None] * np.array(to_rgb(layer.colors[number - 1]))
        solid = Poly3DCollection(triangles, facecolors=rgb, edgecolors=rgb, lw=0.2)
        solid.set_clip_on(False)  # axes in 3D are square, what lies in them may be wide
        axes.add_collection3d(solid)
        low = np.minimum(low, vertices.min(0))
        high = np.maximum(high, vertices.max(0))
    if (high <= low).any():
        low, high = np.zeros(3), extent
    if scene.em:
        low[1], high[1] = extent[1] - high[1], extent[1] - low[1]
    axes.set(xlim=(low[2], high[2]), ylim=(low[1], high[1]), zlim=(low[0], high[0]))
    size = high - low
    axes.set_box_aspect(size[::-1], zoom=_zoom(*size))
    axes.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    axes.set_title(layer.title)
    axes.set_axis_off()


def _zoom(depth: float, height: float, width: float) -> float:
    """How much a box may be enlarged in a panel that is twice as wide as high, seen from there."""
    elevation, azimuth = np.radians(_ELEVATION), np.radians(-_AZIMUTH)
    across = width * np.sin(azimuth) + height * np.cos(azimuth)
    along = width * np.cos(azimuth) + height * np.sin(azimuth)
    up = depth * np.cos(elevation) + along * np.sin(elevation)
    return float(np.clip(1.3 * across / up, 1.05, 1.9))
