"""The device and precision of a run, through accelerate."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import is_bf16_available

from gtgm.errors import SettingsError


def accelerator(precision: str = "auto") -> Accelerator:
    """An accelerator for this process.

    Args:
        precision: ``auto``, ``bf16``, ``fp16`` (GPU only) or ``no``; see :func:`used_precision`.
    """
    # accelerate keeps one precision per process; a notebook runs stages of different precision.
    if AcceleratorState._shared_state:
        AcceleratorState._reset_state()
    cpu = process_state().device.type == "cpu"
    return Accelerator(mixed_precision=used_precision(precision), cpu=cpu)


@cache
def has_bf16() -> bool:
    """Whether this device computes in bf16 with instructions of its own.

    CPUs need AVX-512 BF16, AMX or, on ARM, BF16. AVX2 and AVX-512 alone convert every number:
    convolutions then take 2 to 50 times as long as in fp32 (``gtgm doctor`` measures it).
    """
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.accelerator.is_available():
        return is_bf16_available()
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # True for AVX-512 alone, too
        return False
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


def bf16_ratio() -> float:
    """Time of a small 3×3×3 convolution in bf16, forward and backward, as a multiple of its time in
    fp32; on one core of a CPU, in processor time."""
    convolution = torch.nn.Conv3d(16, 16, 3, padding=1).to(memory_format=torch.channels_last_3d)
    volume = torch.randn(2, 16, 16, 16, 16).to(memory_format=torch.channels_last_3d)

    def seconds(bf16: bool) -> float:
        times = []
        for _ in range(3):
            begun = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                convolution(volume).float().sum().backward()
            times.append(time.process_time() - begun)
        return min(times)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return seconds(True) / seconds(False)
    finally:
        torch.set_num_threads(threads)


def process_state() -> PartialState:
    """Rank and number of processes, on CPUs too.

    accelerate joins the processes of ``torchrun`` on CPUs only if it is told that it runs on CPUs;
    otherwise each would silently train alone.
    """
    return PartialState(cpu=not torch.accelerator.is_available())


def step_generator(seed: int, step: int, rank: int = 0) -> np.random.Generator:
    """Random numbers of one training step.

    They depend on nothing but their arguments, so a run that continues from a checkpoint draws
    what the uninterrupted run would have drawn, and no two ranks draw the same.
    """
    generator = np.random.default_rng([seed, step, rank])
    torch.manual_seed(int(generator.integers(2**62)))
    return generator


def check_processes(wanted: int, running: int, stage: str) -> None:
    """Raise unless as many processes train as the settings say, which decides the numbers."""
    if wanted not in (0, running):
        raise SettingsError(
            f"is {wanted}, but {running} process(es) run",
            where=f"{stage}.processes",
            expected=f"{running}, or a training by {wanted} that has finished",
            fix=f"start it with `accelerate launch --num_processes {wanted} -m gtgm.cli …`",
        )


def training_precision(precision: str, patch: Sequence[int], coarsest: int | Sequence[int]) -> str:
    """The precision that a training uses on this device: ``bf16``, ``fp16`` or ``no`` (fp32).

    On CPUs fp32 takes the place of bf16 for small patches. torch 2.13 with oneDNN 3.12: the bf16
    weight gradient of a 3×3×3 convolution on a grid of two sections or fewer changes from call to
    call, by up to its own size (``tests/test_device.py`` repeats it on the shapes that are allowed
    here).

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
