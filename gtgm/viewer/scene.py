"""What a view shows: an image and its label maps on one grid, with names and colours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from matplotlib.colors import to_hex

from gtgm.datasets import registry
from gtgm.datasets.em import EMVolume, read_case
from gtgm.datasets.geometry import (
    WHOLE,
    Volume,
    check_pair,
    in_model_axes,
    load_volume,
    read_nifti,
)
from gtgm.datasets.msd import Case
from gtgm.errors import DataError, SettingsError
from gtgm.neurons.metrics import contingency, mutual_matches
from gtgm.style import PALETTE, bright_colors

Array = np.ndarray | torch.Tensor
Labels = Array | str | Path | None
Names = Sequence[str] | Mapping[int, str]
#: With more labels than this, they are instances (neurons) and not classes.
MOST_CLASSES = 16
_GREY = "#8c8c8c"


@dataclass(frozen=True, eq=False)
class Layer:
    """A label map.

    Attributes:
        title: ``truth`` or ``prediction``.
        values: (D, H, W) int32; 0 for nothing, else 1 … n: the labels in their order, whatever
            their own numbers are.
        names, colors: of 1 … n; colours as ``#rrggbb``.
        instances: labels are objects (neurons), not classes.
        shown: of 1 … n, what is meant to be looked at: what is there, or was highlighted.
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
        image: (D, H, W) float32, in the package's axes (SAR); of EM z y x. Finite.
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
    names: Names = (),
    highlight: Collection[int] = (),
    channel: int = 0,
    title: str = "",
) -> Scene:
    """Bring everything that :func:`gtgm.viewer.overlay` takes onto one grid; arguments as there.

    Raises:
        DataError: a file cannot be read, no voxel of the image is finite, shapes or affines differ,
            or labels are no whole numbers from 0 on or, where some have names, have none.
        SettingsError: no spacing, a channel or highlighted label that is not there, or names of
            something else than labels.
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
    maps = {
        title: _whole(title, values, scene)
        for title, values in (("truth", labels), ("prediction", prediction))
        if values is not None
    }
    layers = _layers(maps, scene, names, highlight)
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
    if spacing is None or len(spacing) != 3 or not all(0 < s < np.inf for s in spacing):
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
    if voxels.ndim not in (3, 4):
        raise DataError(
            f"the image has the shape {voxels.shape}", where=path, expected="(x, y, z[, channels])"
        )
    image = in_model_axes(np.moveaxis(voxels.reshape(*file.shape[:3], -1), 3, 0), file.affine)
    maps = []
    for values in (labels, prediction):
        if isinstance(values, str | Path):
            name = Path(values)
            other, values = read_nifti(name)
            check_pair(file, other, Case("", path.name, path, name))
            if values.size != np.prod(values.shape[:3]):
                raise DataError(
                    f"its shape is {values.shape}", where=name, expected="one label per voxel"
                )
            values = in_model_axes(values.reshape(1, *values.shape[:3]), file.affine)[0]
        maps.append(values)
    affine = _ras(file.affine, file.shape[:3])
    return Scene(_channel(image, channel), affine, title=path.name), *maps


def _whole(title: str, values: Labels, scene: Scene) -> np.ndarray:
    """Labels as they are, (D, H, W) and checked; values that are nearly whole are rounded."""
    values = values.numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if values.shape != scene.image.shape:
        raise DataError(
            f"its shape is {values.shape}",
            where=title,
            expected=f"{scene.image.shape}, that of the image",
        )
    if values.dtype.kind not in "iub":
        whole = np.rint(values)
        with np.errstate(invalid="ignore"):  # infinity
            right = (np.abs(values - whole) <= WHOLE).all()
        if not right:
            raise DataError("its values are no labels", where=title, expected="whole numbers")
        values = whole
    if values.min(initial=0) < 0:
        raise DataError(f"it has the label {values.min():.0f}", where=title, expected="0 and above")
    return values


def _layers(
    maps: Mapping[str, np.ndarray], scene: Scene, names: Names, highlight: Collection[int]
) -> tuple[Layer, ...]:
    found = {title: np.unique(values) for title, values in maps.items()}
    present = {title: [int(n) for n in values if n] for title, values in found.items()}
    every = sorted({n for ids in present.values() for n in ids})
    named = _by_label(names)
    nameless = [n for n in every if n not in named]
    many = any(len(ids) > MOST_CLASSES for ids in present.values())
    instances = not named and (scene.em or many)
    if named and nameless:
        title = next(title for title, ids in present.items() if nameless[0] in ids)
        raise DataError(
            f"it has labels without a name: {', '.join(map(str, nameless[:8]))}",
            where=title,
            expected=f"{', '.join(map(str, list(named)[:8]))}, which have names",
            fix=f"name them, as names={{{nameless[0]}: ...}}, or leave names out",
        )
    named = named or {n: f"label {n}" for n in every}
    layers = []
    for title, values in maps.items():
        ids, chosen = present[title], set(highlight)
        absent = sorted(chosen - set(ids))
        if absent and title == "truth":
            raise SettingsError(
                f"{', '.join(map(str, absent))}: not among the labels",
                where="highlight",
                expected=f"some of {len(ids)} labels from {ids[0]} to {ids[-1]}" if ids else None,
            )
        texts = {n: str(n) for n in ids} if instances else named
        number = {n: i for i, n in enumerate(texts, 1)}
        there = ids if instances else every
        shown = tuple(number[n] for n in ids if n in chosen) or tuple(number[n] for n in there)
        if instances:
            colors = [to_hex(color) for color in bright_colors(len(ids))]
            if lit := {number[n] for n in ids if n in chosen}:
                few = len(shown) <= len(PALETTE)
                own = dict(zip(shown, PALETTE, strict=False)) if few else dict(enumerate(colors, 1))
                colors = [own[n] if n in lit else _GREY for n in number.values()]
        else:
            more = bright_colors(max(0, len(texts) - len(PALETTE)))
            colors = [*PALETTE, *map(to_hex, more)][: len(texts)]
        table = np.array([number.get(int(n), 0) for n in found[title]], np.int32)
        numbers = table[np.searchsorted(found[title], values)]
        names_of = tuple(texts.values())
        layers.append(Layer(title, numbers, names_of, tuple(colors), instances, shown))
    return tuple(layers)


def _by_label(names: Names) -> dict[int, str]:
    """The names of labels by their numbers, in their order."""
    given = names if isinstance(names, Mapping) else dict(enumerate(names, 1))
    wrong = [n for n in given if not isinstance(n, int | np.integer) or n < 0]
    if wrong:
        raise SettingsError(
            f"{wrong[0]!r} is no label",
            where="names",
            expected='a list, or whole numbers and their names, such as {17: "left", 53: "right"}',
        )
    return {int(n): str(given[n]) for n in sorted(given) if n}


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
    with np.errstate(over="ignore"):
        image = np.ascontiguousarray(image[channel], np.float32)
    finite = np.isfinite(image)
    if finite.all():
        return image
    if not finite.any():
        raise DataError("no voxel of the image is finite", expected="grey values")
    low, high = image.min(where=finite, initial=np.inf), image.max(where=finite, initial=-np.inf)
    return np.nan_to_num(image, nan=low, posinf=high, neginf=low)


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
