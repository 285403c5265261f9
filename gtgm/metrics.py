"""Segmentation metrics per case and class: Dice, surface Dice, 95 % Hausdorff distance."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

#: Tolerance of the surface Dice in mm, stated with every result.
SURFACE_TOLERANCE_MM = 1.0


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """2|A∩B| / (|A|+|B|) of two boolean masks; NaN where both are empty."""
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else math.nan


def surface_dice(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    tolerance: float = SURFACE_TOLERANCE_MM,
) -> float:
    """Normalised surface Dice of two boolean masks (Nikolov et al. 2021).

    Args:
        prediction: boolean mask.
        truth: boolean mask of the same shape.
        spacing: voxel size in mm along each axis of the masks.
        tolerance: in mm.

    Returns:
        Share of both surfaces that lies within the tolerance of the other; NaN where both masks
        are empty, 0 where one is.
    """
    if not prediction.any() or not truth.any():
        return 0.0 if prediction.any() or truth.any() else math.nan
    a, b = _cropped_pair(prediction, truth)
    with _quiet():
        value = compute_surface_dice(
            a,
            b,
            [tolerance],
            include_background=True,
            spacing=[float(s) for s in spacing],
            use_subvoxels=True,
        )
    return float(value)


def hausdorff95(prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """95 % Hausdorff distance in mm of two boolean masks; NaN where either is empty."""
    if not prediction.any() or not truth.any():
        return math.nan
    a, b = _cropped_pair(prediction, truth)
    with _quiet():
        value = compute_hausdorff_distance(
            a, b, include_background=True, percentile=95, spacing=[float(s) for s in spacing]
        )
    return float(value)


def score_case(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    classes: Sequence[str],
    case: str,
) -> list[dict]:
    """All metrics of one case, in long format.

    Args:
        prediction: integer labels on the file's own grid.
        truth: integer labels of the same shape.
        spacing: voxel size in mm along the axes of the arrays.
        classes: names of the labels 1, 2, …
        case: id that goes into the rows.

    Returns:
        Rows ``{case, class, metric, value}`` with the metrics ``dice``, ``nsd`` and ``hd95`` (mm);
        undefined values are ``None``. The class ``background`` has a Dice only.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    rows = [_row(case, "background", "dice", dice(prediction == 0, truth == 0))]
    for label, name in enumerate(classes, start=1):
        a, b = prediction == label, truth == label
        rows.append(_row(case, name, "dice", dice(a, b)))
        rows.append(_row(case, name, "nsd", surface_dice(a, b, spacing)))
        rows.append(_row(case, name, "hd95", hausdorff95(a, b, spacing)))
    return rows


def summarise(rows: list[dict]) -> dict[str, float | None]:
    """Means over cases and classes.

    ``dice``, ``nsd`` and ``hd95`` are foreground means: over cases per class, then over classes, so
    that a class absent from some cases counts as much as the others; None where no case has a
    value, as of a fold without any structure in truth and prediction. ``dice_with_background`` also
    averages over the background, as the released code does (`deviations.md`, row 4).
    ``hd95_missed`` counts the structures that only one of prediction and truth has: their distance
    is undefined, and ``hd95`` leaves them out.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["value"] is not None:
            values.setdefault((row["metric"], row["class"]), []).append(row["value"])
    means = {key: float(np.mean(found)) for key, found in values.items()}
    summary = {}
    for metric in ("dice", "nsd", "hd95"):
        foreground = [m for (name, c), m in means.items() if name == metric and c != "background"]
        summary[metric] = float(np.mean(foreground)) if foreground else None
    summary["hd95_missed"] = _missed(rows)
    every_class = [m for (name, _), m in means.items() if name == "dice"]
    if every_class:
        summary["dice_with_background"] = float(np.mean(every_class))
    for (metric, name), mean in means.items():
        if metric == "dice" and name != "background":
            summary[f"dice/{name}"] = mean
    return summary


def _missed(rows: list[dict]) -> int:
    undefined = {(r["case"], r["class"], r["metric"]) for r in rows if r["value"] is None}
    return sum(m == "hd95" and (case, c, "dice") not in undefined for case, c, m in undefined)


def _row(case: str, name: str, metric: str, value: float) -> dict:
    return {
        "case": case,
        "class": name,
        "metric": metric,
        "value": None if math.isnan(value) or math.isinf(value) else value,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MONAI 1.6 calls a helper of its own with an argument that it has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
        yield


def _cropped_pair(a: np.ndarray, b: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Both masks cut to the box that holds them (plus a border), as (1, 1, …) tensors.

    Distances do not change, and a small organ in a large scan costs little.
    """
    where = np.nonzero(a | b)
    box = tuple(slice(max(int(i.min()) - 2, 0), int(i.max()) + 3) for i in where)
    return tuple(torch.from_numpy(np.ascontiguousarray(m[box]))[None, None] for m in (a, b))
