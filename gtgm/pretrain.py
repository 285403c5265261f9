"""Pretraining: the loop that trains the image encoder with any method of the comparison.

gtgm pretrain Task04_Hippocampus --profile cpu                     # two CPU cores
gtgm pretrain Task04_Hippocampus --method byol --profile paper --backbone swin   # one GPU
accelerate launch -m gtgm.cli pretrain … --profile paper           # many
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from gtgm import loop, paths
from gtgm.ahead import ahead
from gtgm.device import accelerator as make_accelerator
from gtgm.device import check_processes, step_generator
from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.hashing import settings_hash
from gtgm.intensity import unit_range
from gtgm.losses import cross_correlation
from gtgm.methods.objective import Objective
from gtgm.models.chunks import check_independent
from gtgm.models.encoder import (
    DIVISOR,
    build_encoder,
    save_memory,
    save_pretrained,
)
from gtgm.models.graphs import check_recordable
from gtgm.models.weights import load_matching, read_state
from gtgm.pool import PatchPool, PooledVolume
from gtgm.precision import training_precision
from gtgm.retrieval import retrieval, similarity_matrix
from gtgm.settings import PretrainSettings
from gtgm.views import make_view

MATRICES = "matrices.safetensors"
HEADS = "heads.safetensors"
HELD_OUT_PATCHES = 256
LOG_EVERY = 10
_ENCODER = "tower.encoder."


@dataclass(frozen=True)
class Pretrained:
    """A trained encoder's folder, its curves, its scores before and after, its volumes, and the
    precision that was used."""

    folder: Path
    n_train: int
    n_held_out: int
    curves: dict[str, list]
    before: dict[str, float]
    after: dict[str, float]
    precision: str


def pretrain(
    settings: PretrainSettings,
    backbone: str,
    objective: type[Objective],
    volumes: Sequence[PooledVolume],
    texts: Sequence[str],
    text: nn.Module | None,
    folder: str | Path,
    seed: int = 0,
) -> Pretrained:
    """Train an encoder on patches and captions; continues from the folder's checkpoint.

    Args:
        settings: sizes, losses and schedule.
        backbone: ``unet``, ``resnet50`` or ``swin``.
        objective: class of the method, see :mod:`gtgm.methods`.
        volumes: normalised training volumes with their caption stores.
        texts: unique captions.
        text: gives their embeddings (:mod:`gtgm.text.tower`); None for methods without text.
        folder: receives the encoder, the checkpoint and the matrices.
        seed: of the weights and of every draw.

    Returns:
        Curves (``loss`` and its parts per logged step) and held-out scores.

    Raises:
        SettingsError: a transpose of a patch whose sections are not square, an option that the
            method does not have, chunks of a backbone with batch norm, checkpointing of another one
            than swin, or graphs of what is not recorded.
        DataError: fewer than two volumes.
    """
    _check(settings, volumes)
    folder = Path(folder)
    precision = training_precision(settings.precision, settings.patch, DIVISOR[backbone])
    settings = replace(settings, precision=precision)
    accelerator = make_accelerator(precision)
    check_processes(settings.processes, accelerator.num_processes, "pretrain")
    torch.manual_seed(seed)
    encoder = build_encoder(backbone, 1, **settings.sizes)
    check_independent(encoder, settings.chunk, 2 * settings.batch, "pretrain.chunk")
    check_recordable(settings, accelerator.num_processes, "pretrain.graphs", objective)
    save_memory(encoder, settings.chunk, settings.checkpointing, "pretrain")
    model = make_objective(objective, encoder, settings, text)
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.lr, (0.9, 0.999), weight_decay=settings.weight_decay
    )
    schedule = loop.make_schedule(optimizer, settings.schedule, settings.steps)
    key = settings_hash(
        settings,
        accelerator.num_processes,
        accelerator.device.type,
        backbone,
        objective.__name__,
        seed,
        [v.key for v in volumes],
        list(texts),
    )
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}

    training, held_out = hold_out(volumes, settings)
    shuffle = seed if settings.shuffle_captions else None
    pool = PatchPool(training, texts, settings.patch, shuffle)
    probe = _Probe(PatchPool(held_out, texts, settings.patch, shuffle), settings, seed)
    model.to(accelerator.device)
    start, curves = loop.load_checkpoint(folder, key, **parts)
    if not curves:
        before, matrices = probe(model, "before")
        curves = {"before": before}
        save_matrices(folder, matrices)
    trained, optimizer = accelerator.prepare(model, optimizer)
    trained.train()
    bar = loop.steps(start, settings.steps, "pretrain", accelerator.is_main_process)
    cut = ahead(
        partial(pool.sample, settings.batch),
        range(start, settings.steps),
        partial(step_generator, seed, rank=accelerator.process_index),
        settings.workers,
    )
    for step, (batch, generator) in zip(bar, cut, strict=False):  # the bar ends it
        patches = batch.patches.to(accelerator.device, non_blocking=True)
        captions = batch.captions.to(accelerator.device)
        views = [make_view(patches, settings, generator) for _ in range(2)]
        if settings.graphs and step == start:
            model.tower.record(torch.cat(views), precision, "pretrain.graphs")
        with accelerator.autocast():
            losses = trained(views, captions)
        optimizer.zero_grad(set_to_none=True)
        accelerator.backward(losses["loss"])
        optimizer.step()
        schedule.step()
        model.after_step((step + 1) / settings.steps)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == settings.steps:
            for name, value in losses.items():
                curves.setdefault(name, []).append([step + 1, float(value.detach())])
        last = step + 1 == settings.steps
        if accelerator.is_main_process and ((step + 1) % settings.checkpoint_every == 0 or last):
            loop.save_checkpoint(folder, key, step + 1, curves, **parts)
    after, matrices = probe(model, "after")
    before = curves.pop("before")
    if accelerator.is_main_process:
        save_matrices(folder, matrices)
        save_pretrained(model.encoder, folder, held_out=after, steps=settings.steps)
        if text is not None:
            _save_heads(model, folder)
    return Pretrained(folder, len(training), len(held_out), curves, before, after, precision)


def make_objective(
    objective: type[Objective],
    encoder: nn.Module,
    settings: PretrainSettings,
    text: nn.Module | None,
) -> Objective:
    """The method's module around an encoder, with the options that the settings name.

    Raises:
        SettingsError: it has no such option.
    """
    known = list(inspect.signature(objective).parameters)[3:]
    unknown = sorted(set(settings.options) - set(known))
    if unknown:
        raise SettingsError(
            f"has no option {', '.join(unknown)}",
            where=f"{objective.__name__}, pretrain.options",
            expected=f"some of {', '.join(known)}" if known else "no option",
        )
    return objective(encoder, settings, text, **settings.options)


class _Probe:
    """Scores of a model on patches that it never trains on: how much two views of a patch have in
    common, and, if it reads text, how well a patch finds its caption."""

    def __init__(self, pool: PatchPool, settings: PretrainSettings, seed: int) -> None:
        generator = np.random.default_rng([seed, 1])
        torch.manual_seed(seed)
        batch = pool.grid(HELD_OUT_PATCHES, generator)
        self.present, self.owner = batch.captions.unique(return_inverse=True)
        self.patches = unit_range(batch.patches) if settings.view_min_max else batch.patches
        self.views = [make_view(batch.patches, settings, generator) for _ in range(2)]

    @torch.no_grad()
    def __call__(
        self, model: Objective, when: str
    ) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        device = next(model.parameters()).device
        model.eval()
        correlation = cross_correlation(*(self._embed(model, v, device) for v in self.views))
        diagonal = correlation.diagonal()
        off = correlation - torch.diag(diagonal)
        size = len(correlation)
        scores = {
            "correlation_diagonal": float(diagonal.mean()),
            "correlation_off_diagonal": float(off.abs().sum() / (size * (size - 1))),
        }
        matrices = {f"correlation_{when}": correlation}
        if model.text is not None:
            patches = self._embed(model, self.patches, device)
            text = model.embed_captions(self.present.to(device)).cpu()
            scores = retrieval(patches, text, self.owner) | scores
            order = self.owner.argsort()
            matrices[f"similarity_{when}"] = similarity_matrix(
                patches[order], text[self.owner[order]]
            )
        return scores, {k: v.half().contiguous() for k, v in matrices.items()}

    @staticmethod
    def _embed(model: Objective, patches: torch.Tensor, device: torch.device) -> torch.Tensor:
        return torch.cat([model.embed(chunk.to(device)) for chunk in patches.split(32)]).cpu()


def load_heads(model: Objective, folder: Path) -> None:
    """Give a model of the same settings the heads that were trained with a folder's encoder.

    Raises:
        WeightsError: the folder has none, or they are damaged or do not fit.
    """
    path = folder / HEADS
    if not path.exists():
        raise WeightsError(
            "is missing",
            where=path,
            expected="the heads that the encoder was trained with",
            fix="delete the folder and pretrain again; encoders alone are enough for fine-tuning",
        )
    encoder = {k: v for k, v in model.state_dict().items() if k.startswith(_ENCODER)}
    load_matching(model, encoder | read_state(path), where=path, minimum=1.0)


def _save_heads(model: Objective, folder: Path) -> None:
    """Everything that was trained beside the encoder."""
    tensors = {k: v for k, v in model.state_dict().items() if not k.startswith(_ENCODER)}
    with paths.atomic(folder / HEADS) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)


def read_matrices(folder: Path) -> dict[str, torch.Tensor]:
    """``similarity_before/after`` (patches × captions) and ``correlation_before/after``."""
    return read_state(folder / MATRICES)


def save_matrices(folder: Path, new: dict[str, torch.Tensor]) -> None:
    """Add ``new`` to the run's matrices."""
    path = folder / MATRICES
    kept = read_state(path) if path.exists() else {}
    with paths.atomic(path) as temporary:
        save_file(kept | new, temporary)


def hold_out(
    volumes: Sequence[PooledVolume], settings: PretrainSettings
) -> tuple[list[PooledVolume], list[PooledVolume]]:
    """Volumes to train on, and every n-th, which is kept for measuring; at least one of each."""
    every = max(2, round(1 / settings.held_out))
    kept = set(range(0, len(volumes), every))
    return (
        [v for i, v in enumerate(volumes) if i not in kept],
        [v for i, v in enumerate(volumes) if i in kept],
    )


def _check(settings: PretrainSettings, volumes: Sequence[PooledVolume]) -> None:
    if settings.transpose and settings.patch[1] != settings.patch[2]:
        raise SettingsError(
            f"patch {settings.patch} cannot be transposed within its sections",
            where="pretrain.patch",
            expected="equal y and x sides",
            fix="choose a square section or transpose=false",
        )
    if len(volumes) < 2:
        raise DataError(
            f"{len(volumes)} volume(s) for pretraining",
            expected="at least 2, one of which is held out",
            fix="name more datasets, or raise text.cases",
        )
