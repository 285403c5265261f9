"""What a MONAI bundle of ``gtgm export bundle`` is made of, named in its ``inference.json``.

Reading, normalisation, sliding window and the way back to the file's grid are those of
:mod:`gtgm.inference`, as MONAI's transforms and inferer: padding, flips and the resampling of
labels differ from MONAI's own, and the labels must not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import MapTransform
from monai.transforms.utils import scale_affine
from monai.utils import convert_to_dst_type, convert_to_tensor
from torch import nn

from gtgm import paths
from gtgm.datasets import registry
from gtgm.datasets.geometry import Volume, load_volume, model_orientation, to_file_grid
from gtgm.datasets.msd import Case, volumes
from gtgm.device import process_state
from gtgm.errors import DataError, SettingsError
from gtgm.inference import predict_scores, unmeasured
from gtgm.intensity import normalise
from gtgm.models.weights import load_matching, read_state

IMAGE, PREDICTION = "image", "pred"


def images_in(folder: str | Path) -> list[str]:
    """The NIfTI files of a folder, sorted; none where there is no such folder."""
    return [str(file) for file in volumes(Path(folder))]


def image_items(datalist: Sequence[str]) -> list[dict[str, str]]:
    """MONAI's items of these images.

    Raises:
        DataError: two have one name, and would be written to one file.
    """
    names = [Path(path).name for path in datalist]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"{twice[0]} occurs more than once",
            where="datalist",
            expected="images with names of their own: labels are written under the image's name",
            fix="segment them in two runs with an --output_dir each",
        )
    return [{IMAGE: str(path)} for path in datalist]


def run_device() -> torch.device:
    """Where the network runs: the GPU that accelerate finds, else the CPU."""
    return process_state().device


def with_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """The network with the tensors of a safetensors file, in evaluation mode.

    Raises:
        WeightsError: the file cannot be read, or a tensor is missing or does not fit.
    """
    load_matching(network, read_state(path), where=path, minimum=1.0)
    return network.eval()


class VolumeReader:
    """Reads and checks images as :func:`gtgm.inference.segment_file` does; keeps the last one.

    Args:
        dataset: of the registry, that the network was trained on.
        channels: names of the channels that an image must have.
        spacing: mm (z, y, x) that images are resampled to; empty for each file's own.
    """

    def __init__(
        self, dataset: str, channels: Sequence[str], spacing: Sequence[float] = ()
    ) -> None:
        self.info = dataclasses.replace(registry.get(dataset), channels=tuple(channels))
        self.spacing = tuple(spacing) or None
        self._last: Volume | None = None

    def __call__(self, path: str | Path) -> Volume:
        path = Path(path)
        if self._last is None or self._last.case.image != path:
            case = Case(self.info.name, path.name, path, None)
            self._last = load_volume(case, self.info, self.spacing)
        return self._last


class LoadVolumed(MapTransform):
    """Path → image (C, D, H, W) in the model's axes with raw intensities and its affine.

    Args:
        keys: of the items.
        reader: of the volumes.
    """

    def __init__(self, keys: Hashable | Iterable[Hashable], reader: VolumeReader) -> None:
        super().__init__(keys)
        self.reader = reader

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        items = dict(data)
        for key in self.key_iterator(items):
            volume = self.reader(items[key])
            grid, size = volume.meta, tuple(volume.image.shape[1:])
            turn = model_orientation(grid.affine)
            turned = tuple(grid.shape[int(i)] for i in turn[:, 0].argsort())
            affine = grid.affine @ nib.orientations.inv_ornt_aff(turn, grid.shape)
            affine = affine @ scale_affine(turned, size)
            meta = {"filename_or_obj": str(volume.case.image)}
            items[key] = MetaTensor(volume.image, affine=torch.as_tensor(affine), meta=meta)
        return items


class Normalised(MapTransform):
    """Raw intensities → what the network sees, see :func:`gtgm.intensity.normalise`."""

    def __init__(
        self,
        keys: Hashable | Iterable[Hashable],
        modality: str,
        dataset: str,
        released_window: bool = False,
    ) -> None:
        super().__init__(keys)
        self.options = (modality, dataset, released_window)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        items = dict(data)
        for key in self.key_iterator(items):
            values = normalise(convert_to_tensor(items[key], track_meta=False), *self.options)
            items[key] = convert_to_dst_type(values, items[key])[0]
        return items


class FlipWindowInferer(Inferer):
    """Class probabilities by sliding windows and flips, see :func:`gtgm.inference.predict_scores`.

    Args:
        roi_size: window (z, y, x).
        sw_batch_size: windows that go through the network together.
        overlap: of neighbouring windows, at least 0 and below 1.
        tta_axes: axes flipped, in every combination, and averaged over.
        precision: ``auto``, ``bf16``, ``fp16`` or ``no``.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        sw_batch_size: int = 4,
        overlap: float = 0.5,
        tta_axes: str = "",
        precision: str = "auto",
    ) -> None:
        self.options = (tuple(roi_size), overlap, tta_axes, precision, sw_batch_size)

    def __call__(
        self, inputs: torch.Tensor, network: nn.Module, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Images (B, C, D, H, W) → probabilities (B, K, D, H, W) on the CPU."""
        images = convert_to_tensor(inputs, track_meta=False)
        return torch.stack([predict_scores(network, image, *self.options) for image in images])


class SaveLabelsd(MapTransform):
    """Write label maps (1, D, H, W) on the grid of the image's file, under the image's name.

    Where nothing was measured there is background, see :func:`gtgm.inference.unmeasured`.

    Args:
        keys: of the label maps.
        reader: of the volumes.
        output_dir: folder of the label maps.

    Raises:
        DataError: a label map would replace its image.
    """

    def __init__(
        self, keys: Hashable | Iterable[Hashable], reader: VolumeReader, output_dir: str | Path
    ) -> None:
        super().__init__(keys)
        self.reader, self.output_dir = reader, Path(output_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image = Path(data[IMAGE].meta["filename_or_obj"])
        output = self.output_dir / image.name
        if output.exists() and output.samefile(image):
            raise DataError(
                "the output would replace the image", where=output, fix="name another --output_dir"
            )
        for key in self.key_iterator(data):
            volume = self.reader(image)
            labels = convert_to_tensor(data[key], track_meta=False)[0].to(torch.uint8)
            labels = labels.masked_fill(unmeasured(volume).to(labels.device), 0)
            with paths.atomic(output) as temporary:
                nib.save(to_file_grid(labels, volume), temporary)
        return dict(data)


class VolumeSegmenter:
    """The bundle's evaluator: segments one image after the other.

    Args:
        dataset: of items with the key ``image`` (C, D, H, W).
        network: with its weights.
        inferer: gives probabilities.
        postprocessing: of items with the keys ``image`` and ``pred``.
        device: as :func:`run_device` gives it.

    Raises:
        SettingsError: another device than the one that accelerate chooses.
    """

    def __init__(
        self,
        dataset: Iterable[dict],
        network: nn.Module,
        inferer: Inferer,
        postprocessing: Any,
        device: torch.device | str,
    ) -> None:
        if torch.device(device).type != run_device().type:
            raise SettingsError(
                f"is {device}",
                where="device",
                expected=str(run_device()),
                fix="hide the GPU (CUDA_VISIBLE_DEVICES=) to use the CPU",
            )
        self.dataset, self.network = dataset, network
        self.inferer, self.postprocessing = inferer, postprocessing

    def run(self) -> int:
        """Segment every image; returns their number.

        Raises:
            DataError: there is no image, or one cannot be used.
        """
        count = 0
        for item in self.dataset:
            scores = self.inferer(item[IMAGE][None], self.network)
            self.postprocessing({**item, PREDICTION: scores[0]})
            count += 1
        if not count:
            raise DataError(
                "there is no NIfTI image",
                where="dataset_dir",
                expected="a folder with .nii or .nii.gz files",
                fix="name it: --dataset_dir FOLDER, or --datalist with the files",
            )
        return count
