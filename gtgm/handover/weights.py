"""Weights as a folder: safetensors, settings, metrics, model card, licence and checksums."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gtgm
from gtgm import paths
from gtgm.at_work import RESULT
from gtgm.errors import ResultError
from gtgm.handover.folder import copy, new_folder
from gtgm.handover.model_card import model_card
from gtgm.handover.terms import LICENCE_FILE, licence_note
from gtgm.models.encoder import CONFIG, from_pretrained, read_config, write_config
from gtgm.models.encoder import WEIGHTS as ENCODER
from gtgm.models.segmenter import WEIGHTS as SEGMENTER
from gtgm.models.segmenter import load_segmenter
from gtgm.results import Result, load_result, refuse_paths

_SEGMENT = """\
Install `gtgm-companion` {version} from a checkout, then, in this folder:

```bash
gtgm segment {files} --weights .
```
"""
_CLASSES = """
The labels have the shape, affine and header codes of the image: {labels}. From Python:

```python
from gtgm.inference import segment_file

millilitres = segment_file("scan.nii.gz", "labels.nii.gz", ".")
```
"""
_NEURONS = """
HDF5, Zarr, N5 and TIFF of any size, with voxels of about {resolution} nm (z, y, x).
"""
_ENCODER = """\
Install `gtgm-companion` {version} from a checkout, then, in this folder:

```python
from gtgm.models.encoder import from_pretrained
from gtgm.models.segmenter import build_segmenter

encoder = from_pretrained(".", in_channels=1)  # patches (B, 1, D, H, W) to feature maps
segmenter = build_segmenter("{backbone}", 1, 3, pretrained=".")  # start of a fine-tuning
```

Patches have sides that are multiples of {divisor} (z, y, x).
"""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run with a network.

    Attributes:
        folder: of the run.
        result: what it measured.
        config: of the weights, see :func:`gtgm.models.encoder.read_config`.
        weights: file of the weights.
    """

    folder: Path
    result: Result
    config: dict
    weights: Path


def open_run(run: str | Path) -> TrainedRun:
    """A run folder of ``pretrain``, ``finetune`` or ``neurons``, checked: its weights load.

    Raises:
        ResultError: no result, one of a stage without a network, or one that names a path of this
            machine.
        WeightsError: the weights or their settings cannot be used.
    """
    folder = Path(run)
    if not (folder / RESULT).exists():
        raise ResultError(
            "is no folder of a finished run",
            where=folder,
            expected=f"a folder with {RESULT}, such as runs/cpu/finetune/...",
            fix="name the folder that `gtgm finetune` prints at its end",
        )
    result = load_result(folder / RESULT)
    if result.stage == "text":
        raise ResultError(
            "is a run of captions, and has no network",
            where=folder,
            expected="a run of pretrain, finetune or neurons",
            fix="captions are handed on by `gtgm export results`",
        )
    config = read_config(folder)
    encoder = result.stage == "pretrain"
    # Loading is the check: every tensor is there and fits.
    from_pretrained(folder) if encoder else load_segmenter(folder)
    refuse_paths([result.to_dict(), config], folder, f"shorten it in {RESULT} or {CONFIG}")
    return TrainedRun(folder, result, config, folder / (ENCODER if encoder else SEGMENTER))


def export_weights(run: str | Path, folder: str | Path) -> Path:
    """Write what another person needs to use, judge and cite a trained network.

    ``gtgm segment --weights FOLDER``, :func:`gtgm.models.segmenter.load_segmenter` and
    :func:`gtgm.models.encoder.from_pretrained` open the folder as they open that of the run. It
    has no image, no prediction and no pickled object.

    Args:
        run: folder of a finished run of ``pretrain``, ``finetune`` or ``neurons``.
        folder: new or empty.

    Raises:
        SettingsError: ``folder`` holds something.
        ResultError, WeightsError: as :func:`open_run`.
    """
    trained = open_run(run)
    with new_folder(folder) as made:
        write_network(trained, made)
        card = model_card(trained.result, trained.config, _usage(trained), library="gtgm")
        paths.write_text(made / "README.md", str(card))
        paths.write_text(made / LICENCE_FILE, licence_note(trained.result))
    return Path(folder)


def write_network(trained: TrainedRun, folder: Path) -> None:
    """Copy weights, settings and result of a run; the settings get the version of their schema."""
    copy(trained.weights, folder / trained.weights.name)
    write_config(folder, trained.config)
    copy(trained.folder / RESULT, folder / RESULT)


def _usage(trained: TrainedRun) -> str:
    result, config = trained.result, trained.config
    version, about = gtgm.__version__, config.get("about", {})
    if result.stage == "pretrain":
        divisor = ", ".join(map(str, from_pretrained(trained.folder).divisor))
        return _ENCODER.format(version=version, backbone=config["backbone"], divisor=divisor)
    if result.stage == "neurons":
        resolution = " × ".join(f"{side:g}" for side in about["resolution"])
        shown = _SEGMENT.format(version=version, files="sample.hdf neurons")
        return shown + _NEURONS.format(resolution=resolution)
    labels = ", ".join(f"{i} {name}" for i, name in enumerate(about["classes"], start=1))
    shown = _SEGMENT.format(version=version, files="scan.nii.gz labels.nii.gz")
    return shown + _CLASSES.format(labels=labels)
