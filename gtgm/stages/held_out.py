"""Held-out patches of a pretraining run, to look at what its encoder has learnt."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from gtgm.datasets.geometry import upright
from gtgm.models.encoder import build_encoder
from gtgm.pool import PatchPool
from gtgm.pretrain import HELD_OUT_PATCHES, hold_out
from gtgm.saliency import CaptionSimilarity, text_saliency
from gtgm.stages.captioning import CaptionRun
from gtgm.stages.pretraining import PretrainRun, pooled_volumes
from gtgm.stages.study import Study


@dataclass(frozen=True)
class HeldOut:
    """Patches that the encoder never trained on, each from a caption position.

    Attributes:
        patches: (N, 1, D, H, W), normalised.
        captions: index of each patch's caption in the run's ``texts`` (N,).
        datasets, cases: names, N each.
        positions: place of the patch in its volume along z, y and x, (N, 3): 0 at the first end, 1
            at the last, 0.5 where the volume is no larger than a patch.
    """

    patches: torch.Tensor = field(repr=False)
    captions: torch.Tensor
    datasets: list[str]
    cases: list[str]
    positions: np.ndarray


def held_out_patches(study: Study, captions: CaptionRun, most: int = HELD_OUT_PATCHES) -> HeldOut:
    """At most ``most`` patches of each dataset, drawn over the volumes that are held out."""
    settings = study.settings("pretrain")
    volumes = hold_out(pooled_volumes(study, captions), settings)[1]
    patches, numbers, names, cases, positions = [], [], [], [], []
    for name in study.datasets:
        mine = [v for v in volumes if v.dataset == name]
        pool = PatchPool(mine, captions.texts, settings.patch)
        places = pool.places(most, np.random.default_rng([study.seed, 1]))
        if not places:
            continue
        batch = pool.at(places)
        patches.append(batch.patches)
        numbers.append(batch.captions)
        for volume, origin in places:
            room = np.array(volume.load().shape[1:]) - settings.patch
            share = np.asarray(origin) / np.maximum(room, 1)
            positions.append(np.where(room > 0, np.clip(share, 0, 1), 0.5))
            cases.append(volume.case)
            names.append(name)
    return HeldOut(torch.cat(patches), torch.cat(numbers), names, cases, np.array(positions))


@torch.no_grad()
def pooled_features(encoder: nn.Module, patches: torch.Tensor) -> np.ndarray:
    """Mean over space of the deepest features, (N, 1, D, H, W) → (N, C): what fine-tuning gets."""
    encoder.eval()
    return torch.cat([encoder(part)[-1].mean((2, 3, 4)) for part in patches.split(32)]).numpy()


def untrained_encoder(study: Study) -> nn.Module:
    """The encoder as it was before the first step of its pretraining."""
    torch.manual_seed(study.seed)
    return build_encoder(study.backbone, 1, **study.settings("pretrain").sizes)


def caption_saliency(
    study: Study, captions: CaptionRun, run: PretrainRun, held_out: HeldOut, count: int = 3
) -> dict[str, list]:
    """Saliency maps of some held-out patches for their own caption and for another patch's.

    Args:
        study, captions, run: a pretraining by a method that reads text.
        held_out: of :func:`held_out_patches`.
        count: of patches, all with different captions.

    Returns:
        Arguments of :func:`gtgm.figures_text.saliency_panels`, of the middle sections.
    """
    model = run.objective(study, captions)
    numbers, places = np.unique(held_out.captions.numpy(), return_index=True)
    chosen = np.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().astype(int)
    found: dict[str, list] = {
        name: [] for name in ("slices", "maps", "captions", "similarities", "agreement")
    }
    for own, other in zip(chosen, np.roll(chosen, -1), strict=True):
        pair = [int(numbers[own]), int(numbers[other])]
        patch = held_out.patches[places[own]]
        info = study.open(held_out.datasets[places[own]]).info
        similarity = CaptionSimilarity(model, pair)
        maps = text_saliency(similarity, patch, [max(4, side // 4) for side in patch.shape[1:]])
        middle = patch.shape[1] // 2
        found["slices"].append(upright(patch[0, middle].numpy(), info))
        found["maps"].append(np.stack([upright(part[middle], info) for part in maps]))
        found["captions"].append([captions.texts[i] for i in pair])
        found["similarities"].append(similarity(patch[None])[0].tolist())
        found["agreement"].append(float(np.corrcoef(maps.reshape(2, -1))[0, 1]))
    return found
