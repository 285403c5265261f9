"""A segmenter as a MONAI bundle: it runs with ``monai.bundle`` and gives the same labels."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from monai.bundle.utils import EXPR_KEY, ID_REF_KEY, MACRO_KEY

import gtgm
from gtgm import paths
from gtgm.datasets import registry
from gtgm.errors import DataError
from gtgm.handover.bundle_parts import IMAGE, PREDICTION
from gtgm.handover.folder import new_folder
from gtgm.handover.model_card import PAPER, model_card, scores
from gtgm.handover.terms import LICENCE_FILE, datasets_of, licence_note, saw_only_phantoms
from gtgm.handover.weights import TrainedRun, open_run, write_network
from gtgm.inference import load_class_segmenter
from gtgm.versions import PROJECT

#: JSON schema that MONAI publishes for ``metadata.json``.
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
#: Packages that a bundle needs, beside MONAI, PyTorch and NumPy.
REQUIRED = ("nibabel", "safetensors", "accelerate")
COMMAND = (
    "python -m monai.bundle run --config_file configs/inference.json --bundle_root . "
    "--dataset_dir IMAGES --output_dir LABELS"
)
_PARTS = "gtgm.handover.bundle_parts"
_MODALITY = {"MRI": "MR", "CT": "CT"}
_USAGE = """\
A [MONAI bundle](https://docs.monai.io/en/stable/mb_specification.html). Install `gtgm-companion` \
{version} from a checkout, and `fire` for MONAI's command line. In this folder, with the folders \
`IMAGES` (NIfTI) and `LABELS`:

```bash
{command}
```

From Python:

```python
import monai.bundle

monai.bundle.run(
    config_file="configs/inference.json", bundle_root=".", dataset_dir="IMAGES", output_dir="LABELS"
)
```

Each label map has the name, shape, affine and header codes of its image: {labels}. They are those \
of `gtgm segment scan.nii.gz labels.nii.gz --weights models`, voxel for voxel. `--datalist` takes \
files in place of a folder. A bundle's configuration is code: run only those that you trust.
"""


def export_bundle(run: str | Path, folder: str | Path) -> Path:
    """Write a trained segmenter of classes as a MONAI bundle.

    It holds ``configs/metadata.json``, ``configs/inference.json``, ``models`` (what
    ``gtgm segment --weights`` reads: safetensors, settings and the run's result), the model card
    as ``docs/README.md``, a licence note and checksums; no pickled object and no TorchScript.

    Args:
        run: folder of a finished run of ``finetune`` on CT or MRI.
        folder: new or empty.

    Raises:
        SettingsError: ``folder`` holds something.
        WeightsError: the run holds an encoder or an affinity network, or cannot be used.
        ResultError: as :func:`gtgm.handover.weights.open_run`.
        DataError: the name of a class or channel would be read as code by MONAI.
    """
    trained = open_run(run)
    load_class_segmenter(run)
    about = trained.config["about"]
    for name in [*about["classes"], *about["channels"]]:
        if name.startswith((EXPR_KEY, ID_REF_KEY, MACRO_KEY)):
            raise DataError(
                f"the name {name!r} would be read as an expression by MONAI",
                where=run,
                expected="names of classes and channels that start with a letter",
            )
    labels = ", ".join(f"{i} {name}" for i, name in enumerate(about["classes"], start=1))
    usage = _USAGE.format(version=gtgm.__version__, command=COMMAND, labels=labels)
    with new_folder(folder) as made:
        write_network(trained, made / "models")
        paths.write_json(made / "configs" / "metadata.json", bundle_metadata(trained))
        paths.write_json(made / "configs" / "inference.json", inference_config(trained))
        card = model_card(trained.result, trained.config, usage, library="monai")
        paths.write_text(made / "docs" / "README.md", str(card))
        note = licence_note(trained.result)
        paths.write_text(made / LICENCE_FILE, note)
        if not saw_only_phantoms(trained.result):
            paths.write_text(made / "docs" / "data_license.txt", note)
    return Path(folder)


def inference_config(trained: TrainedRun) -> dict[str, Any]:
    """``configs/inference.json``: reading, network, sliding window and writing."""
    about = trained.config["about"]
    network = {key: value for key, value in trained.config.items() if key != "about"}
    weights = f"$@bundle_root + '/models/{trained.weights.name}'"
    return {
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": {"_target_": f"{_PARTS}.run_device"},
        "datalist": {"_target_": f"{_PARTS}.images_in", "folder": "@dataset_dir"},
        "network_def": {"_target_": "gtgm.models.segmenter.build_segmenter", **network},
        "network": {
            "_target_": f"{_PARTS}.with_weights",
            "network": "@network_def",
            "path": weights,
        },
        "reader": {
            "_target_": f"{_PARTS}.VolumeReader",
            "dataset": about["dataset"],
            "channels": about["channels"],
            "spacing": about["spacing"],
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": f"{_PARTS}.LoadVolumed", "keys": IMAGE, "reader": "@reader"},
                {
                    "_target_": f"{_PARTS}.Normalised",
                    "keys": IMAGE,
                    "modality": about["modality"],
                    "dataset": about["dataset"],
                    "released_window": about["released_window"],
                },
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": {"_target_": f"{_PARTS}.image_items", "datalist": "@datalist"},
            "transform": "@preprocessing",
        },
        "inferer": {
            "_target_": f"{_PARTS}.FlipWindowInferer",
            "roi_size": about["patch"],
            "sw_batch_size": about.get("windows", 4),
            "overlap": about["overlap"],
            "tta_axes": about["tta_axes"],
            "precision": about["precision"],
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "AsDiscreted", "keys": PREDICTION, "argmax": True},
                {
                    "_target_": f"{_PARTS}.SaveLabelsd",
                    "keys": PREDICTION,
                    "reader": "@reader",
                    "output_dir": "@output_dir",
                },
            ],
        },
        "evaluator": {
            "_target_": f"{_PARTS}.VolumeSegmenter",
            "dataset": "@dataset",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "device": "@device",
        },
        "run": ["$@evaluator.run()"],
    }


def bundle_metadata(trained: TrainedRun) -> dict[str, Any]:
    """``configs/metadata.json`` by MONAI's conventions."""
    result, config, about = trained.result, trained.config, trained.config["about"]
    info = registry.get(about["dataset"])
    phantom, terms = saw_only_phantoms(result), datasets_of(result)
    named = f"{info.title} (phantom)" if result.source == "phantom" else info.title
    classes = dict(enumerate(["background", *about["classes"]]))
    patch = {
        "type": "image",
        "spatial_shape": about["patch"],
        "dtype": "float32",
        "is_patch_data": True,
    }
    scaled = [0, 1] if about["released_window"] else [-1, 1] if about["modality"] == "CT" else []
    return {
        "schema": SCHEMA,
        "version": gtgm.__version__,
        "changelog": {gtgm.__version__: f"exported from {result.id}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {PROJECT: gtgm.__version__}
        | {name: _version(name) for name in REQUIRED},
        "name": f"{named}, segmentation",
        "task": f"Segmentation of {', '.join(about['classes'])} ({about['modality']})",
        "description": f"A {result.backbone} of the GTGM companion, method {result.method}"
        + ("; trained on computed phantoms, of no use on real images" if phantom else ""),
        "authors": "GTGM companion contributors",
        "copyright": "See LICENSE",
        "data_source": "phantoms" if phantom else "; ".join(i.attribution for i in terms),
        "data_type": "nifti",
        "image_classes": ", ".join(about["channels"]),
        "label_classes": ", ".join(f"{i} {name}" for i, name in classes.items()),
        "pred_classes": "one channel per class",
        "eval_metrics": scores(result),
        "intended_use": "Research only. Not a medical device.",
        "references": [PAPER, *([] if phantom else dict.fromkeys(i.citation for i in terms))],
        "network_data_format": {
            "inputs": {
                IMAGE: {
                    **patch,
                    "format": "hounsfield" if about["modality"] == "CT" else "magnitude",
                    "modality": _MODALITY[about["modality"]],
                    "num_channels": config["in_channels"],
                    "value_range": scaled,
                    "channel_def": {str(i): n for i, n in enumerate(about["channels"])},
                }
            },
            "outputs": {
                PREDICTION: {
                    **patch,
                    "format": "segmentation",
                    "num_channels": config["out_channels"],
                    "value_range": [],
                    "channel_def": {str(i): name for i, name in classes.items()},
                }
            },
        },
    }  # fmt: skip


def _version(package: str) -> str:
    return metadata.version(package).partition("+")[0]
