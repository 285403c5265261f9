"""What can be measured on a patch, and the sentence that says it.

This is the text generator that needs no network: every word follows from the intensities of the
patch, its place in the volume and the dataset's modality and anatomy. It never names a finding.
Quantities are put into a few classes each, so that the same sentence recurs across volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from gtgm.datasets.registry import DatasetInfo
from gtgm.errors import DataError
from gtgm.setting_checks import check_axes
from gtgm.text import structures
from gtgm.text.structures import Structures

AXES = "DHW"
#: Words for the two ends of each axis in SAR orientation. EM blocks are cut at any angle, so a
#: place in one says nothing about the tissue and is not named.
ENDS = {"D": ("lower", "upper"), "H": ("posterior", "anterior"), "W": ("left", "right")}

#: Quantiles of a volume that :func:`reference` measures.
QUANTILES = (0.01, 0.5, 0.99)
#: Hounsfield units: lower end of each tissue (Hofer, CT Teaching Manual, rounded).
TISSUES = {
    "air": -np.inf,
    "fat": -200.0,
    "soft tissue": -20.0,
    "dense tissue": 120.0,
    "bone": 300.0,
}
#: Shares of the patch from which a tissue is named, and from which it is most of the patch.
SOME, MOSTLY = 0.1, 0.6

LEVELS = ("low", "medium", "high")
CONTRASTS = ("weak", "moderate", "strong")
TEXTURES = ("fine", "medium", "coarse", "smooth")


@dataclass(frozen=True)
class Facts:
    """Measured facts of one patch, already in classes.

    Attributes:
        modality: ``CT``, ``MRI`` or ``EM``.
        anatomy: as in the registry, such as ``abdomen, liver``.
        channel: name of the channel if the dataset has several, else empty.
        plane: how the slices lie: ``axial``, or ``section`` for EM.
        position: third of the possible patch positions along (D, H, W): −1, 0, 1; 0 also where
            the patch spans the axis.
        level: mean intensity in the volume's range: one of ``LEVELS``.
        contrast: spread of intensities in the volume's range: one of ``CONTRASTS``.
        tissues: CT only, each tissue's share of the patch.
        texture: length over which neighbouring voxels of a slice agree: one of ``TEXTURES``.
        symmetric: whether the patch resembles its left–right mirror image.
        bright, dark: structures above and below the volume's middle intensities.
    """

    modality: str
    anatomy: str
    channel: str
    plane: str
    position: tuple[int, int, int]
    level: str
    contrast: str
    tissues: dict[str, float]
    texture: str
    symmetric: bool
    bright: Structures
    dark: Structures

    @property
    def subject(self) -> str:
        """Modality and anatomy only, such as ``MRI of the hippocampus``."""
        return subject(self.modality, self.anatomy, self.channel)

    def sentence(self, axes: str = AXES) -> str:
        """The facts in words.

        Args:
            axes: axes, a subset of ``DHW``, along which a side or a position may be named. Leave
                out the axes that augmentation flips: a flip would make the word false.
        """
        check_axes("axes", axes)
        place = self._place(axes)
        head = f"{self.plane} {self.subject}" if self.modality != "EM" else self.subject
        parts = [f"{head}, {place} part" if place else head, self._intensity()]
        texture = f"{self.texture} texture"
        if self.modality != "EM" and self.symmetric:
            texture = f"symmetric, {texture}"
        parts += [texture, self._structures("bright", axes), self._structures("dark", axes)]
        return ", ".join(parts)

    def _intensity(self) -> str:
        if not self.tissues:
            noun = "grey level" if self.modality == "EM" else "signal"
            return f"{self.level} {noun}, {self.contrast} contrast"
        first, second = sorted(self.tissues, key=lambda t: -self.tissues[t])[:2]
        most = f"mostly {first}" if self.tissues[first] >= MOSTLY else first
        return f"{most} with {second}" if self.tissues[second] >= SOME else most

    def _structures(self, kind: str, axes: str) -> str:
        found: Structures = getattr(self, kind)
        noun = "structure" if found.count == "one" else "structures"
        side = found.side([AXES.index(a) for a in axes])
        place = ENDS[AXES[side[0]]][side[1] > 0] if side and self.modality != "EM" else ""
        return " ".join(w for w in (found.count, found.size, kind, noun, place) if w)

    def _place(self, axes: str) -> str:
        if self.modality == "EM":
            return ""
        sides = zip(AXES, self.position, strict=True)
        return " ".join(ENDS[axis][side > 0] for axis, side in sides if side and axis in axes)


def facts(
    patch: np.ndarray,
    info: DatasetInfo,
    origin: Sequence[int],
    volume_shape: Sequence[int],
    spacing: Sequence[float],
    reference: Sequence[float] | None = None,
    channel: int = 0,
) -> Facts:
    """Measure a patch.

    Args:
        patch: (C, d, h, w) raw intensities, HU for CT; SAR orientation, or z y x for EM.
        info: the dataset's entry in the registry.
        origin: first voxel (z, y, x) of the patch in its volume.
        volume_shape: (D, H, W).
        spacing: (z, y, x), in any unit; thick slices are smoothed less across.
        reference: 1st, 50th and 99th percentile of the volume's channel (:func:`reference_range`);
            by default those of the patch itself. CT does not use it.
        channel: which channel of the patch.

    Raises:
        DataError: the patch is empty, not 4-dimensional or not finite.
    """
    patch = np.asarray(patch)
    if patch.ndim != 4 or not patch.size or not np.isfinite(patch[channel]).all():
        raise DataError(
            f"a patch of shape {patch.shape} cannot be described",
            where=info.name,
            expected="finite intensities (C, d, h, w)",
        )
    voxels = patch[channel].astype(np.float32)
    low, middle, high = reference or reference_range(voxels)
    span = max(high - low, 1e-6)
    smooth = _smooth(voxels, spacing, 2.0 if info.modality == "EM" else 1.0)
    if info.modality == "CT":
        bright, dark = smooth > TISSUES["dense tissue"], smooth < TISSUES["fat"]
    else:
        bright = smooth > middle + 0.5 * (high - middle)
        dark = smooth < middle - 0.5 * (middle - low)
    return Facts(
        modality=info.modality,
        anatomy=info.anatomy,
        channel=info.channels[channel] if len(info.channels) > 1 else "",
        plane="section" if info.modality == "EM" else "axial",
        position=tuple(map(_third, origin, patch.shape[1:], volume_shape)),
        level=_word(LEVELS, (voxels.mean() - low) / span, (0.47, 0.57)),
        contrast=_word(CONTRASTS, voxels.std() / span, (0.15, 0.3)),
        tissues=_tissues(voxels) if info.modality == "CT" else {},
        texture=_word(TEXTURES, _texture(voxels), (6.0, 12.0, 20.0)),
        symmetric=_mirror_correlation(smooth) > 0.4,
        bright=structures.find(bright),
        dark=structures.find(dark),
    )


def reference_range(voxels: np.ndarray) -> tuple[float, float, float]:
    """1st, 50th and 99th percentile of a channel (D, H, W), without an empty (zero) background."""
    inside = voxels[voxels != 0]
    low, middle, high = np.quantile(inside if inside.size else voxels, QUANTILES)
    return float(low), float(middle), float(high)


def subject(modality: str, anatomy: str, channel: str = "") -> str:
    """Modality and anatomy in words, such as ``T2w MRI of the brain``."""
    name = "electron micrograph" if modality == "EM" else modality
    return f"{channel} {name} of the {' and '.join(anatomy.split(', '))}".strip()


def _word(words: Sequence[str], value: float, limits: Sequence[float]) -> str:
    return words[int(np.searchsorted(limits, value, "right"))]


def _third(origin: int, size: int, length: int) -> int:
    """−1, 0 or 1: third of the positions that a patch can take; 0 if it can hardly move."""
    room = length - size
    if room < 0.2 * size:
        return 0
    return int(np.clip(np.floor(3 * origin / room), 0, 2)) - 1


def _tissues(voxels: np.ndarray) -> dict[str, float]:
    edges = [*TISSUES.values(), np.inf]
    shares = np.histogram(voxels, edges)[0] / voxels.size
    return dict(zip(TISSUES, shares.tolist(), strict=True))


def _smooth(voxels: np.ndarray, spacing: Sequence[float], sigma: float) -> np.ndarray:
    """Gaussian of ``sigma`` in-plane voxels, the same length in mm or nm across the slices."""
    return ndimage.gaussian_filter(voxels, (sigma * spacing[1] / spacing[0], sigma, sigma))


def _texture(voxels: np.ndarray) -> float:
    """Correlation length in in-plane voxels, from the correlation of direct neighbours.

    For an exponential autocorrelation r(x) = exp(−x / L), L = −1 / ln r(1), and
    r(1) = 1 − E[(difference of neighbours)²] / (2 variance).
    """
    variance = float(voxels.var())
    differences = [np.square(np.diff(voxels, axis=a)) for a in (1, 2) if voxels.shape[a] > 1]
    if variance < 1e-12 or not differences:
        return np.inf
    step = float(np.mean([d.mean() for d in differences]))
    r = 1 - step / (2 * variance)
    if r >= 1:
        return np.inf
    return 0.0 if r <= 0 else -1 / np.log(r)


def _mirror_correlation(voxels: np.ndarray) -> float:
    a = voxels - voxels.mean()
    power = float(np.square(a).sum())
    return float((a * a[..., ::-1]).sum()) / power if power > 1e-12 else 1.0
