"""Draws made ahead are the same for any number of workers, and after a restart."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from gtgm import ahead as module
from gtgm.ahead import ahead
from gtgm.device import step_generator
from gtgm.errors import SettingsError


def draw(generator: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(generator.normal(size=5)), torch.randn(3)


def stream(workers: int, steps: range = range(12), rank: int = 0) -> list:
    """Every number of the steps: of the draw, behind it, and of torch in this process."""
    found = []
    numbers = partial(step_generator, 7, rank=rank)
    for (own, torchs), generator in ahead(draw, steps, numbers, workers):
        found.append([*own.tolist(), *torchs.tolist(), float(generator.random())])
        if not workers:
            step_generator(7, steps[len(found) - 1], rank)  # draw() used torch's numbers here
        found[-1] += torch.randn(2).tolist()
    return found


def test_any_number_of_workers_draws_the_same():
    alone = stream(0)
    assert stream(1) == alone
    assert stream(2) == alone
    assert len({tuple(numbers) for numbers in alone}) == 12


def test_a_restart_goes_on_as_if_nothing_had_been():
    assert stream(2, range(5, 12)) == stream(0)[5:]


def test_ranks_draw_other_numbers():
    assert stream(0, rank=1) != stream(0, rank=0)


def test_a_worker_that_fails_ends_the_training():
    def broken(generator: np.random.Generator) -> torch.Tensor:
        raise ValueError("volume 7 is gone")

    with pytest.raises(ValueError, match="volume 7 is gone"):
        list(ahead(broken, range(4), partial(step_generator, 0), 2))


def test_no_workers_without_fork(monkeypatch):
    monkeypatch.setattr(module, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(SettingsError, match="workers: is 2. Expected: 0"):
        next(ahead(draw, range(3), partial(step_generator, 0), 2))
