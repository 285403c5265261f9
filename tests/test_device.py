"""Processes and random numbers of a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from gtgm.device import check_processes, step_generator
from gtgm.errors import SettingsError
from gtgm.paths import ROOT


def test_the_number_of_processes_is_that_of_the_settings():
    check_processes(0, 3, "pretrain")
    check_processes(3, 3, "pretrain")
    with pytest.raises(SettingsError, match=r"pretrain\.processes: is 8, but 1 process"):
        check_processes(8, 1, "pretrain")


def test_step_random_numbers_depend_on_seed_step_and_rank_alone():
    def draw(*key: int) -> tuple[float, float]:
        generator = step_generator(*key)
        return float(generator.random()), float(torch.rand(()))

    assert draw(1, 2, 0) == draw(1, 2, 0)
    assert len({draw(1, 2, 0), draw(1, 2, 1), draw(1, 3, 0), draw(2, 2, 0)}) == 4


def test_processes_of_a_launcher_train_together_on_cpus(tmp_path, free_port):
    script = tmp_path / "job.py"
    script.write_text(
        "import torch\n"
        "from gtgm.device import accelerator, process_state\n"
        "state = process_state()\n"
        "model = accelerator('no').prepare(torch.nn.Linear(2, 2))\n"
        "print(f'{type(model).__name__} of {state.num_processes};', end='', flush=True)\n"
        "del model\n"
        "state.destroy_process_group()\n"
    )
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port}"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("DistributedDataParallel of 2;") == 2
