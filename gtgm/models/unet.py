"""Compact residual encoder: the backbone that a CPU can train."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from gtgm.errors import DataError, SettingsError
from gtgm.models.blocks import CUBIC, FLAT, ResidualBlock, total_stride


class UNetEncoder(nn.Module):
    """A pyramid of residual blocks; each level halves the grid where its stride says so.

    The first level already works at half resolution, which makes a step about four times cheaper
    than a full-resolution stem; the decoder brings the input itself back in as the last skip.

    Anisotropic, a level has 1×3×3 kernels and stride 1 in z until the grid has been halved twice
    in plane; with the default strides these are the first two levels. A voxel of 40×4×4 nm, ten
    times as long in z, is 40×16×16 nm there, and the levels behind it are as without the setting.

    Args:
        in_channels: channels of the volume.
        features: channels per level.
        strides: stride per level and axis (z, y, x); anisotropic, flat levels ignore that of z.
        anisotropic: flat first levels, for voxels that are several times as long in z.

    Attributes:
        kernels: of the convolutions of every level, the finest first.
        divisor: voxels of the input (z, y, x) per voxel of the deepest map.

    Raises:
        SettingsError: anisotropic, and no level is left that joins sections.
    """

    stem_keys = ("levels.0.conv1.weight", "levels.0.shortcut.weight")

    def __init__(
        self,
        in_channels: int = 1,
        features: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[Sequence[int]] = ((2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1)),
        anisotropic: bool = False,
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
        flat = [False] * len(strides)
        if anisotropic:
            self.config["anisotropic"] = True
            flat = _flat_levels(strides)
        strides = [(1, *s[1:]) if f else tuple(s) for f, s in zip(flat, strides, strict=True)]
        self.channels = tuple(features)
        self.kernels = tuple(FLAT if f else CUBIC for f in flat)
        self.divisor = total_stride(strides)
        entering = [in_channels, *features[:-1]]
        self.levels = nn.ModuleList(
            ResidualBlock(i, o, s, k)
            for i, o, s, k in zip(entering, features, strides, self.kernels, strict=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W) → one feature map per level, the finest first.

        Raises:
            DataError: the deepest map would have a single voxel, which instance norm refuses.
        """
        if all(side <= step for side, step in zip(x.shape[2:], self.divisor, strict=True)):
            raise DataError(
                f"{tuple(x.shape[2:])} voxels are a single one for the unet's last level",
                expected=f"more than {self.divisor} voxels (z, y, x) on at least one side",
                fix="use a larger patch or volume",
            )
        maps = []
        for level in self.levels:
            x = level(x)
            maps.append(x)
        return maps


def _flat_levels(strides: Sequence[Sequence[int]]) -> list[bool]:
    """Whether a level's input has been halved in plane fewer than twice."""
    flat = [max(total_stride([(1, 1, 1), *strides[:i]])[1:]) < 4 for i in range(len(strides))]
    if all(flat):
        raise SettingsError(
            f"{len(strides)} levels with the strides {[list(s) for s in strides]} are all flat",
            where="anisotropic",
            expected="a level behind two halvings in plane, so that sections are joined",
            fix="add a level, or set anisotropic=False",
        )
    return flat
