"""Label-efficiency curves, and how many labels pretraining saves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np

from gtgm.results import Result
from gtgm.statistics import CONFIDENCE, STUDY, Setting, Unit, by_unit, dice, select


@dataclass(frozen=True)
class CurvePoint:
    """One label fraction of a label-efficiency curve.

    Attributes:
        fraction: share of the training cases that are labelled.
        cases: labelled cases, the mean over folds where they differ.
        mean, sd: of the units' scores; ``sd`` is None for one unit.
        runs: number of runs behind the point.
        scores: score by fold and draw.
    """

    fraction: float
    cases: float
    mean: float
    sd: float | None
    runs: int
    scores: Mapping[Unit, float] = field(repr=False)


@dataclass(frozen=True)
class Saving:
    """How many labelled cases the baseline needs for what the method reaches with few.

    Attributes:
        cases: labelled cases of the method.
        measured_to: the most labelled cases that the baseline was measured with.
        factor: cases of the baseline / cases of the method; 1 if the baseline is as good with as
            many, infinite if it is worse at every measured size.
        low, high: 95 % interval of the factor, by bootstrap over draws.
    """

    cases: float
    measured_to: float
    factor: float
    low: float
    high: float

    @property
    def answer(self) -> str:
        """``none``, ``factor`` or ``beyond the measured range``."""
        if math.isinf(self.factor):
            return "beyond the measured range"
        return "factor" if self.factor > 1 else "none"


def label_curve(
    results: Iterable[Result],
    dataset: str,
    method: str,
    fold: int | None = None,
    setting: Setting = STUDY,
) -> list[CurvePoint]:
    """Dice of a method against the number of labelled cases, smallest fraction first.

    Raises:
        SettingsError: unknown method.
    """
    runs: dict[float, list[Result]] = defaultdict(list)
    for run in select(results, dataset, method=method, fold=fold, setting=setting):
        if dice(run) is not None and run.n_train:
            runs[run.fraction].append(run)
    points = []
    for fraction, group in sorted(runs.items()):
        scores = by_unit({(r.fold, r.draw, r.seed): dice(r) for r in group})
        points.append(
            CurvePoint(
                fraction=fraction,
                cases=fmean(r.n_train for r in group),
                mean=fmean(scores.values()),
                sd=stdev(scores.values()) if len(scores) > 1 else None,
                runs=len(group),
                scores=scores,
            )
        )
    return points


def labels_saved(
    method: Sequence[CurvePoint],
    baseline: Sequence[CurvePoint],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Saving | None:
    """How many times as many labels the baseline needs to be as good as the method with the fewest.

    The baseline's curve is interpolated, linearly in the logarithm of the cases, between the few
    sizes that were measured; where it falls, its highest value so far counts. The answer is thus a
    reading from a line through few points, and its interval is too narrow where a size has few
    draws. Only folds that every point has count, and at the smallest fraction only the draws that
    both methods have; these are drawn again together.

    Args:
        method, baseline: curves of :func:`label_curve`.
        resamples, seed: of the bootstrap.

    Returns:
        The saving at the method's smallest fraction; None if the baseline was not measured there
        and at a larger one, on the same folds.
    """
    if not method:
        return None
    start = method[0]
    sizes = [point for point in baseline if point.fraction >= start.fraction]
    if len(sizes) < 2 or sizes[0].fraction != start.fraction:
        return None
    shared = {u: (start.scores[u], v) for u, v in sizes[0].scores.items() if u in start.scores}
    tables = [shared, *({u: (v,) for u, v in p.scores.items()} for p in sizes[1:])]
    folds = sorted(set.intersection(*({fold for fold, _ in table} for table in tables)))
    if not folds:
        return None
    groups = [
        [np.array([v for unit, v in sorted(table.items()) if unit[0] == fold]) for fold in folds]
        for table in tables
    ]
    rng = np.random.default_rng(seed)
    measured = [np.concatenate(group).mean(0, keepdims=True) for group in groups]
    drawn = [_resampled_means(group, resamples, rng) for group in groups]
    cases = np.array([p.cases for p in sizes])
    (factor,), factors = (
        _cases_needed(cases, np.column_stack([first[:, 1], *more]), first[:, 0]) / cases[0]
        for first, *more in (measured, drawn)
    )
    # An order statistic, since factors beyond the measured range are infinite.
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(factors, (tail, 1 - tail), method="inverted_cdf")
    return Saving(start.cases, float(cases[-1]), float(factor), float(low), float(high))


def _resampled_means(
    groups: Sequence[np.ndarray], count: int, rng: np.random.Generator
) -> np.ndarray:
    """Means (count, K) of rows (n, K) drawn again with replacement within each group."""
    total = sum(g[rng.integers(len(g), size=(count, len(g)))].sum(1) for g in groups)
    return total / sum(map(len, groups))


def _cases_needed(cases: np.ndarray, levels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Where curves ``levels`` (B, F) over ``cases`` (F,) reach ``target`` (B,); infinite if never.

    At least ``cases[0]``, also if a curve begins above its target.
    """
    levels = np.maximum.accumulate(levels, axis=1)
    reached = levels >= target[:, None]
    upper = np.clip(reached.argmax(1), 1, None)
    rows = np.arange(len(levels))
    below, above = levels[rows, upper - 1], levels[rows, upper]
    steps = np.log(cases)
    share = (target - below) / np.where(above > below, above - below, 1)
    needed = np.exp(steps[upper - 1] + share * (steps[upper] - steps[upper - 1]))
    needed = np.where(reached[:, 0], cases[0], needed)
    return np.where(reached.any(1), needed, np.inf)
