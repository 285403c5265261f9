"""The study that the page of findings is about."""

from __future__ import annotations

from collections.abc import Iterable

from gtgm.results import Result
from gtgm.statistics import BASELINE, Comparison, paired

DATASET = "Task04_Hippocampus"
FRACTIONS = (0.01, 0.1, 1.0)
FEWEST = FRACTIONS[0]
#: Mean Dice over folds that random initialisation is to reach, by label fraction.
TARGETS = {0.01: 0.80, 0.1: 0.86, 1.0: 0.88}


def compare(
    results: Iterable[Result], method: str, baseline: str = BASELINE, fold: int | None = None
) -> Comparison | None:
    """Two methods of the study at the fewest labels, see :func:`gtgm.statistics.paired`."""
    return paired(results, method, baseline, dataset=DATASET, fraction=FEWEST, fold=fold)
