"""Decoder that turns any feature pyramid into class scores on the input's grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from gtgm.models.blocks import CUBIC, InstanceNorm, ResidualBlock, resize_like


class SkipDecoder(nn.Module):
    """U-Net decoder (Ronneberger et al. 2015) for encoders of any stride.

    Each step resizes the deeper map to the next skip's grid, joins the two and refines them. The
    input volume is the last skip, so that borders are drawn at full resolution.

    Args:
        channels: channels of the encoder's maps, the finest first.
        in_channels: channels of the volume.
        out_channels: classes, or affinities.
        full_resolution: channels of the last step, at the input's resolution.
        kernels: of the refinement on the grid of every map, the finest first; the last step takes
            the finest's. 3×3×3 if not given; an anisotropic encoder says where it is flat.
    """

    def __init__(
        self,
        channels: Sequence[int],
        in_channels: int,
        out_channels: int,
        full_resolution: int = 8,
        kernels: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        kernels = [tuple(k) for k in kernels or [CUBIC] * len(channels)]
        steps = list(zip(channels[1:], channels[:-1], strict=True))[::-1]
        self.reduce = nn.ModuleList(nn.Conv3d(deep, skip, 1) for deep, skip in steps)
        self.refine = nn.ModuleList(
            ResidualBlock(2 * skip, skip, kernel=kernel)
            for (_, skip), kernel in zip(steps, kernels[-2::-1], strict=True)
        )
        self.reduce_last = nn.Conv3d(channels[0], full_resolution, 1)
        # One convolution, not two: at full resolution the second takes a quarter of a step.
        self.refine_last = nn.Sequential(
            nn.Conv3d(
                full_resolution + in_channels,
                full_resolution,
                kernels[0],
                padding=tuple(k // 2 for k in kernels[0]),
                bias=False,
            ),
            InstanceNorm(full_resolution),
            nn.LeakyReLU(0.01, inplace=True),
        )
        self.scores = nn.Conv3d(full_resolution, out_channels, 1)

    def forward(self, volume: torch.Tensor, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Volume (B, C, D, H, W) and the encoder's maps → scores (B, out, D, H, W)."""
        x = maps[-1]
        for reduce, refine, skip in zip(self.reduce, self.refine, maps[-2::-1], strict=True):
            x = refine(torch.cat([resize_like(reduce(x), skip), skip], 1))
        x = resize_like(self.reduce_last(x), volume)
        return self.scores(self.refine_last(torch.cat([x, volume.to(x.dtype)], 1)))
