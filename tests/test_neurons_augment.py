"""Augmentation: geometry shared by raw and labels, exact ids, and the axes it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gtgm.errors import DataError
from gtgm.neurons.augment import augment, named_transforms, sample_patch
from gtgm.neurons.settings import Augmentation

NONE = {
    name: 0
    for name in ("flip", "transpose", "rotate", "elastic", "misaligned", "blur", "contrast")
    + ("brightness", "noise", "cutout", "missing")
}
ALL = Augmentation(
    flip=1, transpose=1, rotate=1, elastic=1, misaligned=1, blur=1, cutout=1, missing=1
)
GEOMETRY = ("flip", "transpose", "rotate", "elastic", "misaligned")
NAMES = [*GEOMETRY, "blur", "intensity", "noise", "cutout", "missing"]


def only(**on: float) -> Augmentation:
    return Augmentation(**{**NONE, **on})


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def patch():
    """Raw and a label for every voxel, of ids that neither float32 nor int64 can hold."""
    raw = rng(0).standard_normal((6, 16, 16)).astype(np.float32)
    return raw, np.arange(raw.size, dtype=np.uint64).reshape(raw.shape) + np.uint64(2**63)


@pytest.fixture
def item(patch):
    labels = torch.from_numpy(patch[1].view(np.int64).copy())[None]
    return {"raw": torch.from_numpy(patch[0].copy())[None], "labels": labels}


def test_without_any_change_the_patch_is_itself(patch):
    for anisotropic in (True, False):
        raw, labels = augment(*patch, rng(0), only(), anisotropic)
        np.testing.assert_array_equal(raw, patch[0])
        np.testing.assert_array_equal(labels, patch[1])
    assert named_transforms(only(), always=True) == {}


@pytest.mark.parametrize("anisotropic", [True, False])
def test_the_generator_decides_and_the_patch_is_left_alone(patch, anisotropic):
    copies = [array.copy() for array in patch]
    first = [augment(*patch, rng(seed), ALL, anisotropic) for seed in range(5)]
    np.random.seed(7)  # of no influence, like torch's
    torch.manual_seed(7)
    again = [augment(*patch, rng(seed), ALL, anisotropic) for seed in range(5)]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert len({raw.tobytes() for raw, _ in first}) == 5
    for array, copy in zip(patch, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.uint32, np.uint16, np.dtype(">u4")])
def test_labels_keep_their_type_and_ids(patch, dtype):
    labels = (patch[1] % np.uint64(50) * np.uint64(np.iinfo(dtype).max // 50)).astype(dtype)
    for seed in range(4):
        raw, changed = augment(patch[0], labels, rng(seed), ALL)
        assert raw.dtype == np.float32 and changed.dtype == dtype
        assert raw.flags.c_contiguous and changed.flags.c_contiguous
        assert set(np.unique(changed)) <= {0, *np.unique(labels)}


@pytest.mark.parametrize("anisotropic", [True, False])
def test_flips_and_exchanges_move_raw_and_labels_together(anisotropic):
    size = (4, 8, 8) if anisotropic else (4, 4, 4)
    raw = rng(0).standard_normal(size).astype(np.float32)
    labels = np.arange(raw.size).reshape(size)
    seen, how = set(), only(flip=0.5, transpose=0.5 if anisotropic else 5 / 6)
    for seed in range(100 if anisotropic else 150):
        moved, ids = augment(raw, labels, rng(seed), how, anisotropic)
        np.testing.assert_array_equal(moved, raw.flat[ids])
        if anisotropic:  # a section of the result is one section of the patch
            assert all(len(np.unique(section // 64)) == 1 for section in ids)
        seen.add(ids.tobytes())
    # A box has 16 symmetries, a cube 48.
    assert len(seen) == 16 if anisotropic else 40 < len(seen) <= 48


@pytest.mark.parametrize("name", GEOMETRY)
def test_raw_and_labels_stay_aligned(name):
    """Two halves, dark and bright, with a label each: the edge between them stays one edge."""
    raw = np.full((6, 48, 48), -1, np.float32)
    raw[:, :, 20:] = 1
    labels = np.where(raw < 0, 3, 2**50)
    for seed in range(6):
        moved, ids = augment(raw, labels, rng(seed), only(**{name: 1}))
        assert set(np.unique(ids)) <= {0, 3, 2**50}
        assert (moved[ids == 3] <= 1e-3).all() and (moved[ids == 2**50] >= -1e-3).all()
        assert (np.abs(moved) > 0.999).mean() > 0.9 and (ids != 0).mean() > 0.7


@pytest.mark.parametrize("name", ["rotate", "elastic", "blur"])
def test_z_is_never_mixed(name):
    raw = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None], (6, 24, 24))
    labels = raw.astype(np.int64) + 1
    for seed in range(5):
        moved, ids = augment(raw, labels, rng(seed), only(**{name: 1}))
        inside = (slice(None), slice(4, -4), slice(4, -4))  # beyond the rim a blur sees 0
        np.testing.assert_allclose(moved[inside], raw[inside], atol=1e-4)
        assert ((ids == labels) | (ids == 0)).all()


def test_each_transform_has_its_name_and_does_what_it_says(item):
    made = named_transforms(Augmentation(), always=True)
    assert list(made) == NAMES
    assert [n for n in NAMES if n not in named_transforms(Augmentation(), False)] == [
        "misaligned",
        "missing",
    ]
    before = {key: value.clone() for key, value in item.items()}
    for name, transform in made.items():
        for seed in range(3):
            changed = transform.set_random_state(state=np.random.RandomState(seed))(item)
            assert not torch.equal(changed["raw"], item["raw"]), name
            assert torch.equal(changed["labels"], item["labels"]) == (name not in GEOMETRY), name
            assert changed["raw"].shape == item["raw"].shape
            assert changed["raw"].dtype == torch.float32 and changed["labels"].dtype == torch.int64
        assert all(torch.equal(item[key], before[key]) for key in item), name


def test_probabilities_are_kept_unless_a_picture_needs_them_to_be_one(item):
    quiet = named_transforms(only(missing=1e-9, cutout=1e-9, rotate=1e-9))
    for transform in quiet.values():
        assert torch.equal(transform(item)["raw"], item["raw"])
    for transform in named_transforms(only(missing=1e-9, cutout=1e-9), always=True).values():
        assert not torch.equal(transform(item)["raw"], item["raw"])


def test_noise_has_at_most_the_size_asked_for():
    zero = np.zeros((8, 32, 32), dtype=np.float32)
    results = [augment(zero, zero.astype(int), rng(s), only(noise=0.2))[0] for s in range(20)]
    spread = [r.std() for r in results]
    assert min(spread) > 0 and max(spread) < 0.21 and np.ptp(spread) > 0.1
    assert abs(np.mean(results)) < 0.01


def test_a_blur_is_within_its_limits():
    raw = np.zeros((3, 41, 41), dtype=np.float32)
    raw[1, 20, 20] = 1
    for seed in range(5):
        changed, _ = augment(raw, raw.astype(int), rng(seed), only(blur=1, blur_sigma=2.0))
        assert changed.sum() == pytest.approx(1, abs=1e-3) and not changed[[0, 2]].any()
        for profile in (changed[1].sum(0), changed[1].sum(1)):
            sigma = np.sqrt((profile * (np.arange(41) - 20) ** 2).sum())
            assert 0.99 < sigma < 2.05


@pytest.mark.parametrize(("anisotropic", "deepest"), [(True, 1), (False, 8)])
def test_boxes_are_cut_out_of_raw_alone(anisotropic, deepest):
    ones = np.ones((16, 32, 32), dtype=np.float32)
    how = only(cutout=1, cutout_pixels=8)
    for seed in range(20):
        changed, labels = augment(ones, ones.astype(int), rng(seed), how, anisotropic)
        assert set(np.unique(changed)) == {0, 1} and (labels == 1).all()
        assert (changed == 0).sum() <= 3 * deepest * 8 * 8
        deep = (changed == 0).sum(0).max()
        assert deep >= (deepest + 1) // 2


def test_small_patches_are_never_cut_out_whole():
    ones = np.ones((8, 8, 8), dtype=np.float32)
    for seed in range(20):
        changed, _ = augment(ones, ones.astype(int), rng(seed), only(cutout=1), anisotropic=False)
        assert 0.6 < changed.mean() < 1


def test_a_lost_section_stays_flat_and_keeps_its_labels(patch):
    raw, labels = augment(*patch, rng(0), only(missing=1, noise=0.2, contrast=0.2))
    assert sum(np.ptp(section) == 0 for section in raw) == 1
    np.testing.assert_array_equal(labels, patch[1])


def test_patches_of_any_shape_keep_it():
    for size in ((4, 6, 8), (1, 1, 1), (2, 1, 5), (1, 12, 12), (12, 5, 5)):
        for anisotropic in (True, False):
            raw, labels = augment(
                np.zeros(size, np.float32), np.ones(size, int), rng(0), ALL, anisotropic
            )
            assert raw.shape == labels.shape == size


def test_wrong_arrays_are_refused(patch):
    raw, labels = patch
    for wrong in ((raw[0], labels[0]), (raw, labels[:-1]), (raw, raw)):
        with pytest.raises(DataError, match="labels"):
            augment(*wrong, rng(0), Augmentation())


def test_patches_come_from_everywhere():
    raw = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    generator = rng(0)
    corners = set()
    for _ in range(300):
        patch, labels = sample_patch(raw, raw + 1000, (2, 5, 3), generator)
        assert patch.shape == (2, 5, 3) and (labels == patch + 1000).all()
        corners.add(int(patch[0, 0, 0]))
    assert corners == {30 * z + x for z in range(3) for x in range(4)}
    with pytest.raises(DataError, match="no patch"):
        sample_patch(raw, raw, (5, 5, 5), generator)
