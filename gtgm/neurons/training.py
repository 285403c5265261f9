"""Training of a network that predicts affinities, continued from its checkpoint if there is one."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gtgm import loop
from gtgm.device import step_generator
from gtgm.errors import DataError, SettingsError
from gtgm.hashing import settings_hash
from gtgm.intensity import normalise
from gtgm.models.segmenter import divisible_patch
from gtgm.neurons.affinities import LOSSES, affinities
from gtgm.neurons.augment import augment, sample_patch
from gtgm.neurons.settings import NeuronSettings

log = logging.getLogger(__name__)
#: Points of a curve, at most.
POINTS = 200


def train_affinities(
    network: nn.Module,
    raw: np.ndarray,
    labels: np.ndarray,
    settings: NeuronSettings,
    device: str | torch.device = "cpu",
    folder: str | Path | None = None,
    multiple: tuple[int, int, int] = (1, 1, 1),
    anisotropic: bool = True,
) -> dict[str, list[list[float]]]:
    """Train ``network`` in place on the sections given, and on no others.

    Args:
        network: (B, 1, D, H, W) → logits (B, len(offsets), D, H, W).
        raw, labels: (D, H, W); label 0 is unlabelled and does not count.
        folder: keeps the checkpoint; a run that is called again with it continues there, and
            gives the same weights as one that was never interrupted. Without it nothing is kept.
        multiple: sizes that the backbone needs a patch to be divisible by.
        anisotropic: sections are much thicker than a pixel: z is never exchanged with y or x,
            and neurons are shrunk in the plane only.
    Returns:
        ``{"loss": [[step, value], …]}``.
    Raises:
        DataError: raw and labels of different shapes, or no labelled voxel.
        SettingsError: the network has another number of outputs, or the checkpoint comes from
            other settings.
    """
    if raw.shape != labels.shape or raw.ndim != 3:
        raise DataError(
            f"raw has shape {raw.shape}, labels {labels.shape}", expected="one shape (D, H, W)"
        )
    if not (labels != 0).any():
        raise DataError("no voxel of the training sections is labelled", expected="labels > 0")
    patch = patch_for(raw.shape, settings.patch, multiple)
    raw, labels = _fill(standardise(raw), labels, patch)
    device = torch.device(device)
    network.to(device, memory_format=torch.channels_last_3d).train()
    weights = [p for p in network.parameters() if p.requires_grad]
    optimiser, schedule = _optimiser(weights, settings)
    parts = {"network": network, "optimiser": optimiser, "schedule": schedule}
    average = AveragedModel(network, multi_avg_fn=loop.warm_average(settings.ema))
    if settings.ema:
        parts["average"] = average
    # How often a checkpoint is written does not change what is trained.
    key = settings_hash(replace(settings, checkpoint_every=1))
    start, curves = loop.load_checkpoint(folder, key, **parts) if folder else (0, {})
    curves = curves or {"loss": []}
    for step in loop.steps(start, settings.steps, "affinities"):
        x, target, mask = draw_batch(
            raw, labels, patch, settings, step_generator(settings.seed, step), anisotropic
        )
        x = x.to(device, memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.bf16):
            logits = network(x)
        if logits.shape[1] != len(settings.offsets):
            raise SettingsError(
                f"the network has {logits.shape[1]} outputs for {len(settings.offsets)} offsets",
                where="offsets",
                expected="one output channel per offset",
            )
        loss = LOSSES[settings.loss](logits, target.to(device), mask.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if settings.optimiser != "paper":
            nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()
        if settings.ema:
            average.update_parameters(network)
        done = step + 1
        if done % max(1, settings.steps // POINTS) == 0 or done == settings.steps:
            curves["loss"].append([done, float(loss.detach())])
        if folder and (done % settings.checkpoint_every == 0 or done == settings.steps):
            loop.save_checkpoint(folder, key, done, curves, **parts)
    if settings.ema:
        network.load_state_dict(average.module.state_dict())
    network.eval()
    return curves


def patch_for(
    shape: tuple[int, ...], patch: tuple[int, ...], multiple: tuple[int, ...]
) -> tuple[int, int, int]:
    """The patch that is really used: no larger than the volume, rounded up for the backbone.

    12 sections and a backbone that needs multiples of 8 give a depth of 16; what is missing is
    filled by reflection. Says once if this differs from the patch that was asked for.
    """
    used = divisible_patch([min(p, n) for p, n in zip(patch, shape, strict=True)], multiple)
    if used != tuple(patch):
        log.info("patch %s used instead of %s for a volume of %s", used, tuple(patch), shape)
    return used


def standardise(raw: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the volume, float32; a constant volume becomes 0."""
    return normalise(torch.from_numpy(raw.astype(np.float32))[None], "EM")[0].numpy()


def draw_batch(
    raw: np.ndarray,
    labels: np.ndarray,
    patch: tuple[int, int, int],
    settings: NeuronSettings,
    rng: np.random.Generator,
    anisotropic: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Augmented patches (B, 1, D, H, W) with affinities and mask (B, len(offsets), D, H, W)."""
    pairs = [
        augment(*sample_patch(raw, labels, patch, rng), rng, settings.augmentation, anisotropic)
        for _ in range(settings.batch)
    ]
    target, mask = affinities(
        np.stack([p[1] for p in pairs]), settings.offsets, settings.boundary, anisotropic
    )
    return torch.from_numpy(np.stack([p[0] for p in pairs]))[:, None], target, mask


def _fill(
    raw: np.ndarray, labels: np.ndarray, patch: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Reflect ``raw`` up to the size of the patch; what is added is unlabelled."""
    pads = [(0, max(0, p - n)) for p, n in zip(patch, raw.shape, strict=True)]
    if not any(after for _, after in pads):
        return raw, labels
    return np.pad(raw, pads, mode="reflect"), np.pad(labels, pads)


def _optimiser(
    weights: list[nn.Parameter], settings: NeuronSettings
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with one cycle, or the paper's Adam with a constant learning rate."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "paper":
        adam = torch.optim.Adam(weights, lr=rate, weight_decay=decay, eps=0.01, amsgrad=True)
        return adam, loop.make_schedule(adam, "constant", settings.steps)
    adamw = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
    return adamw, loop.make_schedule(adamw, "onecycle", settings.steps)
