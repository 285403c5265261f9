"""Training: it learns, it continues exactly, and it refuses what cannot work."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.loop import CHECKPOINT
from gtgm.neurons.settings import NeuronSettings
from gtgm.neurons.training import (
    draw_batch,
    patch_for,
    standardise,
    train_affinities,
)

SETTINGS = NeuronSettings(patch=(4, 16, 16), steps=6, checkpoint_every=2, learning_rate=1e-2)


def tiny(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Conv3d(8, outputs, 3, padding=1),
    )


@pytest.fixture(scope="module")
def volume():
    """Neurites with dark membranes between them."""
    y, x = np.mgrid[:32, :32]
    labels = np.broadcast_to(1 + y // 8 + 4 * (x // 8), (8, 32, 32)).astype(np.uint64)
    edge = (y % 8 == 0) | (x % 8 == 0)
    noise = np.random.default_rng(0).integers(0, 30, labels.shape)
    return (np.where(edge, 40, 180) + noise).astype(np.uint8), labels


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_the_loss_falls(volume, loss):
    settings = dataclasses.replace(SETTINGS, steps=40, loss=loss)
    curves = train_affinities(tiny(), *volume, settings)
    losses = [value for _, value in curves["loss"]]
    assert [step for step, _ in curves["loss"]] == list(range(1, 41))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.parametrize("optimiser", ["one_cycle", "paper"])
def test_a_killed_run_continues_as_if_nothing_had_happened(
    volume, tmp_path, monkeypatch, optimiser
):
    settings = dataclasses.replace(SETTINGS, optimiser=optimiser, ema=0.9)
    whole = tiny()
    expected = train_affinities(whole, *volume, settings)

    class Killed(Exception):
        pass

    calls = iter(range(99))

    def dies_in_step_5(*arguments):
        if next(calls) == 5:
            raise Killed
        return draw_batch(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("gtgm.neurons.training.draw_batch", dies_in_step_5)
        with pytest.raises(Killed):
            train_affinities(tiny(), *volume, settings, folder=tmp_path)
    torch.manual_seed(99)
    other = tiny()
    for weight in other.parameters():
        nn.init.normal_(weight)
    curves = train_affinities(other, *volume, settings, folder=tmp_path)
    assert curves == expected
    for a, b in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_finished_run_is_not_run_again(volume, tmp_path, monkeypatch):
    first, again = tiny(), tiny()
    curves = train_affinities(first, *volume, SETTINGS, folder=tmp_path)
    monkeypatch.setattr("gtgm.neurons.training.draw_batch", None)
    assert train_affinities(again, *volume, SETTINGS, folder=tmp_path) == curves
    assert torch.equal(first[0].weight, again[0].weight)
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def test_checkpoints_of_something_else_are_refused(volume, tmp_path):
    train_affinities(tiny(), *volume, SETTINGS, folder=tmp_path)
    with pytest.raises(SettingsError, match="other settings"):
        train_affinities(tiny(), *volume, dataclasses.replace(SETTINGS, seed=1), folder=tmp_path)
    with pytest.raises(WeightsError, match="another network"):
        train_affinities(nn.Conv3d(1, 3, 1), *volume, SETTINGS, folder=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"half a checkpoint")
    with pytest.raises(WeightsError, match="cannot be read"):
        train_affinities(tiny(), *volume, SETTINGS, folder=tmp_path)


def test_few_sections_are_reflected_and_the_added_ones_do_not_count(volume, caplog):
    raw, labels = volume[0][:3], volume[1][:3]
    seen = []
    network = tiny()
    network.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
    settings = dataclasses.replace(SETTINGS, patch=(24, 20, 48))
    with caplog.at_level("INFO"):
        train_affinities(network, raw, labels, settings, multiple=(8, 8, 8))
    assert set(seen) == {(2, 1, 8, 24, 32)}
    assert [r.getMessage().count("(8, 24, 32)") for r in caplog.records] == [1]


def test_patches_fit_the_volume_and_the_backbone():
    assert patch_for((120, 250, 250), (24, 96, 96), (8, 8, 8)) == (24, 96, 96)
    assert patch_for((12, 250, 250), (24, 96, 96), (8, 16, 16)) == (16, 96, 96)
    assert patch_for((1, 5, 250), (24, 96, 96), (1, 1, 1)) == (1, 5, 96)


def test_batches_have_the_offsets_asked_for(volume):
    settings = dataclasses.replace(
        SETTINGS, offsets=((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -9, 0))
    )
    x, target, mask = draw_batch(
        standardise(volume[0]), volume[1], (4, 16, 16), settings, np.random.default_rng(0)
    )
    assert x.shape == (2, 1, 4, 16, 16) and x.dtype == torch.float32
    assert target.shape == mask.shape == (2, 4, 4, 16, 16)
    with pytest.raises(SettingsError, match="3 outputs for 4 offsets"):
        train_affinities(tiny(), *volume, settings)


def test_bfloat16_trains_too(volume):
    settings = dataclasses.replace(SETTINGS, bf16=True)
    network = tiny()
    before = network[0].weight.detach().clone()
    curves = train_affinities(network, *volume, settings)
    assert np.isfinite([value for _, value in curves["loss"]]).all()
    assert network[0].weight.dtype == torch.float32 and not torch.equal(before, network[0].weight)


def test_raw_is_standardised_even_if_constant():
    raw = standardise(np.random.default_rng(0).integers(0, 255, (4, 9, 9)).astype(np.uint8))
    assert raw.dtype == np.float32
    assert raw.mean() == pytest.approx(0, abs=1e-5) and raw.std() == pytest.approx(1, abs=1e-2)
    assert (standardise(np.full((2, 3, 3), 7, np.uint8)) == 0).all()


def test_useless_labels_are_refused(volume):
    raw, labels = volume
    with pytest.raises(DataError, match="shape"):
        train_affinities(tiny(), raw[:4], labels, SETTINGS)
    with pytest.raises(DataError, match="labelled"):
        train_affinities(tiny(), raw, np.zeros_like(labels), SETTINGS)
