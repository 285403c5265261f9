"""Answers to the questions of the study, and whether its targets are met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from gtgm.datasets import registry
from gtgm.findings.study import DATASET, FEWEST, TARGETS, compare
from gtgm.findings.withdrawn import NOT_AGAIN, WITHDRAWN
from gtgm.label_curves import label_curve
from gtgm.markup import markdown_table
from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.statistics import (
    BASELINE,
    CHOOSING,
    CONFIRMING,
    STUDY,
    TARGET_GAIN,
    Comparison,
    compare_all,
    correct,
    dice,
    select,
)
from gtgm.words import (
    LEVEL,
    NOT_MEASURED,
    excluded_above,
    in_words,
    listed,
    p_value,
    percent,
    signed,
    smallest_p,
    verdict,
    verdict_of_one,
)

#: Question, method, what it is compared with, and what that is.
QUESTIONS = (
    ("Does text help?", "gtgm", "barlow", "the same without text"),
    ("Do the words matter?", "gtgm", "gtgm-shuffled", "the same captions, given to other patches"),
    # gtgm-metadata asks the same: the metadata of a single dataset are one text for all.
    ("Must the text differ between patches?", "gtgm", "gtgm-none", "one text for all"),
    ("Does the captioner add something?", "gtgm", "gtgm-describe", "what it learned from"),
    ("Does L_VR help?", "gtgm", "vlp", "the same without L_VR"),
    ("Does GTGM beat a strong method without text?", "gtgm", "pcrlv2", "a baseline of the authors"),
)  # fmt: skip


def best_pretraining(results: Iterable[Result]) -> str | None:
    """The method with the highest mean Dice at the fewest labels on the choosing fold.

    Random initialisation is none; of equal ones the first of METHODS is taken. Its comparison on
    the confirming fold is thereby one that was chosen before looking, and needs no correction.
    """
    means = {}
    runs = select(results, DATASET, fraction=FEWEST, fold=CHOOSING)
    for name in METHODS:
        scores = [dice(r) for r in runs if r.method == name and dice(r) is not None]
        if name != BASELINE and scores:
            means[name] = fmean(scores)
    return max(means, key=means.__getitem__) if means else None


def answer_lines(results: Sequence[Result]) -> list[str]:
    """A list of questions, each with its verdict and its numbers, and what a verdict means."""
    overall = {
        (method, other): found
        for _, method, other, _ in QUESTIONS
        if (found := compare(results, method, other))
    }
    overall = dict(zip(overall, correct(list(overall.values())), strict=True))
    lines = [_best_answer(results)]
    for question, method, other, what in QUESTIONS:
        confirming = compare(results, method, other, CONFIRMING)
        both = overall.get((method, other))
        said = verdict(confirming, both)
        if both is None and other in WITHDRAWN:
            said = NOT_AGAIN
        told = f"{METHODS[method].label} against {METHODS[other].label} ({what})"
        numbers = _numbers(confirming, both) if both else ""
        lines.append(f"- **{question} {_capital(said)}.** {told}{numbers}.")
    return [
        *lines,
        "",
        f"All with {percent(FEWEST)} of the labels. *Shown* means: on fold {CONFIRMING}, which no "
        "setting was chosen on, the 95 % interval excludes zero, and over all pairs the exact "
        f"sign-flip test, corrected for the {len(overall)} questions that were measured (Holm), "
        f"gives p ≤ {LEVEL}. One of the two alone shows nothing. *Not shown* is not *no effect*: "
        "see the interval.",
        *_excluded_lines(results),
    ]


def _excluded_lines(results: Sequence[Result]) -> list[str]:
    """Which gains over random initialisation the intervals over all pairs leave no room for."""
    found = {c.method: c for c in compare_all(results, DATASET, FEWEST) if c.high is not None}
    if not found:
        return []
    most = max(found.values(), key=lambda c: c.high)
    told = f"above {excluded_above(most)} points for every method ({METHODS[most.method].label} "
    told += "has the highest end)"
    if own := found.get("gtgm"):
        told = (f"above {excluded_above(own)} points for {METHODS['gtgm'].label} ({own.n} pairs) "
                f"and {told}")  # fmt: skip
    return [
        "",
        f"**What is excluded.** By the 95 % intervals over all pairs against "
        f"{METHODS[BASELINE].label}, each by itself, gains {told} are excluded for these encoders: "
        f"one per method and fold, on {registry.get(DATASET).title} with {percent(FEWEST)} of the "
        f"labels, backbone `{STUDY.backbone}`, the recipe and lengths of the settings "
        f"`{STUDY.profile}`. For other datasets, sizes, lengths or texts, nothing is excluded.",
    ]


def _numbers(confirming: Comparison | None, both: Comparison) -> str:
    parts = [f"fold {CONFIRMING}: {in_words(confirming)}"] if confirming else []
    folds = sorted({fold for fold, _ in both.units})
    if folds != [CONFIRMING]:
        parts.append(f"{'folds' if len(folds) > 1 else 'fold'} {listed(folds)}: {in_words(both)}")
    return f": {'; '.join(parts)}; p = {p_value(both.p_corrected)}"


def _best_answer(results: Sequence[Result]) -> str:
    question = "Does pretraining help at all?"
    best = best_pretraining(results)
    if best is None:
        return f"- **{question} {_capital(NOT_MEASURED)}.**"
    confirming = compare(results, best, fold=CONFIRMING)
    answer = f"- **{question} {_capital(verdict_of_one(confirming))}.** {METHODS[best].label} has "
    answer += f"the highest mean on fold {CHOOSING}"
    if chosen := compare(results, best, fold=CHOOSING):
        answer += f", {in_words(chosen)} against {METHODS[BASELINE].label}"
    if confirming is None:
        return f"{answer}."
    return (
        f"{answer}. On fold {CONFIRMING}: {in_words(confirming)}. This comparison alone was chosen "
        f"before looking at fold {CONFIRMING}, so it needs no correction, and its interval "
        f"decides. p = {p_value(confirming.p)}; the smallest that can be reached is "
        f"{smallest_p([confirming])}."
    )


def target_lines(results: Sequence[Result]) -> list[str]:
    """A table of the targets: what was aimed at, what was measured, and whether it is enough."""
    rows = []
    for fraction, target in TARGETS.items():
        by_fold = {
            fold: fmean(point.scores.values())
            for fold in (CHOOSING, CONFIRMING)
            for point in label_curve(results, DATASET, BASELINE, fold)
            if point.fraction == fraction
        }
        mean = fmean(by_fold.values()) if by_fold else None
        name = f"{METHODS[BASELINE].label}, {percent(fraction)} of the labels: Dice"
        measured = NOT_MEASURED
        if by_fold:
            measured = f"{100 * mean:.2f} (fold{'s' * (len(by_fold) > 1)} {listed(by_fold)})"
        met = _yes(mean >= target) if len(by_fold) == 2 else "open: both folds are needed"
        rows.append([name, f"at least {100 * target:.0f}", measured, met])
    best = best_pretraining(results)
    confirming = compare(results, best, fold=CONFIRMING) if best else None
    label = f" ({METHODS[best].label})" if best else ""
    name = f"best pretraining{label}, {percent(FEWEST)} of the labels, fold {CONFIRMING}"
    gain = [f"at least {100 * TARGET_GAIN:+.1f} points", NOT_MEASURED, "open"]
    above = ["95 % interval above zero", NOT_MEASURED, "open"]
    if confirming:
        gain[1:] = signed(100 * confirming.mean), _yes(confirming.mean >= TARGET_GAIN)
        if confirming.low is not None:
            ends = " to ".join(signed(100 * v) for v in (confirming.low, confirming.high))
            above[1:] = ends, _yes(confirming.low > 0)
    rows += [[name, *gain], [name, *above]]
    return [markdown_table(["what", "target", "measured", "met"], rows)]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _yes(fulfilled: bool) -> str:
    return "yes" if fulfilled else "**no**"
