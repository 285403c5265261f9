"""A stage in a process of its own, which is killed at a point that is named beforehand.

Points are texts: ``write GLOB N begun|half|named`` is the N-th write of a file that matches GLOB,
when its temporary file is still empty, half written, or has just got its name;
``call MODULE FUNCTION N`` is the N-th call of a function, before it does anything.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import json
import os
import signal
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from gtgm import paths
from gtgm.paths import sha256
from gtgm.stages import Study, caption, finetune, pretrain, run_neurons
from gtgm.stages.pretraining import pooled_volumes

MRI, EM = "Task04_Hippocampus", "CREMI_A"
CHANGES = {
    "text": {"captioner_steps": 4, "encoder_steps": 4, "cases": 4, "image_size": 32},
    "pretrain": {
        "steps": 6,
        "batch": 4,
        "patch": [16, 24, 24],
        "width": 16,
        "embedding": 8,
        "checkpoint_every": 2,
        "volumes": "disk",
    },
    "finetune": {"steps": 6, "batch": 2, "patch": [16, 24, 24], "checkpoint_every": 2},
    "neurons": {
        "steps": 6,
        "patch": [8, 32, 32],
        "checkpoint_every": 2,
        "offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
        "postprocessing": ["waterz"],
        "ema": 0.9,
    },
}
#: Of a result: everything but times, memory and where it ran.
SAME = ("id", "summary", "metrics", "curves", "settings", "n_train", "n_test", "data", "command")
# From a process that has done nothing, not from a test's: torch's threads do not survive a fork.
# It imports what takes seconds once. (This file it cannot find: it lacks the tests' path.)
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["gtgm.stages", "gtgm.stages.held_out", "gtgm.neurons.segment"])


def study(runs: Path) -> Study:
    return Study((MRI,), runs=str(runs), changes=CHANGES)


def em_study(runs: Path) -> Study:
    return Study((EM,), runs=str(runs), changes=CHANGES)


def open_phantoms(runs: Path) -> None:
    """Phantoms of both kinds, which the other stages read."""
    study(runs).open(MRI)
    em_study(runs).open(EM)


def prepare(runs: Path) -> None:
    """The store of volumes on disk that pretraining reads."""
    mine = study(runs)
    pooled_volumes(mine, caption(mine))


STAGES = {
    "phantoms": open_phantoms,
    "captioning": lambda runs: caption(study(runs)),
    "preprocessing": prepare,
    "pretraining": lambda runs: pretrain(study(runs)),
    "fine-tuning": lambda runs: finetune(study(runs), MRI, "gtgm"),
    "evaluation": lambda runs: finetune(study(runs), MRI, "gtgm"),
    "neurons": lambda runs: run_neurons(em_study(runs), EM, "random"),
}


def run(stage: str, runs: Path, point: str = "") -> int:
    """Exit code of a stage in a process of its own: 0, or −9 if it was killed."""
    process = CONTEXT.Process(target=_child, args=(stage, runs, point))
    process.start()
    process.join(300)
    process.kill()
    return process.exitcode


def outputs(runs: Path) -> dict[str, Any]:
    """What a stage leaves: results without times, and hashes of all other files."""
    found: dict[str, Any] = {}
    for file in sorted(p for p in runs.rglob("*") if p.is_file() and not p.name.endswith("lock")):
        name = file.relative_to(runs).as_posix()
        if file.name == "result.json":
            values = json.loads(file.read_text(encoding="utf-8"))
            values["settings"].pop("training_seconds", None)
            found[name] = {key: values[key] for key in SAME}
        else:
            found[name] = sha256(file)
    return found


def _child(stage: str, runs: Path, point: str) -> None:
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    kind, *rest = point.split() or [""]
    with {"": contextlib.nullcontext, "write": _at_write, "call": _at_call}[kind](*rest):
        STAGES[stage](runs)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _at_write(glob: str, number: str, when: str) -> Iterator[None]:
    atomic, count = paths.atomic, 0

    @contextlib.contextmanager
    def killed(path: str | Path) -> Iterator[Path]:
        nonlocal count
        count += fnmatch.fnmatch(Path(path).name, glob)
        now = count == int(number)
        with atomic(path) as temporary:
            if now and when == "begun":
                _die()
            yield temporary
            if now and when == "half":
                os.truncate(temporary, temporary.stat().st_size // 2)
                _die()
        if now and when == "named":
            _die()

    paths.atomic = killed
    yield


@contextlib.contextmanager
def _at_call(module: str, function: str, number: str) -> Iterator[None]:
    place = importlib.import_module(module)
    whole, count = getattr(place, function), 0

    def killed(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == int(number):
            _die()
        return whole(*arguments, **named)

    setattr(place, function, killed)
    yield
