"""Which voxels of a patch its caption depends on: similarity while a box is hidden."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.visualize import OcclusionSensitivity
from torch import nn
from torch.nn import functional as F

from gtgm.methods.objective import Objective


class CaptionSimilarity(nn.Module):
    """Cosine similarity of patches (B, 1, D, H, W) with captions, (B, K).

    Args:
        model: a trained method that reads text.
        captions: indices (K,) of the captions in the run's texts.
    """

    def __init__(self, model: Objective, captions: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.eval()  # all of it: MONAI sets what it was given back to the mode that it finds
        with torch.no_grad():
            text = model.embed_captions(torch.as_tensor(list(captions)))
        self.register_buffer("text", F.normalize(text, dim=1))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return F.normalize(self.model.embed(patches), dim=1) @ self.text.T


@torch.no_grad()
def text_saliency(
    similarity: CaptionSimilarity,
    patch: torch.Tensor,
    box: Sequence[int] = (8, 8, 8),
    overlap: float = 0.5,
) -> np.ndarray:
    """How much the similarity with each caption falls when a box around a voxel is hidden.

    Boxes are filled with the patch's mean (occlusion sensitivity, Zeiler and Fergus 2014, by
    :class:`monai.visualize.OcclusionSensitivity`); where they overlap, falls are averaged.

    Args:
        similarity: of patches with K captions.
        patch: (1, D, H, W), normalised.
        box: voxels (z, y, x) that are hidden at once.
        overlap: of neighbouring boxes, as a share of their side.

    Returns:
        (K, D, H, W) in units of cosine similarity; positive where the caption needs the voxels.
    """
    whole = similarity(patch[None])[0]  # (K,)
    occlude = OcclusionSensitivity(
        similarity, list(box), n_batch=32, verbose=False, mode="mean_img", overlap=overlap,
        activate=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        # MONAI 1.6 indexes with lists, which torch warns about for every box.
        warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
        hidden, _ = occlude(patch[None])  # (1, K, D, H, W); MONAI's page gives another order
    return (whole[:, None, None, None] - hidden[0].as_tensor()).numpy()
