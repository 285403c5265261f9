"""Heads of pretraining: what turns the features of an encoder into what a loss compares."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from gtgm.models.graphs import record


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


class PredictionHead(nn.Sequential):
    """``in → hidden → BN → ReLU → in``: predicts one view's projection from the other's.

    The predictor of BYOL (Grill et al. 2020, section 3.3) and of SimSiam (Chen and He 2021).
    """

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__(
            nn.Linear(features, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, features),
        )


class ImageTower(nn.Module):
    """Image encoder, its linear map to ``width`` features, and the head that projects them.

    Args:
        encoder: image encoder; its deepest map is averaged over the grid.
        width: features of an image after the linear map (2048 in the paper).
        embedding: length of a projected feature (512 in the paper).
    """

    def __init__(self, encoder: nn.Module, width: int = 2048, embedding: int = 512) -> None:
        super().__init__()
        self.encoder = encoder
        self.map = nn.Linear(encoder.channels[-1], width)
        self.head = ProjectionHead(width, width, embedding)
        # Registered once, here; the tuple hides the second reference from `parameters()`.
        self._trunk = (_Trunk(self.encoder, self.map),)

    def features(self, view: torch.Tensor) -> torch.Tensor:
        """View (B, C, D, H, W) → features (B, width)."""
        (trunk,) = self._trunk
        trunk.training = self.training
        return trunk(view)

    def record(self, view: torch.Tensor, precision: str, where: str) -> None:
        """Record :meth:`features`, see :func:`gtgm.models.graphs.record`."""
        record(self._trunk[0], view, precision, where)

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        """View (B, C, D, H, W) → projected features (B, embedding)."""
        return self.head(self.features(view))


class _Trunk(nn.Module):
    """What is computed for each view by itself."""

    def __init__(self, encoder: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.map = encoder, linear

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        pooled = self.encoder(view)[-1].float().mean((2, 3, 4))  # (B, channels)
        # The losses compare small differences: everything after the encoder is fp32.
        with torch.autocast(view.device.type, enabled=False):
            return self.map(pooled)


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
