"""How an affinity network is trained, and how its patches are changed: settings, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gtgm.errors import SettingsError

NEAREST = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
#: Names of :data:`gtgm.neurons.affinities.LOSSES` and :data:`gtgm.neurons.postprocess.METHODS`,
#: whose imports take seconds.
LOSSES = ("mse", "bce")
POSTPROCESSING = ("waterz", "waterz_quantile", "multicut", "lifted_multicut", "mutex")
#: Those that need offsets beyond the three nearest.
LONG_RANGE = ("lifted_multicut", "mutex")
OPTIMISERS = ("one_cycle", "paper")
#: Settings, what is accepted for them, and the same in words.
_RULES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (
        "flip transpose rotate elastic misaligned blur cutout missing",
        lambda v: 0 <= v <= 1,
        "a probability, 0 to 1",
    ),
    ("contrast brightness noise", lambda v: 0 <= v < 1, "at least 0, below 1"),
    ("angle", lambda v: 0 <= v <= 180, "0 to 180 degrees"),
    ("elastic_pixels blur_sigma", lambda v: 0 <= v < math.inf, "a finite number of at least 0"),
    (
        "misaligned_pixels cutout_pixels",
        lambda v: isinstance(v, int) and v >= 0,
        "a whole number of at least 0",
    ),
    ("elastic_spacing", lambda v: isinstance(v, int) and v >= 2, "a whole number of at least 2"),
)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How often and how strongly patches are changed; 0 turns a change off.

    Lengths are in voxels, intensities in standard deviations of the volume.

    Attributes:
        flip: probability of a flip, for each axis.
        transpose: probability that axes of equal length are exchanged: y and x, and z as well if
            voxels are cubic.
        rotate: probability of a rotation in the plane.
        angle: largest rotation in degrees; 45 and ``transpose`` together reach every direction.
        elastic: probability of an elastic deformation in the plane.
        elastic_pixels: standard deviation of the displacement of its control points.
        elastic_spacing: distance between control points.
        misaligned: probability that one section slips, or all sections from one on.
        misaligned_pixels: longest slip along y and along x.
        blur: probability of a Gaussian blur in the plane.
        blur_sigma: largest standard deviation of the blur; the least is half of it.
        contrast: sections are scaled by a factor in 1 ± contrast, half of it shared by all.
        brightness: sections are shifted by up to ± brightness, half of it shared by all.
        noise: Gaussian noise of a standard deviation between 0 and noise.
        cutout: probability that boxes of raw are replaced by 0, the mean; one to three of them.
        cutout_pixels: largest side of a box in the plane, the least is half of it. Along z boxes
            have an eighth of that, or the same if voxels are cubic. No side is longer than half
            of the patch.
        missing: probability that a patch loses one section.
    Raises:
        SettingsError: a value out of range.
    """

    flip: float = 0.5
    transpose: float = 0.5
    rotate: float = 0.3
    angle: float = 45.0
    elastic: float = 0.3
    elastic_pixels: float = 2.0
    elastic_spacing: int = 24
    misaligned: float = 0.1
    misaligned_pixels: int = 8
    blur: float = 0.1
    blur_sigma: float = 1.0
    contrast: float = 0.2
    brightness: float = 0.2
    noise: float = 0.2
    cutout: float = 0.2
    cutout_pixels: int = 24
    missing: float = 0.1

    def __post_init__(self) -> None:
        for names, accepted, expected in _RULES:
            for name in names.split():
                value = getattr(self, name)
                number = isinstance(value, int | float) and not isinstance(value, bool)
                if not (number and accepted(value)):
                    raise SettingsError(f"is {value!r}", where=name, expected=expected)


@dataclass(frozen=True)
class NeuronSettings:
    """How an affinity network is trained.

    Attributes:
        patch: (z, y, x) in voxels; axes that the volume does not fill become smaller.
        batch: patches per step.
        steps: optimiser steps.
        optimiser: ``one_cycle`` (AdamW, one-cycle learning rate) or ``paper`` (Adam with amsgrad
            and eps 0.01, constant learning rate).
        learning_rate: highest learning rate; the paper's optimiser goes with 1e-4.
        weight_decay: the paper's optimiser goes with 1e-6.
        loss: ``mse`` (class-balanced, the paper's) or ``bce`` (class-balanced cross-entropy).
        offsets: one output channel each, (z, y, x) in voxels; the three nearest come first.
        boundary: voxels by which neurons are shrunk for the targets, see
            :func:`gtgm.neurons.affinities.affinities`.
        ema: decay of the weight average that is returned; 0 returns the last weights.
        augmentation: how patches are changed.
        postprocessing: how affinities become neurons, among the methods of
            :mod:`gtgm.neurons.postprocess`; the first one gives the run's own score.
        seed: of patches, augmentation and dropout.
        bf16: bfloat16 autocast, where the device has instructions for it.
        checkpoint_every: steps between two checkpoints.
    """

    patch: tuple[int, int, int] = (24, 96, 96)
    batch: int = 2
    steps: int = 500
    optimiser: str = "one_cycle"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    loss: str = "mse"
    offsets: tuple[tuple[int, int, int], ...] = NEAREST
    boundary: int = 0
    ema: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    postprocessing: tuple[str, ...] = ("waterz",)
    seed: int = 0
    bf16: bool = False
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        for name, choices in (("loss", LOSSES), ("optimiser", OPTIMISERS)):
            if getattr(self, name) not in choices:
                raise SettingsError(
                    f"is {getattr(self, name)!r}", where=name, expected=f"one of {choices}"
                )
        for name in ("batch", "steps", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise SettingsError(f"is {getattr(self, name)}", where=name, expected="at least 1")
        if self.boundary < 0:
            raise SettingsError(f"is {self.boundary}", where="boundary", expected="at least 0")
        if not 0 <= self.ema < 1:
            raise SettingsError(f"is {self.ema}", where="ema", expected="at least 0, below 1")
        if self.learning_rate <= 0:
            raise SettingsError(f"is {self.learning_rate}", where="learning_rate", expected="> 0")
        if len(self.patch) != 3 or not all(type(p) is int and p > 0 for p in self.patch):
            raise SettingsError(
                f"is {self.patch}", where="patch", expected="three positive sizes (z, y, x)"
            )
        check_offsets(self.offsets)
        possible = usable(self.offsets)
        wrong = [name for name in self.postprocessing if name not in possible]
        if wrong or not self.postprocessing:
            raise SettingsError(
                f"is {self.postprocessing}",
                where="postprocessing",
                expected=f"at least one of {', '.join(possible)}",
                fix="others need offsets beyond the three nearest",
            )


def check_offsets(offsets: tuple[tuple[int, int, int], ...]) -> None:
    """Refuse an empty set of offsets, a zero offset, or one that is not three integers."""
    good = len(offsets) > 0 and all(
        isinstance(o, tuple | list) and len(o) == 3 and all(type(v) is int for v in o) and any(o)
        for o in offsets
    )
    if not good:
        raise SettingsError(
            f"offsets {offsets} cannot be used",
            where="offsets",
            expected="at least one (z, y, x) of whole voxels, none of them (0, 0, 0)",
        )


def usable(offsets: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Names of the post-processing methods that affinities with these offsets are enough for."""
    return tuple(n for n in POSTPROCESSING if len(offsets) > 3 or n not in LONG_RANGE)
