"""Two processes on CPUs, as `torchrun` starts them: a lost one ends the run, which then resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import kills
import pytest

from gtgm.paths import ROOT

#: Seconds, so that one of them can be killed in between.
STEPS, EVERY = 48, 3


def command(runs: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
        *("--master_addr", "127.0.0.1", "--master_port", str(port)),
        *("-m", "gtgm.cli", "pretrain", "Task04_Hippocampus", "--profile", "tiny"),
        *("--runs", str(runs), "--set", "text.captioner=describe", "--set", "text.cases=4"),
        *("--set", f"pretrain.steps={STEPS}", "--set", f"pretrain.checkpoint_every={EVERY}"),
        *("--set", "pretrain.precision=no", "--set", "pretrain.batch=8"),
        *("--set", "text.encoder_steps=5"),
    ]


@pytest.fixture
def start(launch: Callable, free_port: int) -> Callable[[Path], subprocess.Popen]:
    """Starts a run in a folder."""
    return lambda runs: launch(
        command(runs, free_port),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(runs: Path) -> dict:
    (path,) = runs.glob("tiny/pretrain/*/result.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_lost_rank_ends_the_run_and_the_same_command_finishes_it(tmp_path, start, evidence):
    evidence("kill", "two processes", "one of them, after a checkpoint")
    whole = start(tmp_path / "whole")
    output, _ = whole.communicate(timeout=280)
    assert whole.returncode == 0, output[-2000:]

    cut = start(tmp_path / "cut")
    checkpoint = None
    while not checkpoint and cut.poll() is None:
        checkpoint = next((tmp_path / "cut").glob("tiny/pretrain/*/checkpoint.pt"), None)
        time.sleep(0.02)
    assert checkpoint, cut.communicate()[0][-2000:]
    victim = max(kills.below(cut, "gtgm.cli"), key=lambda p: int(p.environ()["RANK"]))
    victim.send_signal(signal.SIGKILL)
    cut.communicate(timeout=120)  # the other rank does not wait for ever
    assert cut.returncode != 0
    assert not list((tmp_path / "cut").glob("tiny/pretrain/*/result.json"))

    again = start(tmp_path / "cut")
    output, _ = again.communicate(timeout=280)
    assert again.returncode == 0, output[-2000:]
    wanted, found = result(tmp_path / "whole"), result(tmp_path / "cut")
    assert found["summary"] == wanted["summary"]
    assert found["curves"] == wanted["curves"]
