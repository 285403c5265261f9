"""Invented results of a study, which several test files share."""

from __future__ import annotations

import numpy as np

from gtgm.results import Result

DATASET = "Task04_Hippocampus"
#: Gain over random initialisation at 1 % of the labels; at larger fractions it is smaller.
GAINS = {
    "random": 0.0, "byol": 0.006, "simsiam": -0.004, "barlow": 0.018, "vlp": 0.012,
    "pcrlv2": 0.026, "gtgm": 0.021, "gtgm-none": 0.015, "gtgm-shuffled": 0.013,
    "gtgm-describe": 0.019, "gtgm-metadata": 0.009,
}  # fmt: skip
KINDS = ("random", "barlow", "vlp", "pcrlv2", "gtgm")
#: Label fraction: labelled cases, draws, mean Dice of random initialisation.
SIZES = {0.01: (2, 5, 0.80), 0.1: (21, 2, 0.865), 1.0: (208, 1, 0.885)}


def run(method: str, dice: float | None, **changes) -> Result:
    """One fine-tuning run of the study."""
    fields = {
        "stage": "finetune", "dataset": DATASET, "source": "real", "backbone": "unet",
        "protocol": "corrected", "profile": "cpu", "fraction": 0.01, "fold": 0, "draw": 0,
        "seed": 0, "n_train": 2, "n_test": 52, "summary": {"dice": dice},
    } | changes  # fmt: skip
    key = (fields[k] for k in ("source", "fraction", "fold", "draw", "seed"))
    return Result(id=fields.pop("id", "-".join(map(str, (method, *key)))), method=method, **fields)


def draws(method: str, scores, **changes) -> list[Result]:
    """Runs of the draws 0, 1, … with these Dice."""
    return [run(method, score, draw=draw, **changes) for draw, score in enumerate(scores)]


def study(gain: float = 1.0, folds: tuple[int, ...] = (0, 1), seed: int = 1) -> list[Result]:
    """All runs of a study, in which the gains of GAINS are multiplied by ``gain``."""
    rng = np.random.default_rng(seed)
    results = []
    for fold in folds:
        for fraction, (cases, count, level) in SIZES.items():
            small = 1.0 if fraction == 0.01 else 0.15
            shared = rng.normal(0, 0.02 * small, count)
            for method in GAINS if fraction == 0.01 else KINDS:
                noise = rng.normal(0, 0.004 * small, count)
                scores = level + small * gain * GAINS[method] + shared + noise
                about = {"fold": fold, "fraction": fraction, "n_train": cases}
                machine = {"cpu": "some CPU", "cores": 2, "ram_gb": 8.0, "gpu": None}
                results += draws(method, map(float, scores), **about, hardware=machine,
                                 commit="0123456789abcdef", wall_seconds=60.0,
                                 settings={"steps": 600})  # fmt: skip
    return results
