"""Text embeddings inside the training: looked up, or from an encoder that is partly trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from gtgm.errors import SettingsError
from gtgm.text.encoder import MAX_TOKENS, TextEncoder


class FrozenText(nn.Module):
    """Embeddings (U, T) that were computed once; the text encoder of Figure 2 is frozen.

    Attributes:
        dim: length T of an embedding.
    """

    def __init__(self, embeddings: torch.Tensor) -> None:
        super().__init__()
        self.dim = embeddings.shape[1]
        self.register_buffer("embeddings", embeddings, persistent=False)

    def forward(self, captions: torch.Tensor) -> torch.Tensor:
        """Caption indices (B,) → embeddings (B, T)."""
        return self.embeddings[captions]


class TrainedText(nn.Module):
    """A BERT whose last layers are trained with the images (`method.md`: 6 of 12 in the code).

    Args:
        encoder: a BERT, here or from a hub.
        texts: every caption, in the order of the caption indices.
        layers: number of last layers that are trained.

    Attributes:
        dim: length T of an embedding.

    Raises:
        SettingsError: the model has fewer layers, or none that can be told apart.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], layers: int) -> None:
        super().__init__()
        self.dim, self.model = encoder.dim, encoder.model
        blocks = getattr(getattr(self.model, "encoder", None), "layer", ())
        if not 0 < layers <= len(blocks):
            raise SettingsError(
                f"is {layers}",
                where="pretrain.text_layers",
                expected=f"1 to {len(blocks)}, the layers of {type(self.model).__name__}, or 0 for "
                "a frozen text encoder",
            )
        for block in blocks[-layers:]:
            block.requires_grad_(True)
        tokens = encoder.tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        self.register_buffer("ids", tokens["input_ids"], persistent=False)
        self.register_buffer("mask", tokens["attention_mask"], persistent=False)

    def forward(self, captions: torch.Tensor) -> torch.Tensor:
        """Caption indices (B,) → embeddings (B, T), each different caption computed once."""
        unique, place = captions.unique(return_inverse=True)
        mask = self.mask[unique]
        longest = int(mask.sum(1).max())
        out = self.model(input_ids=self.ids[unique, :longest], attention_mask=mask[:, :longest])
        return out.last_hidden_state[:, 0].float()[place]
