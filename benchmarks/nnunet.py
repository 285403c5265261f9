#!/usr/bin/env python
"""nnU-Net v2 on the same cases, in the same wall time, scored the same way.

Makes nnU-Net an environment of its own, writes the labelled cases of a fold as its raw dataset,
lets it plan, trains it on all of them for a wall time, predicts the fold's test cases with its own
inference, and scores them as the project's own runs are scored. The budget is that of training
alone: planning, preprocessing and prediction come on top, so that a comparison at equal budgets
favours nnU-Net. Plans, network, augmentation, loss and optimizer are nnU-Net's; only the schedule
is shortened: its learning rate falls with the time that is over.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from gtgm import metrics, paths
from gtgm.datasets.dataset import Dataset, case_hashes, open_dataset
from gtgm.datasets.nifti import box_sizes
from gtgm.datasets.splits import load_split
from gtgm.errors import GTGMError, SettingsError
from gtgm.provenance import provenance
from gtgm.results import load_result

EPILOG = """examples:
  python benchmarks/nnunet.py --data DIR --fold 0 --fraction 0.01 --minutes 3 --out nnunet.json
  python benchmarks/nnunet.py --data DIR --fraction 0.01 --budget-from RESULT.json --out nnunet.json
  python benchmarks/nnunet.py --data DIR --minutes 30 --device cuda --threads 8 --out nnunet.json

nnU-Net's environment is made once, in the folder nnunet-env of the runs folder.
"""
WORKER = Path(__file__).with_name("nnunet_worker.py")
REQUIREMENTS = Path(__file__).with_name("requirements-nnunet.txt")
LOCK = paths.ROOT / "requirements.lock"
# Installed without their dependencies; requirements-nnunet.txt says why.
ALONE = ("nnunetv2==2.8.1", "dynamic-network-architectures==0.4.4")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        report = measure_run(options)
    except GTGMError as error:
        print(f"nnunet: {error}", file=sys.stderr)
        return 1
    paths.write_json(options.out, report)
    seconds = report["used"]["train"]["seconds"]
    print(f"{report['steps']} steps in {seconds:.0f} s, Dice {report['summary']['dice']:.3f}")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--dataset", default="Task04_Hippocampus", help="a CT or MRI dataset")
    parser.add_argument("--data", type=Path, help="folder of datasets; a phantom without it")
    parser.add_argument("--fold", type=int, default=0, help="whose cases are predicted")
    parser.add_argument("--fraction", type=float, default=1.0, help="of training cases, in (0, 1]")
    parser.add_argument("--draw", type=int, default=0, help="number of the label draw")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="wall time of the training")
    budget.add_argument(
        "--budget-from",
        type=Path,
        metavar="RESULT.json",
        help="take the wall time of this project's run of the same cases",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="cpu: of the network; cuda: one for the network, the others augment",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--no-mirroring",
        action="store_true",
        help="do not average predictions over mirrored images, which nnU-Net does",
    )
    parser.add_argument(
        "--folder", type=Path, help="new folder to work in and keep; default a temporary one"
    )
    return parser


def measure_run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, predict and score; the report holds scores per case and what produced them."""
    if options.threads < 1:
        raise SettingsError("a thread is needed", where="--threads", expected="a number from 1")
    if options.folder and options.folder.is_dir() and any(options.folder.iterdir()):
        raise SettingsError(
            "the folder is not empty",
            where=options.folder,
            expected="a new folder, so that no case of another run is trained on",
            fix="name another one",
        )
    seconds, run = budget(options)
    dataset = open_dataset(options.dataset, options.data)
    split = load_split(dataset)
    labelled = split.labelled(options.fold, options.fraction, options.draw)
    test = split.test(options.fold)
    python = environment(paths.runs_dir() / "nnunet-env")
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        name = f"Dataset001_{dataset.info.name}"
        raw = write_raw(dataset, labelled, test, folder / "raw" / name)
        predictions = folder / "predictions"
        job = {
            "dataset": name,
            "images": str(raw / "imagesTs"),
            "predictions": str(predictions),
            "seconds": seconds,
            "device": options.device,
            "threads": options.threads,
            # On a CPU the process that trains augments; a GPU would have to wait for it.
            "augmenters": 0 if options.device == "cpu" else options.threads - 1,
            "seed": options.seed,
            "mirroring": not options.no_mirroring,
        }
        done = run_worker(python, job, folder)
        rows = score(dataset, test, predictions)
    here = provenance()
    return {
        "method": "nnunet",
        "dataset": dataset.info.name,
        "source": dataset.source,
        "fraction": options.fraction,
        "fold": options.fold,
        "draw": options.draw,
        "seed": options.seed,
        "n_train": len(labelled),
        "n_test": len(test),
        "summary": metrics.summarise(rows),
        "metrics": rows,
        "budget_seconds": seconds,
        "budget_from": run,
        **{name: done[name] for name in ("steps", "own_steps", "curves", "used")},
        "settings": done["planned"]
        | {
            "mirroring": not options.no_mirroring,
            "surface_tolerance_mm": metrics.SURFACE_TOLERANCE_MM,
        },
        "device": options.device,
        "threads": options.threads,
        "hardware": here["hardware"] | {"gpu": done["gpu"]},
        "versions": here["versions"] | done["versions"],
        "commit": here["commit"],
        "data": {
            "root": dataset.root.name,
            "cases": case_hashes(dataset, sorted([*labelled, *test])),
        },
        "command": command(options, run, dataset.source),
        "started": started,
    }


def budget(options: argparse.Namespace) -> tuple[float, str | None]:
    """Seconds of training, and the id of the result that they are taken from.

    Raises:
        SettingsError: no positive time, or the result is one of other cases.
        ResultError: the result cannot be read.
    """
    run = load_result(options.budget_from) if options.budget_from else None
    if run is not None:
        for name in ("dataset", "fold", "fraction", "draw"):
            if getattr(run, name) != getattr(options, name):
                raise SettingsError(
                    f"its {name} is {getattr(run, name)!r}",
                    where=options.budget_from,
                    expected=f"{getattr(options, name)!r}, as in this comparison",
                    fix=f"give --{name}, or another result",
                )
    seconds = run.wall_seconds if run is not None else 60 * options.minutes
    if seconds is None or not 0 < seconds < float("inf"):
        raise SettingsError(
            f"the wall time is {seconds} s",
            where=options.budget_from or "--minutes",
            expected="a time above 0",
        )
    return seconds, run.id if run is not None else None


def write_raw(dataset: Dataset, labelled: Sequence[str], test: Sequence[str], folder: Path) -> Path:
    """Write a raw dataset of nnU-Net v2: one file for each channel, and ``dataset.json``.

    Args:
        dataset: an MSD dataset.
        labelled: ids that go to ``imagesTr`` and ``labelsTr``.
        test: ids that go to ``imagesTs``; their labels are not written.
        folder: named ``DatasetXXX_NAME``.
    """
    for part, ids in (("imagesTr", labelled), ("imagesTs", test)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for id in ids:
            image = nib.load(dataset.case(id).image)
            channels = nib.four_to_three(image) if image.ndim == 4 else [image]
            for i, channel in enumerate(channels):
                nib.save(channel, folder / part / f"{id}_{i:04d}.nii.gz")
    (folder / "labelsTr").mkdir(exist_ok=True)
    for id in labelled:
        file = nib.load(dataset.case(id).label)
        label = nib.Nifti1Image(read_label(file), file.affine, file.header, dtype=np.int16)
        nib.save(label, folder / "labelsTr" / f"{id}.nii.gz")
    names = ("background", *dataset.info.classes)
    declared = {
        "channel_names": {str(i): name for i, name in enumerate(dataset.info.channels)},
        "labels": {name: i for i, name in enumerate(names)},
        "numTraining": len(labelled),
        "file_ending": ".nii.gz",
    }
    paths.write_json(folder / "dataset.json", declared)
    return folder


def read_label(file: nib.spatialimages.SpatialImage) -> np.ndarray:
    """Classes as int16 of shape (x, y, z)."""
    return np.rint(np.asarray(file.dataobj)).astype(np.int16).reshape(file.shape[:3])


def environment(folder: Path) -> Path:
    """Python of nnU-Net's environment in ``folder``.

    It is made first if it is missing, unfinished, or of other requirements or another Python. Its
    torch is that of requirements.lock, installed first.

    Raises:
        GTGMError: a step failed.
    """
    lock = LOCK.read_text(encoding="utf-8").splitlines()
    torch = next(line for line in lock if line.startswith("torch=="))
    requirements = REQUIREMENTS.read_text(encoding="utf-8")
    wanted = "\n".join([platform.python_version(), torch, *ALONE, requirements])
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.is_file() and ready.read_text(encoding="utf-8") == wanted:
        return python
    print(f"nnU-Net's environment is made in {folder}", flush=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for step in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [*pip, torch],
        [*pip, "--constraint", str(LOCK), "--requirement", str(REQUIREMENTS)],
        [*pip, "--no-deps", *ALONE],
    ):
        done = subprocess.run(step)
        if done.returncode:
            raise GTGMError(
                f"`{' '.join(step[1:4])}` ended with the exit code {done.returncode}",
                where=folder,
                expected="an environment for nnU-Net",
                fix="see the messages above; Python's packages must be reachable",
            )
    paths.write_text(ready, wanted)
    return python


def run_worker(python: Path, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run ``nnunet_worker.py``; returns its report.

    Raises:
        GTGMError: it failed; the message ends with its last lines.
    """
    threads = str(job["threads"])
    changed = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    changed |= {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    changed |= {"nnUNet_n_proc_DA": threads, "nnUNet_def_n_proc": threads}
    changed["nnUNet_compile"] = "f"  # compiling would take a large part of a short budget
    report, log = folder / "report.json", folder / "nnunet.log"
    paths.write_json(folder / "job.json", job | {"report": str(report)})
    print(f"nnU-Net trains for {job['seconds']:.0f} s, log in {log}", flush=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [str(python), str(WORKER), str(folder / "job.json")],
            env=os.environ | changed,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
        raise GTGMError(
            f"nnU-Net ended with the exit code {done.returncode}: " + " / ".join(last),
            where="nnunet_worker.py",
            fix="name a --folder to keep its log",
        )
    return json.loads(report.read_text(encoding="utf-8"))


def score(dataset: Dataset, test: Sequence[str], predictions: Path) -> list[dict[str, Any]]:
    """Rows of ``metrics.score_case`` on the files' own grids, as the project's runs are scored."""
    rows = []
    for id in test:
        case = dataset.case(id)
        rows += metrics.score_case(
            np.asarray(nib.load(predictions / f"{id}.nii.gz").dataobj),
            read_label(nib.load(case.label)),
            box_sizes(nib.load(case.image).affine, case.image),
            dataset.info.classes,
            id,
        )
    return rows


def command(options: argparse.Namespace, run: str | None, source: str) -> str:
    """The command that repeats this run, without the paths of this machine."""
    parts = [f"python benchmarks/nnunet.py --dataset {options.dataset}"]
    parts += ["--data DIR"] if source == "real" else []
    parts += [f"--fold {options.fold} --fraction {options.fraction:g} --draw {options.draw}"]
    parts += [f"--budget-from {run}.json" if run else f"--minutes {options.minutes:g}"]
    parts += [f"--device {options.device} --threads {options.threads} --seed {options.seed}"]
    parts += ["--no-mirroring"] if options.no_mirroring else []
    return " ".join([*parts, "--out FILE.json"])


if __name__ == "__main__":
    sys.exit(main())
