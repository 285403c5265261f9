"""Random EM patches and their augmentation by MONAI transforms.

Electron micrographs of serial sections are anisotropic: a section is up to ten times thicker than
a pixel. Everything is therefore done within the plane, the same for all sections, or to single
sections, and z is only ever turned upside down. Volumes with cubic voxels (FIB-SEM) may have z
exchanged with y and x; no section of theirs is lost or slips.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAffined,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    Transform,
)

from gtgm.errors import DataError
from gtgm.neurons.sections import (
    POSITION,
    RandElastic2Dd,
    RandInPlaned,
    RandMisalignedSectiond,
    RandMissingSectiond,
    RandSectionIntensityd,
    RandTransposed,
)
from gtgm.neurons.settings import Augmentation

#: Keys of the dictionaries that the transforms take.
RAW, LABELS = "raw", "labels"
BOTH = (RAW, LABELS)


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
    raw: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    how: Augmentation,
    anisotropic: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """A changed copy of a patch: the same geometry for both arrays, intensities of ``raw`` only.

    Args:
        raw: (D, H, W) float32, zero mean and unit variance over its volume.
        labels: (D, H, W) integers, 0 = unlabelled. Lost sections and cut-out boxes keep their
            labels, so that the network learns to carry neurons across them; voxels that come
            from outside the patch become 0.
        rng: determines the result.
        how: what is done, and how often.
        anisotropic: as in :func:`named_transforms`.
    Returns:
        New contiguous arrays, raw float32 and labels of their own type with their own ids.
    Raises:
        DataError: arrays of different shapes, or labels that are not integers.
    """
    if raw.ndim != 3 or raw.shape != labels.shape or labels.dtype.kind not in "iu":
        raise DataError(
            f"raw has shape {raw.shape}, labels have shape {labels.shape} and type {labels.dtype}",
            expected="one shape (D, H, W), and integer labels",
        )
    # torch does little with unsigned types. uint64 goes around to int64 here and back below.
    item = {
        RAW: torch.from_numpy(np.array(raw, np.float32)[None]),
        LABELS: torch.from_numpy(labels.astype(np.int64)[None]),
    }
    # One state for all: with a seed, MONAI starts a transform and those within it alike.
    state = np.random.RandomState(rng.bit_generator)
    for transform in named_transforms(how, anisotropic).values():
        item = transform.set_random_state(state=state)(item)
    return (
        np.ascontiguousarray(item[RAW][0].numpy(), np.float32),
        np.ascontiguousarray(item[LABELS][0].numpy().astype(labels.dtype)),
    )


def named_transforms(
    how: Augmentation, anisotropic: bool = True, always: bool = False
) -> dict[str, Transform]:
    """Each augmentation by its name, in the order in which :func:`augment` applies them.

    They take and give dictionaries of ``raw`` (float32) and ``labels`` (int64), both tensors
    (1, D, H, W), and leave the arrays that they are given as they are.

    Args:
        how: those that it turns off are left out.
        anisotropic: sections are thicker than pixels. Without it z is exchanged with y and x,
            boxes cut out are cubes, and no section is lost or slips.
        always: everything that is on happens at every call, as a picture of it needs.
    """
    keys = {RAW: ("bilinear", "reflection"), POSITION: ("nearest", "zeros")}
    modes, padding = zip(*keys.values(), strict=True)
    warp = {"keys": tuple(keys), "mode": modes, "padding_mode": padding, "prob": 1.0}
    largest = (how.cutout_pixels // (8 if anisotropic else 1), *(how.cutout_pixels,) * 2)
    sigma = (how.blur_sigma / 2, how.blur_sigma)

    def chance(probability: float) -> float:
        return 1.0 if always else probability

    made: dict[str, Transform] = {}
    if how.flip:
        made["flip"] = Compose([RandFlipd(BOTH, chance(how.flip), axis) for axis in range(3)])
    if how.transpose:
        axes = (1, 2) if anisotropic else (0, 1, 2)
        made["transpose"] = RandTransposed(BOTH, axes, chance(how.transpose))
    if how.rotate and how.angle:
        turn = RandAffined(rotate_range=math.radians(how.angle), **warp)
        made["rotate"] = RandInPlaned(*BOTH, turn, chance(how.rotate))
    if how.elastic and how.elastic_pixels:
        bend = RandElastic2Dd(pixels=how.elastic_pixels, spacing=how.elastic_spacing, **warp)
        made["elastic"] = RandInPlaned(*BOTH, bend, chance(how.elastic))
    if how.misaligned and how.misaligned_pixels and anisotropic:
        made["misaligned"] = RandMisalignedSectiond(
            BOTH, LABELS, how.misaligned_pixels, chance(how.misaligned)
        )
    if how.blur and how.blur_sigma:
        made["blur"] = RandGaussianSmoothd(RAW, (0, 0), sigma, sigma, prob=chance(how.blur))
    if how.contrast or how.brightness:
        made["intensity"] = RandSectionIntensityd(RAW, how.contrast, how.brightness)
    if how.noise:
        made["noise"] = RandGaussianNoised(RAW, prob=1.0, std=how.noise)
    if how.cutout and how.cutout_pixels:
        made["cutout"] = _RandCutoutd(RAW, largest, chance(how.cutout))
    if how.missing and anisotropic:
        made["missing"] = RandMissingSectiond(RAW, chance(how.missing))
    return made


class _RandCutoutd(RandCoarseDropoutd):
    """MONAI's, on a copy of the volume, with boxes of at most half of its length in each axis."""

    def __init__(self, key: str, largest: Sequence[int], prob: float) -> None:
        super().__init__(key, holes=1, max_holes=3, spatial_size=1, fill_value=0, prob=prob)
        self.largest = tuple(largest)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        (key,) = self.keys
        size = data[key].shape[1:]
        sides = [max(1, min(s, n // 2)) for s, n in zip(self.largest, size, strict=True)]
        self.dropper.spatial_size = [(side + 1) // 2 for side in sides]
        self.dropper.max_spatial_size = sides
        return super().__call__({**data, key: data[key].clone()})
