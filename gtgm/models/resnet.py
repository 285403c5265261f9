"""3D ResNet-50, the paper's second image encoder, from MONAI's layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import ResNet
from torch import nn


class ResNetEncoder(nn.Module):
    """ResNet with a 3×7×7 stem of stride 1×2×2 (`method.md`, encoders); 2048 pooled channels.

    Args:
        in_channels: channels of the volume.
        layers: bottleneck blocks per stage; (3, 4, 6, 3) is ResNet-50.
        width: channels of the first stage before its expansion by 4.
    """

    stem_keys = ("net.conv1.weight",)

    def __init__(
        self, in_channels: int = 1, layers: Sequence[int] = (3, 4, 6, 3), width: int = 64
    ) -> None:
        super().__init__()
        self.config = {
            "backbone": "resnet50",
            "in_channels": in_channels,
            "layers": list(layers),
            "width": width,
        }
        planes = [width * 2**i for i in range(4)]
        self.channels = (width, *(4 * p for p in planes))
        self.net = ResNet(
            "bottleneck",
            list(layers),
            planes,
            n_input_channels=in_channels,
            conv1_t_size=(3, 7, 7),
            conv1_t_stride=(1, 2, 2),
            feed_forward=False,
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W) → stem and four stages, the finest first."""
        x = self.net.act(self.net.bn1(self.net.conv1(x)))
        maps = [x]
        x = self.net.maxpool(x)
        for stage in (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4):
            x = stage(x)
            maps.append(x)
        return maps
