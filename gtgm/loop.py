"""What every training loop shares: schedules, resumable checkpoints, and the progress bar."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from gtgm import paths
from gtgm.errors import SettingsError, WeightsError
from gtgm.progress import tqdm

CHECKPOINT = "checkpoint.pt"


def make_schedule(
    optimizer: torch.optim.Optimizer, name: str, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Learning rate per step.

    Args:
        optimizer: its groups' learning rates are the peaks.
        name: ``onecycle`` (10 % warm-up, then cosine to zero), ``restarts`` (cosine with a warm
            restart after each twentieth of the training) or ``constant``.
        steps: length of the training.
    """
    if name == "onecycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        total = max(steps, 3)
        # torch divides by the length of the warm-up less one step, which must not be zero.
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            peaks,
            total_steps=total,
            pct_start=max(0.1, 1.5 / total),
            cycle_momentum=False,
        )
    if name == "restarts":
        # Released: int(steps // 4 // batch * 0.4), with its batches of 2 a twentieth of its 200,000
        # steps. The share is kept: a period of one step, as the formula gives for short trainings
        # or large batches, would be a constant rate.
        period = max(2, round(steps / 20))
        return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, period, T_mult=1, eta_min=1e-8
        )
    if name == "constant":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    raise ValueError(f"unknown schedule {name!r}: onecycle, restarts or constant")


def warm_average(decay: float) -> Callable:
    """Exponential average of weights, for ``torch.optim.swa_utils.AveragedModel``.

    Its decay grows from 0.1 to ``decay``, so that it forgets the start.
    """

    @torch.no_grad()
    def update(averages: list[torch.Tensor], weights: list[torch.Tensor], count: Any) -> None:
        now = min(decay, float((1 + count) / (10 + count)))
        torch._foreach_lerp_(averages, weights, 1 - now)

    return update


def save_checkpoint(folder: str | Path, key: str, step: int, curves: dict, **parts: Any) -> None:
    """Write the state of ``parts`` after ``step`` steps, atomically.

    Args:
        folder: of the run.
        key: hash of the settings; another key will not continue from this file.
        step: steps done.
        curves: what was recorded so far.
        parts: modules, optimisers and schedules, by name.

    Raises:
        MemoryError: there is none for a copy of the checkpoint.
        StorageError: the disk is full or forbidden; the checkpoint before it is kept.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    # Not into the file: what interrupts torch.save there (Ctrl-C, a lost worker, a full disk) is
    # hidden behind an error about its archive, or aborts the process.
    buffer = io.BytesIO()
    try:
        torch.save({"key": key, "step": step, "curves": curves, "state": state}, buffer)
    except RuntimeError as error:
        if isinstance(error.__context__, MemoryError):
            raise error.__context__ from None
        raise
    with paths.atomic(Path(folder) / CHECKPOINT) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(folder: str | Path, key: str, **parts: Any) -> tuple[int, dict]:
    """Restore ``parts`` and return the steps done and the curves; (0, {}) for a fresh start.

    Raises:
        WeightsError: the file is damaged, or belongs to another network.
        SettingsError: it was written with other settings.
    """
    path, advice = Path(folder) / CHECKPOINT, "delete it to start over, or name another folder"
    if not path.exists():
        return 0, {}
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found, step, curves = saved["key"], saved["step"], saved["curves"]
        if type(step) is not int or step < 0 or not isinstance(curves, dict):
            raise ValueError(f"after step {step!r}")
    except Exception as error:  # a damaged archive raises whatever its damage provokes
        raise WeightsError(
            f"cannot be read ({type(error).__name__}: {error})",
            where=path,
            expected="a checkpoint",
            fix=advice,
        ) from error
    if found != key:
        raise SettingsError("was written with other settings", where=path, fix=advice)
    try:
        for name, part in parts.items():
            part.load_state_dict(saved["state"][name])
    except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"belongs to another network ({str(error).splitlines()[0]})", where=path, fix=advice
        ) from error
    return step, curves


def steps(start: int, stop: int, label: str, show: bool = True) -> Iterator[int]:
    """Step numbers from ``start`` to ``stop`` under a tqdm bar; says where it continues."""
    if start and show:
        print(f"{label}: continues behind step {start} of {stop}", flush=True)
    yield from tqdm(
        range(start, stop),
        desc=label,
        initial=start,
        total=stop,
        disable=not show,
        leave=False,
    )


def remove_checkpoint(folder: str | Path) -> None:
    """Delete the checkpoint of a run whose result is written."""
    (Path(folder) / CHECKPOINT).unlink(missing_ok=True)
