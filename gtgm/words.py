"""Words for numbers in texts: differences, intervals, p values and verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable

from gtgm.datasets import registry
from gtgm.datasets.splits import em_unlabelled
from gtgm.label_curves import Saving
from gtgm.markup import NOTHING
from gtgm.statistics import Comparison

LEVEL = 0.05
SHOWN = "shown"
OPPOSITE = "the opposite is shown"
NOT_SHOWN = "not shown"
CANNOT = "cannot be decided: too few pairs"
NOT_CONFIRMED = "not confirmed: one fold only"
NOT_MEASURED = "not measured"


def verdict(confirming: Comparison | None, both: Comparison | None, better: int = 1) -> str:
    """What may be said of a difference.

    It is shown if the 95 % interval on the confirming fold excludes zero and the corrected exact
    test over all pairs gives p ≤ 0.05, on the same side. One of the two alone shows nothing: among
    several questions chance alone brings it about. Where the pairs are too few for an interval,
    or for the test to give p ≤ 0.05 whatever they say, nothing can be decided.

    Args:
        confirming: on the fold that no setting was chosen on; None if it was not measured.
        both: over all folds, corrected for its family.
        better: 1 if a higher score is better, else −1.
    """
    if both is None:
        return NOT_MEASURED
    if confirming is None:
        return NOT_CONFIRMED
    if confirming.low is None or not is_decidable(both):
        return CANNOT
    interval = _side(confirming)
    tested = both.p_corrected is not None and both.p_corrected <= LEVEL
    if not tested or interval * both.mean <= 0:
        return NOT_SHOWN
    return SHOWN if interval == better else OPPOSITE


def is_decidable(comparison: Comparison) -> bool:
    """Whether so many pairs can reach p ≤ 0.05 in the corrected exact test."""
    reachable = comparison.reachable
    return (comparison.smallest_p if reachable is None else reachable) <= LEVEL


def verdict_of_one(confirming: Comparison | None, better: int = 1) -> str:
    """What may be said of one comparison that was chosen beforehand: its interval decides."""
    if confirming is None:
        return NOT_CONFIRMED
    if confirming.low is None:
        return CANNOT
    side = _side(confirming)
    return NOT_SHOWN if not side else SHOWN if side == better else OPPOSITE


def unlabelled(found: Iterable[tuple[str, float]]) -> str:
    """What EM pretraining can add: sections that it reads and fine-tuning has no labels of.

    Args:
        found: EM datasets and label fractions, of the protocol ``corrected``.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, fraction in sorted(set(found)):
        title = registry.get(name).title
        counts.setdefault(title, {})[percent(fraction)] = em_unlabelled(name, fraction)
    told = "; ".join(
        f"{title}: {listed(f'{count} at {share}' for share, count in shares.items())}"
        for title, shares in counts.items()
    )
    return (
        "Sections that pretraining reads beyond those that fine-tuning has labels of: "
        f"{told}. Where there are none, pretraining reads nothing that fine-tuning does not, so a "
        "null is by construction; where there are few, nearly so."
    )


def signed(value: float, digits: int = 2) -> str:
    """With its sign, as typographers write it."""
    return f"{value:+.{digits}f}".replace("-", "−")


def difference(comparison: Comparison | None, factor: float = 100, digits: int = 2) -> str:
    """Mean and interval, as in ``+0.30 [−0.51, +1.11]``; ``factor`` 100 gives Dice points."""
    if comparison is None:
        return NOTHING
    mean = signed(factor * comparison.mean, digits)
    if comparison.low is None:
        return mean
    low, high = (signed(factor * end, digits) for end in (comparison.low, comparison.high))
    return f"{mean} [{low}, {high}]"


def in_words(comparison: Comparison, factor: float = 100, unit: str = "points") -> str:
    """Mean, interval and number of pairs, as part of a sentence."""
    digits = 2 if factor == 100 else 3
    mean = f"{signed(factor * comparison.mean, digits)} {unit}"
    if comparison.low is None:
        return f"{mean} (1 pair, so no interval)"
    low, high = (signed(factor * end, digits) for end in (comparison.low, comparison.high))
    return f"{mean} ({comparison.n} pairs, 95 % interval {low} to {high})"


def excluded_above(comparison: Comparison, factor: float = 100) -> str:
    """The upper end of the interval, rounded up: larger gains are excluded by it."""
    return f"{math.ceil(round(factor * comparison.high * 100, 6)) / 100:.2f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """Two digits that count, three for a small one; never zero."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3g}" if p < 0.1 else f"{p:.2g}"


def smallest_p(comparisons: Iterable[Comparison]) -> str:
    """The smallest p that so many pairs can reach, for each number of pairs."""
    reach = {c.n: c.smallest_p for c in comparisons}
    return listed(f"{p_value(p)} with {n} pairs" for n, p in sorted(reach.items()))


def number(value: float | None, digits: int = 2) -> str:
    """A signed number, or a dash where there is none."""
    return NOTHING if value is None else signed(value, digits)


def factor(value: float, found: Saving) -> str:
    """How many times as many labels: ``none`` more, a factor, or more than was measured."""
    if math.isinf(value):
        return f"> {found.measured_to / found.cases:.0f}, beyond the measured range"
    return f"{value:.1f}" if value > 1 else "none"


def listed(values: Iterable[object]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = [str(value) for value in values] or [NOTHING]
    return f"{', '.join(first)} and {last}" if first else last


def percent(fraction: float) -> str:
    """A share in per cent."""
    return f"{100 * fraction:g} %"


def _side(comparison: Comparison) -> int:
    """1 or −1 if the interval lies on one side of zero, else 0."""
    if comparison.low is None:
        return 0
    return 1 if comparison.low > 0 else -1 if comparison.high < 0 else 0
