"""Losses of pretraining: image–text alignment, redundancy reduction, comparison of views."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F


def alignment_targets(captions: list[str] | torch.Tensor) -> torch.Tensor:
    """Row-normalised equality matrix of the captions (N, N).

    Patches with the same caption are not negatives of each other: each of them is an equally
    right answer.
    """
    if not isinstance(captions, torch.Tensor):
        ids = {text: i for i, text in enumerate(dict.fromkeys(captions))}
        captions = torch.tensor([ids[text] for text in captions])
    same = (captions[:, None] == captions[None, :]).float()
    return same / same.sum(1, keepdim=True)


def vlp_loss(
    image: torch.Tensor,
    text: torch.Tensor,
    temperature: float = 0.07,
    targets: torch.Tensor | None = None,
    reduction: str = "mean",
) -> torch.Tensor:
    """L_VLP, symmetric InfoNCE between images and texts (CLIP, Radford et al. 2021, figure 3).

    Args:
        image: projected image features (N, E); their length does not matter.
        text: projected text features (N, E).
        temperature: divides the cosine similarities.
        targets: probability that text j describes image i (N, N), by default the identity; its
            rows sum to 1 and it is symmetric up to this normalisation.
        reduction: ``mean`` of the two directions, or their ``sum`` as in the released code.

    Returns:
        Scalar loss.

    Raises:
        ValueError: fewer than two pairs, which leaves no negative to compare with.
    """
    if len(image) < 2:
        raise ValueError(f"a contrastive loss needs at least 2 pairs, got {len(image)}")
    similarity = F.normalize(image.float(), dim=1) @ F.normalize(text.float(), dim=1).T
    similarity = similarity / temperature  # (N, N)
    if targets is None:
        targets = torch.eye(len(image), device=image.device)
    image_to_text = F.cross_entropy(similarity, targets)
    text_to_image = F.cross_entropy(similarity.T, targets)
    total = image_to_text + text_to_image
    return total / 2 if reduction == "mean" else total


def cross_correlation(
    features1: torch.Tensor, features2: torch.Tensor, standardise: bool = True
) -> torch.Tensor:
    """Correlation of every feature of view 1 with every feature of view 2 (E, E).

    Args:
        features1: features of the first views (N, E).
        features2: features of the second views (N, E).
        standardise: bring each feature to zero mean and unit variance over the batch first, as in
            Barlow Twins; without it this is the raw second moment of the released code.
    """
    features1, features2 = features1.float(), features2.float()
    if standardise:
        features1, features2 = _standardise(features1), _standardise(features2)
    return features1.T @ features2 / len(features1)


def vr_loss(
    features1: torch.Tensor,
    features2: torch.Tensor,
    weight_off_diagonal: float = 0.0051,
    standardise: bool = True,
    factor: float = 1.0,
) -> torch.Tensor:
    """L_VR: drive the cross-correlation matrix to the identity (Zbontar et al. 2021, equation 1).

    Args:
        features1: features of the first views (N, E).
        features2: features of the second views (N, E).
        weight_off_diagonal: λ, weight of the redundancy term.
        standardise: see :func:`cross_correlation`.
        factor: multiplies the loss; the released code has ½.
    """
    matrix = cross_correlation(features1, features2, standardise)
    diagonal = torch.diagonal(matrix)
    on = (diagonal - 1).square().sum()
    off = matrix.square().sum() - diagonal.square().sum()
    return factor * (on + weight_off_diagonal * off)


def negative_cosine(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean of −cos of the rows of ``prediction`` and ``target`` (N, E), the target without gradient
    (Chen and He 2021, equation 1)."""
    return -F.cosine_similarity(prediction.float(), target.detach().float(), dim=1).mean()


def siamese_loss(
    predictor: Callable[[torch.Tensor], torch.Tensor], first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """Each view's projection (N, E) predicted from the other's, without a gradient through it
    (Chen and He 2021, equation 4)."""
    forth = negative_cosine(predictor(first), second)
    return (forth + negative_cosine(predictor(second), first)) / 2


def _standardise(features: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
    """Zero mean and unit (population) variance over the batch."""
    variance, mean = torch.var_mean(features, 0, correction=0)
    return (features - mean) * torch.rsqrt(variance + eps)
