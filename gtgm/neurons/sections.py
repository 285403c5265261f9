"""What happens to sections of an EM volume, as MONAI dictionary transforms.

Sections are cut, stained and photographed one by one: each has its own contrast, some are lost
or slip, and a distortion within the plane says nothing about z. MONAI has no transforms for
this. Those here take dictionaries with volumes (1, D, H, W), draw from their own random state
(``set_random_state``) and leave the arrays that they are given as they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import permutations

import numpy as np
import torch
from monai.data import get_track_meta
from monai.transforms import MapTransform, RandomizableTransform, Resample
from monai.transforms.utils import create_grid
from monai.utils import convert_to_tensor
from torch.nn.functional import interpolate

from gtgm.errors import DataError, SettingsError

#: Key under which the transform inside :class:`RandInPlaned` finds the positions to be moved.
POSITION = "position"


class RandSectionIntensityd(RandomizableTransform, MapTransform):
    """Contrast and brightness of each section; half of a change is shared by all sections.

    Args:
        keys: of raw volumes.
        contrast: sections are multiplied by a factor in 1 ± contrast.
        brightness: sections are shifted by up to ± brightness.
        prob: of any change.
    Raises:
        SettingsError: contrast outside [0, 1) or a negative brightness.
    """

    def __init__(
        self, keys: Sequence[str] | str, contrast: float, brightness: float, prob: float = 1.0
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not (0 <= contrast < 1 and brightness >= 0):
            raise SettingsError(
                f"contrast is {contrast}, brightness {brightness}",
                expected="contrast at least 0 and below 1, brightness at least 0",
            )
        self.contrast, self.brightness = contrast, brightness

    def randomize(self, data: torch.Tensor) -> None:
        super().randomize(None)
        if self._do_transform:
            self.scale = 1 + self.contrast * self._per_section(data)
            self.shift = self.brightness * self._per_section(data)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        changed = _volumes(data, self.keys)
        self.randomize(changed[self.keys[0]])
        if self._do_transform:
            for key in self.keys:
                changed[key] = changed[key] * self.scale + self.shift
        return changed

    def _per_section(self, volume: torch.Tensor) -> torch.Tensor:
        """Numbers in −1…1, (1, D, 1, 1): half shared by all sections, half their own."""
        values = self.R.uniform(-0.5, 0.5) + self.R.uniform(-0.5, 0.5, volume.shape[1])
        return torch.as_tensor(values, dtype=torch.float32)[None, :, None, None]


class RandMissingSectiond(RandomizableTransform, MapTransform):
    """One section is lost: it takes the lowest value of the volume everywhere.

    Labels are left alone, so that a network learns to carry neurons across the gap. The first and
    last section are never lost: nothing could tell the network what was there.

    Args:
        keys: of raw volumes.
        prob: of losing a section; volumes of less than three sections lose none.
    """

    def __init__(self, keys: Sequence[str] | str, prob: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def randomize(self, data: torch.Tensor) -> None:
        super().randomize(None)
        self._do_transform = self._do_transform and data.shape[1] > 2
        if self._do_transform:
            self.section = self.R.randint(1, data.shape[1] - 1)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        changed = _volumes(data, self.keys)
        self.randomize(changed[self.keys[0]])
        if self._do_transform:
            for key in self.keys:
                volume = changed[key].clone()
                volume[:, self.section] = volume.min()
                changed[key] = volume
        return changed


class RandMisalignedSectiond(RandomizableTransform, MapTransform):
    """One section slips in the plane, or all sections from one on are shifted; half each.

    Raw and labels move together, as in SuperHuman (Lee et al. 2017) and PyTorch Connectomics:
    truth drawn on a misaligned volume follows what is seen in each section. Nothing wraps around:
    where the moved sections have no data, raw is reflected and labels are 0 (unlabelled).

    Args:
        keys: of raw and labels.
        labels: the keys among them that hold labels.
        pixels: longest shift along y and along x; cut to the size of the volume.
        prob: of a misalignment; a single section is left alone.
    Raises:
        SettingsError: ``pixels`` is not a whole number of at least 1.
    """

    def __init__(
        self, keys: Sequence[str], labels: Sequence[str] | str, pixels: int, prob: float = 0.1
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not isinstance(pixels, int) or pixels < 1:
            raise SettingsError(
                f"is {pixels!r}", where="pixels", expected="a whole number of at least 1"
            )
        self.labels = (labels,) if isinstance(labels, str) else tuple(labels)
        self.pixels = pixels

    def randomize(self, data: torch.Tensor) -> None:
        super().randomize(None)
        _, depth, *plane = data.shape
        farthest = [min(self.pixels, n - 1) for n in plane]
        self._do_transform = self._do_transform and depth > 1 and max(farthest) > 0
        if not self._do_transform:
            return
        self.shift = (0, 0)
        while not any(self.shift):
            self.shift = tuple(int(self.R.randint(-n, n + 1)) for n in farthest)
        first = int(self.R.randint(1, depth))
        self.sections = slice(first, first + 1 if self.R.rand() < 0.5 else depth)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        changed = _volumes(data, self.keys)
        self.randomize(changed[self.keys[0]])
        if not self._do_transform:
            return changed
        for key in self.keys:
            volume = changed[key].clone()
            (rows, no_row), (columns, no_column) = (
                _moved(n, by) for n, by in zip(volume.shape[2:], self.shift, strict=True)
            )
            moved = volume[:, self.sections][:, :, rows][..., columns]
            if key in self.labels:
                moved[:, :, no_row] = 0
                moved[..., no_column] = 0
            volume[:, self.sections] = moved
            changed[key] = volume
        return changed


class RandTransposed(RandomizableTransform, MapTransform):
    """Exchanges axes of equal length; volumes keep their shape.

    Args:
        keys: of volumes of one shape.
        axes: the axes that may be exchanged: 0, 1, 2 = z, y, x.
        prob: of an exchange; it is drawn from all that keep the shape.
    """

    def __init__(
        self, keys: Sequence[str] | str, axes: Sequence[int] = (1, 2), prob: float = 0.5
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.axes = tuple(axes)

    def randomize(self, data: torch.Tensor) -> None:
        super().randomize(None)
        size = data.shape[1:]
        orders = [
            order
            for order in permutations(range(3))
            if order != (0, 1, 2)
            and all(size[a] == n for a, n in zip(order, size, strict=True))
            and all(a == i or {a, i} <= set(self.axes) for i, a in enumerate(order))
        ]
        self._do_transform = self._do_transform and bool(orders)
        if self._do_transform:
            self.order = orders[self.R.randint(len(orders))]

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        changed = _volumes(data, self.keys)
        self.randomize(changed[self.keys[0]])
        if self._do_transform:
            for key in self.keys:
                changed[key] = changed[key].permute(0, *(1 + a for a in self.order))
        return changed


class RandInPlaned(RandomizableTransform, MapTransform):
    """Warps all sections of raw and labels alike, by a two-dimensional MONAI transform.

    Labels are not interpolated: the transform moves the positions of a section's pixels, and each
    pixel takes the label of the position that came to it. Every integer label stays exact,
    whatever its size. Where a pixel comes from outside the section, the label is 0 (unlabelled),
    and raw is what the transform puts there.

    Args:
        image: key of raw.
        labels: key of the labels.
        warp: takes a dictionary of ``image`` (D, H, W), interpolated, and ``POSITION`` (2, H, W),
            nearest and filled by zeros; it must always warp.
        prob: of a warp.
    """

    def __init__(
        self, image: str, labels: str, warp: RandomizableTransform, prob: float = 0.1
    ) -> None:
        MapTransform.__init__(self, (image, labels))
        RandomizableTransform.__init__(self, prob)
        self.warp = warp

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> RandInPlaned:
        super().set_random_state(seed, state)
        # The same state, not the same seed: whether there is a warp must say nothing about which.
        self.warp.set_random_state(state=self.R)
        return self

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        changed = _volumes(data, self.keys)
        self.randomize(None)
        if not self._do_transform:
            return changed
        image, labels = self.keys
        depth, height, width = changed[labels].shape[1:]
        # From 1, so that 0 means outside.
        position = torch.stack(
            torch.meshgrid(torch.arange(height) + 1, torch.arange(width) + 1, indexing="ij")
        )
        warped = self.warp({image: changed[image][0], POSITION: position.float()})
        changed[image] = warped[image][None]
        y, x = convert_to_tensor(warped[POSITION], track_meta=False).round().long() - 1
        moved = changed[labels].reshape(depth, -1)[:, (y * width + x).clamp(min=0).flatten()]
        moved = moved.reshape(1, depth, height, width)
        changed[labels] = torch.where((y < 0) | (x < 0), torch.zeros_like(moved), moved)
        return changed


class RandElastic2Dd(RandomizableTransform, MapTransform):
    """Smooth random deformation, for :class:`RandInPlaned`.

    Control points on a square grid move by a normal distribution, pixels between them by bicubic
    interpolation. MONAI's ``Rand2DElasticd`` interpolates positions where this interpolates
    displacements, by a kernel that does not keep straight lines straight: even without any
    displacement it bends them by up to a twentieth of the spacing, the same way every time.

    Args:
        keys: of images (C, H, W) that get the same deformation.
        mode, padding_mode: as in MONAI's ``Resample``, one for each key.
        pixels: standard deviation of the displacement of control points.
        spacing: distance between control points, in pixels.
        prob: of a deformation.
    Raises:
        SettingsError: ``pixels`` or ``spacing`` is not positive.
    """

    def __init__(
        self,
        keys: Sequence[str],
        mode: Sequence[str],
        padding_mode: Sequence[str],
        pixels: float,
        spacing: int,
        prob: float = 0.1,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if not pixels > 0 or spacing < 1:
            raise SettingsError(
                f"pixels is {pixels}, spacing {spacing}", expected="both positive, spacing whole"
            )
        self.mode, self.padding_mode = tuple(mode), tuple(padding_mode)
        self.pixels, self.spacing = pixels, spacing
        self.resampler = Resample()

    def randomize(self, data: torch.Tensor) -> None:
        super().randomize(None)
        if not self._do_transform:
            return
        size = data.shape[1:]
        points = [-(-n // self.spacing) + 2 for n in size]
        control = torch.as_tensor(self.R.normal(0, self.pixels, (1, 2, *points)))
        whole = [(n - 1) * self.spacing + 1 for n in points]
        field = interpolate(control, whole, mode="bicubic", align_corners=True)[0]
        # Control points are not always at the same pixels.
        y, x = self.R.randint(self.spacing, size=2)
        self.grid = create_grid(size, backend="torch")
        self.grid[:2] += field[:, y : y + size[0], x : x + size[1]]

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        changed = dict(data)
        self.randomize(changed[self.keys[0]])
        if self._do_transform:
            for key, mode, padding in zip(self.keys, self.mode, self.padding_mode, strict=True):
                changed[key] = self.resampler(changed[key], self.grid, mode, padding)
        return changed


def _volumes(
    data: Mapping[Hashable, torch.Tensor], keys: Sequence[Hashable]
) -> dict[Hashable, torch.Tensor]:
    """A copy of the dictionary with the volumes as tensors; refuses other shapes."""
    changed = dict(data)
    for key in keys:
        changed[key] = convert_to_tensor(changed[key], track_meta=get_track_meta())
    shapes = {str(key): tuple(changed[key].shape) for key in keys}
    if any(len(s) != 4 or s[0] != 1 for s in shapes.values()) or len(set(shapes.values())) > 1:
        raise DataError(f"shapes are {shapes}", expected="volumes of one shape (1, D, H, W)")
    return changed


def _moved(size: int, by: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each of ``size`` pixels comes from, reflected at the ends, and which are reflected."""
    source = torch.arange(size) + by
    inside = (size - 1) - ((size - 1) - source.abs()).abs()
    return inside, source != inside
