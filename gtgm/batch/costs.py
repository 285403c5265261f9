"""Estimates of time and memory, by the profile of the settings.

They decide how much one execution of a notebook holds, and what a dry run promises; they stop
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from gtgm.batch.run import Run
from gtgm.datasets import registry
from gtgm.settings import preset


@dataclass(frozen=True)
class Cost:
    """What work takes with the settings of one profile.

    Attributes:
        text, pretrain, finetune, neurons: seconds of one text generation, pretraining or run: on
            one of two cores (demo, cpu), or on one GPU (paper).
        piece: seconds that an execution of a notebook may take, if it holds several runs.
        memory_gb: of a process.
        gpus: that the estimate is for.
    """

    text: float
    pretrain: float
    finetune: float
    neurons: float
    piece: float
    memory_gb: float = 3.0
    gpus: int = 0


COSTS = {
    "demo": Cost(45, 20, 20, 25, piece=150),
    "cpu": Cost(150, 170, 170, 290, piece=900),
    "paper": Cost(7200, 180000, 14400, 86400, piece=900, memory_gb=32.0, gpus=1),
}
#: Seconds that a notebook takes beside the work: kernel, imports, figures.
START = 15.0
#: A pretraining that takes longer gets an execution of its own.
LONG = 60.0


def is_long(profile: str) -> bool:
    """Whether a pretraining takes so long that it gets an execution of its own."""
    return COSTS[profile].pretrain > LONG


def run_seconds(run: Run) -> float:
    """Estimate of a run; with other steps than the preset has, it takes that much longer."""
    seconds = getattr(COSTS[run.profile], run.stage)
    steps = run.changes.get(run.stage, {}).get("steps")
    if steps is None:
        return seconds
    modality = registry.get(run.dataset).modality
    usual = preset(run.stage, run.profile, run.protocol, run.dataset, modality).steps
    return seconds * steps / usual
