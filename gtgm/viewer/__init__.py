"""Look at a case: a picture first, then, where somebody looks, a view that turns in 3D."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from gtgm.datasets.em import EMVolume
from gtgm.datasets.geometry import Volume
from gtgm.datasets.msd import Case
from gtgm.setting_checks import check_choice
from gtgm.style import styled
from gtgm.viewer.live import is_live
from gtgm.viewer.scene import Scene, make_scene
from gtgm.viewer.still import still_figure

if TYPE_CHECKING:
    import ipywidgets

__all__ = ["Overlay", "overlay"]

VIEWERS = ("niivue", "itk")
#: Dots per inch of the picture in a notebook, where every file is kept small.
DPI = 90


def overlay(
    image: Volume | EMVolume | Case | np.ndarray | torch.Tensor | str | Path,
    labels: np.ndarray | torch.Tensor | str | Path | None = None,
    prediction: np.ndarray | torch.Tensor | str | Path | None = None,
    *,
    spacing: Sequence[float] | None = None,
    names: Sequence[str] | Mapping[int, str] = (),
    highlight: Collection[int] = (),
    channel: int = 0,
    title: str = "",
    viewer: str = "niivue",
    live: bool | None = None,
) -> Overlay:
    """Show a volume with its labels and a prediction.

    As the last line of a cell, the result shows itself: the picture, and where a front end is
    live, the interactive view below it.

    Args:
        image: a case or a loaded volume, whose labels, class names and attribution are its own; a
            path of a NIfTI file; or an array (D, H, W) or (C, D, H, W) in the package's axes. In a
            file or array, voxels that are not finite are shown black, +∞ white.
        labels, prediction: whole numbers (D, H, W) on the same grid, or paths of NIfTI files with
            the affine of ``image``; 0 is nothing.
        spacing: voxel size (z, y, x) in mm; needed with an array, and only there.
        names: of the labels 1, 2, …, or by label, such as ``{17: "left", 53: "right"}``; then each
            label that occurs must have one. Without names, more than 16 labels are objects
            (neurons), which get random bright colours.
        highlight: labels to look at; all others become grey, and up to seven neurons get colours
            that are far apart.
        channel: of an image with several.
        title: above the picture; the dataset and the case by default.
        viewer: ``niivue``, or ``itk`` for itkwidgets, whose viewer needs network; where it does not
            come, NiiVue takes its place (:mod:`gtgm.viewer.itk`).
        live: whether to show the interactive view; found out by default.

    Raises:
        DataError: a file cannot be read, or the parts do not fit together.
        SettingsError: an argument does not fit; both as :func:`gtgm.viewer.scene.make_scene` says.
    """
    check_choice("viewer", viewer, VIEWERS)
    scene = make_scene(image, labels, prediction, spacing, names, highlight, channel, title)
    return Overlay(scene, viewer, live)


class Overlay:
    """What :func:`overlay` returns.

    Attributes:
        scene: image, label maps, names and colours.
    """

    def __init__(self, scene: Scene, viewer: str = "niivue", live: bool | None = None) -> None:
        self.scene, self._viewer, self._live = scene, viewer, live

    def figure(self, solid: bool = True, centre: tuple[int, int, int] | None = None) -> Figure:
        """The picture, for :func:`gtgm.figures.save_figure`; see :func:`still_figure`."""
        return still_figure(self.scene, solid, centre)

    def picture(self) -> bytes:
        """The picture as PNG."""
        buffer = io.BytesIO()
        with styled():
            self.figure().savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    def widget(self) -> ipywidgets.Widget:
        """The interactive view of NiiVue, with its controls."""
        from gtgm.viewer.niivue import make_widget

        return make_widget(self.scene)

    def save(self, path: str | Path) -> Path:
        """Write one HTML file with the interactive view, for any browser and without network."""
        from gtgm.viewer.page import write_page

        return write_page(self.scene, self.picture(), path)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {"image/png": base64.b64encode(self.picture()).decode(), "text/plain": repr(self)}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)
        if not is_live(self._live):
            return
        if self._viewer == "itk":
            from gtgm.viewer.itk import show_itk

            show_itk(self.scene)
        else:
            display(self.widget())

    def __repr__(self) -> str:
        shape = " × ".join(str(n) for n in self.scene.image.shape)
        maps = ", ".join(layer.title for layer in self.scene.layers) or "no labels"
        return f"Overlay({self.scene.title or 'image'}, {shape}, {maps})"
