"""Views of a patch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gtgm.settings import PretrainSettings
from gtgm.views import _blur, _rescale, make_view, named_operations


def patches() -> torch.Tensor:
    return torch.randn(4, 1, 8, 12, 12, generator=torch.Generator().manual_seed(0))


def view(seed: int = 0, **changes) -> torch.Tensor:
    torch.manual_seed(seed)
    return make_view(patches(), PretrainSettings(**changes), np.random.default_rng(seed))


def test_same_seed_same_view():
    assert torch.equal(view(3), view(3))
    assert not torch.equal(view(3), view(4))


def test_shape_is_kept_and_values_finite():
    for seed in range(20):
        out = view(seed, operations=5, flip_axes="DHW", transpose=True)
        assert out.shape == patches().shape
        assert out.isfinite().all()


def test_without_operations_only_the_named_axes_flip():
    seen = set()
    for seed in range(20):
        for before, after in zip(patches(), view(seed, operations=0, flip_axes="W"), strict=True):
            if torch.equal(before, after):
                seen.add("same")
            else:
                assert torch.equal(before.flip(3), after)
                seen.add("flipped")
    assert seen == {"same", "flipped"}


def test_min_max_of_the_released_code():
    out = view(view_min_max=True)
    assert out.amin((1, 2, 3, 4)).tolist() == [0] * 4
    assert out.amax((1, 2, 3, 4)).tolist() == pytest.approx([1] * 4)


def test_rescale_of_a_ramp_stays_within_it():
    ramp = torch.arange(16.0).view(1, 1, 1, 16).expand(1, 8, 8, 16)
    out = _rescale(ramp, np.random.default_rng(0))
    assert out.shape == ramp.shape
    assert out.min() >= 0
    assert out.max() <= 15
    assert (out.diff(dim=3) >= 0).all()


def test_blur_keeps_constants_and_lowers_variation():
    generator = np.random.default_rng(1)
    constant = torch.full((1, 9, 9, 9), 3.0)
    assert torch.allclose(_blur(constant, generator), constant, atol=1e-5)
    noise = patches()[0]
    assert all(_blur(noise, generator).std() <= noise.std() + 1e-6 for _ in range(5))


def test_operations_are_named_and_each_changes_the_patch_alone():
    patch = patches()[0]
    found = named_operations(PretrainSettings(flip_axes="W"))
    assert list(found) == ["rescaling", "intensity", "noise", "blur", "flip"]
    for name, change in found.items():
        torch.manual_seed(0)
        changed = change(patch, np.random.default_rng(0))
        assert changed.shape == patch.shape and not torch.equal(changed, patch), name
    assert torch.equal(found["flip"](patch, np.random.default_rng(0)), patch.flip(3))
    assert "flip" not in named_operations(PretrainSettings(flip_axes=""))
