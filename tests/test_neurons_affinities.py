"""Affinities and their losses against loops and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from gtgm.errors import DataError, SettingsError
from gtgm.neurons.affinities import NEAREST, affinities, balance_weights, balanced_bce, weighted_mse


def by_loop(labels: np.ndarray, offsets) -> tuple[np.ndarray, np.ndarray]:
    target = np.zeros((len(offsets), *labels.shape), dtype=np.float32)
    mask = np.zeros(target.shape, dtype=bool)
    for channel, offset in enumerate(offsets):
        for voxel in np.ndindex(labels.shape):
            partner = tuple(np.add(voxel, offset))
            if any(p < 0 or p >= n for p, n in zip(partner, labels.shape, strict=True)):
                continue
            a, b = labels[voxel], labels[partner]
            mask[(channel, *voxel)] = a != 0 and b != 0
            target[(channel, *voxel)] = a == b != 0
    return target, mask


@pytest.mark.parametrize("offsets", [NEAREST, ((-3, 0, 0), (0, 2, -1), (1, 1, 1), (0, 0, -9))])
def test_affinities_are_those_of_a_loop(offsets):
    labels = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.uint64)
    target, mask = affinities(labels, offsets)
    expected = by_loop(labels, offsets)
    assert target.dtype == torch.float32 and mask.dtype == torch.bool
    np.testing.assert_array_equal(target, expected[0])
    np.testing.assert_array_equal(mask, expected[1])


def test_a_batch_is_each_of_its_volumes():
    labels = np.random.default_rng(1).integers(0, 3, (2, 3, 4, 5))
    target, mask = affinities(labels)
    assert target.shape == (2, 3, 3, 4, 5)
    for one in range(2):
        alone = affinities(torch.from_numpy(labels[one]))
        assert torch.equal(target[one], alone[0]) and torch.equal(mask[one], alone[1])


def test_labels_beyond_the_signed_range_are_told_apart():
    labels = np.array([[[2**63 + 1, 2**63 + 1, 2**63 + 2]]], dtype=np.uint64)
    assert affinities(labels, ((0, 0, -1),))[0].flatten().tolist() == [0, 1, 0]


@pytest.mark.parametrize("labels", [np.zeros((4, 4), int), np.zeros((2, 2, 2), np.float32)])
def test_other_arrays_are_refused(labels):
    with pytest.raises(DataError, match="labels have shape"):
        affinities(labels)


@pytest.mark.parametrize("offsets", [(), ((0, 0, 0),), ((1, 0),), ((0.5, 0, 0),)])
def test_bad_offsets_are_refused(offsets):
    with pytest.raises(SettingsError, match="offsets"):
        affinities(np.ones((2, 2, 2), int), offsets)


def test_both_classes_weigh_the_same_in_each_channel():
    target = (torch.rand(2, 3, 4, 8, 8, generator=torch.manual_seed(0)) < 0.8).float()
    mask = torch.rand(target.shape, generator=torch.manual_seed(1)) < 0.7
    weights = balance_weights(target, mask)
    assert (weights[~mask] == 0).all()
    positive = (weights * target).sum((2, 3, 4))
    negative = (weights * (1 - target)).sum((2, 3, 4))
    torch.testing.assert_close(positive, negative)
    torch.testing.assert_close(positive + negative, mask.sum((2, 3, 4)).float())


def test_the_weight_of_a_rare_class_is_limited():
    target = torch.ones(1, 1, 10, 10, 10)
    target[0, 0, 0, 0, 0] = 0
    weights = balance_weights(target, torch.ones_like(target, dtype=torch.bool), clip=0.05)
    assert weights.max() == pytest.approx(0.5 / 0.05)


@pytest.mark.parametrize("loss", [weighted_mse, balanced_bce])
def test_losses_have_known_values_and_ignore_what_is_masked(loss):
    target = torch.tensor([1.0, 1, 1, 0]).reshape(1, 1, 1, 1, 4)
    mask = torch.ones_like(target, dtype=torch.bool)
    logits = torch.tensor([2.0, -1, 0, 1]).reshape(target.shape)
    p = logits.flatten().sigmoid()
    error = (p - target.flatten()) ** 2
    if loss is balanced_bce:
        error = -torch.where(target.flatten() == 1, p, 1 - p).log()
    torch.testing.assert_close(loss(logits, target, mask), (error[:3].mean() + error[3]) / 2)

    mask[..., 3] = False
    changed = logits.clone()
    changed[..., 3] = 50
    torch.testing.assert_close(loss(changed, target, mask), error[:3].mean())
    assert loss(logits, target, torch.zeros_like(mask)) == 0


@pytest.mark.parametrize("loss", [weighted_mse, balanced_bce])
def test_losses_fall_when_followed(loss):
    labels = np.random.default_rng(2).integers(0, 3, (1, 3, 4, 5))
    target, mask = affinities(labels)
    logits = torch.zeros(target.shape, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    first = loss(logits, target, mask).item()
    for _ in range(40):
        optimiser.zero_grad()
        loss(logits, target, mask).backward()
        optimiser.step()
    assert loss(logits, target, mask).item() < 0.1 * first
    assert ((logits > 0).float() == target)[mask].all()
    assert (logits[~mask] == 0).all()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("boundary", [1, 2])
def test_shrunk_neurons_are_bound_to_nothing_near_each_other(boundary, flat):
    labels = (
        np.random.default_rng(1).integers(0, 3, (3, 3, 3)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    )
    target, mask = affinities(labels, NEAREST, boundary, flat)
    plain, plain_mask = affinities(labels, NEAREST)
    assert torch.equal(mask, plain_mask)  # what is known stays known: it is known to be a cut
    axes = (1, 2) if flat else (0, 1, 2)
    near = np.zeros(labels.shape, bool)
    for axis in axes:
        a, b = np.moveaxis(labels, axis, 0), np.moveaxis(near, axis, 0)
        touch = (a[1:] != a[:-1]) & (a[1:] != 0) & (a[:-1] != 0)
        b[1:] |= touch
        b[:-1] |= touch
    cross = ndimage.generate_binary_structure(3, 1)
    if flat:
        cross[[0, 2]] = False
    if boundary > 1:
        near = ndimage.binary_dilation(near, cross, boundary - 1)
    for channel, offset in enumerate(NEAREST):
        other = np.roll(near, [-o for o in offset], (0, 1, 2))
        expected = plain[channel].numpy() * ~near * ~other
        assert np.array_equal(target[channel].numpy(), expected)
