"""Compact residual encoder: the backbone that a CPU can train."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from gtgm.models.blocks import ResidualBlock


class UNetEncoder(nn.Module):
    """A pyramid of residual blocks; each level halves the grid where its stride says so.

    The first level already works at half resolution, which makes a step about four times cheaper
    than a full-resolution stem; the decoder brings the input itself back in as the last skip.

    Args:
        in_channels: channels of the volume.
        features: channels per level.
        strides: stride per level and axis (z, y, x).
    """

    stem_keys = ("levels.0.conv1.weight", "levels.0.shortcut.weight")

    def __init__(
        self,
        in_channels: int = 1,
        features: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[Sequence[int]] = ((2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1)),
    ) -> None:
        super().__init__()
        if len(features) != len(strides):
            raise ValueError(f"{len(features)} features for {len(strides)} strides")
        self.config = {
            "backbone": "unet",
            "in_channels": in_channels,
            "features": list(features),
            "strides": [list(s) for s in strides],
        }
        self.channels = tuple(features)
        entering = [in_channels, *features[:-1]]
        self.levels = nn.ModuleList(
            ResidualBlock(i, o, s) for i, o, s in zip(entering, features, strides, strict=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W) → one feature map per level, the finest first."""
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps
