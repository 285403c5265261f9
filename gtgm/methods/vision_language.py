"""Image–text alignment and redundancy reduction: GTGM, and either of its losses alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from gtgm.losses import alignment_targets, vlp_loss, vr_loss
from gtgm.methods.objective import Objective
from gtgm.models.heads import ProjectionHead
from gtgm.settings import PretrainSettings


class VisionLanguage(Objective):
    """L_VLP over both views plus ``weight_vr`` · L_VR, as the protocol writes them (`method.md`).

    A joined batch with one caption says nothing about its patches: L_VLP is then what it is without
    any information, ln N per direction, and has no gradient.

    Attributes:
        aligns: L_VLP is among the losses.
        decorrelates: L_VR is among the losses; alone it has weight 1.
    """

    aligns = True
    decorrelates = True

    def __init__(
        self, encoder: nn.Module, settings: PretrainSettings, text: nn.Module | None = None
    ) -> None:
        super().__init__(encoder, settings, text)
        if self.aligns:
            self.text_head = ProjectionHead(text.dim, settings.width, settings.embedding)
        elif not settings.projected_vr:
            self.tower.head = nn.Identity()  # nothing would train it

    def forward(
        self, views: Sequence[torch.Tensor], captions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """See :meth:`gtgm.methods.objective.Objective.forward`; parts ``vlp`` and ``vr``."""
        features = self.features(views)
        text = self.joined(self.text(captions)) if self.aligns else None
        captions = self.joined(captions)
        with torch.autocast(captions.device.type, enabled=False):
            images = [self.tower.head(f) for f in features]
            parts = {}
            if self.aligns:
                parts["vlp"] = self._vlp(images, self.text_head(text), captions)
            if self.decorrelates:
                parts["vr"] = self._vr(images if self.settings.projected_vr else features)
        if len(parts) == 2:
            loss = parts["vlp"] + self.settings.weight_vr * parts["vr"]
        else:
            (loss,) = parts.values()
        return {"loss": loss, **parts}

    def embed_captions(self, captions: torch.Tensor) -> torch.Tensor:
        """Projected text embeddings (N, E) of caption indices (N,)."""
        return self.text_head(self.text(captions))

    def _vlp(
        self, images: list[torch.Tensor], text: torch.Tensor, captions: torch.Tensor
    ) -> torch.Tensor:
        settings = self.settings
        targets = alignment_targets(captions) if settings.equal_captions else None
        reduction = "sum" if settings.clip_sum else "mean"
        both = sum(vlp_loss(i, text, settings.temperature, targets, reduction) for i in images)
        # Batch norm of equal texts is rounding noise, which the cosine would blow up to unit
        # vectors. Chosen by `where`, so that every process keeps the same graph.
        chance = both.new_full((), (4 if settings.clip_sum else 2) * math.log(len(captions)))
        both = torch.where((captions == captions[0]).all(), chance, both)
        return both if settings.clip_sum else both / 2

    def _vr(self, features: list[torch.Tensor]) -> torch.Tensor:
        settings = self.settings
        return vr_loss(
            *features,
            settings.off_diagonal,
            standardise=settings.projected_vr,
            factor=0.5 if settings.clip_sum else 1.0,
        )
