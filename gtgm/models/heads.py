"""Projection heads and the vision–language model that pretraining optimises."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


class ProjectionHead(nn.Sequential):
    """``in → hidden → BN → ReLU → out → BN without affine`` (`method.md`, heads).

    The last normalisation standardises every output feature over the batch.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__(
            nn.Linear(in_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, out_features),
            nn.BatchNorm1d(out_features, affine=False),
        )


class VisionLanguageModel(nn.Module):
    """Image encoder, its linear map to ``width`` features, and one head per modality.

    Args:
        encoder: image encoder; its deepest map is averaged over the grid.
        text_features: length of a text embedding (768 for BioBERT).
        width: features of an image after the linear map (2048 in the paper).
        embedding: length of a projected feature (512 in the paper).
        gather: join the features of all processes, with gradient, before the heads. Batch norm in
            the heads then sees the joined batch, on CPUs too.
    """

    def __init__(
        self,
        encoder: nn.Module,
        text_features: int,
        width: int = 2048,
        embedding: int = 512,
        gather: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.gather = gather
        self.image_map = nn.Linear(encoder.channels[-1], width)
        self.image_head = ProjectionHead(width, width, embedding)
        self.text_head = ProjectionHead(text_features, width, embedding)

    def image_features(self, view: torch.Tensor) -> torch.Tensor:
        """View (B, C, D, H, W) → features (B, width)."""
        pooled = self.encoder(view)[-1].float().mean((2, 3, 4))  # (B, channels)
        # The correlation loss compares small differences: everything after the encoder is fp32.
        with torch.autocast(view.device.type, enabled=False):
            return self.image_map(pooled)

    def forward(
        self, view1: torch.Tensor, view2: torch.Tensor, text: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Two views (B, C, D, H, W) and text embeddings (B, T) → features and projections.

        Returns:
            ``features1``, ``features2`` (N, width), ``image1``, ``image2``, ``text``
            (N, embedding), where N is the joined batch if features are gathered.
        """
        features = self.image_features(torch.cat([view1, view2]))
        features1, features2 = features.chunk(2)
        if self.gather:
            features1, features2, text = (join(x) for x in (features1, features2, text))
        with torch.autocast(view1.device.type, enabled=False):
            return {
                "features1": features1,
                "features2": features2,
                "image1": self.image_head(features1),
                "image2": self.image_head(features2),
                "text": self.text_head(text),
            }


def join(x: torch.Tensor) -> torch.Tensor:
    """Concatenate ``x`` (B, …) over all processes, keeping the gradient; alone: ``x`` itself.

    Every process must bring the same number of rows.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return _Gather.apply(x.contiguous())
    return x


class _Gather(torch.autograd.Function):
    """All-gather whose backward sums, over the processes, the gradients of each one's rows."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]
