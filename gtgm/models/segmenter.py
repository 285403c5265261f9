"""Segmentation network: an encoder and the decoder that fits it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from gtgm import paths
from gtgm.errors import DataError, WeightsError
from gtgm.models.decoder import SkipDecoder
from gtgm.models.encoder import (
    CONFIG,
    DIVISOR,
    build_encoder,
    from_pretrained,
    read_config,
    write_config,
)
from gtgm.models.swin import SwinEncoder, swin_unetr
from gtgm.models.weights import check_sizes, load_matching, read_state

WEIGHTS = "segmenter.safetensors"


class Segmenter(nn.Module):
    """Encoder and :class:`SkipDecoder`: (B, C, D, H, W) → scores (B, out, D, H, W)."""

    def __init__(self, encoder: nn.Module, out_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.out_channels = out_channels
        self.decoder = SkipDecoder(
            encoder.channels, encoder.config["in_channels"], out_channels, kernels=encoder.kernels
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax or sigmoid."""
        return self.decoder(x, self.encoder(x))


class SwinSegmenter(nn.Module):
    """MONAI's SwinUNETR around a (pretrained) Swin encoder."""

    def __init__(self, encoder: SwinEncoder, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.net = swin_unetr(encoder.config, out_channels)
        self.net.swinViT = encoder.swinViT
        # Registered once, inside `net`; the tuple hides the second reference from `parameters()`.
        self._encoder = (encoder,)

    @property
    def encoder(self) -> SwinEncoder:
        """The encoder, which shares its weights with ``net``."""
        return self._encoder[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores before softmax or sigmoid.

        Raises:
            DataError: a side is no multiple of the encoder's ``divisor``, or its deepest map would
                have a single voxel.
        """
        shape, divisor = tuple(x.shape[2:]), self.encoder.divisor
        fitting = divisible_patch(shape, divisor)
        if shape != fitting:
            raise DataError(
                f"a patch of {shape} voxels does not fit the swin backbone",
                expected=f"sides (z, y, x) that are multiples of {divisor}, not all equal to it",
                fix=f"use {fitting}",
            )
        return self.net(x)


def build_segmenter(
    backbone: str,
    in_channels: int,
    out_channels: int,
    pretrained: str | Path | None = None,
    **sizes: Any,
) -> nn.Module:
    """A segmentation network, its encoder started from a pretrained folder if one is named.

    Raises:
        WeightsError: the folder holds weights of another backbone, or of an isotropic encoder
            where ``sizes`` ask for an anisotropic one (or the other way round), or cannot be read.
    """
    if pretrained is None:
        encoder = build_encoder(backbone, in_channels, **sizes)
    else:
        check_backbone(pretrained, backbone)
        _check_anisotropic(pretrained, sizes)
        encoder = from_pretrained(pretrained, in_channels)
    network = SwinSegmenter if backbone == "swin" else Segmenter
    return network(encoder, out_channels)


def forward_windows(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Scores of windows (B, C, D, H, W), a single one in company on CPUs in fp32.

    torch computes fp32 convolutions of one small volume without oneDNN, which takes four times as
    long as two of them with it. Attention gains nothing.
    """
    fp32 = batch.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if len(batch) == 1 and fp32 and not isinstance(network, SwinSegmenter):
        return network(batch.expand(2, *batch.shape[1:]))[:1]
    return network(batch)


def check_backbone(folder: str | Path, backbone: str) -> None:
    """Refuse weights of another backbone before anything costly starts."""
    saved = read_config(folder)["backbone"]
    if saved != backbone:
        raise WeightsError(
            f"holds weights of the backbone {saved!r}",
            where=folder,
            expected=f"weights of {backbone!r}",
            fix=f"set backbone={saved!r}, or pretrain a {backbone} encoder",
        )


def divisible_patch(patch: Sequence[int], divisor: str | Sequence[int]) -> tuple[int, ...]:
    """``patch`` rounded up to what the backbone needs on every axis.

    The longest side is doubled if the deepest map would be a single voxel, which instance norm
    refuses.

    Args:
        patch: voxels (z, y, x).
        divisor: an encoder's ``divisor``, or the name of a backbone with its default sizes.
    """
    steps = (DIVISOR[divisor],) * len(patch) if isinstance(divisor, str) else divisor
    voxels = [-(-side // step) for side, step in zip(patch, steps, strict=True)]
    if math.prod(voxels) == 1:
        voxels[max(range(len(patch)), key=lambda axis: (patch[axis], axis))] = 2
    return tuple(count * step for count, step in zip(voxels, steps, strict=True))


def save_segmenter(network: nn.Module, folder: str | Path, **about: Any) -> Path:
    """Write ``segmenter.safetensors`` and ``config.json``."""
    folder = Path(folder)
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with paths.atomic(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    config = {**network.encoder.config, "out_channels": network.out_channels, "about": about}
    write_config(folder, config)
    return folder


def load_segmenter(folder: str | Path) -> tuple[nn.Module, dict]:
    """The network that :func:`save_segmenter` wrote, in evaluation mode, and its ``about``.

    Raises:
        WeightsError: a file is missing or damaged, or belongs to something else.
    """
    config = read_config(folder)
    about = config.pop("about", {})
    if "out_channels" not in config:
        raise WeightsError(
            "holds an encoder, not a segmenter",
            where=folder,
            expected="a folder that `gtgm finetune` wrote",
            fix="fine-tune first; pretraining alone cannot segment",
        )
    settings, path = Path(folder) / CONFIG, Path(folder) / WEIGHTS
    state = read_state(path)
    check_sizes(build_segmenter, config, state, settings, path)
    network = build_segmenter(**config)
    load_matching(network, state, where=path, minimum=1.0)
    return network.eval(), about


def _check_anisotropic(folder: str | Path, sizes: dict[str, Any]) -> None:
    """Refuse a pretrained encoder of the other kind, if ``sizes`` say which kind is wanted."""
    saved = read_config(folder).get("anisotropic", False)
    if sizes.get("anisotropic", saved) != saved:
        kinds = ("isotropic", "anisotropic")
        raise WeightsError(
            f"holds an {kinds[saved]} encoder",
            where=folder,
            expected=f"an {kinds[not saved]} one (the size anisotropic={not saved})",
            fix=f"set anisotropic={saved}, or pretrain with anisotropic={not saved}",
        )
