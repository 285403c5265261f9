"""Augmentation: geometry shared by raw and labels, and the axes that it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.augment import Augmentation, augment, change_intensity, sample_patch

GEOMETRY = Augmentation(contrast=0, brightness=0, noise=0, missing=0)
NONE = Augmentation(0, 0, 0, 0, 0, 0)


@pytest.fixture
def patch():
    raw = np.random.default_rng(0).standard_normal((5, 8, 8)).astype(np.float32)
    return raw, np.arange(raw.size, dtype=np.uint64).reshape(raw.shape)


def test_without_any_change_the_patch_is_itself(patch):
    raw, labels = augment(*patch, np.random.default_rng(0), NONE)
    np.testing.assert_array_equal(raw, patch[0])
    np.testing.assert_array_equal(labels, patch[1])


def test_raw_and_labels_move_together_and_sections_stay_sections(patch):
    seen = set()
    for seed in range(100):
        raw, labels = augment(*patch, np.random.default_rng(seed), GEOMETRY)
        assert raw.dtype == np.float32 and labels.dtype == np.uint64
        np.testing.assert_array_equal(raw, patch[0].flat[labels.astype(int)])
        # A section of the result is one section of the patch.
        assert all(len(np.unique(section // 64)) == 1 for section in labels)
        seen.add(labels.tobytes())
    assert len(seen) == 16  # 8 flips, with and without exchanging y and x


def test_oblong_patches_keep_their_shape():
    raw = np.zeros((4, 6, 8), dtype=np.float32)
    for seed in range(10):
        changed, _ = augment(raw, raw.astype(int), np.random.default_rng(seed), GEOMETRY)
        assert changed.shape == (4, 6, 8)


def test_intensity_changes_by_section():
    raw = np.random.default_rng(0).standard_normal((6, 16, 16)).astype(np.float32)
    how = Augmentation(contrast=0.3, brightness=0.2, noise=0, missing=0)
    changed = change_intensity(raw, np.random.default_rng(1), how)
    lines = [np.polyfit(a.ravel(), b.ravel(), 1) for a, b in zip(raw, changed, strict=True)]
    for (scale, shift), a, b in zip(lines, raw, changed, strict=True):
        np.testing.assert_allclose(b, scale * a + shift, atol=1e-5)
        assert abs(scale - 1) <= 0.3 and abs(shift) <= 0.2
    assert np.ptp([scale for scale, _ in lines]) > 0.01


def test_a_lost_section_is_one_inner_section():
    raw = np.random.default_rng(0).standard_normal((5, 8, 8)).astype(np.float32)
    how = Augmentation(contrast=0, brightness=0, noise=0, missing=1)
    lost = set()
    for seed in range(30):
        changed = change_intensity(raw, np.random.default_rng(seed), how)
        different = np.flatnonzero((changed != raw).any((1, 2)))
        assert len(different) == 1 and np.ptp(changed[different[0]]) == 0
        lost.add(int(different[0]))
    assert lost == {1, 2, 3}


def test_noise_has_at_most_the_size_asked_for(patch):
    how = Augmentation(contrast=0, brightness=0, noise=0.2, missing=0)
    raw = np.zeros((8, 32, 32), dtype=np.float32)
    spread = [change_intensity(raw, np.random.default_rng(s), how).std() for s in range(20)]
    assert min(spread) > 0 and max(spread) < 0.21


def test_the_patch_itself_is_not_changed(patch):
    copies = [array.copy() for array in patch]
    augment(*patch, np.random.default_rng(0), Augmentation(1, 1, 0.5, 0.5, 0.5, 1))
    for array, copy in zip(patch, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_patches_come_from_everywhere():
    raw = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    rng = np.random.default_rng(0)
    corners = set()
    for _ in range(300):
        patch, labels = sample_patch(raw, raw + 1000, (2, 5, 3), rng)
        assert patch.shape == (2, 5, 3) and (labels == patch + 1000).all()
        corners.add(int(patch[0, 0, 0]))
    assert corners == {30 * z + x for z in range(3) for x in range(4)}
    with pytest.raises(DataError, match="no patch"):
        sample_patch(raw, raw, (5, 5, 5), rng)


@pytest.mark.parametrize("wrong", [{"flip": 1.5}, {"missing": -0.1}, {"noise": -1}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Augmentation(**wrong)
