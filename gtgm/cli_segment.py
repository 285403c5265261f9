"""``gtgm segment``: a file of one's own, by a trained segmenter."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from gtgm.errors import SettingsError
from gtgm.setting_checks import check_axes


def add_command(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        command: makes a parser from a name, the function that runs, a sentence, an example, and a
            function that adds the options.
    """
    command(
        "segment",
        _segment,
        "segment a NIfTI image, on its own grid and affine, or the neurons of an EM volume",
        "gtgm segment scan.nii.gz labels.nii.gz --weights runs/.../finetune/...\n"
        "  gtgm segment sample.hdf neurons --weights runs/.../neurons/...   # any size, blockwise",
        _options,
    )


def _options(parser: argparse.ArgumentParser) -> None:
    from gtgm.settings import PRECISIONS

    parser.add_argument("image", type=Path, help="NIfTI; or HDF5, Zarr, N5 or TIFF for EM")
    parser.add_argument("output", type=Path, help="NIfTI; or a folder for the Zarr arrays of EM")
    parser.add_argument("--weights", type=Path, required=True, help="folder of a segmenter")
    parser.add_argument("--raw-key", help="EM: name of the array of grey values")
    parser.add_argument(
        "--resolution", type=float, nargs=3, metavar=("Z", "Y", "X"), help="EM: nm per voxel"
    )
    parser.add_argument("--threshold", type=float, help="EM: instead of the one of validation")
    parser.add_argument(
        "--overlap", type=_share, help="NIfTI: of neighbouring windows, at least 0 and below 1"
    )
    parser.add_argument(
        "--flips", type=_axes, help="NIfTI: axes to flip and average over, such as W (left–right)"
    )
    parser.add_argument("--windows", type=int, help="NIfTI: that the network sees at a time")
    parser.add_argument("--precision", choices=PRECISIONS, help="NIfTI: of the network")


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 0 and below 1")
    return value


def _axes(text: str) -> str:
    try:
        check_axes("", text)
    except SettingsError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the letters D, H, W") from None
    return text


def _segment(options: argparse.Namespace) -> int:
    from gtgm.datasets.em import is_volume
    from gtgm.inference import segment_file

    given = {
        "overlap": options.overlap,
        "tta_axes": options.flips,
        "windows": options.windows,
        "precision": options.precision,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if is_volume(options.image):
        if changes:
            raise SettingsError(
                "--overlap, --flips, --windows and --precision are for NIfTI", where=options.image
            )
        from gtgm.neurons.segment_file import segment_em_file

        labels = segment_em_file(
            options.image,
            options.output,
            options.weights,
            options.raw_key,
            options.resolution and tuple(options.resolution),
            options.threshold,
        )
        count = labels.attrs["neurons"]
        print(f"{labels.store.path}: {count} neurons in {labels.shape} voxels")
        if count < 2:
            print("Everything became one neuron: train longer, or name a lower --threshold.")
        return 0
    labels = segment_file(options.image, options.output, options.weights, **changes)
    print(f"{options.output}: " + ", ".join(f"{name} {ml:.2f} ml" for name, ml in labels.items()))
    return 0
