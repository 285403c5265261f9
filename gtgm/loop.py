"""What every training loop shares: schedules, resumable checkpoints, and the progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from gtgm import paths

CHECKPOINT = "checkpoint.pt"


def make_schedule(
    optimizer: torch.optim.Optimizer, name: str, steps: int, batch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Learning rate per step.

    Args:
        optimizer: its groups' learning rates are the peaks.
        name: ``onecycle`` (10 % warm-up, then cosine to zero), ``restarts`` (cosine with warm
            restarts and the period of the released code) or ``constant``.
        steps: length of the training.
        batch: enters the released period.
    """
    if name == "onecycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, peaks, total_steps=max(steps, 2), pct_start=0.1, cycle_momentum=False
        )
    if name == "restarts":
        period = max(1, int(steps // 4 // batch * 0.4))
        return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            optimizer, period, T_mult=1, eta_min=1e-8
        )
    if name == "constant":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    raise ValueError(f"unknown schedule {name!r}: onecycle, restarts or constant")


def save_checkpoint(folder: str | Path, key: str, step: int, curves: dict, **parts: Any) -> None:
    """Write the state of ``parts`` after ``step`` steps, atomically.

    Args:
        folder: of the run.
        key: hash of the settings; another key will not continue from this file.
        step: steps done.
        curves: what was recorded so far.
        parts: modules, optimisers and schedules, by name.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    with paths.atomic(Path(folder) / CHECKPOINT) as temporary:
        torch.save({"key": key, "step": step, "curves": curves, "state": state}, temporary)


def load_checkpoint(folder: str | Path, key: str, **parts: Any) -> tuple[int, dict]:
    """Restore ``parts`` and return the steps done and the curves; (0, {}) for a fresh start."""
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        return 0, {}
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved["key"] != key:
        return 0, {}
    for name, part in parts.items():
        part.load_state_dict(saved["state"][name])
    return saved["step"], saved["curves"]


def steps(start: int, stop: int, label: str, show: bool = True) -> Iterator[int]:
    """Step numbers from ``start`` to ``stop`` under a tqdm bar."""
    yield from tqdm(
        range(start, stop), desc=label, initial=start, total=stop, disable=not show, leave=False
    )


def remove_checkpoint(folder: str | Path) -> None:
    """Delete the checkpoint of a finished run."""
    (Path(folder) / CHECKPOINT).unlink(missing_ok=True)
