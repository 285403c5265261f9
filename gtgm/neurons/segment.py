"""From a trained affinity network to neurons and their scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from gtgm.errors import DataError
from gtgm.models.segmenter import forward_windows
from gtgm.neurons.agglomeration import agglomerate
from gtgm.neurons.fragments import watershed_fragments
from gtgm.neurons.training import patch_for
from gtgm.progress import counted

Predictor = Callable[[torch.Tensor], torch.Tensor]
SLAB = 1 << 23  # voxels read at once for the statistics


@torch.no_grad()
def predict_affinities(
    network: nn.Module,
    raw: np.ndarray,
    patch: tuple[int, int, int],
    overlap: float = 0.5,
    device: str | torch.device = "cpu",
    batch: int = 2,
    bf16: bool = False,
    multiple: tuple[int, int, int] = (1, 1, 1),
) -> np.ndarray:
    """Affinities of a volume from overlapping patches, blended by a Gaussian.

    Args:
        network: (B, 1, D, H, W) → logits (B, C, D, H, W).
        raw: (D, H, W) grey values, standardised here.
        patch: (z, y, x), the one of the training; where the volume is smaller it is reflected.
        overlap: share of a patch that neighbouring patches have in common, 0 to below 1.
        batch: patches that the network sees at once.
        multiple: sizes that the backbone needs a patch to be divisible by.
    Returns:
        (C, D, H, W) float32 in [0, 1].
    Raises:
        DataError: ``raw`` is not a volume.
    """
    if raw.ndim != 3:
        raise DataError(f"raw has shape {raw.shape}", expected="(D, H, W)")
    patch = patch_for(raw.shape, patch, multiple)
    pads = [(0, max(0, p - n)) for p, n in zip(patch, raw.shape, strict=True)]
    mean, std = statistics(raw)
    standardised = (raw.astype(np.float32) - mean) / std
    x = torch.from_numpy(np.pad(standardised, pads, mode="reflect"))[None, None]
    device = torch.device(device)
    network.to(device, memory_format=torch.channels_last_3d).eval()  # as in training
    with counted(affinities_of(network, device, bf16), "affinities") as predict:
        predicted = sliding_window_inference(
            x,
            patch,
            batch,
            predict,
            overlap=overlap,
            mode="gaussian",
            sw_device=device,
            device="cpu",
        )
    depth, height, width = raw.shape
    return predicted[0, :, :depth, :height, :width].contiguous().numpy()


def affinities_of(network: nn.Module, device: torch.device, bf16: bool) -> Predictor:
    """The function that turns standardised patches into affinities in [0, 1], float32."""

    def predict(patches: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = forward_windows(network, patches)
        return logits.float().sigmoid()

    return predict


def statistics(raw: Any) -> tuple[np.float32, np.float32]:
    """Mean and standard deviation of a volume (D, H, W) that is read a few sections at a time.

    The deviation of a constant volume is 1e-6, as in :mod:`gtgm.intensity`.
    Source: Chan, Golub & LeVeque 1979.
    """
    count, mean, squares = 0, 0.0, 0.0
    depth = max(1, SLAB // max(1, raw.shape[1] * raw.shape[2]))
    for z in range(0, raw.shape[0], depth):
        slab = np.asarray(raw[z : z + depth]).astype(np.float64)
        more, delta = slab.size, slab.mean() - mean
        squares += ((slab - slab.mean()) ** 2).sum() + delta**2 * count * more / (count + more)
        mean += delta * more / (count + more)
        count += more
    std = (squares / max(1, count - 1)) ** 0.5
    return np.float32(mean), np.float32(max(std, 1e-6))


def segment_neurons(
    affinities: np.ndarray,
    threshold: float,
    two_d: bool = False,
    fragments: np.ndarray | None = None,
) -> np.ndarray:
    """Neurons by watershed and mean-affinity agglomeration.

    Args:
        affinities: (C, D, H, W) in [0, 1].
        threshold: of the agglomeration, chosen on validation sections
            (:func:`gtgm.neurons.postprocess.choose`).
        two_d: cut fragments section by section (anisotropic volumes); not used with ``fragments``.
        fragments: (D, H, W), if they are cut already.
    Returns:
        (D, H, W) uint64.
    """
    if fragments is None:
        fragments = watershed_fragments(affinities, two_d)
    ((_, segmentation),) = agglomerate(affinities, fragments, (threshold,))
    return segmentation
