"""Three planes through the objects of a scene, in physical proportions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from gtgm.figures import _outline
from gtgm.viewer.scene import Layer, Scene

# name, axis that is cut, axes of the picture's rows and columns
_CUTS = ((0, (1, 2)), (1, (0, 2)), (2, (0, 1)))
_ANATOMY = ("axial", "coronal", "sagittal")
_ANATOMY_AXES = ("inferior → superior", "posterior → anterior", "left → right")
_EM, _EM_AXES = ("xy", "xz", "yz"), ("z", "y", "x")
_STYLES = ("solid", "dashed")
_FILL = 0.45


def proportions(scene: Scene) -> tuple[list[float], float]:
    """Relative widths of the three pictures, and the height of a row of them over its width."""
    extent = [n * s for n, s in zip(scene.image.shape, scene.spacing, strict=True)]
    widths = [extent[columns] for _, (_, columns) in _CUTS]
    return widths, max(extent[rows] for _, (rows, _) in _CUTS) / sum(widths)


def draw_planes(
    panels: Sequence[Axes], scene: Scene, centre: tuple[int, int, int] | None = None
) -> None:
    """Draw the planes: classes outlined, truth solid and prediction dashed; instances filled.

    Args:
        panels: three axes.
        scene: image and label maps.
        centre: voxel (z, y, x) that all planes meet in; by default each plane is the one in which
            the first label map covers most.
    """
    centre = centre or _busiest(scene)
    extent = [n * s for n, s in zip(scene.image.shape, scene.spacing, strict=True)]
    names, axis_names = (_EM, _EM_AXES) if scene.em else (_ANATOMY, _ANATOMY_AXES)
    low, high = scene.window
    for axes, name, (axis, (rows, columns)) in zip(panels, names, _CUTS, strict=True):
        box = (0, extent[columns], 0, extent[rows])
        cut = np.take(scene.image, centre[axis], axis)
        axes.imshow(cut, origin="lower", extent=box, vmin=low, vmax=high)
        for layer, style in zip(scene.layers, _STYLES, strict=False):
            here = np.take(layer.values, centre[axis], axis)
            if layer.instances:
                # Of two maps the prediction is the one that a reader came for.
                if layer is scene.layers[-1]:
                    axes.imshow(_filled(here, layer), origin="lower", extent=box)
                continue
            for number in np.intersect1d(here, layer.shown):
                _outline(axes, here == number, box, layer.colors[number - 1], style)
        digits = 0 if scene.spacing[axis] >= 0.5 else 2
        axes.set(
            title=f"{name}, {centre[axis] * scene.spacing[axis]:.{digits}f} {scene.unit}",
            xlabel=f"{axis_names[columns]} ({scene.unit})",
            ylabel=f"{axis_names[rows]} ({scene.unit})",
        )
        if scene.em:
            axes.invert_yaxis()


def plane_handles(scene: Scene) -> list[Line2D]:
    """Entries of a legend: the classes, then the line of each label map."""
    outlined = [layer for layer in scene.layers if not layer.instances]
    if not outlined:
        return []
    first = outlined[0]
    handles = [
        Line2D([], [], color=first.colors[number - 1], label=first.names[number - 1])
        for number in first.shown
    ]
    styles = zip(scene.layers, _STYLES, strict=False)
    return handles + [
        Line2D([], [], color="0.3", linestyle=style, label=layer.title)
        for layer, style in styles
        if not layer.instances
    ]


def _busiest(scene: Scene) -> tuple[int, int, int]:
    """On each axis the section with the most voxels that are meant to be seen.

    Neurons fill a volume: unless some were chosen, it is the middle.
    """
    for layer in scene.layers:
        if layer.instances and len(layer.shown) == len(layer.names):
            continue
        mask = np.isin(layer.values, layer.shown)
        if mask.any():
            return tuple(int(mask.sum(axis=rest).argmax()) for _, rest in _CUTS)
    return tuple(n // 2 for n in scene.image.shape)


def _filled(labels: np.ndarray, layer: Layer) -> np.ndarray:
    """Labels (H, W) in their colours, clear where there is none: (H, W, 4)."""
    table = np.zeros((len(layer.colors) + 1, 4))
    table[1:, :3] = [to_rgb(color) for color in layer.colors]
    table[1:, 3] = _FILL
    return table[labels]
