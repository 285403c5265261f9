"""Random EM patches and their augmentation, on numpy arrays.

The axes of a section may be flipped and exchanged, and the stack turned upside down. z is never
exchanged with y or x: sections of ssTEM are ten times thicker than a pixel, and what happens to
one section (its staining, its loss) does not happen across sections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gtgm.errors import DataError, SettingsError


@dataclass(frozen=True)
class Augmentation:
    """How strongly patches are changed; raw values have zero mean and unit variance.

    Attributes:
        flip: probability of a flip, for each axis.
        transpose: probability that y and x are exchanged (square patches only).
        contrast: sections are scaled by a factor in 1 ± contrast, half of it shared by all.
        brightness: sections are shifted by up to ± brightness, half of it shared by all.
        noise: Gaussian noise of a standard deviation between 0 and noise.
        missing: probability that a patch loses one section.
    """

    flip: float = 0.5
    transpose: float = 0.5
    contrast: float = 0.2
    brightness: float = 0.2
    noise: float = 0.2
    missing: float = 0.1

    def __post_init__(self) -> None:
        for name in ("flip", "transpose", "missing"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(
                    f"is {getattr(self, name)}", where=name, expected="a probability, 0 to 1"
                )
        for name in ("contrast", "brightness", "noise"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingsError(
                    f"is {getattr(self, name)}", where=name, expected="at least 0, below 1"
                )


def sample_patch(
    raw: np.ndarray, labels: np.ndarray, size: tuple[int, int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A patch at a random position, as views of ``raw`` and ``labels`` (D, H, W).

    Raises:
        DataError: the volume is smaller than the patch.
    """
    room = [n - s for n, s in zip(raw.shape, size, strict=True)]
    if min(room) < 0:
        raise DataError(
            f"a volume of {raw.shape} has no patch of {tuple(size)}",
            expected="a volume at least as large as the patch",
        )
    start = [int(rng.integers(r + 1)) for r in room]
    where = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
    return raw[where], labels[where]


def augment(
    raw: np.ndarray, labels: np.ndarray, rng: np.random.Generator, how: Augmentation
) -> tuple[np.ndarray, np.ndarray]:
    """A changed copy of a patch: the same geometry for both arrays, intensities of ``raw`` only.

    Args:
        raw: (D, H, W) float32, zero mean and unit variance over its volume.
        labels: (D, H, W) integers. A lost section keeps its labels, so that the network learns
            to carry neurons across it.
    Returns:
        New contiguous arrays of the same types.
    """
    for axis in range(3):
        if rng.random() < how.flip:
            raw, labels = np.flip(raw, axis), np.flip(labels, axis)
    if raw.shape[1] == raw.shape[2] and rng.random() < how.transpose:
        raw, labels = raw.transpose(0, 2, 1), labels.transpose(0, 2, 1)
    return change_intensity(raw, rng, how), np.ascontiguousarray(labels)


def change_intensity(raw: np.ndarray, rng: np.random.Generator, how: Augmentation) -> np.ndarray:
    """Contrast and brightness per section, noise, and perhaps one lost section; a new array."""
    sections = len(raw)
    scale = 1 + how.contrast * _per_section(sections, rng)
    shift = how.brightness * _per_section(sections, rng)
    changed = raw * scale + shift
    changed += rng.uniform(0, how.noise) * rng.standard_normal(raw.shape, dtype=np.float32)
    # The first and last section are left: nothing could tell the network what was there.
    if sections > 2 and rng.random() < how.missing:
        changed[rng.integers(1, sections - 1)] = raw.min()
    return np.ascontiguousarray(changed, dtype=np.float32)


def _per_section(sections: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers in −1…1, (D, 1, 1): half shared by all sections, half their own."""
    values = rng.uniform(-0.5, 0.5) + rng.uniform(-0.5, 0.5, sections)
    return values.astype(np.float32)[:, None, None]
