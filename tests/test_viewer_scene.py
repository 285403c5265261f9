"""Scenes: everything on one grid, in the right place of the world, with names and colours."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gtgm.datasets import em
from gtgm.datasets.dataset import open_dataset
from gtgm.datasets.geometry import load_volume
from gtgm.errors import DataError, SettingsError
from gtgm.style import PALETTE
from gtgm.viewer.scene import make_scene

SHAPE = (4, 5, 6)
RNG = np.random.default_rng(0)
GREY = RNG.normal(size=SHAPE).astype(np.float32)
TWO = RNG.integers(0, 3, SHAPE)
OBLIQUE = np.eye(4)  # axes A, S, R with sizes 3, 1.5 and 2 mm, turned by a few degrees
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", (3, -2, 4), degrees=True).as_matrix() @ (
    [[0, 0, -2], [-3, 0, 0], [0, 1.5, 0]]
)
OBLIQUE[:3, 3] = 10, 5, 7


def place(scene, voxel):
    """Where a voxel (d, h, w) lies."""
    return nib.affines.apply_affine(scene.affine, voxel[::-1])


@pytest.fixture
def files(tmp_path):
    """An image with one bright voxel and its label, in an oblique, permuted and flipped file."""
    image = np.zeros((6, 4, 5), np.float32)
    image[1, 2, 3], image[0, 0, 0] = 9, 1
    label = (image == 9).astype(np.int16)
    paths = {}
    for name, values in (("image", image), ("label", label)):
        paths[name] = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(values, OBLIQUE), paths[name])
    return paths


def test_voxels_of_a_file_stay_where_they_are_in_the_world(files):
    scene = make_scene(files["image"], files["label"], prediction=files["label"])
    voxel = np.unravel_index(scene.image.argmax(), scene.image.shape)
    assert place(scene, voxel) == pytest.approx(nib.affines.apply_affine(OBLIQUE, (1, 2, 3)))
    assert [layer.title for layer in scene.layers] == ["truth", "prediction"]
    assert all(np.argwhere(layer.values == 1).tolist() == [list(voxel)] for layer in scene.layers)
    assert nib.aff2axcodes(scene.affine) == ("R", "A", "S")
    assert scene.title == "image.nii.gz" and scene.unit == "mm"


def test_a_real_case_has_its_labels_names_attribution_and_place(shared_data):
    opened = open_dataset("Task04_Hippocampus", shared_data / "msd")
    volume = load_volume(opened.cases[0], opened.info)
    scene = make_scene(volume)
    assert scene.layers[0].names == opened.info.classes
    assert "CC-BY-SA 4.0" in scene.credit and opened.cases[0].id in scene.title
    file = nib.as_closest_canonical(nib.load(opened.cases[0].image))
    assert scene.affine == pytest.approx(file.affine)
    assert np.array_equal(scene.image.transpose(2, 1, 0), file.get_fdata(dtype=np.float32))
    of_case = make_scene(opened.cases[0])
    assert np.array_equal(of_case.layers[0].values, scene.layers[0].values)


def test_a_resampled_volume_keeps_its_corners(tmp_path, files):
    from gtgm.datasets import registry
    from gtgm.datasets.msd import Case

    info = registry.get("Task04_Hippocampus")
    case = Case(info.name, "a", files["image"], files["label"])
    native, fine = (load_volume(case, info, spacing) for spacing in (None, (0.5, 0.75, 0.5)))
    corners = []
    for volume in (native, fine):
        scene = make_scene(volume)
        edge = np.array(scene.image.shape) - 0.5
        corners.append([place(scene, (-0.5,) * 3), place(scene, tuple(edge))])
    assert fine.image.shape != native.image.shape
    assert np.array(corners[0]) == pytest.approx(np.array(corners[1]), abs=1e-4)


def test_em_lies_with_its_rows_down_in_micrometres(shared_data):
    opened = open_dataset("FIB25", shared_data)
    volume = em.read_case(opened.cases[0], opened.info, slice(0, 4))
    scene = make_scene(volume)
    assert scene.em and scene.spacing == pytest.approx([nm / 1000 for nm in volume.resolution])
    assert place(scene, (0, 1, 0))[1] < place(scene, (0, 0, 0))[1]
    layer = scene.layers[0]
    assert layer.instances and len(set(layer.colors)) > 0.9 * len(layer.names)
    ids = np.unique(volume.labels[volume.labels > 0])
    assert layer.names == tuple(str(n) for n in ids) and layer.values.max() == len(ids)
    assert np.array_equal(layer.values == 0, volume.labels == 0)


def test_arrays_need_a_spacing_and_get_names_and_colours():
    scene = make_scene(GREY, TWO, torch.from_numpy(TWO), spacing=(3, 1, 2), names=["a", "b"])
    assert scene.spacing == (3, 1, 2) and scene.layers[1].names == ("a", "b")
    assert scene.layers[0].colors == PALETTE[:2]
    assert make_scene(GREY[None], TWO, spacing=(1, 1, 1)).layers[0].names == ("label 1", "label 2")
    assert not make_scene(torch.from_numpy(GREY), spacing=(1, 1, 1)).layers
    for spacing in (None, (1, 1), (1, 0, 1)):
        with pytest.raises(SettingsError, match="spacing"):
            make_scene(GREY, TWO, spacing=spacing)


def test_grey_values_fill_the_window_and_a_constant_image_does_not_break_it():
    low, high = make_scene(GREY, spacing=(1, 1, 1)).window
    assert GREY.min() < low < high < GREY.max()
    low, high = make_scene(np.ones(SHAPE), spacing=(1, 1, 1)).window
    assert low < high


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_the_window_is_that_of_the_finite_values(tmp_path, bad):
    image = np.concatenate([np.full((4, 5, 6), bad), GREY.astype(float)])
    nib.save(nib.Nifti1Image(image.transpose(2, 1, 0), np.eye(4)), tmp_path / "bad.nii")
    for scene in (make_scene(image, spacing=(1, 1, 1)), make_scene(tmp_path / "bad.nii")):
        assert np.array_equal(scene.image[4:], GREY)
        white = bad > 0
        assert (scene.image[:4] == (GREY.max() if white else GREY.min())).all()
        assert GREY.min() <= scene.window[0] < scene.window[1] <= GREY.max()


@pytest.mark.parametrize("given", [(), {17: "left", 53: "right"}], ids=["numbers", "names"])
def test_labels_of_any_number_have_a_name_and_a_colour_of_their_own(given):
    freesurfer = np.array([0, 17, 53])[TWO]
    right_alone = np.where(TWO == 2, 53, 0)
    layers = make_scene(GREY, right_alone, freesurfer, spacing=(1, 1, 1), names=given).layers
    for layer in layers:
        assert layer.names == (("left", "right") if given else ("label 17", "label 53"))
        assert layer.colors == PALETTE[:2] and layer.shown == (1, 2) and not layer.instances
    assert np.array_equal(layers[0].values, np.where(TWO == 2, 2, 0))
    assert np.array_equal(layers[1].values, TWO)
    one = make_scene(GREY, freesurfer, spacing=(1, 1, 1), names=given, highlight=[53]).layers[0]
    assert one.shown == (2,)


def test_names_of_labels_that_are_absent_change_no_colour_and_are_not_shown():
    names = {n: f"structure {n}" for n in range(1, 41)}
    labels = np.array([0, 3, 40])[TWO]
    layer = make_scene(GREY, labels, spacing=(1, 1, 1), names=names).layers[0]
    assert [layer.names[n - 1] for n in layer.shown] == ["structure 3", "structure 40"]
    assert len(set(layer.colors)) == 40 and layer.colors[2] == PALETTE[2]


def test_labels_that_a_conversion_left_nearly_whole_are_whole():
    layer = make_scene(GREY, TWO * np.float32(0.99999994), spacing=(1, 1, 1)).layers[0]
    assert np.array_equal(layer.values, TWO) and layer.names == ("label 1", "label 2")


def test_highlighted_objects_stand_out_and_the_others_are_grey():
    many = np.arange(np.prod(SHAPE)).reshape(SHAPE) // 4
    plain = make_scene(GREY, many, spacing=(1, 1, 1)).layers[0]
    layer = make_scene(GREY, many, spacing=(1, 1, 1), highlight=[3, 7]).layers[0]
    assert layer.instances and layer.shown == (3, 7) and len(plain.shown) == len(plain.names)
    assert [layer.colors[n - 1] for n in (3, 7)] == list(PALETTE[:2])
    assert len(set(layer.colors)) == 3  # these two, and grey
    many_chosen = list(range(1, 11))
    layer = make_scene(GREY, many, spacing=(1, 1, 1), highlight=many_chosen).layers[0]
    assert layer.colors[:10] == plain.colors[:10] and len(set(layer.colors[10:])) == 1
    classes = make_scene(GREY, TWO, spacing=(1, 1, 1), highlight=[2]).layers[0]
    assert classes.shown == (2,)
    with pytest.raises(SettingsError, match="highlight"):
        make_scene(GREY, TWO, spacing=(1, 1, 1), highlight=[9])


def test_segments_have_the_colour_of_their_neuron():
    truth = np.repeat(np.arange(1, 21), 6).reshape(SHAPE)
    segments = np.where(truth == 1, 1000, truth + 100)  # other ids, in another order
    first, second = make_scene(GREY, truth, segments, spacing=(1, 1, 1)).layers
    for neuron, segment in ((1, 1000), (2, 102), (20, 120)):
        theirs = second.colors[second.names.index(str(segment))]
        assert theirs == first.colors[first.names.index(str(neuron))]
    split = np.where((truth == 5) & (np.arange(120).reshape(SHAPE) % 6 < 2), 999, segments)
    first, second = make_scene(GREY, truth, split, spacing=(1, 1, 1), highlight=[5]).layers
    assert {second.names[n - 1] for n in second.shown} == {"105", "999"}
    colors = [second.colors[second.names.index(name)] for name in ("105", "999", "106")]
    assert colors[0] == first.colors[4] and len(set(colors)) == 3


def test_a_segment_that_only_touches_a_chosen_neuron_is_not_shown():
    truth = np.repeat(np.arange(1, 21), 60).reshape(4, 10, 30)
    merger = np.where(truth == 5, 6, truth)  # hides neuron 5 in segment 6
    touching = merger.copy()
    touching[tuple(np.argwhere(truth == 5)[:3].T)] = 9  # three of its sixty voxels
    layers = make_scene(truth, truth, touching, spacing=(1, 1, 1), highlight=[5]).layers
    assert [layers[1].names[n - 1] for n in layers[1].shown] == ["6"]
    assert layers[1].colors[layers[1].names.index("6")] not in layers[0].colors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": TWO[:2]}, r"truth: its shape is \(2, 5, 6\)"),
        ({"prediction": GREY}, "prediction: its values are no labels"),
        ({"labels": TWO - 1}, "truth: it has the label -1"),
        ({"names": ["a"]}, r"truth: it has labels without a name: 2\..*1, which have names"),
        ({"names": {17: "a"}}, "truth: it has labels without a name: 1, 2"),
        ({"prediction": TWO * 4, "names": ["a", "b"]}, "prediction: .* without a name: 4, 8"),
        ({"names": {"left": 17}}, "names: 'left' is no label"),
        ({"labels": np.where(TWO == 1, np.inf, TWO)}, "truth: its values are no labels"),
        ({"image": GREY * np.nan}, "no voxel of the image is finite"),
        ({"spacing": (1, 1, np.inf)}, "spacing"),
        ({"image": np.ones((2, 2))}, r"the image has the shape \(2, 2\)"),
        ({"channel": 1}, "there is no channel 1"),
        ({"image": {"not": "an image"}}, "a dict cannot be shown"),
        ({"image": "nowhere.nii.gz"}, "nowhere.nii.gz: there is no such file"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    arguments = {"image": GREY, "labels": TWO, "spacing": (1, 1, 1)} | changes
    with pytest.raises((DataError, SettingsError), match=message):
        make_scene(**arguments)


def test_label_files_with_several_values_per_voxel_are_refused(files, tmp_path):
    two = tmp_path / "two.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((6, 4, 5, 2), np.int16), OBLIQUE), two)
    with pytest.raises(DataError, match=r"two.nii.gz: its shape is \(6, 4, 5, 2\)"):
        make_scene(files["image"], two)
    flat = tmp_path / "flat.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((6, 4), np.float32), np.eye(4)), flat)
    with pytest.raises(DataError, match=r"flat.nii.gz: the image has the shape \(6, 4\)"):
        make_scene(flat)


def test_a_label_file_on_another_grid_is_refused(files, tmp_path):
    moved = tmp_path / "moved.nii.gz"
    file = nib.load(files["label"])
    affine = file.affine + np.diag([0, 0, 0, 0]) + np.eye(4, k=3) * 5
    nib.save(nib.Nifti1Image(np.asarray(file.dataobj), affine), moved)
    with pytest.raises(DataError, match="moved.nii.gz: its affine differs from that of the image"):
        make_scene(files["image"], moved)
