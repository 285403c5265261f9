"""The device of a run and its processes, through accelerate."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from gtgm.errors import SettingsError
from gtgm.precision import used_precision


def accelerator(precision: str = "auto") -> Accelerator:
    """An accelerator for this process.

    Args:
        precision: ``auto``, ``bf16``, ``fp16`` (GPU only) or ``no``, see
            :func:`gtgm.precision.used_precision`.
    """
    # accelerate keeps one precision per process; a notebook runs stages of different precision.
    if AcceleratorState._shared_state:
        AcceleratorState._reset_state()
    cpu = process_state().device.type == "cpu"
    return Accelerator(mixed_precision=used_precision(precision), cpu=cpu)


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
