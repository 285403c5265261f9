"""Intensities."""

from __future__ import annotations

import pytest
import torch

from gtgm.intensity import normalise, unit_range


def test_ct_keeps_its_absolute_scale():
    low = torch.full((1, 2, 2, 2), -200.0)
    high = torch.full((1, 2, 2, 2), 300.0)
    assert normalise(low, "CT").unique().tolist() == [-1]
    assert normalise(high, "CT").unique().tolist() == [1]
    assert normalise(low, "CT", "Task06_Lung").mean() > -1


def test_mri_is_standardised_over_tissue_and_free_of_units():
    image = torch.rand(2, 6, 6, 6, generator=torch.Generator().manual_seed(0)) + 1
    image[:, :2] = 0
    out = normalise(image, "MRI")
    for channel, raw in zip(out, image, strict=True):
        assert channel[raw != 0].mean().item() == pytest.approx(0, abs=1e-4)
        assert channel[raw != 0].std().item() == pytest.approx(1, abs=1e-4)
    assert torch.allclose(normalise(7 * image, "MRI"), out, atol=1e-4)


def test_released_window_destroys_bright_mri():
    image = torch.linspace(1000, 2000, 8).view(1, 2, 2, 2)
    assert normalise(image, "MRI", released_window=True).unique().tolist() == [1]


def test_unit_range_of_a_flat_volume_is_finite():
    assert (
        unit_range(torch.full((1, 1, 2, 2, 2), 5.0)).tolist() == torch.zeros(1, 1, 2, 2, 2).tolist()
    )
