"""Affinities between neighbouring voxels, and the losses that a network learns them with.

The affinity of a voxel for an offset is 1 if the voxel and the one at that offset belong to the
same neuron, else 0. With the three nearest offsets, channels 0, 1, 2 hold the bonds to the
previous voxel along z, y and x: the convention of waterz.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from gtgm.errors import DataError
from gtgm.neurons.settings import NEAREST, check_offsets


def affinities(
    labels: torch.Tensor | np.ndarray,
    offsets: tuple[tuple[int, int, int], ...] = NEAREST,
    boundary: int = 0,
    flat: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Affinities of a label volume, and which of them are known.

    Args:
        labels: (D, H, W) or (B, D, H, W) integers, 0 = unlabelled.
        offsets: (z, y, x) in voxels, one per channel.
        boundary: neurons are first shrunk by this many voxels where they touch each other, and a
            voxel that is lost to this is bound to nothing. Labels that touch give cuts without
            width, which a network learns poorly and a watershed leaks through.
        flat: shrink in the plane of the section only (anisotropic volumes).
    Returns:
        target float32 and mask bool, both (C, D, H, W) or (B, C, D, H, W). A pair with an
        unlabelled voxel, or that leaves the volume, has target 0 and mask False.
    Raises:
        DataError: labels that are not a volume of integers.
        SettingsError: no offset, or one that is zero or not (z, y, x).
    """
    volume = _as_tensor(labels)
    if volume.ndim not in (3, 4) or volume.is_floating_point():
        raise DataError(
            f"labels have shape {tuple(volume.shape)} and type {volume.dtype}",
            expected="integers of shape (D, H, W) or (B, D, H, W)",
        )
    check_offsets(offsets)
    size = volume.shape[-3:]
    inside = ~_near_others(volume, boundary, flat) if boundary else None
    targets, masks = [], []
    for offset in offsets:
        target = torch.zeros(volume.shape, dtype=torch.float32, device=volume.device)
        mask = torch.zeros(volume.shape, dtype=torch.bool, device=volume.device)
        if all(abs(o) < n for o, n in zip(offset, size, strict=True)):
            here = _partners(size, offset)
            there = _partners(size, tuple(-o for o in offset))
            a, b = volume[here], volume[there]
            mask[here] = (a != 0) & (b != 0)
            bound = (a == b) & (a != 0)
            if inside is not None:
                bound &= inside[here] & inside[there]
            target[here] = bound.float()
        targets.append(target)
        masks.append(mask)
    return torch.stack(targets, dim=-4), torch.stack(masks, dim=-4)


def balance_weights(target: torch.Tensor, mask: torch.Tensor, clip: float = 0.05) -> torch.Tensor:
    """Weights that let both classes count alike in every sample and channel.

    Args:
        target, mask: (B, C, D, H, W); the target may be any value in [0, 1], split at 0.5.
        clip: a class is never taken as rarer than this share, so that a handful of boundary
            voxels does not get enormous weights.
    Returns:
        (B, C, D, H, W) float32, 0 outside the mask.
    """
    axes = (-3, -2, -1)
    positive = (target > 0.5) & mask
    known = mask.sum(axes, keepdim=True).clamp(min=1)
    share = (positive.sum(axes, keepdim=True) / known).clamp(clip, 1 - clip)
    return torch.where(target > 0.5, 0.5 / share, 0.5 / (1 - share)) * mask


def weighted_mse(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, clip: float = 0.05
) -> torch.Tensor:
    """Class-balanced mean squared error of sigmoid outputs (the paper's loss on EM).

    Args:
        logits, target, mask: (B, C, D, H, W).
    Returns:
        A scalar, the weighted mean over the known pairs; 0 if none is known.
    """
    error = (logits.float().sigmoid() - target) ** 2
    return _weighted_mean(error, balance_weights(target, mask, clip))


def balanced_bce(
    logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, clip: float = 0.05
) -> torch.Tensor:
    """Class-balanced binary cross-entropy; arguments and result as in :func:`weighted_mse`."""
    error = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    return _weighted_mean(error, balance_weights(target, mask, clip))


LOSSES = {"mse": weighted_mse, "bce": balanced_bce}


def _partners(size: torch.Size, offset: tuple[int, ...]) -> tuple:
    """Index of the voxels whose partner at ``offset`` is inside the volume."""
    pairs = zip(offset, size, strict=True)
    return (..., *(slice(max(0, -o), n - max(0, o)) for o, n in pairs))


def _near_others(volume: torch.Tensor, distance: int, flat: bool) -> torch.Tensor:
    """Voxels within ``distance`` steps along the axes of another neuron, both labelled."""
    axes = (-2, -1) if flat else (-3, -2, -1)
    near = torch.zeros(volume.shape, dtype=torch.bool, device=volume.device)
    for axis in axes:
        low, high = _halves(volume, axis)
        touch = (low != high) & (low != 0) & (high != 0)
        for side in _halves(near, axis):
            side |= touch
    for _ in range(distance - 1):
        grown = near.clone()
        for axis in axes:
            for side, other in zip(_halves(grown, axis), _halves(near, axis)[::-1], strict=True):
                side |= other
        near = grown
    return near


def _halves(volume: torch.Tensor, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Views of all voxels but the last, and all but the first, along an axis."""
    steps = volume.shape[axis] - 1
    return volume.narrow(axis, 0, steps), volume.narrow(axis, 1, steps)


def _weighted_mean(error: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (error * weights).sum() / weights.sum().clamp(min=1e-6)


def _as_tensor(labels: torch.Tensor | np.ndarray) -> torch.Tensor:
    if isinstance(labels, torch.Tensor):
        return labels
    labels = np.ascontiguousarray(labels)
    # torch has few operations on unsigned types; only equality with 0 and each other matters.
    if labels.dtype == np.uint64:
        labels = labels.view(np.int64)
    elif labels.dtype.kind in "iub":
        labels = labels.astype(np.int64)
    return torch.from_numpy(labels)
