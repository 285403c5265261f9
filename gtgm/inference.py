"""From an image to labels on its own grid."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.inferers import sliding_window_inference
from scipy import ndimage
from torch import nn

from gtgm import paths
from gtgm.datasets import registry
from gtgm.datasets.geometry import Volume, load_volume, to_file_grid
from gtgm.datasets.msd import Case, is_nifti
from gtgm.datasets.nifti import header_problems
from gtgm.device import accelerator as make_accelerator
from gtgm.errors import DataError, GTGMError, WeightsError
from gtgm.intensity import normalise
from gtgm.models.encoder import CONFIG
from gtgm.models.segmenter import forward_windows, load_segmenter
from gtgm.pool import pad_to
from gtgm.progress import counted
from gtgm.setting_checks import check_choice
from gtgm.settings import FinetuneSettings, from_dict
from gtgm.views import AXES


@torch.no_grad()
def predict_scores(
    network: nn.Module,
    image: torch.Tensor,
    patch: Sequence[int],
    overlap: float = 0.5,
    tta_axes: str = "",
    precision: str = "auto",
    windows: int = 4,
) -> torch.Tensor:
    """Class probabilities (K, D, H, W) of a normalised image (C, D, H, W), on the CPU.

    Args:
        network: gives scores before softmax.
        image: normalised intensities.
        patch: sliding window (z, y, x).
        overlap: of neighbouring windows, which are blended with a Gaussian weight.
        tta_axes: axes flipped, in every combination, and averaged over.
        precision: of the network, ``auto``, ``bf16``, ``fp16`` or ``no``; the first two are fp32 on
            processors without instructions for bf16.
        windows: that go through the network together.
    """
    network.eval()
    accelerator = make_accelerator(precision)
    # As in training: another order in memory sums, and rounds in bf16, in another order.
    network.to(accelerator.device, memory_format=torch.channels_last_3d)
    padded = pad_to(image, patch)[None]
    forward = partial(forward_windows, network)
    flips = [c for n in range(len(tta_axes) + 1) for c in combinations(tta_axes, n)]
    total = torch.zeros(())

    for flip in flips:
        axes = [1 + AXES[a] for a in flip]
        with (
            accelerator.autocast(),
            counted(forward, "windows") as predict,
        ):
            scores = sliding_window_inference(
                padded.flip(axes),
                tuple(patch),
                windows,
                predict,
                overlap=overlap,
                mode="gaussian",
                sw_device=accelerator.device,
                device=torch.device("cpu"),
            )
        total = total + scores.float().softmax(1).flip(axes)
    size = image.shape[1:]
    return (total / len(flips))[0, :, : size[0], : size[1], : size[2]]


def segment_volume(
    network: nn.Module, volume: Volume, about: dict
) -> tuple[torch.Tensor, nib.Nifti1Image]:
    """Labels of a volume on the model's grid (D, H, W), and as an image on the file's own grid.

    Where nothing was measured (:func:`unmeasured`) there is background.

    Args:
        network: trained segmenter.
        volume: raw intensities, as :func:`gtgm.datasets.geometry.load_volume` gives them.
        about: what the segmenter was trained with: ``modality``, ``dataset``, ``patch``,
            ``overlap``, ``tta_axes``, ``precision``, ``released_window``, ``windows``.
    """
    image = normalise(volume.image, about["modality"], about["dataset"], about["released_window"])
    scores = predict_scores(
        network,
        image,
        about["patch"],
        about["overlap"],
        about["tta_axes"],
        about["precision"],
        about.get("windows", 4),
    )
    labels = scores.argmax(0).to(torch.uint8)
    labels[unmeasured(volume)] = 0
    return labels, to_file_grid(labels, volume)


def unmeasured(volume: Volume) -> torch.Tensor:
    """Where an MRI holds nothing around the body: bool (D, H, W).

    Removing the skull, turning and padding leave zeros there in every channel. What a network says
    of them means nothing: they are one and the same value, and in a window of nothing else instance
    norm enlarges what the padding of the convolutions leaves. nnU-Net crops them away. A zero
    belongs to them in blocks of 3×3×3 zeros that reach the border of the volume; a single one is a
    grey value. In CT 0 HU is water, and nothing is left out.
    """
    if volume.info.modality != "MRI":
        return torch.zeros(volume.image.shape[1:], dtype=torch.bool)
    empty, block = (volume.image == 0).all(0).numpy(), np.ones((3, 3, 3), bool)
    empty = ndimage.binary_dilation(ndimage.binary_erosion(empty, block, border_value=1), block)
    parts, _ = ndimage.label(np.pad(empty, 1, constant_values=True))
    return torch.from_numpy(parts[1:-1, 1:-1, 1:-1] == parts[0, 0, 0])


def load_class_segmenter(folder: str | Path) -> tuple[nn.Module, dict]:
    """A trained segmenter of classes, and what it was trained with; neurons are refused."""
    network, about = load_segmenter(folder)
    if "classes" not in about:
        raise WeightsError(
            "holds no segmenter of classes",
            where=folder,
            expected="a folder that `gtgm finetune` wrote for a CT or MRI dataset",
        )
    try:
        _check_about(about, network.out_channels)
    except (GTGMError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"does not say how to segment ({error})",
            where=Path(folder) / CONFIG,
            expected="`about` as fine-tuning writes it",
            fix="copy the folder again, or fine-tune again",
        ) from error
    return network, about


def _check_about(about: dict[str, Any], outputs: int) -> None:
    """Raise if what a file says about a segmenter cannot be used."""
    registry.get(about["dataset"])
    used = ("patch", "spacing", "overlap", "tta_axes", "precision", "released_window")
    settings = from_dict(FinetuneSettings, {name: about[name] for name in used})
    check_choice("modality", about["modality"], ("CT", "MRI"))
    names = [*about["classes"], *about["channels"]]
    if not settings.patch or not all(isinstance(side, int) for side in settings.patch):
        raise ValueError(f"the patch is {about['patch']}")
    if not all(isinstance(name, str) for name in names) or len(about["classes"]) + 1 != outputs:
        raise ValueError(f"{len(about['classes'])} classes for {outputs} outputs")


def segment_file(
    image: str | Path, output: str | Path, weights: str | Path, **changes: Any
) -> dict[str, float]:
    """Segment a NIfTI image and write labels with its shape, affine and header codes.

    Contradictions in its header are warnings; the sform counts where there is one.

    Args:
        image: ``.nii`` or ``.nii.gz`` of the channels that the segmenter was trained on.
        output: ``.nii`` or ``.nii.gz``.
        weights: folder that fine-tuning wrote.
        changes: ``overlap``, ``tta_axes``, ``windows`` or ``precision``, as in
            :class:`gtgm.settings.FinetuneSettings`, instead of those that it was trained with.

    Returns:
        Volume of each class in millilitres.

    Raises:
        DataError: the image cannot be used, or ``output`` is no NIfTI name.
        WeightsError: the folder holds no segmenter.
        SettingsError: a change that is no such setting, or out of its range.
    """
    from_dict(FinetuneSettings, changes)
    image, output = Path(image), Path(output)
    if not is_nifti(output.name):
        raise DataError("this is no NIfTI name", where=output, expected=".nii or .nii.gz")
    if output.exists() and image.exists() and output.samefile(image):
        raise DataError("the output would replace the image", where=output, fix="name another file")
    network, about = load_class_segmenter(weights)
    about |= changes
    info = dataclasses.replace(
        registry.get(about["dataset"]),
        classes=tuple(about["classes"]),
        channels=tuple(about["channels"]),
    )
    volume = load_volume(
        Case(info.name, image.name, image, None), info, tuple(about["spacing"]) or None
    )
    for what, _, fix in header_problems(volume.meta):
        warnings.warn(f"{image}: {what}; {fix}", stacklevel=2)
    labels = segment_volume(network, volume, about)[1]
    with paths.atomic(output) as temporary:
        nib.save(labels, temporary)
    voxel = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000  # ml, also of a sheared grid
    counts = np.bincount(np.asarray(labels.dataobj).ravel(), minlength=len(info.classes) + 1)
    return {name: counts[i] * voxel for i, name in enumerate(info.classes, start=1)}
