"""Prediction, segmentation and scores, with networks whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gtgm.errors import DataError
from gtgm.neurons import segment
from gtgm.neurons.affinities import affinities
from gtgm.neurons.metrics import voi
from gtgm.neurons.segment import (
    predict_affinities,
    segment_neurons,
    statistics,
)
from gtgm.neurons.training import standardise


class Pointwise(nn.Module):
    """Logits that depend on the voxel only, so that no patch or border can change them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, 2 * x, -x], dim=1)


@pytest.fixture
def raw():
    return np.random.default_rng(0).integers(0, 255, (7, 20, 30)).astype(np.uint8)


@pytest.mark.parametrize("patch", [(4, 8, 8), (16, 16, 64), (7, 20, 30)])
def test_patches_leave_no_trace(raw, patch):
    result = predict_affinities(Pointwise(), raw, patch)
    x = standardise(raw)
    expected = 1 / (1 + np.exp(-np.stack([x, 2 * x, -x])))
    assert result.dtype == np.float32 and result.shape == (3, 7, 20, 30)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_network_sees_only_sizes_that_it_can_take(raw):
    seen = set()
    network = Pointwise()
    network.register_forward_pre_hook(lambda _, x: seen.add(tuple(x[0].shape[2:])))
    result = predict_affinities(network, raw, (24, 10, 16), multiple=(4, 8, 8), overlap=0.25)
    assert seen == {(8, 16, 16)} and result.shape == (3, 7, 20, 30)


def test_prediction_puts_the_network_in_evaluation_mode(raw):
    network = nn.Sequential(nn.Dropout(0.5), Pointwise()).train()
    first = predict_affinities(network, raw, (4, 16, 16))
    np.testing.assert_array_equal(first, predict_affinities(network, raw, (4, 16, 16)))
    assert not network.training


def test_bfloat16_is_close(raw):
    torch.manual_seed(0)
    network = nn.Conv3d(1, 3, 3, padding=1)
    exact = predict_affinities(network, raw, (4, 16, 16))
    np.testing.assert_allclose(
        predict_affinities(network, raw, (4, 16, 16), bf16=True), exact, atol=0.02
    )


def test_other_arrays_are_refused(raw):
    with pytest.raises(DataError, match="raw has shape"):
        predict_affinities(Pointwise(), raw[0], (4, 8, 8))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_statistics_are_those_of_the_whole_volume(raw, dtype, monkeypatch):
    monkeypatch.setattr(segment, "SLAB", 3000)
    volume = raw.astype(dtype) + dtype(5)
    mean, std = statistics(volume)
    assert mean == pytest.approx(volume.mean(dtype=float), rel=1e-6)
    assert std == pytest.approx(volume.std(dtype=float, ddof=1), rel=1e-6)
    np.testing.assert_allclose((volume - mean) / std, standardise(volume), atol=1e-5)
    assert statistics(np.full((4, 5, 6), 7))[1] == np.float32(1e-6)


@pytest.mark.parametrize("two_d", [False, True])
def test_neurons_come_back_from_clean_affinities(two_d):
    labels = np.ones((6, 30, 30), dtype=np.uint64)
    labels[:, 12:] += 1
    labels[:, :, 17:] += 2
    affs = affinities(labels)[0].numpy()
    assert voi(segment_neurons(affs, 0.5, two_d), labels).sum == 0
    pieces = np.arange(6 * 30 * 30, dtype=np.uint64).reshape(labels.shape) + 1
    assert voi(segment_neurons(affs, 0.5, fragments=pieces), labels).sum == 0
