"""Convolution blocks and strides that the encoders and the decoder share.

A kernel or stride is flat if it leaves z alone. Electron microscopy of serial sections has voxels
of about 40×4×4 nm, neighbouring sections that are shifted against each other, and details that
are thinner than a section: until the voxel is about as wide as it is long, sections are worked on
one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

CUBIC, FLAT = (3, 3, 3), (1, 3, 3)  # kernels, (z, y, x)


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm that keeps channels-last volumes as they are on CPUs.

    torch copies them to the other layout and back, which took about an eighth of a training step.
    Batch norm of one volume at a time is the same formula, and has a kernel for this layout.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, D, H, W) → the same, each channel of each volume with zero mean and unit variance,
        then scaled and shifted."""
        last = x.is_contiguous(memory_format=torch.channels_last_3d)
        if x.is_cuda or not last or x.is_contiguous():
            return super().forward(x)
        volumes = [
            F.batch_norm(v, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for v in x.split(1)
        ]
        return torch.cat(volumes)


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions with instance norm and a 1×1×1 shortcut (He et al. 2016).

    Args:
        in_channels: channels that enter.
        out_channels: channels that leave.
        stride: of the first convolution and of the shortcut, per axis (z, y, x).
        kernel: size of both convolutions, per axis; (1, 3, 3) for strongly anisotropic data.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: Sequence[int] = (1, 1, 1),
        kernel: Sequence[int] = CUBIC,
    ) -> None:
        super().__init__()
        kernel, stride = tuple(kernel), tuple(stride)
        padding = tuple(k // 2 for k in kernel)
        self.conv1 = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.norm1 = InstanceNorm(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel, 1, padding, bias=False)
        self.norm2 = InstanceNorm(out_channels)
        same = in_channels == out_channels and set(stride) == {1}
        self.shortcut = (
            nn.Identity() if same else nn.Conv3d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, D, H, W) → (B, out, D/s, H/s, W/s)."""
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        y = self.norm2(self.conv2(y))
        return F.leaky_relu(y + self.shortcut(x), 0.01)


def resize_like(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Trilinear resize of ``x`` (B, C, …) to the grid of ``like``."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="trilinear", align_corners=False)


def total_stride(strides: Sequence[Sequence[int]]) -> tuple[int, int, int]:
    """Voxels of the input per voxel after all of these strides, per axis (z, y, x)."""
    depth, height, width = (math.prod(axis) for axis in zip(*strides, strict=True))
    return depth, height, width
