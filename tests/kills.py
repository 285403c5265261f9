"""A stage in a process of its own, which meets a fault at a point that is named beforehand.

Points are texts. Two kill the process: ``write GLOB N begun|half|named`` at the N-th write of a
file that matches GLOB, when its temporary file is still empty, half written, or has just got its
name; ``call MODULE FUNCTION N`` at the N-th call of a function, before it does anything. Others
let the system refuse something: ``full GLOB N`` leaves no space for the N-th file; ``memory MODULE
FUNCTION N torch|numpy`` asks for more memory than there is at the N-th call; ``worker MODULE
FUNCTION N`` kills the worker that makes the N-th call.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from gtgm import paths
from gtgm.errors import GTGMError
from gtgm.paths import sha256
from gtgm.stages import Study, caption, finetune, pretrain, run_neurons
from gtgm.stages.pretraining import pooled_volumes

MRI, EM = "Task04_Hippocampus", "CREMI_A"
CHANGES = {
    # Large enough for bf16 on a CPU, see gtgm.precision.training_precision.
    "text": {"captioner_steps": 4, "encoder_steps": 4, "cases": 4, "image_size": 32},
    "pretrain": {
        "steps": 6,
        "batch": 16,
        "patch": [24, 24, 24],
        "width": 16,
        "embedding": 8,
        "checkpoint_every": 2,
        "volumes": "disk",
    },
    "finetune": {
        "steps": 6,
        "batch": 2,
        "patch": [24, 24, 24],
        "checkpoint_every": 2,
        "volumes": "memory",
    },
    "neurons": {
        "steps": 6,
        "patch": [8, 48, 48],
        "checkpoint_every": 2,
        "offsets": [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
        "postprocessing": ["waterz"],
        "ema": 0.9,
    },
}
#: Long enough that somebody can watch it and pull the plug.
SLOW = CHANGES | {
    "finetune": CHANGES["finetune"] | {"steps": 60, "checkpoint_every": 5, "overlap": 0.85}
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
    "slow": lambda runs: finetune(Study((MRI,), runs=str(runs), changes=SLOW), MRI, "random"),
    "neurons": lambda runs: run_neurons(em_study(runs), EM, "random"),
}

#: What must be there before a stage, so that only the stage itself is killed.
BEFORE = {
    "captioning": "phantoms",
    "preprocessing": "captioning",
    "pretraining": "preprocessing",
    "fine-tuning": "pretraining",
    "evaluation": "pretraining",
    "neurons": "phantoms",
}


def run(stage: str, runs: Path, point: str = "") -> int:
    """Exit code of a stage in a process of its own: 0, or −9 if it was killed."""
    return message_of(stage, runs, point)[0]


def message_of(stage: str, runs: Path, point: str = "") -> tuple[int, str]:
    """As :func:`run`, with the message of an error that the package raised (exit code 3)."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_child, args=(stage, runs, point, sender))
    process.start()
    sender.close()
    process.join(300)
    hangs = process.exitcode is None
    process.kill()
    assert not hangs
    message = receiver.recv() if process.exitcode == 3 else ""
    return process.exitcode, message


def start(stage: str, runs: Path) -> Any:
    """A stage in a process of its own, which is not waited for."""
    process = CONTEXT.Process(target=_child, args=(stage, runs, "", None))
    process.start()
    return process


def hear_signals() -> None:
    """Undo, in a new process, what a test run in the background (``&``, ``nohup``) hands on."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def below(process: subprocess.Popen, word: str = "") -> list[psutil.Process]:
    """Processes that a process has started, by a word of their command line."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # any of them may end meanwhile
            if not word or word in child.cmdline():
                found.append(child)
    return found


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


def _child(stage: str, runs: Path, point: str, sender: Any) -> None:
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    kind, *rest = point.split() or [""]
    faults: dict[str, Callable] = {
        "": contextlib.nullcontext,
        "write": _at_write,
        "call": _at_call,
        "full": _when_full,
        "memory": _without_memory,
        "worker": _in_worker,
    }
    if kind == "worker":
        for settings in ("pretrain", "finetune"):
            CHANGES[settings]["workers"] = 1
    with faults[kind](*rest):
        try:
            STAGES[stage](runs)
        except GTGMError as error:
            sender.send(str(error))
            sys.exit(3)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _nth_write(glob: str, number: str, at: Callable) -> Iterator[None]:
    """Let ``at(atomic, path)`` stand for the N-th write of a file that matches."""
    atomic, count = paths.atomic, 0

    @contextlib.contextmanager
    def watched(path: str | Path) -> Iterator[Path]:
        nonlocal count
        meant = fnmatch.fnmatch(Path(path).name, glob)
        count += meant
        now = meant and count == int(number)
        with at(atomic, path) if now else atomic(path) as temporary:
            yield temporary

    paths.atomic = watched
    yield


def _at_write(glob: str, number: str, when: str) -> Any:
    @contextlib.contextmanager
    def killed(atomic: Callable, path: str | Path) -> Iterator[Path]:
        with atomic(path) as temporary:
            if when == "begun":
                _die()
            yield temporary
            if when == "half":
                os.truncate(temporary, temporary.stat().st_size // 2)
                _die()
        if when == "named":
            _die()

    return _nth_write(glob, number, killed)


def fill(temporary: Path) -> None:
    """Let the kernel refuse whatever is written to this file."""
    if temporary.suffix == ".safetensors":  # safetensors puts its own file in its place
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    else:
        temporary.unlink()
        temporary.symlink_to("/dev/full")


def _when_full(glob: str, number: str) -> Any:
    @contextlib.contextmanager
    def full(atomic: Callable, path: str | Path) -> Iterator[Path]:
        with atomic(path) as temporary:
            fill(temporary)
            yield temporary

    return _nth_write(glob, number, full)


def _without_memory(module: str, function: str, number: str, library: str) -> Any:
    allocate = {"torch": torch.empty, "numpy": np.empty}[library]
    return _at_call(module, function, number, lambda: allocate(1 << 50))


def _in_worker(module: str, function: str, number: str) -> Any:
    main = os.getpid()
    return _at_call(module, function, number, counts=lambda: os.getpid() != main)


@contextlib.contextmanager
def _at_call(
    module: str,
    function: str,
    number: str,
    then: Callable[[], object] = _die,
    counts: Callable[[], bool] = lambda: True,
) -> Iterator[None]:
    place = importlib.import_module(module)
    whole, count = getattr(place, function), 0

    def killed(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += counts()
        if counts() and count == int(number):
            then()
        return whole(*arguments, **named)

    setattr(place, function, killed)
    yield
