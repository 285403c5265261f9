"""Maps of features, and what they tell about place."""

from __future__ import annotations

import numpy as np
import pytest

from gtgm.embedding import flat_map, position_score

RNG = np.random.default_rng(0)
VOLUMES = [f"v{i // 10}" for i in range(60)]


def test_the_map_is_that_of_the_singular_value_decomposition() -> None:
    features = RNG.normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    places, shares = flat_map(features)
    centred = features - features.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs(centred @ directions[:2].T), atol=1e-10)
    np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:2])


def test_distances_do_not_depend_on_how_features_are_turned() -> None:
    features = RNG.normal(size=(30, 5)) * [4, 2, 1, 1, 1]
    turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    one, other = (flat_map(f)[0] for f in (features, features @ turn + 7))
    distances = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (one, other)]
    np.testing.assert_allclose(*distances, atol=1e-9)


def test_place_is_found_where_features_hold_it_and_nowhere_else() -> None:
    positions = RNG.random((60, 3))
    features = np.concatenate([positions[:, :1] * 3, RNG.normal(size=(60, 1)) * 0.01], axis=1)
    z, y, x = position_score(features, positions, VOLUMES)
    assert z > 0.9 and y < 0.3 and x < 0.3


def test_a_volume_does_not_help_itself() -> None:
    # Features name the volume, and each volume has patches at one place: leave it out, and nothing
    # is left to go by.
    which = np.arange(60) // 10
    features = np.eye(6)[which] * 10 + RNG.normal(size=(60, 6)) * 0.01
    positions = np.repeat(RNG.random(6)[which][:, None], 3, axis=1)
    assert (position_score(features, positions, VOLUMES) < 0.2).all()


def test_the_mean_scores_zero_and_no_spread_scores_nothing() -> None:
    positions = RNG.random((60, 3))
    positions[:, 1] = 0.5
    z, y, _ = position_score(np.zeros((60, 2)), positions, VOLUMES)
    assert np.isnan(y) and z == pytest.approx(0, abs=0.6) and z <= 0.05


@pytest.mark.parametrize("volumes", [["a"] * 60, ["a"] * 57 + ["b"] * 3])
def test_too_little_to_compare_with_is_no_score(volumes: list[str]) -> None:
    assert np.isnan(position_score(RNG.random((60, 2)), RNG.random((60, 3)), volumes)).all()
