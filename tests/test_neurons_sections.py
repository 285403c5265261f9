"""What happens to sections: what each transform changes, and what it must leave alone."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from monai.transforms import RandAffined

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.sections import (
    POSITION,
    RandElastic2Dd,
    RandInPlaned,
    RandMisalignedSectiond,
    RandMissingSectiond,
    RandSectionIntensityd,
    RandTransposed,
)

BOTH = ("raw", "labels")
WARP = {
    "keys": ("raw", POSITION),
    "mode": ("bilinear", "nearest"),
    "padding_mode": ("reflection", "zeros"),
    "prob": 1.0,
}
TRANSFORMS = {
    "intensity": RandSectionIntensityd("raw", 0.3, 0.2),
    "missing": RandMissingSectiond("raw", 1.0),
    "misaligned": RandMisalignedSectiond(BOTH, "labels", 3, 1.0),
    "transposed": RandTransposed(BOTH, (0, 1, 2), 1.0),
    "rotated": RandInPlaned(*BOTH, RandAffined(rotate_range=0.7, **WARP), 1.0),
    "elastic": RandInPlaned(*BOTH, RandElastic2Dd(pixels=1.0, spacing=6, **WARP), 1.0),
}


def volume(*size: int) -> dict[str, torch.Tensor]:
    """Random raw, and labels that number the voxels from 1, above all that float32 can hold."""
    raw = np.random.default_rng(0).standard_normal((1, *size)).astype(np.float32)
    labels = np.arange(raw.size).reshape(raw.shape) + 2**60
    return {"raw": torch.from_numpy(raw), "labels": torch.from_numpy(labels)}


def apply(transform, item, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    changed = transform.set_random_state(state=np.random.RandomState(seed))(item)
    return changed["raw"][0].numpy(), changed["labels"][0].numpy()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_seed_decides_and_the_input_is_left_alone(name):
    item = volume(8, 8, 8)
    copies = {key: value.clone() for key, value in item.items()}
    results = [apply(TRANSFORMS[name], item, seed) for seed in (1, 1)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    others = [apply(TRANSFORMS[name], item, seed) for seed in range(2, 8)]
    assert any((other[0] != results[0][0]).any() for other in others)
    assert all(torch.equal(item[key], copies[key]) for key in item)
    assert results[0][0].dtype == np.float32 and results[0][1].dtype == np.int64


@pytest.mark.parametrize("name", TRANSFORMS)
def test_probability_zero_does_nothing(name):
    transform, item = TRANSFORMS[name], volume(6, 12, 12)
    before = transform.prob
    transform.prob = 0.0
    for seed in range(5):
        raw, labels = apply(transform, item, seed)
        np.testing.assert_array_equal(raw, item["raw"][0])
        np.testing.assert_array_equal(labels, item["labels"][0])
    transform.prob = before


@pytest.mark.parametrize("name", TRANSFORMS)
def test_small_volumes_and_wrong_shapes(name):
    for size in ((1, 1, 1), (2, 1, 5), (1, 9, 4)):
        raw, labels = apply(TRANSFORMS[name], volume(*size))
        assert raw.shape == labels.shape == size
    with pytest.raises(DataError, match=r"\(1, D, H, W\)"):
        TRANSFORMS[name]({key: value[0] for key, value in volume(4, 8, 8).items()})


def test_intensity_changes_by_section():
    item = volume(6, 16, 16)
    changed, labels = apply(TRANSFORMS["intensity"], item, 1)
    before = item["raw"][0].numpy()
    lines = [np.polyfit(a.ravel(), b.ravel(), 1) for a, b in zip(before, changed, strict=True)]
    for (scale, shift), a, b in zip(lines, before, changed, strict=True):
        np.testing.assert_allclose(b, scale * a + shift, atol=1e-5)
        assert abs(scale - 1) <= 0.3 and abs(shift) <= 0.2
    assert np.ptp([scale for scale, _ in lines]) > 0.01
    np.testing.assert_array_equal(labels, item["labels"][0])


def test_half_of_an_intensity_change_is_shared():
    item = {"raw": torch.zeros(1, 2, 1, 1), "labels": torch.zeros(1, 2, 1, 1, dtype=torch.int64)}
    transform = RandSectionIntensityd("raw", 0.0, 1.0)
    pairs = np.array([apply(transform, item, seed)[0].ravel() for seed in range(300)])
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(0.5, abs=0.1)


def test_a_lost_section_is_one_inner_section():
    item = volume(5, 8, 8)
    lost = set()
    for seed in range(30):
        changed, labels = apply(TRANSFORMS["missing"], item, seed)
        (section,) = np.flatnonzero((changed != item["raw"][0].numpy()).any((1, 2)))
        assert (changed[section] == float(item["raw"].min())).all()
        np.testing.assert_array_equal(labels, item["labels"][0])
        lost.add(int(section))
    assert lost == {1, 2, 3}
    np.testing.assert_array_equal(
        apply(TRANSFORMS["missing"], volume(2, 8, 8))[0], volume(2, 8, 8)["raw"][0]
    )


def test_misaligned_sections_move_with_their_labels_and_never_wrap():
    item = volume(5, 9, 11)
    before, ids = item["raw"][0].numpy(), item["labels"][0].numpy()
    kinds, shifts = set(), set()
    for seed in range(60):
        raw, labels = apply(TRANSFORMS["misaligned"], item, seed)
        moved = np.flatnonzero((labels != ids).any((1, 2)))
        kinds.add(tuple(moved))
        known = labels != 0
        # Raw goes with its label, within its section, and all sections by the same shift.
        np.testing.assert_array_equal(raw[known], before.flat[labels[known] - 2**60])
        to, source = np.argwhere(known), labels[known] - 2**60
        by = np.stack(np.unravel_index(source, ids.shape), 1) - to
        assert (by[:, 0] == 0).all()
        ((dy, dx),) = np.unique(by[np.isin(to[:, 0], moved), 1:], axis=0)
        assert 0 < max(abs(dy), abs(dx)) <= 3
        assert (~known).sum() == len(moved) * (99 - (9 - abs(dy)) * (11 - abs(dx)))
        padded = np.pad(before[moved], ((0, 0), (3, 3), (3, 3)), mode="reflect")
        expected = padded[:, 3 + dy : 12 + dy, 3 + dx : 14 + dx]
        np.testing.assert_array_equal(raw[moved], expected)
        shifts.add((int(dy), int(dx)))
    assert kinds == {(1,), (2,), (3,), (4,), (1, 2, 3, 4), (2, 3, 4), (3, 4)}
    assert len(shifts) > 20


@pytest.mark.parametrize(
    ("size", "axes", "orders"),
    [
        ((4, 4, 4), (1, 2), {(0, 2, 1)}),
        ((4, 4, 4), (0, 1, 2), set(permutations(range(3))) - {(0, 1, 2)}),
        ((4, 4, 3), (0, 1, 2), {(1, 0, 2)}),
        ((4, 4, 3), (1, 2), {(0, 1, 2)}),
        ((4, 3, 5), (0, 1, 2), {(0, 1, 2)}),
    ],
)
def test_only_axes_of_equal_length_are_exchanged(size, axes, orders):
    transform, item, seen = RandTransposed(BOTH, axes, 1.0), volume(*size), set()
    before = item["labels"][0].numpy()
    for seed in range(40):
        raw, labels = apply(transform, item, seed)
        np.testing.assert_array_equal(raw, item["raw"].numpy().flat[labels - 2**60])
        fitting = [o for o in permutations(range(3)) if before.transpose(o).shape == size]
        seen |= {o for o in fitting if (before.transpose(o) == labels).all()}
    assert seen == orders


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("name", ["rotated", "elastic"])
@pytest.mark.parametrize("size", [(3, 24, 24), (3, 17, 30)])
def test_raw_and_labels_are_warped_alike_and_stay_in_their_section(name, size, axis):
    item = volume(*size)
    item["raw"][0] = torch.from_numpy(np.indices(size)[axis])
    for seed in range(5):
        raw, labels = apply(TRANSFORMS[name], item, seed)
        known = labels != 0
        source = np.stack(np.unravel_index(labels[known] - 2**60, size))
        np.testing.assert_array_equal(source[0], np.nonzero(known)[0])
        # Raw says where it is from to a fraction of a pixel, labels to the nearest pixel.
        assert np.abs(raw[known] - source[axis]).max() < 0.501
        assert 0.6 < known.mean() < 1 and (labels != item["labels"][0].numpy()).mean() > 0.2
        # The same in every section.
        np.testing.assert_array_equal(raw, raw[:1].repeat(len(raw), 0))
        np.testing.assert_array_equal(known, known[:1].repeat(len(raw), 0))


def test_a_rotation_turns_by_its_angle():
    y, x = np.mgrid[:33, :33] - 16.0
    item = {"raw": torch.from_numpy(np.hypot(y, x)[None, None].astype(np.float32))}
    item["labels"] = torch.from_numpy((np.arctan2(y, x) > 0).astype(np.int64)[None, None] + 1)
    quarter = RandInPlaned(*BOTH, RandAffined(rotate_range=((np.pi / 2,) * 2,), **WARP), 1.0)
    raw, labels = apply(quarter, item)
    np.testing.assert_allclose(raw, item["raw"][0], atol=1e-3)
    turns = [np.rot90(item["labels"][0, 0].numpy(), k) for k in (1, 3)]
    assert max((labels[0] == turn).mean() for turn in turns) > 0.98


def test_elastic_displacement_has_the_size_asked_for_and_no_ripple_of_its_own():
    def displacement(pixels, seed):
        warp = RandElastic2Dd(pixels=pixels, spacing=8, **WARP)
        raw, _ = apply(RandInPlaned(*BOTH, warp, 1.0), item, seed)
        return (raw - plane)[0, 12:-12, 12:-12]

    plane = np.broadcast_to(np.arange(64, dtype=np.float32), (1, 64, 64))
    item = {**volume(1, 64, 64), "raw": torch.from_numpy(plane[None].copy())}
    assert np.abs(displacement(1e-6, 0)).max() < 1e-4
    fields = np.stack([displacement(2.0, seed) for seed in range(20)])
    assert 1.0 < fields.std() < 2.0
    assert np.abs(np.diff(fields, axis=1)).max() < 2.0


def test_the_probability_of_a_warp_does_not_limit_its_angle():
    transform = RandInPlaned(*BOTH, RandAffined(rotate_range=0.5, **WARP), 0.3)
    angles = []
    item = volume(1, 4, 4)
    for seed in range(150):
        transform.set_random_state(seed=seed)(item)
        if transform._do_transform:
            angles.append(transform.warp.rand_affine.rand_affine_grid.rotate_params[0])
    assert 30 < len(angles) < 60
    assert min(angles) < -0.4 and max(angles) > 0.4 and abs(np.mean(angles)) < 0.15


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: RandSectionIntensityd("raw", 1.0, 0.2), "contrast"),
        (lambda: RandSectionIntensityd("raw", 0.2, -0.1), "brightness"),
        (lambda: RandMisalignedSectiond(BOTH, "labels", 0), "pixels"),
        (lambda: RandMisalignedSectiond(BOTH, "labels", 1.5), "pixels"),
        (lambda: RandElastic2Dd(pixels=0.0, spacing=8, **WARP), "pixels"),
        (lambda: RandElastic2Dd(pixels=1.0, spacing=0, **WARP), "spacing"),
    ],
)
def test_settings_out_of_range_are_refused(make, named):
    with pytest.raises(SettingsError, match=named):
        make()
