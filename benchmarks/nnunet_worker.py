#!/usr/bin/env python
"""The part of benchmarks/nnunet.py that runs in nnU-Net's own environment.

Plans and preprocesses a raw dataset, trains on all of its cases for a wall time, and predicts a
folder of images. Reads what to do from a JSON file and writes what was done to another. Knows
nothing of gtgm, which is not installed there.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

CONFIGURATION = "3d_fullres"


def main(arguments: list[str]) -> int:
    """Entry point; ``arguments`` is the path of the job."""
    job = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    report = run(job)
    Path(job["report"]).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Prepare, train and predict.

    Args:
        job: ``dataset`` (``DatasetXXX_NAME`` in nnU-Net's raw folder), ``images`` (folder of test
            images), ``predictions`` (folder to write), ``seconds`` (wall time of the training),
            ``device``, ``threads``, ``augmenters`` (processes beside the one that trains),
            ``seed``, ``mirroring`` (of predictions).

    Returns:
        Steps, losses, wall and processor seconds of each part, what nnU-Net planned, versions.
    """
    import numpy as np
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    device = torch.device(job["device"])
    # nnU-Net's own choice: threads are for augmentation where a GPU computes.
    torch.set_num_threads(job["threads"] if device.type == "cpu" else 1)
    used: dict[str, dict[str, float]] = {}
    with _timed(used, "prepare"):
        plans = _prepare(job["dataset"], job["threads"])
    random.seed(job["seed"])
    np.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    # Only now, because planning refuses 0.
    os.environ.update({"nnUNet_n_proc_DA": str(job["augmenters"])})
    with _timed(used, "train"):
        trainer = get_trainer_from_args(
            job["dataset"], CONFIGURATION, "all", plans_identifier=plans, device=device
        )
        losses = train(trainer, job["seconds"])
    with _timed(used, "predict"):
        _predict(trainer, job)
    planned = trainer.configuration_manager
    on_gpu = device.type == "cuda"
    return {
        "steps": len(losses),
        "curves": {"loss": thinned(losses)},
        "own_steps": trainer.num_epochs * trainer.num_iterations_per_epoch,
        "used": used,
        "planned": {
            "configuration": CONFIGURATION,
            "patch": [int(n) for n in planned.patch_size],
            "batch": int(planned.batch_size),
            "spacing": [float(s) for s in planned.spacing],
            "network": planned.network_arch_class_name.rpartition(".")[2],
            "parameters": sum(p.numel() for p in trainer.network.parameters()),
            "optimizer": type(trainer.optimizer).__name__,
            "lr": trainer.initial_lr,
        },
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("nnunetv2", "torch")},
        },
    }


def train(
    trainer: Any, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Train for a wall time instead of a number of epochs.

    nnU-Net lowers its learning rate with the share of epochs that are over; here with the share of
    time, before each step. Validation during training is left out: it chooses a checkpoint that
    only continued training reads. Everything else of a step is nnU-Net's.

    Args:
        trainer: an ``nnUNetTrainer``.
        seconds: from the call on. Training ends where another step as long as the last one would
            not fit, but does one step at least.
        clock: gives the time in seconds.

    Returns:
        Loss of each step.
    """
    begin = clock()
    trainer.on_train_start()
    trainer.network.train()
    losses: list[float] = []
    now, last = clock(), 0.0
    while not losses or now + last <= begin + seconds:
        before = now
        share = min(1.0, (before - begin) / seconds)
        trainer.lr_scheduler.step(share * trainer.num_epochs)
        losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
        now = clock()
        last = now - before
    trainer.on_train_end()
    return losses


def thinned(values: list[float], points: int = 100) -> list[list[float]]:
    """At most ``points`` pairs of step and value: means of equally many steps, at their last."""
    size = -(-len(values) // points)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    ends = (min((i + 1) * size, len(values)) for i in range(len(parts)))
    return [[end, sum(part) / len(part)] for end, part in zip(ends, parts, strict=True)]


def _prepare(dataset: str, processes: int) -> str:
    """Fingerprint, plans and preprocessed cases; returns the name of the plans."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    number = int(dataset.removeprefix("Dataset").partition("_")[0])
    api.extract_fingerprints(
        [number],
        num_processes=processes,
        check_dataset_integrity=True,
        verbose=False,
        show_progress_bar=False,
    )
    plans = api.plan_experiments([number])
    api.preprocess([number], plans, (CONFIGURATION,), (processes,), show_progress_bar=False)
    return plans


def _predict(trainer: Any, job: dict[str, Any]) -> None:
    """nnU-Net's own inference with the trained network: half-overlapping windows, Gaussian."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(
        use_mirroring=job["mirroring"], device=trainer.device, allow_tqdm=False
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    Path(job["predictions"]).mkdir()
    predictor.predict_from_files_sequential(job["images"], job["predictions"])


@contextmanager
def _timed(used: dict[str, dict[str, float]], part: str) -> Iterator[None]:
    """Wall time and processor time of this process; they differ if others use the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    used[part] = {
        "seconds": round(time.perf_counter() - wall, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
