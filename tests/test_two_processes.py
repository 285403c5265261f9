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
STEPS, EVERY = 32, 2


def two(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
        *("--master_addr", "127.0.0.1", "--master_port", str(port)),
    ]


def command(runs: Path, port: int) -> list[str]:
    return [
        *two(port),
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


FINETUNE = """
import os, sys
from pathlib import Path

from gtgm.stages import Study, finetune, finetuning

runs, rank = Path(sys.argv[1]), os.environ["RANK"]


def noting(name):
    work = getattr(finetuning, name)

    def noted(*args, **options):
        (runs / f"{name} by {rank}").touch()
        return work(*args, **options)

    return noted


for name in ("evaluate", "save_segmenter", "record"):
    setattr(finetuning, name, noting(name))
short = {"steps": 2, "patch": [16, 24, 24], "precision": "no", "ema": 0.0, "select_on_test": True}
study = Study(("Task04_Hippocampus",), runs=str(runs), changes={"finetune": short})
result = finetune(study, "Task04_Hippocampus", "random", 0.1)
(runs / f"{result.summary['dice_with_background']:.6f} in {rank}").touch()
"""


def test_one_process_evaluates_and_records_a_fine_tuning(tmp_path, launch, free_port):
    script = tmp_path / "finetune.py"
    script.write_text(FINETUNE)
    begun = launch(
        [*two(free_port), str(script), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _ = begun.communicate(timeout=280)
    assert begun.returncode == 0, output[-2000:]
    by = {path.name for path in tmp_path.glob("* by *")}
    assert by == {"evaluate by 0", "save_segmenter by 0", "record by 0"}
    scores = sorted(path.name.split(" in ") for path in tmp_path.glob("0.* in *"))
    assert [rank for _, rank in scores] == ["0", "1"] and scores[0][0] == scores[1][0]
