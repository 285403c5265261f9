"""A large batch on a small device: chunk by chunk, with the gradient of the undivided batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from gtgm.errors import SettingsError

Found = TypeVar("Found", torch.Tensor, list[torch.Tensor])


def in_chunks(compute: Callable[[torch.Tensor], Found], x: torch.Tensor, size: int) -> Found:
    """``compute(x)`` for ``size`` items of ``x`` (B, …) at a time.

    Only the results of all items are in memory together; the backward pass computes each chunk
    once more and forgets it, so that a loss over the whole batch (of contrast, of correlations, of
    Dice) has its exact gradient (Gao et al. 2021, gradient caching).

    Args:
        compute: treats items independently of each other (:func:`check_independent`); gives a
            tensor (B, …) or several.
        x: the batch.
        size: items at a time; 0 for all.
    """
    if not 0 < size < len(x):
        return compute(x)
    parts = [
        checkpoint(compute, part, use_reentrant=False, preserve_rng_state=False)
        for part in x.split(size)
    ]
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return [torch.cat(several) for several in zip(*parts, strict=True)]


def check_independent(network: nn.Module, size: int, items: int, where: str) -> None:
    """Refuse chunks of a network whose items depend on their batch.

    Args:
        network: what computes a chunk.
        size: items of a chunk; 0 for no chunks.
        items: of the whole batch; in pretraining its views.
        where: the setting, for the message.

    Raises:
        SettingsError: it has batch norm, whose statistics would be those of each chunk.
    """
    if 0 < size < items and any(isinstance(m, _BatchNorm) for m in network.modules()):
        raise SettingsError(
            f"is {size} of {items} views or patches, and batch norm would see each chunk alone",
            where=where,
            expected="a network without batch norm: unet, swin, or resnet50 with group norm",
            fix="add --set \"pretrain.sizes={'norm': 'group'}\", or set the chunk to 0",
        )
