"""One test section of a run: grey values, truth and prediction, kept for the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gtgm.datasets.geometry import upright
from gtgm.figure_data import EXAMPLES, write_figure_data
from gtgm.results import Result
from gtgm.stages.study import Study


def keep_example(
    study: Study,
    result: Result,
    folder: Path,
    raw: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    case: str,
    spacing: tuple[float, ...],
) -> Path:
    """Write ``figures/example-<id of the result>.npz`` into the folder of a run.

    Of a volume with classes it is the section with the most labelled voxels, of neurons the middle
    one. Grey values are scaled to bytes between the section's first and last per cent.

    Args:
        study: whose run it is.
        result: of the run; ``result.dataset`` names the classes.
        folder: of the run.
        raw, truth, prediction: (D, H, W), in the model's axes.
        case: what is shown.
        spacing: voxel size (z, y, x): mm, of EM nm.
    """
    info = study.open(result.dataset).info
    neurons = info.modality == "EM"
    section = len(raw) // 2 if neurons else int((truth > 0).sum((1, 2)).argmax())
    grey, labels, predicted = (
        upright(np.asarray(volume[section]), info) for volume in (raw, truth, prediction)
    )
    low, high = np.percentile(grey, (1, 99))
    grey = np.clip((grey - low) / max(high - low, 1e-6), 0, 1)
    values: dict[str, Any] = {
        "raw": np.rint(255 * grey).astype(np.uint8),
        "truth": _small(labels) if neurons else labels.astype(np.uint8),
        "prediction": _small(predicted) if neurons else predicted.astype(np.uint8),
        "neurons": neurons,
        "classes": [] if neurons else list(info.classes),
        "spacing": list(spacing[1:]),
        "dataset": result.dataset,
        "title": info.title,
        "source": result.source,
        "method": result.method,
        "fraction": result.fraction,
        "setting": [result.profile, result.protocol, result.backbone, result.fold, result.draw],
        "changes": result.changes,
        "case": f"{case}, section {section}",
        "id": result.id,
    }
    about = study.about_images(f"{info.title}: a test section and its segmentation")
    return write_figure_data(folder / "figures" / f"{EXAMPLES}{result.id}.npz", values, *about)


def _small(labels: np.ndarray) -> np.ndarray:
    """The same objects under the smallest numbers; 0 stays 0."""
    values, index = np.unique(labels, return_inverse=True)
    shift = 0 if values[0] == 0 else 1
    return (index.reshape(labels.shape) + shift).astype(np.uint16)
