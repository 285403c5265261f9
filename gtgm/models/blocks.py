"""Convolution blocks shared by the compact encoder and the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


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
        kernel: Sequence[int] = (3, 3, 3),
    ) -> None:
        super().__init__()
        kernel, stride = tuple(kernel), tuple(stride)
        padding = tuple(k // 2 for k in kernel)
        self.conv1 = nn.Conv3d(in_channels, out_channels, kernel, stride, padding, bias=False)
        self.norm1 = nn.InstanceNorm3d(out_channels, affine=True)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel, 1, padding, bias=False)
        self.norm2 = nn.InstanceNorm3d(out_channels, affine=True)
        same = in_channels == out_channels and set(stride) == {1}
        self.shortcut = (
            nn.Identity() if same else nn.Conv3d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, D, H, W) → (B, out, D/s, H/s, W/s)."""
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        y = self.norm2(self.conv2(y))
        return F.leaky_relu(y + self.shortcut(x), 0.01)
