"""A scene for itkwidgets, whose viewer comes from the web: shown if it arrives in time.

itkwidgets holds back every later cell until its viewer has appeared, which without network is
never. Here the wait is bounded: then the cells go on, and NiiVue takes its place. Merely importing
itkwidgets changes how a kernel executes cells, so it is imported for a live front end alone.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from gtgm.viewer.niivue import make_widget
from gtgm.viewer.scene import Scene

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

#: Seconds until NiiVue takes over.
WAIT = 20.0
#: Environment variable with the address of itkwidgets' viewer app, for a copy that is served here.
ADDRESS = "GTGM_ITK_VIEWER"


def show_itk(scene: Scene, seconds: float = WAIT) -> None:
    """Display a volume rendering with the last label map; call it from a cell of a live notebook.

    Args:
        scene: see :func:`gtgm.viewer.scene.make_scene`.
        seconds: how long later cells may have to wait for itkwidgets' viewer.
    """
    import itkwidgets
    import itkwidgets.viewer as implementation
    from IPython.display import display

    if os.environ.get(ADDRESS):
        implementation.ITK_VIEWER_SRC = os.environ[ADDRESS]
    view = itkwidgets.view(**_images(scene), ui="reference")
    below = display({"text/plain": "itkwidgets is loading …"}, raw=True, display_id=True)
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, _give_up, view, implementation._cell_watcher, scene, below)


def _give_up(view: Any, watcher: Any, scene: Scene, below: DisplayHandle) -> None:
    """Let the cells go on; without a viewer, put NiiVue into the cell."""
    if view.has_viewer:
        below.update({"text/plain": ""}, raw=True)
        return
    watcher.update_viewer_status(view.name, True)
    view.viewer_rpc.viewer_event.set()  # its thread waits for these two as well
    view.viewer_rpc.data_event.set()
    below.update(make_widget(scene))


def _images(scene: Scene) -> dict[str, Any]:
    """The arguments of itkwidgets' ``view``: images with dimensions and scale."""
    from ngff_zarr import to_ngff_image

    scale = dict(zip("zyx", scene.spacing, strict=True))
    images = {"image": to_ngff_image(scene.image, dims=["z", "y", "x"], scale=scale)}
    if scene.layers:
        labels = scene.layers[-1].values.astype("uint16")
        images["label_image"] = to_ngff_image(labels, dims=["z", "y", "x"], scale=scale)
    return images
