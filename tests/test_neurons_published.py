"""Published segmentations: the file, nearest segments, and the known scores of a real one."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from gtgm.errors import DataError
from gtgm.neurons.metrics import neuron_scores, voi, without_borders
from gtgm.neurons.published import assign_nearest, read_published, score_published


@pytest.fixture
def holes():
    """Six neurons, and a segmentation of them with a third of its voxels unassigned."""
    rng = np.random.default_rng(0)
    truth = np.kron(np.arange(1, 7).reshape(1, 2, 3), np.ones((4, 4, 5), int))
    segmentation = np.where(rng.random(truth.shape) < 0.33, 0, truth * 10)
    return segmentation, truth


@pytest.mark.parametrize("resolution", [(1, 1, 1), (40, 4, 8)])
def test_nearest_is_nearest(holes, resolution):
    segmentation, _ = holes
    copy = segmentation.copy()
    filled = assign_nearest(segmentation, resolution=resolution)
    np.testing.assert_array_equal(segmentation, copy)
    assigned = np.argwhere(segmentation != 0)
    for where in np.argwhere(segmentation == 0):
        distance = (((assigned - where) * resolution) ** 2).sum(1)
        closest = assigned[distance == distance.min()]
        assert filled[tuple(where)] in segmentation[tuple(closest.T)]
    kept = segmentation != 0
    np.testing.assert_array_equal(filled[kept], segmentation[kept])


def test_the_three_ways_differ_in_the_unassigned_voxels_alone(holes):
    segmentation, truth = holes
    scores = score_published(segmentation, truth)
    assert list(scores) == ["as it is", "nearest segment", "assigned voxels"]
    assert scores["as it is"] == neuron_scores(segmentation, truth)
    assert scores["assigned voxels"]["voi_sum"] == 0
    assert 0 < scores["nearest segment"]["voi_sum"] < scores["as it is"]["voi_sum"]
    whole = np.where(segmentation == 0, 60, segmentation)
    everywhere = score_published(whole, truth)
    assert everywhere["as it is"] == everywhere["nearest segment"] == everywhere["assigned voxels"]


def test_each_way_is_scored_with_the_border_mask_too(holes):
    segmentation, truth = holes
    scores = score_published(segmentation, truth, resolution=(30, 30, 30))
    inside = neuron_scores(segmentation, without_borders(truth, (30, 30, 30)))
    for metric, value in inside.items():
        assert scores["as it is"][f"{metric}_border_masked"] == pytest.approx(value)
    assert scores["as it is"]["arand_border_masked"] > 0
    assert scores["assigned voxels"]["arand_border_masked"] == 0


def test_another_label_may_mean_unassigned(holes):
    segmentation, truth = holes
    renamed = np.where(segmentation == 0, 2**40, segmentation)
    scores = score_published(renamed, truth, 2**40)
    for name, expected in score_published(segmentation, truth).items():
        assert scores[name] == pytest.approx(expected, abs=1e-12)


def test_sections_are_scored_alone_but_filled_from_the_whole_volume():
    truth = np.ones((3, 4, 4), int)
    truth[:, :, 2:] = 2
    segmentation = truth.copy()
    segmentation[1, :2] = 0
    segmentation[1, :, :2] = 0
    scores = score_published(segmentation, truth, sections=slice(1, 2))
    assert scores["nearest segment"]["voi_sum"] == 0
    assert voi(assign_nearest(segmentation[1:2]), truth[1:2]).sum > 0
    assert scores["as it is"] == neuron_scores(segmentation[1:2], truth[1:2])


def test_what_cannot_be_scored_is_refused(holes):
    segmentation, truth = holes
    with pytest.raises(DataError, match="whole volumes"):
        score_published(segmentation, truth[1:])
    with pytest.raises(DataError, match="no voxel is left"):
        score_published(segmentation, truth, sections=slice(4, 9))
    with pytest.raises(DataError, match="unassigned"):
        assign_nearest(np.zeros((2, 2, 2), int))
    with pytest.raises(DataError, match="float64"):
        assign_nearest(np.ones((2, 2, 2)))


def test_a_file_is_read_back(holes, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", segmentation=holes[0].astype(np.uint8), other=1)
    labels = read_published(tmp_path / "a.npz")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, holes[0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.ones((2, 2, 2), int)}, "labels"),
        ({}, "no arrays"),
        ({"segmentation": np.ones((2, 2, 2))}, "float64"),
        ({"segmentation": np.ones((2, 2), int)}, "shape"),
        ({"segmentation": np.array([{}], object)}, "type object"),
    ],
)
def test_a_file_with_other_contents_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        read_published(tmp_path / "a.npz")
    assert "a.npz" in str(caught.value)


def test_a_damaged_or_absent_file_is_refused(holes, tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match="no such file"):
        read_published(path)
    np.savez_compressed(path, segmentation=holes[0])
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:60] + b"x" * 9 + whole[69:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            read_published(path)
    np.save(tmp_path / "b.npy", holes[0])
    with pytest.raises(DataError, match="npz"):
        read_published(tmp_path / "b.npy")


def test_the_published_flood_filling_segmentation_gets_its_known_scores(shared_data):
    with h5py.File(shared_data / "em" / "fib25_train.hdf") as file:
        truth = file["volumes/labels/neuron_ids"][:]
    published = read_published(shared_data / "em" / "fib25_train_ffn_segmentation.npz")
    expected = {"voi_split": 0.812, "voi_merge": 0.785, "voi_sum": 1.597, "arand": 0.172}
    assert neuron_scores(published, truth) == pytest.approx(expected, abs=1e-3)
    scores = score_published(published, truth, sections=slice(140, 170))
    known = {"as it is": 1.28, "nearest segment": 1.20, "assigned voxels": 0.56}
    assert {name: round(row["voi_sum"], 2) for name, row in scores.items()} == known
    scores = score_published(published, truth, 0, slice(140, 170), (10, 10, 10))
    masked = {"as it is": (0.472, 0.028), "nearest segment": (0.385, 0.023)}
    for name, expected in masked.items():
        found = [scores[name][f"{m}_border_masked"] for m in ("voi_sum", "arand")]
        assert found == pytest.approx(expected, abs=1e-3)
