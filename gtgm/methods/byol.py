"""BYOL: predict what a slowly moving copy of the network sees in the other view."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from gtgm.losses import negative_cosine
from gtgm.methods.objective import Objective
from gtgm.models.heads import PredictionHead
from gtgm.settings import PretrainSettings


class BYOL(Objective):
    """Squared distance of normalised predictions and targets, symmetric over the views
    (Grill et al. 2020, equation 2).

    Args:
        encoder, settings, text: see :class:`gtgm.methods.objective.Objective`.
        momentum: of the target at the start; it rises to 1 along a cosine (section 3.2).
    """

    def __init__(
        self,
        encoder: nn.Module,
        settings: PretrainSettings,
        text: nn.Module | None = None,
        momentum: float = 0.99,
    ) -> None:
        super().__init__(encoder, settings, text)
        self.momentum = momentum
        self.predictor = PredictionHead(settings.embedding, settings.width)
        self.target = copy.deepcopy(self.tower).requires_grad_(False)

    def forward(
        self, views: Sequence[torch.Tensor], captions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """See :meth:`gtgm.methods.objective.Objective.forward`."""
        features = self.features(views)
        with torch.no_grad():
            aims = self.features(views, self.target)
        with torch.autocast(captions.device.type, enabled=False):
            with torch.no_grad():
                aims = [self.target.head(aim) for aim in aims]
            first, second = (self.predictor(self.tower.head(f)) for f in features)
            # |p − z|² of unit vectors is 2 − 2 cos.
            loss = 4 + 2 * (negative_cosine(first, aims[1]) + negative_cosine(second, aims[0]))
        return {"loss": loss}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the target towards the trained network."""
        momentum = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        torch._foreach_lerp_(
            list(self.target.parameters()), list(self.tower.parameters()), 1 - momentum
        )
