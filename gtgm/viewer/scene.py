"""What a view shows: an image and its label maps on one grid, with names and colours."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from matplotlib.colors import to_hex

from gtgm.datasets import registry
from gtgm.datasets.em import EMVolume, read_case
from gtgm.datasets.geometry import (
    Volume,
    check_pair,
    load_volume,
    model_orientation,
    read_nifti,
)
from gtgm.datasets.msd import Case
from gtgm.errors import DataError, SettingsError
from gtgm.neurons.metrics import contingency, mutual_matches
from gtgm.style import PALETTE, bright_colors, class_colors

Array = np.ndarray | torch.Tensor
Labels = Array | str | Path | None
#: With more labels than this, they are instances (neurons) and not classes.
MOST_CLASSES = 16
_GREY = "#8c8c8c"


@dataclass(frozen=True, eq=False)
class Layer:
    """A label map.

    Attributes:
        title: ``truth`` or ``prediction``.
        values: (D, H, W) int32; 0 for nothing, else 1 … n.
        names, colors: of the labels 1 … n; colours as ``#rrggbb``.
        instances: labels are objects (neurons), not classes.
        shown: labels that are meant to be looked at; all, or those that were highlighted.
    """

    title: str
    values: np.ndarray
    names: tuple[str, ...]
    colors: tuple[str, ...]
    instances: bool
    shown: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Scene:
    """An image with its label maps.

    Attributes:
        image: (D, H, W) float32, in the package's axes (SAR); of EM z y x.
        affine: (4, 4), from voxel (w, h, d) to the place right, anterior, superior in ``unit``.
        unit: ``mm``, or ``µm`` for EM.
        layers: label maps on the same grid.
        title: what it is.
        credit: attribution and licence of the image, where they are known.
    """

    image: np.ndarray
    affine: np.ndarray
    unit: str = "mm"
    layers: tuple[Layer, ...] = ()
    title: str = ""
    credit: str = ""

    @property
    def em(self) -> bool:
        """Whether rows run down, as in electron microscopy."""
        return self.unit == "µm"

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) in ``unit``."""
        return tuple(float(s) for s in nib.affines.voxel_sizes(self.affine)[::-1])

    @property
    def window(self) -> tuple[float, float]:
        """Grey values shown black and white: all but one per cent at either end."""
        low, high = np.percentile(self.image, (1, 99))
        return float(low), float(max(high, low + 1e-6))


def make_scene(
    image: Volume | EMVolume | Case | Array | str | Path,
    labels: Labels = None,
    prediction: Labels = None,
    spacing: Sequence[float] | None = None,
    names: Sequence[str] = (),
    highlight: Collection[int] = (),
    channel: int = 0,
    title: str = "",
) -> Scene:
    """Bring everything that :func:`gtgm.viewer.overlay` takes onto one grid; arguments as there.

    Raises:
        DataError: a file cannot be read, or shapes or affines differ.
        SettingsError: no spacing, or a channel, name or highlighted label that is not there.
    """
    if isinstance(image, Case):
        info = registry.get(image.dataset)
        image = load_volume(image, info) if info.format == "msd" else read_case(image, info)
    if isinstance(image, str | Path):
        scene, labels, prediction = _of_files(Path(image), labels, prediction, channel)
    elif isinstance(image, Volume):
        scene = _of_volume(image, channel)
        labels = image.label if labels is None else labels
        names = names or image.info.classes
    elif isinstance(image, EMVolume):
        scene = _of_em(image)
        labels = image.labels if labels is None else labels
    elif isinstance(image, np.ndarray | torch.Tensor):
        scene = _of_array(image, spacing, channel)
    else:
        raise SettingsError(
            f"a {type(image).__name__} cannot be shown",
            where="image",
            expected="a case, an array, or the path of a NIfTI file",
        )
    maps = {"truth": labels, "prediction": prediction}
    layers = tuple(
        _layer(name, values, scene, names, highlight)
        for name, values in maps.items()
        if values is not None
    )
    if len(layers) == 2 and all(layer.instances for layer in layers):
        layers = (layers[0], _in_colors_of(layers[0], layers[1]))
    return replace(scene, layers=layers, title=title or scene.title)


def _of_volume(volume: Volume, channel: int) -> Scene:
    info = volume.info
    scale, unit = (1000, "µm") if info.unit == "nm" else (1, "mm")
    affine = _affine([s / scale for s in volume.spacing], down=unit == "µm")
    if volume.meta is not None:
        affine = _resampled(volume)
    return Scene(
        _channel(volume.image, channel),
        affine,
        unit,
        title=f"{info.title}, {volume.case.id}",
        credit=info.credit,
    )


def _of_em(volume: EMVolume) -> Scene:
    affine = _affine([nm / 1000 for nm in volume.resolution], down=True)
    first, stop = volume.sections
    return Scene(_channel(volume.raw, 0), affine, "µm", title=f"EM, sections {first}–{stop - 1}")


def _of_array(image: Array, spacing: Sequence[float] | None, channel: int) -> Scene:
    if spacing is None or len(spacing) != 3 or not all(s > 0 for s in spacing):
        raise SettingsError(
            f"the spacing of the array is {spacing}",
            where="spacing",
            expected="three positive numbers in mm, (z, y, x)",
        )
    return Scene(_channel(image, channel), _affine(spacing))


def _of_files(
    path: Path, labels: Labels, prediction: Labels, channel: int
) -> tuple[Scene, Labels, Labels]:
    file, voxels = read_nifti(path)
    voxels = np.moveaxis(voxels, 3, 0) if voxels.ndim == 4 else voxels[None]
    transform = model_orientation(file.affine)
    image = np.stack([nib.apply_orientation(c, transform) for c in voxels])
    maps = []
    for values in (labels, prediction):
        if isinstance(values, str | Path):
            other, values = read_nifti(Path(values))
            check_pair(file, other, Case("", path.name, path, Path(other.get_filename())))
            values = nib.apply_orientation(values.reshape(values.shape[:3]), transform)
        maps.append(values)
    affine = _ras(file.affine, file.shape[:3])
    return Scene(_channel(image, channel), affine, title=path.name), *maps


def _layer(
    title: str, values: Labels, scene: Scene, names: Sequence[str], highlight: Collection[int]
) -> Layer:
    values = values.numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if values.shape != scene.image.shape:
        raise DataError(
            f"its shape is {values.shape}",
            where=title,
            expected=f"{scene.image.shape}, that of the image",
        )
    if not (np.issubdtype(values.dtype, np.integer) or np.array_equal(values, np.rint(values))):
        raise DataError("its values are no labels", where=title, expected="whole numbers")
    ids = np.unique(values)
    ids = ids[ids != 0]
    if len(ids) and ids[0] < 0:
        raise DataError(f"it has the label {ids[0]}", where=title, expected="0 and above")
    instances = not names and (len(ids) > MOST_CLASSES or scene.em)
    if not instances and len(ids) and ids[-1] > max(len(names), MOST_CLASSES):
        raise DataError(
            f"it has the label {int(ids[-1])}",
            where=title,
            expected=f"at most {max(len(names), MOST_CLASSES)}",
            fix="name as many classes",
        )
    absent = sorted(set(highlight) - set(ids.tolist()))
    if absent and title == "truth":
        raise SettingsError(
            f"{', '.join(map(str, absent))}: not among the labels",
            where="highlight",
            expected=f"some of {len(ids)} labels from {ids[0]} to {ids[-1]}" if len(ids) else None,
        )
    if instances:
        numbers = (np.searchsorted(ids, values) + 1) * (values != 0)
        named = tuple(str(n) for n in ids)
        chosen = tuple(i for i, n in enumerate(ids.tolist(), 1) if n in set(highlight))
        colors = [to_hex(color) for color in bright_colors(len(ids))]
        if chosen:
            few = len(chosen) <= len(PALETTE)
            own = dict(zip(chosen, PALETTE, strict=False)) if few else dict(enumerate(colors, 1))
            colors = [own[i] if i in chosen else _GREY for i in range(1, len(ids) + 1)]
    else:
        numbers = values
        most = int(ids[-1]) if len(ids) else 0
        named = (*names, *(f"label {n}" for n in range(len(names) + 1, most + 1)))
        chosen = tuple(n for n in ids.tolist() if n in set(highlight))
        colors = list(class_colors(named).values())
    shown = chosen or tuple(range(1, len(named) + 1))
    return Layer(title, numbers.astype(np.int32), named, tuple(colors), instances, shown)


def _in_colors_of(truth: Layer, prediction: Layer) -> Layer:
    """Segments in the colours of their neurons, see :func:`mutual_matches`; others in their own.

    If neurons were highlighted, segments that cover a tenth of one are shown, and others are grey.
    """
    colors = [to_hex(c) for c in bright_colors(len(prediction.names), seed=11)]
    shown = tuple(range(1, len(colors) + 1))
    if len(truth.shown) < len(truth.names):
        table = contingency(prediction.values, truth.values, ignore=())
        sizes = np.bincount(truth.values.ravel())
        covers = np.isin(table.truth, truth.shown) & (table.counts >= 0.1 * sizes[table.truth])
        shown = tuple(n for n in np.unique(table.segmentation[covers]).tolist() if n)
        colors = [c if i in set(shown) else _GREY for i, c in enumerate(colors, 1)]
    for segment, neuron in mutual_matches(prediction.values, truth.values).items():
        if neuron in truth.shown:
            colors[segment - 1] = truth.colors[neuron - 1]
    return replace(prediction, colors=tuple(colors), shown=shown)


def _channel(image: Array, channel: int) -> np.ndarray:
    image = image.numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4:
        raise DataError(
            f"the image has the shape {image.shape}", expected="(D, H, W) or (C, D, H, W)"
        )
    if channel not in range(len(image)):
        raise SettingsError(
            f"there is no channel {channel}", where="channel", expected=f"0 to {len(image) - 1}"
        )
    return np.ascontiguousarray(image[channel], np.float32)


def _affine(spacing: Sequence[float], down: bool = False) -> np.ndarray:
    z, y, x = spacing
    return np.diag([x, -y if down else y, z, 1.0])


def _ras(affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The affine of a file's voxels after they were brought to right, anterior, superior."""
    return affine @ nib.orientations.inv_ornt_aff(nib.io_orientation(affine), shape)


def _resampled(volume: Volume) -> np.ndarray:
    """The affine of a volume that may have been resampled from its file's grid."""
    affine = _ras(volume.meta.affine, volume.meta.shape)
    now = np.array(volume.image.shape[:0:-1])  # (w, h, d)
    order = np.argsort(nib.io_orientation(volume.meta.affine)[:, 0])
    ratio = np.array(volume.meta.shape)[order] / now
    scale = np.diag([*ratio, 1.0])
    scale[:3, 3] = (ratio - 1) / 2  # the corners of the first voxel stay where they are
    return affine @ scale
