"""What is promised to be exact is exact: another process, folder and day give the same bytes.

On CPUs, with one thread, in fp32 and bf16, whatever the number of workers that cut patches.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import kills
import pytest

STAGES = ["phantoms", "captioning", "preprocessing", "pretraining", "evaluation", "neurons"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_gives_the_same_bytes_again(whole, tmp_path, stage, evidence):
    evidence("repeat", "stage", stage)
    runs, before = tmp_path / "elsewhere", kills.BEFORE.get(stage)
    if before:
        shutil.copytree(whole(before), runs)
    assert kills.run(stage, runs) == 0
    assert kills.outputs(runs) == kills.outputs(whole(stage))


def test_workers_change_no_byte(whole, tmp_path, evidence):
    evidence("repeat", "stage", "pretraining and fine-tuning with a worker")
    runs = tmp_path / "runs"
    shutil.copytree(whole("preprocessing"), runs)
    # A worker that would be killed at a call that never comes.
    for stage in ("pretraining", "fine-tuning"):
        assert kills.run(stage, runs, "worker numpy load 1000000") == 0
    assert without_settings(runs) == without_settings(whole("fine-tuning"))


def without_settings(runs: Path) -> dict[str, Any]:
    """What stages leave, but for the number of workers, which results note."""
    found = {k: v for k, v in kills.outputs(runs).items() if not k.endswith(".npz")}
    for values in found.values():
        if isinstance(values, dict):
            del values["settings"], values["command"]
    return found
