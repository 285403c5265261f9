"""Which precision a device computes in: bf16 where it has instructions for it, else fp32."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from functools import cache

import torch

from gtgm.errors import SettingsError


@cache
def has_bf16() -> bool:
    """Whether this device computes in bf16 with instructions of its own.

    CPUs need AVX-512 BF16, AMX or, on ARM, BF16. AVX2 and AVX-512 alone convert every number:
    convolutions then take 2 to 50 times as long as in fp32 (``gtgm doctor`` measures it). Of other
    devices CUDA alone is asked; on the rest fp32 is used.
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # oneDNN says yes to AVX-512 alone, too, and keeps to the instructions that it is told.
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    limited = limit not in ("", "ALL", "DEFAULT") and not re.search("BF16|FP16|AMX|AVX10", limit)
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not limited and (not x86 or torch.cpu._is_avx512_bf16_supported())


def used_precision(precision: str) -> str:
    """What a precision means on this device.

    ``auto`` and ``bf16`` are ``bf16`` where :func:`has_bf16`, and fp32 (``no``) elsewhere.
    """
    if precision in ("auto", "bf16"):
        return "bf16" if has_bf16() else "no"
    return precision


def training_precision(precision: str, patch: Sequence[int], coarsest: int | Sequence[int]) -> str:
    """The precision that a training uses on this device: ``bf16``, ``fp16`` or ``no`` (fp32).

    On CPUs fp32 takes the place of bf16 for small patches. torch 2.13 with oneDNN 3.12: the bf16
    weight gradient of a 3×3×3 convolution on a grid of two sections or fewer changes from call to
    call, by up to its own size (``tests/test_precision.py`` looks at the shapes that are allowed).

    Args:
        precision: ``auto`` for the fastest.
        patch: voxels (z, y, x).
        coarsest: stride of the backbone's deepest map, one for all axes or (z, y, x).

    Raises:
        SettingsError: bf16 on a device without instructions for it.
    """
    if precision == "bf16" and not has_bf16():
        raise SettingsError(
            "is bf16, for which this processor has no instructions",
            where="precision",
            expected="auto or no (fp32), which is several times faster here",
        )
    strides = [coarsest] * 3 if isinstance(coarsest, int) else coarsest
    small = any(p < 3 * s for p, s in zip(patch, strides, strict=True))
    used = used_precision(precision)
    if used == "bf16" and not torch.cuda.is_available() and small:
        return "no"
    return used


def bf16_ratio() -> float:
    """Time of a small 3×3×3 convolution in bf16, forward and backward, as a multiple of its time in
    fp32; on one core of a CPU, in processor time."""
    convolution = torch.nn.Conv3d(16, 16, 3, padding=1).to(memory_format=torch.channels_last_3d)
    volume = torch.randn(2, 16, 16, 16, 16).to(memory_format=torch.channels_last_3d)

    def seconds(bf16: bool) -> float:
        begun = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            convolution(volume).float().sum().backward()
        return time.process_time() - begun

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = 6 if has_bf16() else 1  # the first call is slower, but not many times
        return min(seconds(True) for _ in range(times)) / min(seconds(False) for _ in range(6))
    finally:
        torch.set_num_threads(threads)
