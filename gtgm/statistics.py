"""Statistics of the comparison: paired differences over label draws.

The unit is the label draw within a fold, never the test case: the cases of a fold are segmented by
the same network. Two methods are compared on the draws that both have (`design.md`).
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np
from scipy import stats

from gtgm import methods
from gtgm.errors import SettingsError
from gtgm.results import Result, newest

BASELINE = "random"
#: Settings are chosen on the first fold, and the second confirms.
CHOOSING, CONFIRMING = 0, 1
#: Gain over the baseline that the study aims at with the fewest labels, as a share of Dice.
TARGET_GAIN = 0.02
CONFIDENCE = 0.95
#: Sign patterns of the permutation test: all of them up to 16 pairs, a random part beyond.
_PATTERNS = 2**16
_STAGES = ("finetune", "neurons")

#: Fold and number of the draw.
Unit = tuple[int, int]
Score = Callable[[Result], float | None]


@dataclass(frozen=True)
class Setting:
    """What runs have in common that are compared; those of another setting do not count.

    Attributes:
        source: ``real`` or ``phantom``, never both.
        backbone, protocol, profile: as in a result; not ``tiny``, which is for looking.

    Raises:
        SettingsError: the profile is ``tiny``.
    """

    source: str = "real"
    backbone: str = "unet"
    protocol: str = "corrected"
    profile: str = "cpu"

    def __post_init__(self) -> None:
        if self.profile == "tiny":
            raise SettingsError(
                "the profile tiny is for looking, not for comparing",
                where="profile",
                expected="demo, cpu or paper",
                fix="run the methods with one of these",
            )

    def __str__(self) -> str:
        return ", ".join((self.source, self.protocol, self.backbone, self.profile))


#: The setting of the published study.
STUDY = Setting()


@dataclass(frozen=True)
class Comparison:
    """Paired differences, method minus baseline, in the unit of the score (Dice as a share).

    The interval is Student's t over the pairs. It covers the choice of labelled cases and the
    chance of fine-tuning, for the pretrained encoders and test cases at hand. It covers neither
    the chance of pretraining (one encoder per method and fold, shared by the fold's draws), nor
    other test cases, nor other datasets; the draws of a fold also share cases, most of all at
    large fractions. The interval is therefore rather too narrow than too wide.

    Attributes:
        method, baseline: names of :data:`gtgm.methods.METHODS`.
        units: fold and draw of each pair.
        scores: of baseline and method, one pair per unit.
        left_out: runs of either method that have no partner.
        p: two-sided sign-flip permutation test of the mean difference, over all sign patterns
            (Fisher 1935); None for one pair.
        p_corrected: the same, corrected for the family that it was compared in (:func:`holm`).
        reachable: what ``p_corrected`` would be if every comparison of the family had the smallest
            p that its pairs can reach: no outcome gives a smaller one.
    """

    method: str
    baseline: str
    units: tuple[Unit, ...]
    scores: tuple[tuple[float, float], ...]
    left_out: int
    p: float | None
    p_corrected: float | None = None
    reachable: float | None = None

    @property
    def n(self) -> int:
        """Number of pairs."""
        return len(self.units)

    @property
    def differences(self) -> tuple[float, ...]:
        """Method minus baseline, one per unit."""
        return tuple(method - baseline for baseline, method in self.scores)

    @property
    def mean_baseline(self) -> float:
        """Mean score of the baseline over the pairs."""
        return fmean(baseline for baseline, _ in self.scores)

    @property
    def mean_method(self) -> float:
        """Mean score of the method over the pairs."""
        return fmean(method for _, method in self.scores)

    @property
    def mean(self) -> float:
        """Mean difference."""
        return fmean(self.differences)

    @property
    def sd(self) -> float | None:
        """Standard deviation of the differences; None for one pair."""
        return stdev(self.differences) if self.n > 1 else None

    @property
    def low(self) -> float | None:
        """Lower end of the 95 % interval; None for one pair."""
        return None if self.n < 2 else self.mean - self._half_width()

    @property
    def high(self) -> float | None:
        """Upper end of the 95 % interval; None for one pair."""
        return None if self.n < 2 else self.mean + self._half_width()

    @property
    def smallest_p(self) -> float:
        """The smallest p that so many pairs can reach: 2 of the 2ⁿ sign patterns."""
        return 2 / 2**self.n

    @property
    def effect(self) -> float | None:
        """Cohen's d_z with the small-sample correction of Hedges (1981).

        Mean over standard deviation of the differences, times Γ(m/2) / (√(m/2) Γ((m−1)/2)) with
        m = n − 1. None below three pairs, or if the differences are equal.
        """
        if self.n < 3 or not self.sd:
            return None
        m = self.n - 1
        log_factor = math.lgamma(m / 2) - math.lgamma((m - 1) / 2) - math.log(m / 2) / 2
        return self.mean / self.sd * math.exp(log_factor)

    def _half_width(self) -> float:
        t = stats.t.ppf((1 + CONFIDENCE) / 2, self.n - 1)
        return float(t * self.sd / math.sqrt(self.n))


def dice(result: Result) -> float | None:
    """Foreground mean Dice of a run, as a share."""
    return result.summary.get("dice")


def select(
    results: Iterable[Result],
    dataset: str,
    *,
    method: str | None = None,
    fraction: float | None = None,
    fold: int | None = None,
    setting: Setting = STUDY,
) -> list[Result]:
    """Runs of one dataset and setting that count, sorted by method, fraction, fold, draw and seed.

    Of several runs with the same of these, the newest counts, and runs whose settings are not those
    of the profile do not. ``None`` means all.

    Raises:
        SettingsError: unknown method.
    """
    if method is not None:
        methods.get(method)
    wanted = dataclasses.astuple(setting)
    order = {name: i for i, name in enumerate(methods.METHODS)}

    def key(run: Result) -> tuple:
        return order[run.method], run.fraction, run.fold, run.draw, run.seed

    chosen = (
        run
        for run in results
        if run.dataset == dataset
        and run.stage in _STAGES
        and run.method in methods.METHODS
        and _setting(run) == wanted
        and not run.changes
        and None not in (run.fraction, run.fold, run.draw, run.seed)
        and method in (None, run.method)
        and fraction in (None, run.fraction)
        and fold in (None, run.fold)
    )
    return sorted(newest(chosen, key)[0], key=key)


def settings_of(results: Iterable[Result], dataset: str) -> list[Setting]:
    """Every setting in which runs of the dataset can be compared, in the order of their names."""
    found = {
        _setting(run)
        for run in results
        if run.dataset == dataset
        and run.stage in _STAGES
        and run.method in methods.METHODS
        and not run.changes
    }
    return [Setting(*names) for names in sorted(s for s in found if all(s)) if names[-1] != "tiny"]


def paired(
    results: Iterable[Result],
    method: str,
    baseline: str = BASELINE,
    *,
    dataset: str,
    fraction: float,
    fold: int | None = None,
    setting: Setting = STUDY,
    score: Score = dice,
) -> Comparison | None:
    """Compare two methods on the runs that agree in fold, draw and seed.

    Args:
        results: any results; see :func:`select` for those that count.
        method, baseline: names of :data:`gtgm.methods.METHODS`.
        dataset, fraction, setting: which runs.
        fold: one fold, or all; the draws of two folds are different pairs.
        score: of a run; runs for which it is None do not count. Several seeds of a draw are
            averaged, since the draw is the unit.

    Returns:
        The comparison, not corrected for others; None if no runs agree.

    Raises:
        SettingsError: unknown method.
    """
    results = list(results)
    first, second = (
        {
            (run.fold, run.draw, run.seed): value
            for run in select(
                results, dataset, method=name, fraction=fraction, fold=fold, setting=setting
            )
            if (value := score(run)) is not None
        }
        for name in (method, baseline)
    )
    common = sorted(first.keys() & second.keys())
    if not common:
        return None
    left, right = (by_unit({key: scores[key] for key in common}) for scores in (first, second))
    scores = tuple((right[unit], left[unit]) for unit in left)
    return Comparison(
        method=method,
        baseline=baseline,
        units=tuple(left),
        scores=scores,
        left_out=len(first.keys() ^ second.keys()),
        p=_sign_flip_p([value - other for other, value in scores]),
    )


def compare_all(
    results: Iterable[Result],
    dataset: str,
    fraction: float,
    baseline: str = BASELINE,
    fold: int | None = None,
    setting: Setting = STUDY,
) -> list[Comparison]:
    """Every method that has pairs with the baseline, in the order of METHODS, corrected together.

    Raises:
        SettingsError: unknown baseline.
    """
    results = list(results)
    found = [
        paired(
            results, name, baseline, dataset=dataset, fraction=fraction, fold=fold, setting=setting
        )
        for name in methods.METHODS
        if name != baseline
    ]
    return correct([comparison for comparison in found if comparison is not None])


def correct(family: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with ``p_corrected`` and ``reachable`` for this family; those without p do
    not count in it."""
    tested = [comparison for comparison in family if comparison.p is not None]
    corrected = iter(holm([comparison.p for comparison in tested]))
    reachable = iter(holm([comparison.smallest_p for comparison in tested]))
    return [
        c if c.p is None else replace(c, p_corrected=next(corrected), reachable=next(reachable))
        for c in family
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number, in the same order (Holm 1979).

    The i-th smallest of m is multiplied by m − i + 1; none becomes smaller than the one before it,
    or larger than 1.
    """
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def by_unit(scores: Mapping[tuple[int, int, int], float]) -> dict[Unit, float]:
    """Means over seeds, by fold and draw, of scores by fold, draw and seed."""
    values: dict[Unit, list[float]] = defaultdict(list)
    for fold, draw, seed in sorted(scores):
        values[fold, draw].append(scores[fold, draw, seed])
    return {unit: fmean(group) for unit, group in values.items()}


def _setting(run: Result) -> tuple[str | None, ...]:
    return run.source, run.backbone, run.protocol, run.profile


def _sign_flip_p(differences: Sequence[float]) -> float | None:
    if len(differences) < 2:
        return None
    test = stats.permutation_test(
        (np.asarray(differences),),
        np.mean,
        permutation_type="samples",
        n_resamples=_PATTERNS,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)
