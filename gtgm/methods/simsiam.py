"""SimSiam: predict the other view's projection, without a gradient through it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from gtgm.losses import siamese_loss
from gtgm.methods.objective import Objective
from gtgm.models.heads import PredictionHead
from gtgm.settings import PretrainSettings


class SimSiam(Objective):
    """Negative cosine with stopped gradient, symmetric over the views (Chen and He 2021,
    equation 4).

    Args:
        encoder, settings, text: see :class:`gtgm.methods.objective.Objective`.
        bottleneck: hidden features of the predictor as a share of the projection's.
    """

    def __init__(
        self,
        encoder: nn.Module,
        settings: PretrainSettings,
        text: nn.Module | None = None,
        bottleneck: float = 0.25,
    ) -> None:
        super().__init__(encoder, settings, text)
        hidden = max(1, round(bottleneck * settings.embedding))
        self.predictor = PredictionHead(settings.embedding, hidden)

    def forward(
        self, views: Sequence[torch.Tensor], captions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """See :meth:`gtgm.methods.objective.Objective.forward`."""
        features = self.features(views)
        with torch.autocast(captions.device.type, enabled=False):
            first, second = (self.tower.head(f) for f in features)
            return {"loss": siamese_loss(self.predictor, first, second)}
