"""Intensities: what a network sees of a CT, an MRI or an electron micrograph."""

from __future__ import annotations

import torch

#: Hounsfield units that soft tissue and contrast agent span; lungs need air as well.
CT_WINDOW = (-200.0, 300.0)
CT_WINDOWS = {"Task06_Lung": (-1000.0, 400.0)}
#: The window that the released code applies to every dataset (`deviations.md`, row 3).
RELEASED_WINDOW = (-175.0, 250.0)


def normalise(
    image: torch.Tensor, modality: str, dataset: str = "", released_window: bool = False
) -> torch.Tensor:
    """Raw intensities (C, D, H, W) → values around zero with a spread near one.

    CT keeps its absolute scale: a fixed window in HU, mapped linearly to −1…1. MRI has no unit, so
    each channel is standardised over its non-zero voxels. EM is standardised over all voxels.

    Args:
        image: float32 (C, D, H, W).
        modality: ``CT``, ``MRI`` or ``EM``.
        dataset: chooses the CT window.
        released_window: clip to −175…250 and scale to 0…1 whatever the modality, as the released
            code does.
    """
    if released_window:
        low, high = RELEASED_WINDOW
        return (image.clamp(low, high) - low) / (high - low)
    if modality == "CT":
        low, high = CT_WINDOWS.get(dataset, CT_WINDOW)
        return (image.clamp(low, high) - low) / (high - low) * 2 - 1
    return torch.stack([_standardise(channel, modality == "MRI") for channel in image])


def unit_range(image: torch.Tensor) -> torch.Tensor:
    """Each volume of a batch (B, C, D, H, W) scaled to 0…1; a flat one becomes zero."""
    low = image.amin((1, 2, 3, 4), keepdim=True)
    high = image.amax((1, 2, 3, 4), keepdim=True)
    return (image - low) / (high - low).clamp_min(1e-6)


def _standardise(channel: torch.Tensor, skip_zero: bool) -> torch.Tensor:
    """Zero mean, unit variance; statistics of an MRI leave out its zero background."""
    inside = channel[channel != 0] if skip_zero else channel
    if inside.numel() < 2:
        inside = channel
    return (channel - inside.mean()) / inside.std().clamp_min(1e-6)
