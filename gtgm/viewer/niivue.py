"""A scene for NiiVue: NIfTI volumes with the true affine, and the widget with its controls."""

from __future__ import annotations

import gzip
from functools import partial
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from matplotlib.colors import to_rgb

from gtgm.viewer.scene import Layer, Scene

if TYPE_CHECKING:  # nothing interactive is imported before somebody looks
    import ipywidgets

HEIGHT = 400
#: Opacity of image and label maps at first; in 3D the objects then show through the image.
IMAGE_OPACITY, LABEL_OPACITY = 0.6, 0.6
#: NiiVue's options, in ipyniivue's names and in NiiVue's own.
OPTIONS = {
    "back_color": ("backColor", (1.0, 1.0, 1.0, 1.0)),
    "font_color": ("fontColor", (0.25, 0.25, 0.25, 1.0)),
    "crosshair_color": ("crosshairColor", (0.84, 0.37, 0.0, 1.0)),
    "crosshair_width": ("crosshairWidth", 0.4),
    "multiplanar_force_render": ("multiplanarForceRender", True),
    "is_nearest_interpolation": ("isNearestInterpolation", True),
    "drag_and_drop_enabled": ("dragAndDropEnabled", False),
    "show_legend": ("showLegend", False),
    "log_level": ("logLevel", "error"),
}


def volumes(scene: Scene) -> list[dict[str, Any]]:
    """Every map of the scene as NiiVue takes it, the image first.

    Returns:
        ``name``, ``data`` (a NIfTI file's bytes), ``colormap``, ``opacity``, ``cal_min`` and
        ``cal_max``; label maps also ``lut``, a table of colours with ``min``, ``max`` and
        ``labels``.
    """
    low, high = scene.window
    found = [
        {
            "name": "image.nii.gz",
            "data": _nifti(scene.image, scene),
            "colormap": "gray",
            "opacity": IMAGE_OPACITY,
            "cal_min": low,
            "cal_max": high,
        }
    ]
    for layer in scene.layers:
        found.append(
            {
                "name": f"{layer.title}.nii.gz",
                "data": _nifti(layer.values, scene),
                "colormap": "gray",
                # Two maps on top of each other would hide the image; the second is asked for.
                "opacity": LABEL_OPACITY if layer is scene.layers[-1] else 0.0,
                "cal_min": 0.0,
                "cal_max": float(max(1, len(layer.names))),
                "lut": _table(layer),
            }
        )
    return found


def make_widget(scene: Scene, height: int = HEIGHT) -> ipywidgets.Widget:
    """NiiVue with sliders for the opacity of image and objects, and a choice of the label map.

    Args:
        scene: see :func:`gtgm.viewer.scene.make_scene`.
        height: in pixels.
    """
    import ipywidgets
    from ipyniivue import NiiVue, Volume

    view = NiiVue(height=height, **{name: value for name, (_, value) in OPTIONS.items()})
    loaded = []
    for entry in volumes(scene):
        lut = entry.pop("lut", None)
        volume = Volume(**entry, colorbar_visible=False)
        if lut:
            volume.set_colormap_label(_by_channel(lut))
        loaded.append(volume)
    view.load_volumes(loaded)
    image, *maps = loaded
    slider = partial(ipywidgets.FloatSlider, min=0, max=1, step=0.05, readout_format=".2f")
    grey = slider(value=image.opacity, description="image")
    grey.observe(lambda change: setattr(image, "opacity", change["new"]), "value")
    controls = [grey]
    if maps:
        objects = slider(value=LABEL_OPACITY, description="objects")
        titles = [layer.title for layer in scene.layers]
        choice = ipywidgets.ToggleButtons(options=titles, value=titles[-1])

        def show(_: Any) -> None:
            for volume, title in zip(maps, titles, strict=True):
                volume.opacity = objects.value if title == choice.value else 0.0

        objects.observe(show, "value")
        choice.observe(show, "value")
        controls += [objects, *([choice] if len(maps) > 1 else [])]
    return ipywidgets.VBox([view, ipywidgets.HBox(controls)])


def _nifti(values: np.ndarray, scene: Scene) -> bytes:
    """A compressed NIfTI file of (D, H, W) values, in the smallest type that keeps them."""
    whole = np.rint(values)
    if np.array_equal(values, whole) and np.abs(whole).max(initial=0) < 2**31:
        fits = (t for t in (np.uint8, np.int16, np.int32) if _fits(whole, t))
        values = whole.astype(next(fits))
    file = nib.Nifti1Image(values.transpose(2, 1, 0), scene.affine)  # (x, y, z)
    file.header.set_xyzt_units("micron" if scene.em else "mm")
    return gzip.compress(file.to_bytes(), compresslevel=6, mtime=0)


def _fits(values: np.ndarray, dtype: type) -> bool:
    info = np.iinfo(dtype)
    return info.min <= values.min(initial=0) and values.max(initial=0) <= info.max


def _table(layer: Layer) -> dict[str, Any]:
    """Colours 0 … 255 of every label from 0 on, those that are not meant to be seen clear."""
    rows = [(0, 0, 0, 0)]
    for number, color in enumerate(layer.colors, start=1):
        alpha = 255 if number in layer.shown else 0
        rows.append((*(round(255 * c) for c in to_rgb(color)), alpha))
    return {
        "lut": [value for row in rows for value in row],
        "min": 0,
        "max": len(layer.names),
        "labels": ["", *layer.names],
    }


def _by_channel(lut: dict[str, Any]) -> dict[str, Any]:
    red, green, blue, alpha = (lut["lut"][i::4] for i in range(4))
    return {"R": red, "G": green, "B": blue, "A": alpha, "I": list(range(len(red))),
            "labels": lut["labels"]}  # fmt: skip
