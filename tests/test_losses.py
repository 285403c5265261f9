"""Losses against independent references, and by property."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gtgm.losses import (
    alignment_targets,
    cross_correlation,
    negative_cosine,
    vlp_loss,
    vr_loss,
)


def reference_vlp(image: np.ndarray, text: np.ndarray, temperature: float) -> tuple[float, float]:
    """Both directions of InfoNCE, by loops and logarithms of sums."""
    image = image / np.linalg.norm(image, axis=1, keepdims=True)
    text = text / np.linalg.norm(text, axis=1, keepdims=True)
    directions = []
    for a, b in ((image, text), (text, image)):
        total = 0.0
        for i in range(len(a)):
            scores = [float(a[i] @ b[j]) / temperature for j in range(len(b))]
            total -= scores[i] - math.log(sum(math.exp(s) for s in scores))
        directions.append(total / len(a))
    return directions[0], directions[1]


def features(n: int = 6, size: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, size, generator=generator), torch.randn(n, size, generator=generator)


def test_vlp_equals_the_reference():
    image, text = features()
    forward, backward = reference_vlp(image.double().numpy(), text.double().numpy(), 0.07)
    assert vlp_loss(image, text).item() == pytest.approx((forward + backward) / 2, rel=1e-5)
    assert vlp_loss(image, text, reduction="sum").item() == pytest.approx(
        forward + backward, rel=1e-5
    )


def test_vlp_does_not_see_lengths_nor_the_order_of_pairs():
    image, text = features()
    order = torch.randperm(len(image))
    expected = vlp_loss(image, text)
    assert torch.allclose(vlp_loss(3 * image, 0.1 * text), expected, atol=1e-5)
    assert torch.allclose(vlp_loss(image[order], text[order]), expected, atol=1e-5)
    assert torch.allclose(vlp_loss(text, image), expected, atol=1e-5)


def test_equal_captions_are_not_negatives():
    targets = alignment_targets(["a", "b", "a", "c"])
    assert torch.allclose(targets.sum(1), torch.ones(4))
    assert targets[0].tolist() == [0.5, 0, 0.5, 0]
    # Two images with the same caption cannot be told apart: the best loss is log 2 for them, which
    # the shared target reaches and the identity counts as a failure to separate.
    same = torch.eye(2).repeat(2, 1)
    with_targets = vlp_loss(same, same, targets=alignment_targets(["a", "b", "a", "b"]))
    assert with_targets.item() == pytest.approx(math.log(2), abs=1e-4)
    gradient_free = same.clone().requires_grad_()
    vlp_loss(gradient_free, same, targets=alignment_targets(["a", "b", "a", "b"])).backward()
    assert gradient_free.grad.abs().max() < 1e-4


def test_unique_captions_give_the_plain_loss():
    image, text = features()
    targets = alignment_targets([str(i) for i in range(len(image))])
    assert torch.allclose(vlp_loss(image, text, targets=targets), vlp_loss(image, text))


def test_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        vlp_loss(torch.ones(1, 4), torch.ones(1, 4))


def test_cross_correlation_equals_numpy():
    first, second = features(20, 4)
    expected = np.corrcoef(first.numpy().T, second.numpy().T)[:4, 4:]
    assert np.allclose(cross_correlation(first, second), expected, atol=1e-4)


def test_vr_equals_the_reference():
    first, second = features(20, 4)
    matrix = np.corrcoef(first.numpy().T, second.numpy().T)[:4, 4:]
    expected = sum(
        (matrix[i, j] - 1) ** 2 if i == j else 0.0051 * matrix[i, j] ** 2
        for i in range(4)
        for j in range(4)
    )
    assert vr_loss(first, second).item() == pytest.approx(expected, rel=1e-3)
    assert vr_loss(first, second, factor=0.5).item() == pytest.approx(expected / 2, rel=1e-3)


def test_vr_does_not_see_scale_or_offset_only_if_standardised():
    first, second = features(20, 4)
    moved = 5 * first + 3
    assert torch.allclose(vr_loss(moved, second), vr_loss(first, second), atol=1e-3)
    raw = vr_loss(first, second, standardise=False)
    expected = (first.T @ second / 20 - torch.eye(4)).square()
    off = expected.sum() - expected.diagonal().sum()
    assert torch.allclose(raw, expected.diagonal().sum() + 0.0051 * off, atol=1e-5)
    assert not torch.allclose(vr_loss(moved, second, standardise=False), raw, atol=1e-2)


def test_vr_is_zero_for_equal_independent_features():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 9, generator=generator) - 0)[0]
    centred = basis - basis.mean(0)
    independent = torch.linalg.qr(torch.cat([torch.ones(64, 1), centred], 1))[0][:, 1:]
    assert vr_loss(independent, independent).item() == pytest.approx(0, abs=1e-3)


def test_negative_cosine_equals_numpy_and_stops_at_the_target():
    generator = torch.Generator().manual_seed(0)
    p, z = (torch.randn(6, 4, generator=generator).requires_grad_() for _ in range(2))
    loss = negative_cosine(p, z)
    a, b = p.detach().numpy(), z.detach().numpy()
    expected = -np.mean(
        [x @ y / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    )
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert z.grad is None and p.grad.abs().sum() > 0
    assert negative_cosine(3 * p, z).item() == pytest.approx(loss.item(), rel=1e-5)
