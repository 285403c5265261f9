"""Two augmented views of a patch (`method.md`, pretraining)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from gtgm.intensity import unit_range
from gtgm.settings import PretrainSettings

AXES = {"D": 1, "H": 2, "W": 3}
Operation = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]


def make_view(
    patches: torch.Tensor, settings: PretrainSettings, generator: np.random.Generator
) -> torch.Tensor:
    """One random view of every patch.

    Flips and transposes come first, then ``settings.operations`` different operations among
    rescaling up to 1.5, a flip, intensity, Gaussian noise (σ 0.01–0.2) and Gaussian blur (kernel
    3–9, σ up to 2), each patch with its own draw.

    Args:
        patches: (B, C, D, H, W), intensities with a spread near one.
        settings: which axes may be flipped, and how much is changed.
        generator: source of every random choice.

    Returns:
        (B, C, D, H, W)
    """
    views = torch.stack([_one_view(patch, settings, generator) for patch in patches])
    return unit_range(views) if settings.view_min_max else views


def _one_view(
    patch: torch.Tensor, settings: PretrainSettings, generator: np.random.Generator
) -> torch.Tensor:
    for axis in settings.flip_axes:
        if generator.random() < 0.5:
            patch = patch.flip(AXES[axis])
    if settings.transpose and generator.random() < 0.5:
        patch = patch.transpose(2, 3)
    operations = list(named_operations(settings).values())
    chosen = generator.choice(
        len(operations), min(settings.operations, len(operations)), replace=False
    )
    for index in chosen:
        patch = operations[index](patch, generator)
    return patch


def named_operations(settings: PretrainSettings) -> dict[str, Operation]:
    """What a view may be changed by, each alone: functions of a patch (C, D, H, W)."""
    operations = {"rescaling": _rescale, "intensity": _intensity, "noise": _noise, "blur": _blur}
    if settings.flip_axes:
        axes = list(settings.flip_axes)
        operations["flip"] = lambda patch, generator: patch.flip(AXES[generator.choice(axes)])
    return operations


def _rescale(
    patch: torch.Tensor, generator: np.random.Generator, most: float = 1.5
) -> torch.Tensor:
    """A random box of the patch, 1/s of each side with s in 1…1.5, resized to the whole."""
    scale = generator.uniform(1, most)
    sides = [max(2, round(side / scale)) for side in patch.shape[1:]]
    starts = [
        int(generator.integers(f - s + 1)) for f, s in zip(patch.shape[1:], sides, strict=True)
    ]
    box = patch[(slice(None), *(slice(a, a + s) for a, s in zip(starts, sides, strict=True)))]
    return F.interpolate(box[None], size=patch.shape[1:], mode="trilinear", align_corners=False)[0]


def _intensity(patch: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Gain 0.7–1.3 about the mean, and an offset of up to 0.3 standard deviations."""
    mean, spread = patch.mean(), patch.std()
    gain, offset = generator.uniform(0.7, 1.3), generator.uniform(-0.3, 0.3)
    return (patch - mean) * gain + mean + offset * spread


def _noise(patch: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    # torch's generator is seeded per step, so this draw is reproducible and stays on the device.
    return patch + torch.randn_like(patch) * generator.uniform(0.01, 0.2)


def _blur(patch: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Separable Gaussian; the kernel spans 3 to 9 voxels."""
    size = int(generator.choice([3, 5, 7, 9]))
    sigma = max(generator.uniform(0, 2), 0.1)
    offsets = torch.arange(size, device=patch.device, dtype=patch.dtype) - size // 2
    kernel = torch.exp(-(offsets**2) / (2 * math.pow(sigma, 2)))
    kernel = kernel / kernel.sum()
    x = patch[:, None]  # (C, 1, D, H, W)
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = size
        padding = [0, 0, 0]
        padding[axis] = size // 2
        weight = kernel.view(shape)
        edge = [p for side in reversed(padding) for p in (side, side)]
        x = F.conv3d(F.pad(x, edge, mode="replicate"), weight)
    return x[:, 0]
