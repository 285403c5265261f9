"""itkwidgets: never held for longer than the wait. In a real browser: ``test_browser_lab.py``."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from gtgm.viewer import itk
from gtgm.viewer.scene import make_scene

LABELS = np.zeros((4, 5, 6), int)
LABELS[1:3] = 1
SCENE = make_scene(LABELS * 2.0, LABELS, spacing=(3, 1, 2))


class _Event:
    def __init__(self):
        self.is_set = False

    def set(self):
        self.is_set = True


@pytest.fixture
def world(monkeypatch):
    """Stand-ins for itkwidgets and for the cell, which write down what is done to them."""
    world = SimpleNamespace(status={}, updates=[], arguments=None, source=None)
    rpc = SimpleNamespace(viewer_event=_Event(), data_event=_Event())
    world.view = SimpleNamespace(name="view", has_viewer=False, viewer_rpc=rpc)
    watcher = SimpleNamespace(update_viewer_status=world.status.__setitem__)
    package, module = ModuleType("itkwidgets"), ModuleType("itkwidgets.viewer")
    module._cell_watcher, module.ITK_VIEWER_SRC = watcher, "elsewhere"

    def view(**arguments):
        world.arguments, world.source = arguments, module.ITK_VIEWER_SRC
        return world.view

    package.view, package.viewer = view, module
    monkeypatch.setitem(sys.modules, "itkwidgets", package)
    monkeypatch.setitem(sys.modules, "itkwidgets.viewer", module)
    handle = SimpleNamespace(update=lambda value, **_: world.updates.append(value))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    return world


async def _show(seconds, scene=SCENE):
    itk.show_itk(scene, seconds)
    await asyncio.sleep(seconds + 0.05)


def test_without_its_viewer_cells_go_on_and_niivue_takes_over(world):
    asyncio.run(_show(0.05))
    assert world.status == {"view": True}
    assert world.view.viewer_rpc.viewer_event.is_set and world.view.viewer_rpc.data_event.is_set
    assert [type(value).__name__ for value in world.updates] == ["VBox"]


def test_with_its_viewer_nothing_is_forced(world):
    world.view.has_viewer = True
    asyncio.run(_show(0.05))
    assert world.status == {} and world.updates == [{"text/plain": ""}]


def test_images_have_their_scale_and_the_address_can_be_changed(world, monkeypatch):
    monkeypatch.setenv(itk.ADDRESS, "http://127.0.0.1:1/app/")
    asyncio.run(_show(0.05))
    assert world.source == "http://127.0.0.1:1/app/" and world.arguments["ui"] == "reference"
    for name, values in (("image", SCENE.image), ("label_image", LABELS)):
        image = world.arguments[name]
        assert image.scale == {"z": 3, "y": 1, "x": 2}
        assert np.array_equal(np.asarray(image.data), values)


def test_every_label_reaches_itkwidgets(world):
    scene = make_scene(LABELS * 2.0, np.where(LABELS, 70_017, 70_053), spacing=(1, 1, 1))
    asyncio.run(_show(0.05, scene))
    values = np.asarray(world.arguments["label_image"].data)
    assert np.array_equal(values, np.where(LABELS, 1, 2))
