"""Packages that must work with each other, beneath what the tests of this project replace."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from gtgm.viewer import itk
from gtgm.viewer.scene import make_scene


@pytest.mark.parametrize("name", ["image", "label_image"])
def test_itkwidgets_makes_its_store_of_what_it_is_given(name: str) -> None:
    from itkwidgets.integrations import _get_viewer_image  # what its view() calls first

    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3] = 7
    images = itk._images(make_scene(labels * 2.0, labels, spacing=(3, 1, 2)))
    store = zarr.open(_get_viewer_image(images[name], label=name == "label_image"), "r")
    scales = store.attrs["multiscales"][0]["datasets"]
    np.testing.assert_array_equal(np.squeeze(store[scales[0]["path"]][:]), images[name].data)
    assert scales[0]["coordinateTransformations"][0]["scale"][-3:] == [3, 1, 2]
