"""From affinities to neurons, by any of several methods with one free parameter each.

Every method turns affinities, and fragments where it needs them, into a segmentation for each
value of its parameter. The value is chosen on validation sections by the lowest VOI, and then used
on the test sections, so that methods are compared on equal terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from gtgm.errors import SettingsError
from gtgm.neurons.agglomeration import THRESHOLDS, agglomerate, lowest_voi
from gtgm.neurons.multicut import BETAS, Offsets, check_nearest, multicuts
from gtgm.neurons.mutex import BIASES, mutex_watershed

#: Mutex watershed: forbidding bonds start at every so manyth voxel per axis (one at every voxel
#: splits far more), and parts of fewer voxels go to larger ones.
MUTEX_STRIDES = (1, 4, 4)
MUTEX_MIN_SIZE = 50

Segmentations = Iterator[tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Method:
    """One way from affinities to neurons.

    Attributes:
        parameter: name of the free parameter.
        values: those that are tried by default, rising.
        run: (affinities, offsets, fragments, values) → pairs of a value and its segmentation.
    """

    parameter: str
    values: tuple[float, ...]
    run: Callable[[np.ndarray, Offsets, np.ndarray, Iterable[float]], Segmentations]


def segmentations(
    name: str,
    affinities: np.ndarray,
    offsets: Offsets,
    fragments: np.ndarray,
    values: Iterable[float] | None = None,
) -> Segmentations:
    """Segmentations at rising values of a method's free parameter, one at a time.

    Args:
        name: one of ``METHODS``.
        affinities: (C, D, H, W) in [0, 1], one channel per offset.
        offsets: (z, y, x) in voxels, the three nearest first.
        fragments: (D, H, W) labels; 0 is background and is never merged. ``mutex`` cuts voxels, not
            fragments, and only leaves out the background.
        values: of the free parameter; by default those of the method.
    Yields:
        (value, segmentation (D, H, W) uint64), 0 where the fragments are 0.
    Raises:
        DataError: arrays that do not fit, or affinities that are not finite or not in [0, 1].
        SettingsError: an unknown method, values out of range, or a method that needs long-range
            offsets where there are none.
    """
    method = _method(name)
    return method.run(affinities, offsets, fragments, method.values if values is None else values)


def choose(
    name: str,
    affinities: np.ndarray,
    offsets: Offsets,
    fragments: np.ndarray,
    truth: np.ndarray,
    values: Iterable[float] | None = None,
    ignore: tuple[int, ...] = (0,),
) -> tuple[float, list[dict[str, float]]]:
    """The value of a method's free parameter with the lowest VOI sum, and the whole curve.

    To be called with validation sections only: a value chosen on test sections makes the test
    score optimistic.

    Args:
        name, affinities, offsets, fragments, values: as in :func:`segmentations`.
        truth: (D, H, W) labels of the same sections; labels in ``ignore`` do not count.
    Returns:
        The best value (the lowest one of equals), and one row per value with ``parameter``,
        ``voi_split``, ``voi_merge``, ``voi_sum``, ``arand``.
    """
    tried = segmentations(name, affinities, offsets, fragments, values)
    return lowest_voi(tried, truth, ignore)


def segment(
    name: str, affinities: np.ndarray, offsets: Offsets, fragments: np.ndarray, value: float
) -> np.ndarray:
    """The segmentation (D, H, W) uint64 at one value; arguments as in :func:`segmentations`."""
    ((_, labels),) = segmentations(name, affinities, offsets, fragments, (value,))
    return labels


def _method(name: str) -> Method:
    if name not in METHODS:
        raise SettingsError(
            f"there is no method {name!r}", where="method", expected=", ".join(METHODS)
        )
    return METHODS[name]


def _waterz(
    affinities: np.ndarray,
    offsets: Offsets,
    fragments: np.ndarray,
    values: Iterable[float],
    scoring: str,
) -> Segmentations:
    check_nearest(offsets)
    return agglomerate(affinities, fragments, values, scoring)


def _multicut(
    affinities: np.ndarray,
    offsets: Offsets,
    fragments: np.ndarray,
    values: Iterable[float],
    lifted: bool,
) -> Segmentations:
    return multicuts(affinities, fragments, values, offsets, lifted)


def _mutex(
    affinities: np.ndarray, offsets: Offsets, fragments: np.ndarray, values: Iterable[float]
) -> Segmentations:
    inside = np.asarray(fragments) != 0
    for value in sorted({float(v) for v in values}):
        yield (
            value,
            mutex_watershed(affinities, offsets, value, MUTEX_STRIDES, MUTEX_MIN_SIZE, inside),
        )


METHODS: dict[str, Method] = {
    "waterz": Method("threshold", THRESHOLDS, partial(_waterz, scoring="mean")),
    "waterz_quantile": Method("threshold", THRESHOLDS, partial(_waterz, scoring="quantile75")),
    "multicut": Method("beta", BETAS, partial(_multicut, lifted=False)),
    "lifted_multicut": Method("beta", BETAS, partial(_multicut, lifted=True)),
    "mutex": Method("bias", BIASES, _mutex),
}
