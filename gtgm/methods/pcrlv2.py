"""PCRLv2: restore a corrupted view at several scales, and compare the views at each of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from gtgm.losses import siamese_loss
from gtgm.methods.objective import Objective
from gtgm.models.blocks import ResidualBlock, resize_like
from gtgm.models.chunks import in_chunks
from gtgm.models.heads import PredictionHead, ProjectionHead
from gtgm.settings import PretrainSettings


class PCRLv2(Objective):
    """Multi-scale pixel restoration with siamese feature comparison (arXiv 2301.00772).

    A decoder without skips rebuilds the feature pyramid from the deepest map, so that the encoder
    has to keep what restoration needs. At every scale of the pyramid one convolution restores the
    view before its corruption (squared error), and a head and a predictor compare the two views
    (negative cosine with stopped gradient); both are averaged over the scales.

    Departures from its paper: the two views are those of all methods here, there are no further
    local crops, and the finest scale is the encoder's own finest map.

    Args:
        encoder, settings, text: see :class:`gtgm.methods.objective.Objective`.
        boxes: boxes of noise that are painted into each view before the encoder sees it.
        noise: standard deviation of noise on the whole view.
        weight_comparison: of the comparison beside the restoration.
    """

    recordable = False  # a pyramid, and no tower

    def __init__(
        self,
        encoder: nn.Module,
        settings: PretrainSettings,
        text: nn.Module | None = None,
        boxes: int = 6,
        noise: float = 0.1,
        weight_comparison: float = 1.0,
    ) -> None:
        super().__init__(encoder, settings, text)
        self.boxes, self.noise, self.weight_comparison = boxes, noise, weight_comparison
        channels, kernels = list(encoder.channels), list(encoder.kernels)
        in_channels = encoder.config["in_channels"]
        self.refine = nn.ModuleList(
            ResidualBlock(deep, shallow, kernel=kernel)
            for deep, shallow, kernel in zip(
                channels[:0:-1], channels[-2::-1], kernels[-2::-1], strict=True
            )
        )
        self.restore = nn.ModuleList(nn.Conv3d(c, in_channels, 1) for c in channels[::-1])
        self.heads = nn.ModuleList(
            ProjectionHead(c, settings.width, settings.embedding) for c in channels[::-1]
        )
        self.predictors = nn.ModuleList(
            PredictionHead(settings.embedding, max(1, settings.embedding // 4)) for _ in channels
        )
        del self.tower.map, self.tower.head  # the pyramid has heads of its own

    def forward(
        self, views: Sequence[torch.Tensor], captions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """See :meth:`gtgm.methods.objective.Objective.forward`; parts ``restoration`` and
        ``comparison``."""
        clean = torch.cat(list(views))
        corrupted = corrupt(clean, self.boxes, self.noise)
        pyramid = in_chunks(self.pyramid, corrupted, self.settings.chunk)
        restoration = comparison = 0.0
        for level, restore, head, predictor in zip(
            pyramid, self.restore, self.heads, self.predictors, strict=True
        ):
            wanted = resize_like(clean, level).float()
            restoration = restoration + F.mse_loss(restore(level).float(), wanted)
            pooled = [self.joined(p) for p in level.float().mean((2, 3, 4)).chunk(2)]
            with torch.autocast(clean.device.type, enabled=False):
                comparison = comparison + siamese_loss(predictor, *(head(p) for p in pooled))
        restoration, comparison = restoration / len(pyramid), comparison / len(pyramid)
        loss = restoration + self.weight_comparison * comparison
        return {"loss": loss, "restoration": restoration, "comparison": comparison}

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """Projected features (B, E) of the deepest scale."""
        return self.heads[0](self.encoder(patches)[-1].float().mean((2, 3, 4)))

    def pyramid(self, view: torch.Tensor) -> list[torch.Tensor]:
        """View (B, C, D, H, W) → maps of the decoder, the deepest first."""
        maps = self.encoder(view)
        levels = [maps[-1]]
        for refine, like in zip(self.refine, maps[-2::-1], strict=True):
            levels.append(refine(resize_like(levels[-1], like)))
        return levels


def corrupt(views: torch.Tensor, boxes: int, noise: float) -> torch.Tensor:
    """Paint boxes of noise into each view (B, C, D, H, W), and add noise everywhere.

    The sides of a box are an eighth to a third of the view's.
    """
    shape = views.shape[2:]
    corrupted = views + noise * torch.randn_like(views)
    for view in corrupted:
        for _ in range(boxes):
            sides = [max(1, round(s * float(torch.empty(1).uniform_(1 / 8, 1 / 3)))) for s in shape]
            box = view
            for axis, (whole, side) in enumerate(zip(shape, sides, strict=True), start=1):
                box = box.narrow(axis, int(torch.randint(whole - side + 1, (1,))), side)
            box.copy_(torch.randn_like(box))
    return corrupted
