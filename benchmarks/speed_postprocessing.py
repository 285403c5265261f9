"""Neurons at every threshold that a choice is made among: waterz called for each, and once."""

from __future__ import annotations

from typing import Any

import waterz

from benchmarks.em_postprocessing import phantom
from benchmarks.measure import timed
from gtgm.neurons.agglomeration import SCORINGS, THRESHOLDS, agglomerate

NAME, UNIT = "EM post-processing", "s"
STOCK = "waterz for each threshold"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    STOCK: ("", {"stock": True}),
    "waterz, one pass over all thresholds (gtgm)": (STOCK, {}),
}
SIZE = (30, 250, 250)


def measure(name: str, options: Any) -> dict[str, Any]:
    """Seconds and peak memory of all thresholds."""
    affinities, fragments, _ = phantom(SIZE, 0)

    def stock() -> None:
        for threshold in THRESHOLDS:
            merged = waterz.agglomerate(
                affinities[:3].copy(),
                [threshold],
                fragments=fragments.copy(),
                scoring_function=SCORINGS["mean"],
            )
            for _ in merged:
                pass

    def ours() -> None:
        for _ in agglomerate(affinities, fragments, THRESHOLDS):
            pass

    return timed(stock if ROWS[name][1] else ours, options.repeats)


def describe(options: Any) -> str:
    """The sizes, for a reader."""
    return f"{len(THRESHOLDS)} thresholds on a phantom of {'×'.join(map(str, SIZE))}"
