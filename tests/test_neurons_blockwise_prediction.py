"""Blockwise prediction against the prediction of the whole volume."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
import zarr
from torch import nn

from gtgm.errors import DataError, SettingsError
from gtgm.neurons import blockwise_prediction
from gtgm.neurons.blockwise_prediction import predict_blockwise
from gtgm.neurons.segment import predict_affinities


@pytest.fixture
def raw():
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (23, 30, 41)).astype(np.uint8)


@pytest.fixture
def network():
    """Answers that depend on the whole patch, through InstanceNorm."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.InstanceNorm3d(4, affine=True),
        nn.LeakyReLU(),
        nn.Conv3d(4, 3, 3, padding=1),
    )


@pytest.mark.parametrize(
    ("patch", "overlap", "tile", "batch"),
    [
        ((8, 16, 16), 0.5, (64, 64), 1),
        ((8, 16, 16), 0.5, (11, 17), 3),
        ((5, 12, 20), 0.3, (30, 20), 2),
        ((8, 10, 10), 0.0, (7, 41), 4),
        ((23, 30, 41), 0.5, (20, 20), 1),
        ((4, 40, 64), 0.75, (64, 25), 1),
    ],
)
def test_values_are_those_of_the_whole_volume(raw, network, patch, overlap, tile, batch, tmp_path):
    expected = predict_affinities(network, raw, patch, overlap, batch=batch)
    result = predict_blockwise(network, raw, tmp_path, patch, overlap, batch=batch, tile=tile)
    if batch <= 2:  # a single patch goes through the network in company
        np.testing.assert_array_equal(result[:], expected)
    else:
        np.testing.assert_allclose(result[:], expected, atol=1e-6)


def test_small_volumes_are_reflected_as_before(raw, network, tmp_path):
    settings = {"patch": (24, 16, 48), "multiple": (8, 16, 16)}
    expected = predict_affinities(network, raw[:, :9], **settings)
    result = predict_blockwise(network, raw[:, :9], tmp_path, **settings, dtype="float16")
    assert result.dtype == np.float16 and result.shape == expected.shape
    np.testing.assert_array_equal(result[:], expected.astype(np.float16))


@pytest.mark.parametrize("tile", [(64, 64), (15, 41)])
def test_a_killed_run_continues(raw, network, tile, tmp_path, monkeypatch):
    arguments = {"patch": (8, 16, 16), "tile": tile}
    expected = predict_blockwise(network, raw, tmp_path / "expected", **arguments)[:]
    real, rows = blockwise_prediction._read, []

    def killed(raw, origin, size):
        rows.append(origin)
        if len(rows) == 4:
            raise KeyboardInterrupt
        return real(raw, origin, size)

    monkeypatch.setattr(blockwise_prediction, "_read", killed)
    for _ in range(2):
        try:
            result = predict_blockwise(network, raw, tmp_path / "killed", **arguments)
        except KeyboardInterrupt:
            partial = zarr.open_array(str(tmp_path / "killed" / "affinities.zarr"), mode="r")
            assert partial.attrs["done"] == 3 and np.any(partial[:, :12] != expected[:, :12]) == (
                tile != (64, 64)
            )
    np.testing.assert_array_equal(result[:], expected)
    # The row before the first missing one reaches into it; no other is predicted twice.
    assert [z for z, *_ in rows[3:6]] == [12, 8, 12]
    before = len(rows)
    predict_blockwise(network, raw, tmp_path / "killed", **arguments)
    assert len(rows) == before


def test_hdf5_is_read_in_parts(raw, network, tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["raw"] = raw
    with h5py.File(tmp_path / "raw.h5") as file:
        result = predict_blockwise(network, file["raw"], tmp_path / "out", (8, 16, 16))
    expected = predict_affinities(network, raw, (8, 16, 16))
    np.testing.assert_array_equal(result[:], expected)


def test_other_data_in_the_same_folder_is_refused(raw, network, tmp_path):
    predict_blockwise(network, raw, tmp_path, (8, 16, 16))
    with pytest.raises(SettingsError, match="other data or settings"):
        predict_blockwise(network, raw[::-1], tmp_path, (8, 16, 16))
    with torch.no_grad():
        network[0].bias += 1
    with pytest.raises(SettingsError, match="other data or settings"):
        predict_blockwise(network, raw, tmp_path, (8, 16, 16))


def test_bad_input_is_refused(raw, network, tmp_path):
    with pytest.raises(DataError, match="raw has shape"):
        predict_blockwise(network, raw[0], tmp_path, (8, 16, 16))
    with pytest.raises(SettingsError, match="dtype"):
        predict_blockwise(network, raw, tmp_path, (8, 16, 16), dtype="uint8")
    with pytest.raises(SettingsError, match="overlap"):
        predict_blockwise(network, raw, tmp_path, (8, 16, 16), overlap=1.0)
    with pytest.raises(SettingsError, match="block"):
        predict_blockwise(network, raw, tmp_path, (8, 16, 16), tile=(0, 16))
    assert not list(tmp_path.iterdir())
