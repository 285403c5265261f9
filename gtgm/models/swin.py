"""Encoder of MONAI's SwinUNETR, the paper's first image encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import SwinUNETR
from torch import nn


class SwinEncoder(nn.Module):
    """The Swin transformer inside SwinUNETR; depths (2, 4, 2, 2), feature size 48, 768 pooled.

    Its tensors keep the names that they have in MONAI's network (``swinViT.…``), so that a saved
    encoder is loaded there with ``load_state_dict(..., strict=False)``.

    Args:
        in_channels: channels of the volume.
        depths: transformer blocks per stage.
        feature_size: channels after the patch embedding; a multiple of 12.
    """

    stem_keys = ("swinViT.patch_embed.proj.weight",)

    def __init__(
        self,
        in_channels: int = 1,
        depths: Sequence[int] = (2, 4, 2, 2),
        feature_size: int = 48,
    ) -> None:
        super().__init__()
        self.config = {
            "backbone": "swin",
            "in_channels": in_channels,
            "depths": list(depths),
            "feature_size": feature_size,
        }
        self.channels = tuple(feature_size * 2**i for i in range(5))
        self.swinViT = swin_unetr(self.config, out_channels=1).swinViT

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W), every side a multiple of 32 → five feature maps, the finest first."""
        return self.swinViT(x, normalize=True)


def swin_unetr(config: dict, out_channels: int) -> SwinUNETR:
    """MONAI's whole network for an encoder's ``config``."""
    return SwinUNETR(
        in_channels=config["in_channels"],
        out_channels=out_channels,
        depths=config["depths"],
        feature_size=config["feature_size"],
    )
