"""Encoder of MONAI's SwinUNETR, the paper's first image encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from monai.networks.blocks import UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import PatchMerging
from torch import nn

from gtgm.models.blocks import CUBIC, FLAT, total_stride
from gtgm.models.swin_transformer import WindowTransformer

FLAT_STRIDE = (1, 2, 2)
FLAT_WINDOW = (3, 7, 7)


class SwinEncoder(nn.Module):
    """The Swin transformer inside SwinUNETR; depths (2, 4, 2, 2), feature size 48, 768 pooled.

    It computes what MONAI's layers compute, faster (:mod:`gtgm.models.window_attention`). Its
    tensors keep the names that they have in MONAI's network (``swinViT.…``), so that a saved
    encoder is loaded there with ``load_state_dict(..., strict=False)``.

    Anisotropic, tokens are 1×2×2 voxels, the first two mergings join 1×2×2 tokens and the others
    2×2×2, and attention has windows of 3×7×7 tokens at every depth (MONAI takes one window for
    all). A voxel of 40×4×4 nm is 40×32×32 nm behind the second merging. Tensors keep their names;
    the patch embedding, the first two mergings and the tables of relative positions get smaller.

    Args:
        in_channels: channels of the volume.
        depths: transformer blocks per stage.
        feature_size: channels after the patch embedding; a multiple of 12.
        anisotropic: flat first stages, for voxels that are several times as long in z.

    Attributes:
        kernels: of convolutions on the grid of every map, the finest first.
        divisor: voxels of the input (z, y, x) per voxel of the deepest map.
    """

    stem_keys = ("swinViT.patch_embed.proj.weight",)

    def __init__(
        self,
        in_channels: int = 1,
        depths: Sequence[int] = (2, 4, 2, 2),
        feature_size: int = 48,
        anisotropic: bool = False,
    ) -> None:
        super().__init__()
        self.config = {
            "backbone": "swin",
            "in_channels": in_channels,
            "depths": list(depths),
            "feature_size": feature_size,
        }
        if anisotropic:
            self.config["anisotropic"] = True
        flat = 3 if anisotropic else 0
        self.divisor = total_stride([FLAT_STRIDE] * flat + [(2, 2, 2)] * (5 - flat))
        self.channels = tuple(feature_size * 2**i for i in range(5))
        self.kernels = (FLAT, FLAT, CUBIC, CUBIC, CUBIC) if anisotropic else (CUBIC,) * 5
        self.swinViT = WindowTransformer(swin_unetr(self.config, out_channels=1).swinViT)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, D, H, W), sides multiples of ``divisor`` → five feature maps, the finest first."""
        return self.swinViT(x, normalize=True)


def swin_unetr(config: dict, out_channels: int) -> SwinUNETR:
    """MONAI's whole network for an encoder's ``config``."""
    width = config["feature_size"]
    sizes = {
        "in_channels": config["in_channels"],
        "out_channels": out_channels,
        "depths": config["depths"],
        "feature_size": width,
    }
    if not config.get("anisotropic", False):
        return SwinUNETR(**sizes)
    net = SwinUNETR(
        **sizes,
        patch_size=FLAT_STRIDE,
        window_size=FLAT_WINDOW,
        downsample=partial(_merging, flat=(width, 2 * width)),
    )
    # MONAI's decoder doubles every axis at every step; the flat ones must not double z.
    net.encoder1 = _skip(config["in_channels"], width)
    net.encoder2 = _skip(width, width)
    net.encoder3 = _skip(2 * width, 2 * width)
    net.decoder3 = _up(4 * width, 2 * width)
    net.decoder2 = _up(2 * width, width)
    net.decoder1 = _up(width, width)
    return net


class _FlatMerging(PatchMerging):
    """MONAI's merging of 2×2 tokens, in every section by itself."""

    def __init__(self, dim: int, norm_layer: type[nn.Module], spatial_dims: int) -> None:
        super().__init__(dim, norm_layer, spatial_dims=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D, H, W, dim) → (B, D, H/2, W/2, 2·dim)."""
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _merging(
    dim: int, norm_layer: type[nn.Module], spatial_dims: int, flat: tuple[int, ...]
) -> PatchMerging:
    """The merging of the stage with ``dim`` channels, flat if ``dim`` is listed."""
    kind = _FlatMerging if dim in flat else PatchMerging
    return kind(dim, norm_layer, spatial_dims)


def _skip(inside: int, outside: int) -> UnetrBasicBlock:
    return UnetrBasicBlock(3, inside, outside, FLAT, 1, "instance", res_block=True)


def _up(inside: int, outside: int) -> UnetrUpBlock:
    return UnetrUpBlock(3, inside, outside, FLAT, FLAT_STRIDE, "instance", res_block=True)
