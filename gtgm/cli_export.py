"""``gtgm export``: weights, a MONAI bundle, or results, to hand on."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def add_command(
    command: Callable[..., argparse.ArgumentParser],
    action: Callable[..., argparse.ArgumentParser],
) -> None:
    """Add the command and its actions to the command line.

    Args:
        command: makes a parser from a name, the function that runs, a sentence and an example.
        action: the same for an action, with the group of actions before the name.
    """
    export = command(
        "export",
        None,
        "hand on weights, a MONAI bundle, or results",
        "gtgm export weights runs/.../finetune/... --to my-weights",
    )
    actions = export.add_subparsers(title="actions", required=True, metavar="ACTION")
    weights = action(
        actions,
        "weights",
        _weights,
        "weights of a run with settings, metrics, model card, licence note and checksums",
        "gtgm export weights runs/.../finetune/... --to my-weights",
    )
    bundle = action(
        actions,
        "bundle",
        _bundle,
        "a segmenter of CT or MRI as a MONAI bundle that gives the same labels",
        "gtgm export bundle runs/.../finetune/... --to my-bundle",
    )
    for parser, what in ((weights, "pretrain, finetune or neurons"), (bundle, "finetune")):
        parser.add_argument(
            "folder", metavar="RUN", type=Path, help=f"folder of a finished run of {what}"
        )
        parser.add_argument("--to", type=Path, required=True, help="new or empty folder")
    results = action(
        actions,
        "results",
        _results,
        "results, settings, splits, metrics, captions and environment as one citable archive",
        "gtgm export results runs/demo/cpu --to results.tar.gz\n"
        "  gtgm export results results/measured --to measured.tar.gz",
    )
    results.add_argument(
        "chosen", nargs="+", help="run folders (with their captions), result files or ids"
    )
    results.add_argument("--to", type=Path, required=True, help="name that ends in .tar.gz")


def _weights(options: argparse.Namespace) -> int:
    from gtgm.handover.weights import export_weights

    folder = export_weights(options.folder, options.to)
    _show(folder)
    print(f"To the Hugging Face Hub: hf upload ORGANISATION/NAME {folder}")
    return 0


def _bundle(options: argparse.Namespace) -> int:
    from gtgm.handover.bundle import COMMAND, export_bundle

    folder = export_bundle(options.folder, options.to)
    _show(folder)
    print(f"Run it, in {folder}: {COMMAND}")
    return 0


def _results(options: argparse.Namespace) -> int:
    from gtgm import paths
    from gtgm.handover.archive import export_results

    archive = export_results(options.chosen, options.to)
    print(f"{archive}: {archive.stat().st_size / 1e6:.2f} MB, sha256:{paths.sha256(archive)}")
    return 0


def _show(folder: Path) -> None:
    from gtgm.handover.folder import files_below

    for file in files_below(folder):
        print(f"{file}  ({file.stat().st_size / 1e6:.2f} MB)")
