"""A notebook that is killed again and again ends with the numbers of the stage that it runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import kills
import psutil
import pytest

from gtgm.batch.running import still_running
from gtgm.batch.status import DONE, state
from gtgm.batch.units import Unit, write_manifest
from gtgm.paths import ROOT

RUN = "*/finetune/*"


def unit(runs: Path) -> Unit:
    values = {"runs": str(runs), "methods": ["random"], "changes": kills.SLOW}
    return Unit("notebook", "03_finetuning.ipynb", values)


@pytest.fixture
def begin(launch: Callable) -> Callable[[Path, Path], subprocess.Popen]:
    """Starts to execute the unit."""
    options = [sys.executable, "-m", "gtgm.batch.execute", "--unit", "notebook"]
    return lambda manifest, runs: launch(
        [*options, "--manifest", str(manifest), "--folder", str(runs)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen, runs: Path, file: str) -> None:
    begun, limit = time.time(), time.monotonic() + 240

    def written() -> bool:
        found = [f for f in runs.glob(f"{RUN}/{file}") if not f.name.startswith(".")]
        return any(f.stat().st_mtime > begun for f in found)

    while not written():
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    assert not list(runs.glob(f"{RUN}/result.json"))


def kernel_of(process: subprocess.Popen) -> psutil.Process:
    (kernel,) = kills.below(process, "ipykernel_launcher")
    return kernel


@pytest.mark.timeout(900)
def test_a_notebook_killed_three_times_gives_the_same_numbers(tmp_path, begin, evidence):
    evidence("kill", "notebook", "everything, at a checkpoint")
    evidence("kill", "notebook", "papermill alone, whose kernel lives on")
    evidence("kill", "notebook", "the kernel alone, in the evaluation")
    runs, manifest = tmp_path / "runs", tmp_path / "units.json"
    write_manifest([unit(runs)], manifest)

    first = begin(manifest, runs)
    wait_for(first, runs, "checkpoint.pt")
    kernel = kernel_of(first)  # in a session of its own
    kernel.kill()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()

    second = begin(manifest, runs)
    wait_for(second, runs, "checkpoint.pt")
    kernel = kernel_of(second)
    kernel.suspend()  # or it would see that its parent is gone, and end by itself
    second.kill()
    second.communicate()
    assert still_running([kernel], 0)

    third = begin(manifest, runs)
    wait_for(third, runs, "predictions/*.nii.gz")
    assert not still_running([kernel], 0)
    kernel_of(third).kill()
    _, error = third.communicate(timeout=120)
    assert third.returncode == 1 and "--jobs 1" in error and "same command again" in error

    last = begin(manifest, runs)
    _, error = last.communicate(timeout=240)
    assert last.returncode == 0, error
    assert state(unit(runs), runs) == DONE

    whole = tmp_path / "whole"
    shutil.copytree(runs / "phantoms", whole / "phantoms")
    assert kills.run("slow", whole) == 0
    (wanted,), (found,) = (
        [v for n, v in kills.outputs(folder).items() if n.endswith("result.json")]
        for folder in (whole, runs)
    )
    assert found == wanted
