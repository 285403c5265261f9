"""What a space of features holds: drawn on two axes, and measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NEIGHBOURS = 5


def flat_map(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two directions of largest spread (principal components).

    Unlike t-SNE or UMAP it has no parameter, and distances keep their meaning.

    Args:
        features: (N, C).

    Returns:
        Places (N, 2), and the share of the variance along each of the two axes (2,).
    """
    pca = PCA(2, svd_solver="full")
    places = pca.fit_transform(np.asarray(features, dtype=float))
    return places, pca.explained_variance_ratio_


def position_score(
    features: np.ndarray, positions: np.ndarray, volumes: Sequence[str]
) -> np.ndarray:
    """How well the nearest patches of *other* volumes tell where in its volume a patch is.

    The mean position of the five nearest patches, by Euclidean distance of standardised features,
    predicts a patch's position; the volumes are split into at most five groups, and no neighbour is
    of the same group.

    Args:
        features: (N, C).
        positions: (N, K), such as shares of the way along K axes.
        volumes: name of each patch's volume.

    Returns:
        R² per axis (K,): 1 is exact, 0 no better than the mean, and below 0 worse; NaN where all
        positions are the same, or where there are fewer than two volumes or too few patches.
    """
    positions = np.asarray(positions, dtype=float)
    groups, counts = np.unique(volumes, return_counts=True)
    most = min(5, len(groups))
    if most < 2 or len(volumes) - counts.max() * -(-len(groups) // most) < NEIGHBOURS:
        return np.full(positions.shape[1], np.nan)
    model = make_pipeline(StandardScaler(), KNeighborsRegressor(NEIGHBOURS))
    predicted = cross_val_predict(
        model, np.asarray(features, float), positions, groups=volumes, cv=GroupKFold(most)
    )
    spread = positions.var(0)
    error = ((positions - predicted) ** 2).mean(0)
    return np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1), np.nan)
