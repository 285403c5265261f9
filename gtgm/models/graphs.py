"""Kernels of a network recorded once and replayed: for a GPU that waits for its CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gtgm.errors import SettingsError

A_GPU = "an NVIDIA GPU"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def record(network: nn.Module, sample: torch.Tensor, precision: str, where: str) -> None:
    """Record a network's forward and backward pass as CUDA graphs; its ``forward`` replays them.

    In evaluation mode it is what it was. What recording does to buffers (running statistics) is
    undone.

    Args:
        network: in training mode; gives one tensor for one tensor.
        sample: on the GPU, of the shape and layout of every later input.
        precision: ``bf16``, ``fp16`` or ``no``.
        where: the setting, for the message.

    Raises:
        SettingsError: there is no GPU.
    """
    if sample.device.type != "cuda":
        raise SettingsError("is on", where=where, expected=A_GPU, fix="set it to false")
    buffers = [b.clone() for b in network.buffers()]
    dtype = DTYPES.get(precision)
    with torch.autocast("cuda", dtype, enabled=dtype is not None, cache_enabled=False):
        torch.cuda.make_graphed_callables(network, (sample,), allow_unused_input=True)
    with torch.no_grad():
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)


def check_recordable(settings: Any, processes: int, where: str, method: Any = None) -> None:
    """Refuse to record what a method would not replay, without a GPU, what is computed again in the
    backward pass, or what processes share.

    Args:
        settings: with ``graphs``, ``chunk`` and ``checkpointing``.
        processes: of the run.
        where: the setting, for the message.
        method: class of the objective, in pretraining.

    Raises:
        SettingsError: see above.
    """
    if not settings.graphs:
        return
    if method is not None and not method.recordable:
        raise SettingsError(
            f"is on, and {method.__name__} calls its encoder otherwise than what is recorded",
            where=where,
            expected="another method",
            fix="set it to false",
        )
    if not torch.cuda.is_available():
        raise SettingsError("is on", where=where, expected=A_GPU, fix="set it to false")
    if settings.chunk or settings.checkpointing or processes > 1:
        raise SettingsError(
            "is on",
            where=where,
            expected="one process, and neither chunks nor checkpointing",
            fix="set it to false, or leave the others away",
        )
