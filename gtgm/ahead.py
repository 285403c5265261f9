"""Draws of training steps, made ahead by other processes, the same for any number of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_all_start_methods
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gtgm.errors import SettingsError

Drawn = TypeVar("Drawn")


def ahead(
    draw: Callable[[np.random.Generator], Drawn],
    steps: Sequence[int],
    numbers: Callable[[int], np.random.Generator],
    workers: int = 0,
) -> Iterator[tuple[Drawn, np.random.Generator]]:
    """What each step draws, in order, and its random numbers behind the draw.

    The numbers depend on nothing but the step, so neither the workers nor a restart change them.

    Args:
        draw: makes tensors (or a tuple of them) from random numbers.
        steps: numbers of the steps.
        numbers: makes the random numbers of a step, and seeds torch for it.
        workers: processes that draw ahead; 0 draws here, when asked.

    Raises:
        SettingsError: workers where processes cannot be forked (Windows).
    """
    if not workers:
        for step in steps:
            generator = numbers(step)
            yield draw(generator), generator
        return
    if "fork" not in get_all_start_methods():
        raise SettingsError(
            f"is {workers}", where="workers", expected="0, as processes cannot be forked here"
        )
    loader = DataLoader(
        _Draws(draw, numbers),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        multiprocessing_context="fork",
        pin_memory=torch.cuda.is_available(),
    )
    for step, (drawn, generator) in zip(steps, loader, strict=True):
        numbers(step)  # seeds torch in this process too
        yield drawn, generator


class _Draws(Dataset):
    """Step → its draw and its random numbers."""

    def __init__(self, draw: Callable, numbers: Callable) -> None:
        self.draw, self.numbers = draw, numbers

    def __getitem__(self, step: int) -> tuple[Any, np.random.Generator]:
        generator = self.numbers(step)
        return self.draw(generator), generator
