"""Fine-tuning: train encoder and decoder on few labels.

gtgm finetune Task04_Hippocampus --method random --fraction 0.1 --profile cpu
gtgm finetune Task04_Hippocampus --method gtgm --fraction 0.1 --profile paper --backbone swin
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.utils import list_data_collate
from monai.losses import DiceCELoss
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    ToTensord,
)
from torch import nn
from torch.optim.swa_utils import AveragedModel

from gtgm import loop
from gtgm.ahead import ahead
from gtgm.crop import FOREGROUND, RandCropStoredd, with_places
from gtgm.device import accelerator as make_accelerator
from gtgm.device import check_processes, step_generator
from gtgm.errors import DataError, SettingsError
from gtgm.hashing import settings_hash
from gtgm.models.chunks import check_independent, in_chunks
from gtgm.models.encoder import DIVISOR, save_memory
from gtgm.models.graphs import check_recordable, record
from gtgm.models.segmenter import build_segmenter
from gtgm.precision import training_precision
from gtgm.settings import FinetuneSettings
from gtgm.views import AXES

LOG_EVERY = 10
BOTH = ["image", "label"]


@dataclass(frozen=True)
class Finetuned:
    """A trained segmenter (its averaged weights, if they are averaged), its curves, and what
    precision it was trained in."""

    network: nn.Module
    curves: dict[str, list]
    precision: str


def finetune(
    settings: FinetuneSettings,
    backbone: str,
    classes: Sequence[str],
    channels: int,
    cases: Sequence[str],
    load: Callable[[str], dict[str, torch.Tensor]],
    patch: Sequence[int],
    folder: str | Path,
    pretrained: str | Path | None = None,
    seed: int = 0,
    score: Callable[[nn.Module], float | None] | None = None,
    sizes: dict[str, Any] | None = None,
) -> Finetuned:
    """Train a segmenter; continues from the folder's checkpoint.

    Args:
        settings: schedule, augmentation and the released code's options.
        backbone: ``unet``, ``resnet50`` or ``swin``.
        classes: names of the labels 1, 2, …
        channels: of the images.
        cases: ids of the labelled training cases.
        load: gives ``{"image": (C, D, H, W) normalised, "label": (1, D, H, W)}`` of a case, best as
            :func:`gtgm.crop.with_places` prepares it; the volumes may be those of a store.
        patch: voxels (z, y, x).
        folder: of the run; holds the checkpoint.
        pretrained: folder of a pretrained encoder; None starts at random.
        seed: of the decoder and of every draw.
        score: gives the number to select on, which the main process asks for; needed for
            ``settings.select_on_test``, and for nothing else. None where it is undefined: the last
            weights count.
        sizes: of a backbone that starts at random.

    Returns:
        The network to evaluate and the curve ``loss``.

    Raises:
        WeightsError: the pretrained encoder does not fit.
        DataError: no case.
        SettingsError: chunks of a network with batch norm, checkpointing of another one than
            swin, or ``select_on_test`` without a score.
    """
    if not cases:
        raise DataError("no labelled case to train on", expected="at least one")
    if settings.select_on_test and score is None:
        raise SettingsError(
            "is on, and nothing scores a checkpoint",
            where="finetune.select_on_test",
            expected="the argument score, a function of the network",
            fix="give one, or set it to false",
        )
    steps = settings.steps + round(settings.steps_per_case * len(cases))
    precision = training_precision(settings.precision, patch, DIVISOR[backbone])
    settings = replace(settings, precision=precision)
    accelerator = make_accelerator(precision)
    check_processes(settings.processes, accelerator.num_processes, "finetune")
    torch.manual_seed(seed)
    network = build_segmenter(backbone, channels, len(classes) + 1, pretrained, **(sizes or {}))
    check_independent(network, settings.chunk, settings.batch, "finetune.chunk")
    check_recordable(settings, accelerator.num_processes, "finetune.graphs")
    save_memory(network.encoder, settings.chunk, settings.checkpointing)
    network = network.to(accelerator.device, memory_format=torch.channels_last_3d)
    optimizer = _optimizer(network, settings)
    schedule = loop.make_schedule(optimizer, settings.schedule, steps)
    average = AveragedModel(network, multi_avg_fn=loop.warm_average(settings.ema))
    parts = {
        "network": network,
        "optimizer": optimizer,
        "schedule": schedule,
        "average": average,
    }
    if settings.select_on_test:
        parts["best"] = _Best(network)
    key = settings_hash(
        settings,
        accelerator.num_processes,
        accelerator.device.type,
        backbone,
        list(cases),
        pretrained and Path(pretrained).name,
        seed,
        list(patch),
    )
    start, curves = loop.load_checkpoint(folder, key, **parts)
    curves = curves or {"loss": [], "selected": []}
    augment = make_augmentation(settings, patch)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    trained, optimizer = accelerator.prepare(network, optimizer)
    bar = loop.steps(start, steps, "fine-tune", accelerator.is_main_process)
    drawn = ahead(
        partial(_draw, cases, load, augment, patch, settings.batch),
        range(start, steps),
        partial(step_generator, seed, rank=accelerator.process_index),
        settings.workers,
    )
    for step, ((images, labels), _) in zip(bar, drawn, strict=False):  # the bar ends it
        images = images.to(accelerator.device, memory_format=torch.channels_last_3d)
        trained.train()
        if settings.graphs and step == start:
            record(network, images, precision, "finetune.graphs")
        with accelerator.autocast():
            scores = in_chunks(trained, images, settings.chunk)
        scores = scores.float()
        if settings.sigmoid_output:
            scores = scores.sigmoid()
        loss = criterion(scores, labels.to(accelerator.device))
        if step < settings.decoder_first * steps:
            optimizer.param_groups[0]["lr"] = 0.0  # the schedule sets it anew after every step
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 12.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        done = step + 1
        if done % LOG_EVERY == 0 or done == steps:
            curves["loss"].append([done, float(loss.detach())])
        kept = done % settings.checkpoint_every == 0 or done == steps
        if kept and accelerator.is_main_process:  # the others wait in their next step
            if settings.select_on_test:
                curves["selected"].append([done, parts["best"].offer(network, score(network))])
            loop.save_checkpoint(folder, key, done, curves, **parts)
    if settings.select_on_test:
        network.load_state_dict(parts["best"].weights)
        return Finetuned(network, curves, precision)
    curves.pop("selected")
    return Finetuned(average.module if settings.ema else network, curves, precision)


def make_augmentation(settings: FinetuneSettings, patch: Sequence[int]) -> Compose:
    """Foreground-aware crop, then the augmentation of the settings.

    Takes items of :func:`gtgm.crop.with_places`, and gives MONAI dictionaries with ``image``
    (C, D, H, W) and ``label`` (1, D, H, W).
    """
    positive = settings.foreground / max(1 - settings.foreground, 1e-6)
    crop = [
        RandCropStoredd(BOTH, "label", tuple(patch), pos=positive, neg=1.0, num_samples=1),
    ]
    changes = _CHANGES[settings.augmentation](settings, patch)
    return Compose([*crop, *changes, ToTensord(BOTH, track_meta=False)])


def _strong(settings: FinetuneSettings, patch: Sequence[int]) -> list:
    """What a strong baseline needs (nnU-Net's kinds of change, in milder form)."""
    angle, blur = float(np.deg2rad(settings.rotate)), (0.5, 1.0)
    thin = max(patch) >= 3 * min(patch)  # rotate such patches within their sections only
    return [
        RandAffined(
            BOTH,
            prob=0.8,
            rotate_range=[angle, 0.0, 0.0] if thin else [angle] * 3,
            scale_range=[settings.zoom] * 3,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        ),
        *(RandFlipd(BOTH, prob=0.5, spatial_axis=AXES[a] - 1) for a in settings.flip_axes),
        RandGaussianNoised("image", prob=0.2, std=0.1),
        RandGaussianSmoothd("image", blur, blur, blur, prob=0.2),
        RandScaleIntensityd("image", factors=0.25, prob=0.5),
        RandShiftIntensityd("image", offsets=0.2, prob=0.5),
        RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
    ]


def _released(settings: FinetuneSettings, patch: Sequence[int]) -> list:
    """`released_settings.csv`, finetune aug; quarter turns where sections are square."""
    turns = [RandRotate90d(BOTH, prob=0.1, spatial_axes=(1, 2))] if patch[1] == patch[2] else []
    return [
        *(RandFlipd(BOTH, prob=0.1, spatial_axis=axis) for axis in range(3)),
        *turns,
        RandShiftIntensityd("image", offsets=0.1, prob=0.5),
    ]


_CHANGES = {"strong": _strong, "released": _released}


def _draw(
    cases: Sequence[str],
    load: Callable[[str], dict[str, torch.Tensor]],
    augment: Compose,
    patch: Sequence[int],
    batch: int,
    generator: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, C, D, H, W) and labels (B, 1, D, H, W) of one step."""
    augment.set_random_state(seed=int(generator.integers(2**31)))
    items = [load(cases[i]) for i in generator.integers(len(cases), size=batch)]
    ready = [item if FOREGROUND in item else with_places(item, patch) for item in items]
    cut = list_data_collate([augment(item)[0] for item in ready])
    return cut["image"], cut["label"]


def _optimizer(network: nn.Module, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """AdamW; the encoder, its first group, has its own share of the learning rate."""
    encoder = {id(p) for p in network.encoder.parameters()}
    groups = [
        {
            "params": [p for p in network.parameters() if id(p) in encoder],
            "lr": settings.lr * settings.encoder_lr,
        },
        {"params": [p for p in network.parameters() if id(p) not in encoder], "lr": settings.lr},
    ]
    return torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay)


class _Best:
    """The best weights so far, for protocols that select a checkpoint."""

    def __init__(self, network: nn.Module) -> None:
        self.value = -1.0
        self.weights = {k: v.clone() for k, v in network.state_dict().items()}

    def offer(self, network: nn.Module, value: float | None) -> float | None:
        """Keep the network's weights if ``value`` is the highest so far; returns ``value``."""
        if value is None or value > self.value:
            self.value = self.value if value is None else value
            self.weights = {k: v.clone() for k, v in network.state_dict().items()}
        return value

    def state_dict(self) -> dict:
        return {"value": self.value, "weights": self.weights}

    def load_state_dict(self, state: dict) -> None:
        self.value, self.weights = state["value"], state["weights"]
