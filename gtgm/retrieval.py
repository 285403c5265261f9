"""Image–text retrieval on held-out patches: does the encoder know which words belong to a patch?"""

from __future__ import annotations

from collections import Counter

import torch
from torch.nn import functional as F


def retrieval(image: torch.Tensor, text: torch.Tensor, owner: torch.Tensor) -> dict[str, float]:
    """Recall of the right caption among the unique captions of the held-out patches.

    Args:
        image: projected patches (N, E).
        text: projected unique captions (U, E).
        owner: row of ``text`` that is the caption of each patch (N,).

    Returns:
        ``r@1`` and ``r@5``; ``chance`` (1/U); ``most_common`` (what always answering the most
        frequent caption would get); ``patches`` N and ``captions`` U.
    """
    similarity = F.normalize(image.float(), dim=1) @ F.normalize(text.float(), dim=1).T  # (N, U)
    right = similarity.gather(1, owner[:, None])
    # A tie counts against the encoder: one that answers the same for everything earns nothing.
    rank = (similarity >= right).sum(1) - 1
    return {
        "r@1": float((rank < 1).float().mean()),
        "r@5": float((rank < 5).float().mean()),
        "chance": 1 / len(text),
        "most_common": max(Counter(owner.tolist()).values()) / len(owner),
        "patches": len(image),
        "captions": len(text),
    }


def similarity_matrix(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of every patch with every caption, (N, E) and (M, E) → (N, M)."""
    return F.normalize(image.float(), dim=1) @ F.normalize(text.float(), dim=1).T
