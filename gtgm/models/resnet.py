"""3D ResNet-50, the paper's second image encoder, from MONAI's layers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.nets import ResNet
from torch import nn

from gtgm.errors import SettingsError
from gtgm.models.blocks import CUBIC, FLAT, total_stride


class ResNetEncoder(nn.Module):
    """ResNet with a 3×7×7 stem of stride 1×2×2 (`method.md`, encoders); 2048 pooled channels.

    Anisotropic, the pooling, the first stage and the strided convolution that opens the second
    are flat too: 1×3×3, stride 1×2×2. A voxel of 40×4×4 nm is then 40×32×32 nm, and everything
    behind it is as without the setting. Tensors keep their names.

    Args:
        in_channels: channels of the volume.
        layers: bottleneck blocks per stage; (3, 4, 6, 3) is ResNet-50.
        width: channels of the first stage before its expansion by 4.
        anisotropic: flat first stages, for voxels that are several times as long in z.
        norm: ``batch``, or ``group`` (Wu and He 2018, 32 groups), with which the items of a batch
            do not depend on each other.

    Attributes:
        kernels: of the decoder's convolutions on the grid of every map, the finest first.
        divisor: voxels of the input (z, y, x) per voxel of the deepest map.

    Raises:
        SettingsError: another norm.
    """

    stem_keys = ("net.conv1.weight",)

    def __init__(
        self,
        in_channels: int = 1,
        layers: Sequence[int] = (3, 4, 6, 3),
        width: int = 64,
        anisotropic: bool = False,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if norm not in ("batch", "group"):
            raise SettingsError(
                f"unknown norm {norm!r}", where="sizes of resnet50", expected="batch or group"
            )
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
        if norm == "group":  # MONAI's own setting stops at the stem
            self.config["norm"] = norm
            _group_norm(self.net)
        deep = 2
        self.kernels = (CUBIC,) * 5
        if anisotropic:
            self.config["anisotropic"] = True
            _flatten(self.net)
            deep = 1
            self.kernels = (FLAT, FLAT, CUBIC, CUBIC, CUBIC)
        # Stem, pooling, and the second to fourth stage.
        self.divisor = total_stride([(1, 2, 2), (deep, 2, 2), (deep, 2, 2), (2, 2, 2), (2, 2, 2)])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W) → stem and four stages, the finest first."""
        x = self.net.act(self.net.bn1(self.net.conv1(x)))
        maps = [x]
        x = self.net.maxpool(x)
        for stage in (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _group_norm(module: nn.Module) -> None:
    """Group norm in place of every batch norm, of the same names and channels."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm3d):
            groups = math.gcd(32, child.num_features)
            setattr(module, name, nn.GroupNorm(groups, child.num_features))
        else:
            _group_norm(child)


def _flatten(net: ResNet) -> None:
    """Replace the pooling, and the 3×3×3 convolutions up to the grid of the second stage."""
    net.maxpool = nn.MaxPool3d(FLAT, (1, 2, 2), (0, 1, 1))
    for block in net.layer1:
        block.conv2 = _flat_convolution(block.conv2, 1)
    first = net.layer2[0]
    first.conv2 = _flat_convolution(first.conv2, (1, 2, 2))
    first.downsample[0].stride = (1, 2, 2)  # its kernel is 1×1×1


def _flat_convolution(old: nn.Conv3d, stride: int | tuple[int, int, int]) -> nn.Conv3d:
    """A flat convolution of the same channels, with the random weights of MONAI's ResNet."""
    new = nn.Conv3d(old.in_channels, old.out_channels, FLAT, stride, (0, 1, 1), bias=False)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new
