"""The device and precision of a run, through accelerate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState


def accelerator(precision: str = "bf16") -> Accelerator:
    """An accelerator for this process.

    Args:
        precision: ``bf16``, ``fp16`` (GPU only) or ``no``.
    """
    # accelerate keeps one precision per process; a notebook runs stages of different precision.
    if AcceleratorState._shared_state:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision, cpu=process_state().device.type == "cpu")


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


def safe_precision(precision: str, patch: Sequence[int], coarsest: int | Sequence[int]) -> str:
    """``no`` (fp32) in place of ``bf16`` where a CPU computes wrong gradients.

    torch 2.13 with oneDNN 3.12: the bf16 weight gradient of a 3×3×3 convolution on a grid of two
    sections or fewer changes from call to call, by up to its own size
    (``tests/test_device.py`` repeats it on the shapes that are allowed here).

    Args:
        precision: that is asked for.
        patch: voxels (z, y, x).
        coarsest: stride of the backbone's deepest map, one for all axes or (z, y, x).
    """
    strides = [coarsest] * 3 if isinstance(coarsest, int) else coarsest
    small = any(p < 3 * s for p, s in zip(patch, strides, strict=True))
    if precision == "bf16" and not torch.cuda.is_available() and small:
        return "no"
    return precision
