"""What a pretraining method adds to an image encoder: heads, and a loss of two views."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from gtgm.models.chunks import in_chunks
from gtgm.models.heads import ImageTower, join
from gtgm.settings import PretrainSettings


class Objective(nn.Module, ABC):
    """Base of every method: the encoder with its heads, and what a loss of two views needs.

    A method overrides :meth:`forward`; what it needs besides (a momentum copy, a decoder) are its
    own modules. Settings of its own are keyword arguments of its ``__init__``, which
    ``pretrain.options`` sets.

    Args:
        encoder: image encoder.
        settings: sizes of the heads, weights, and whether processes join their features. Batch norm
            in the heads then sees the joined batch, on CPUs too.
        text: gives embeddings (B, T) of caption indices (B,), see :mod:`gtgm.text.tower`; None for
            methods without text.

    Attributes:
        recordable: the encoder is called in :meth:`features` alone, which ``pretrain.graphs``
            records.
    """

    recordable = True

    def __init__(
        self, encoder: nn.Module, settings: PretrainSettings, text: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.settings, self.text = settings, text
        self.tower = ImageTower(encoder, settings.width, settings.embedding)

    @property
    def encoder(self) -> nn.Module:
        """The image encoder: what downstream networks start from."""
        return self.tower.encoder

    @abstractmethod
    def forward(
        self, views: Sequence[torch.Tensor], captions: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses of a batch.

        Args:
            views: two views (B, C, D, H, W) of the same patches.
            captions: index of each patch's caption (B,).

        Returns:
            Scalars by name; ``loss`` is what is minimised, the others are its parts.
        """

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the share of the training that is done."""

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """Projected features (B, E) of patches (B, C, D, H, W), for measuring."""
        return self.tower(patches)

    def features(
        self, views: Sequence[torch.Tensor], tower: ImageTower | None = None
    ) -> list[torch.Tensor]:
        """Features (N, width) of each view; N is the joined batch if processes join theirs.

        Args:
            views: each (B, C, D, H, W).
            tower: another one than the trained one, such as a momentum copy.
        """
        compute = (tower or self.tower).features
        found = in_chunks(compute, torch.cat(list(views)), self.settings.chunk)
        return [self.joined(part) for part in found.chunk(len(views))]

    def joined(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` of all processes if the settings say so, else of this one."""
        return join(x) if self.settings.gather else x
