"""What NiiVue gets: real NIfTI files in the right place, and the right colours."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from gtgm.viewer.niivue import IMAGE_OPACITY, LABEL_OPACITY, make_widget, volumes
from gtgm.viewer.scene import make_scene

RNG = np.random.default_rng(1)
LABELS = RNG.integers(0, 3, (4, 5, 6))
SCENE = make_scene(
    RNG.normal(size=LABELS.shape), LABELS, LABELS, spacing=(3, 1, 2), names=["a", "b"]
)


def test_volumes_are_nifti_with_the_affine_and_the_values_of_the_scene():
    image, *maps = volumes(SCENE)
    file = nib.Nifti1Image.from_bytes(_unpacked(image))
    assert file.affine == pytest.approx(SCENE.affine) and file.header.get_xyzt_units()[0] == "mm"
    assert np.array_equal(file.get_fdata(dtype=np.float32).transpose(2, 1, 0), SCENE.image)
    assert (image["cal_min"], image["cal_max"]) == SCENE.window
    for entry in maps:
        label = nib.Nifti1Image.from_bytes(_unpacked(entry))
        assert label.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(label.dataobj).transpose(2, 1, 0), LABELS)


def _unpacked(entry):
    return gzip.decompress(entry["data"])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], np.uint8),
        ([-1000, 400], np.int16),
        ([0, 70000], np.int32),
        ([0, 0.5], np.float32),
    ],
)
def test_the_smallest_type_that_keeps_the_values_is_used(values, dtype):
    image = np.resize(values, (2, 2, 2))
    file = nib.Nifti1Image.from_bytes(_unpacked(volumes(make_scene(image, spacing=(1, 1, 1)))[0]))
    assert file.get_data_dtype() == dtype
    assert np.array_equal(file.get_fdata().transpose(2, 1, 0), image.astype(np.float32))


def test_each_label_has_its_colour_and_name_and_nothing_is_clear():
    table = volumes(SCENE)[1]["lut"]
    rows = np.reshape(table["lut"], (-1, 4))
    assert table["labels"] == ["", "a", "b"] and (table["min"], table["max"]) == (0, 2)
    assert rows[0, 3] == 0 and (rows[1:, 3] == 255).all()
    assert rows[1, :3] / 255 == pytest.approx(to_rgb(SCENE.layers[0].colors[0]), abs=0.01)


def test_labels_of_any_number_have_their_row_in_the_table_live_as_well():
    names = {17: "left", 53: "right"}
    scene = make_scene(SCENE.image, np.array([0, 17, 53])[LABELS], spacing=(1, 1, 1), names=names)
    entry = volumes(scene)[1]
    rows = np.reshape(entry["lut"]["lut"], (-1, 4))
    assert entry["lut"]["labels"] == ["", "left", "right"] and entry["cal_max"] == 2
    assert rows[:, 3].tolist() == [0, 255, 255] and (rows[1] != rows[2]).any()
    file = nib.Nifti1Image.from_bytes(_unpacked(entry))
    assert np.array_equal(np.asarray(file.dataobj).transpose(2, 1, 0), LABELS)
    lut = make_widget(scene).children[0].volumes[1].colormap_label
    assert lut.labels == ["", "left", "right"] and list(lut.lut) == entry["lut"]["lut"]


def test_the_range_of_grey_values_is_finite_with_voxels_that_are_not():
    image = np.where(LABELS == 0, np.nan, SCENE.image)
    entry = volumes(make_scene(image, spacing=(1, 1, 1)))[0]
    assert np.isfinite([entry["cal_min"], entry["cal_max"]]).all()
    assert np.isfinite(nib.Nifti1Image.from_bytes(_unpacked(entry)).get_fdata()).all()


def test_what_was_not_highlighted_is_clear():
    chosen = make_scene(LABELS, LABELS, spacing=(1, 1, 1), names=["a", "b"], highlight=[2])
    assert np.reshape(volumes(chosen)[1]["lut"]["lut"], (-1, 4))[:, 3].tolist() == [0, 0, 255]


def test_controls_change_the_opacities_and_choose_the_map():
    view, controls = make_widget(SCENE).children
    image, objects, choice = controls.children
    loaded = view.volumes
    assert [v.opacity for v in loaded] == [IMAGE_OPACITY, 0.0, LABEL_OPACITY]
    image.value = 0.25
    objects.value = 0.9
    choice.value = "truth"
    assert [v.opacity for v in loaded] == [0.25, 0.9, 0.0]
    lut = loaded[1].colormap_label
    assert lut.labels == ["", "a", "b"] and list(lut.lut) == volumes(SCENE)[1]["lut"]["lut"]


def test_an_image_alone_has_one_slider_and_one_map_no_choice():
    grey = make_scene(SCENE.image, spacing=(1, 1, 1))
    assert len(make_widget(grey).children[1].children) == 1
    one = make_scene(SCENE.image, LABELS, spacing=(1, 1, 1))
    view, controls = make_widget(one).children
    assert len(controls.children) == 2 and view.volumes[1].opacity == LABEL_OPACITY
