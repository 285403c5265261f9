"""Segment an EM file of any size with a trained affinity network."""

from __future__ import annotations

from pathlib import Path

import zarr

from gtgm.datasets import em
from gtgm.device import accelerator
from gtgm.errors import DataError, SettingsError, WeightsError
from gtgm.models.segmenter import load_segmenter
from gtgm.neurons.blockwise import BLOCK, HALO, segment_blockwise
from gtgm.neurons.blockwise_prediction import TILE, predict_blockwise
from gtgm.neurons.fragments import is_anisotropic
from gtgm.precision import has_bf16

#: Largest relative difference of a voxel's side from the training's before it is refused.
TOLERANCE = 0.25
METHOD = "waterz"


def segment_em_file(
    image: str | Path,
    folder: str | Path,
    weights: str | Path,
    raw_key: str | None = None,
    resolution: tuple[float, float, float] | None = None,
    threshold: float | None = None,
    block: tuple[int, int, int] = BLOCK,
    halo: tuple[int, int, int] = HALO,
    tile: tuple[int, int] = TILE,
) -> zarr.Array:
    """Neurons of an EM volume, in the memory of a few blocks; a killed run continues.

    Args:
        image: HDF5, Zarr, N5, TIFF stack or folder of TIFF sections (:mod:`gtgm.datasets.em`).
        folder: gets affinities, fragments and the segmentation as Zarr arrays.
        weights: folder that :func:`gtgm.stages.run_neurons` wrote.
        raw_key: name of the array in HDF5, Zarr or N5, where the file does not make it clear.
        resolution: nm (z, y, x), instead of what the file says.
        threshold: of the agglomeration; by default the one that was chosen on validation sections.
        block, halo: as in :func:`gtgm.neurons.blockwise.segment_blockwise`.
        tile: as in :func:`gtgm.neurons.blockwise_prediction.predict_blockwise`.
    Returns:
        (D, H, W) uint64 with the attribute ``resolution`` (nm).
    Raises:
        DataError: the image cannot be used, or its voxels are not those of the training.
        SettingsError: no threshold, or a folder that holds something else.
        WeightsError: the weights are not those of an affinity network.
    """
    network, about = load_segmenter(weights)
    if about.get("task") != "neurons":
        raise WeightsError(
            "holds no affinity network",
            where=weights,
            expected="a folder that `gtgm finetune` wrote for an EM dataset",
        )
    chosen = about["chosen"].get(METHOD) if threshold is None else threshold
    if chosen is None:
        raise SettingsError(
            f"the weights come without a threshold for {METHOD}",
            where="threshold",
            expected="a number in [0, 1]",
            fix="name one, or train with neurons.postprocessing=('waterz',)",
        )
    settings, trained = about["settings"], tuple(about["resolution"])
    with em.open_grey(image, raw_key, resolution) as grey:
        differs = [abs(a / b - 1) for a, b in zip(grey.resolution, trained, strict=True)]
        if max(differs) > TOLERANCE:
            raise DataError(
                f"its voxels are {grey.resolution} nm",
                where=image,
                expected=f"about {trained} nm (z, y, x), as in training",
                fix="resample the volume, or give its true voxel size",
            )
        affinities = predict_blockwise(
            network,
            grey,
            folder,
            tuple(settings["patch"]),
            device=accelerator("no").device,
            bf16=settings["bf16"] and has_bf16(),
            multiple=network.encoder.divisor,
            tile=tile,
        )
        flat = is_anisotropic(grey.resolution)
        labels = segment_blockwise(affinities, folder, chosen, flat, block, halo)
        labels.attrs["resolution"] = list(grey.resolution)
    return labels
