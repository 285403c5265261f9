"""Every method of the study against random initialisation: tables, and labels saved."""

from __future__ import annotations

from collections.abc import Sequence

from gtgm.findings.study import DATASET, FEWEST, FRACTIONS
from gtgm.findings.withdrawn import NOT_AGAIN, WITHDRAWN
from gtgm.label_curves import CurvePoint, Saving, label_curve, labels_saved
from gtgm.markup import NOTHING, markdown_table
from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.statistics import BASELINE, CHOOSING, CONFIRMING, Comparison, compare_all
from gtgm.words import (
    CANNOT,
    NOT_MEASURED,
    difference,
    factor,
    is_decidable,
    number,
    p_value,
    percent,
    smallest_p,
)

FOLDS = (CHOOSING, CONFIRMING)


def fewest_lines(results: Sequence[Result]) -> list[str]:
    """A table of all methods with the fewest labels, per fold and over all pairs."""
    per_fold = [
        {c.method: c for c in compare_all(results, DATASET, FEWEST, fold=fold)} for fold in FOLDS
    ]
    overall = {c.method: c for c in compare_all(results, DATASET, FEWEST)}
    points = {(name, fold): _point(results, name, fold) for name in METHODS for fold in FOLDS}
    rows, missing, withdrawn = [], [], []
    for name, method in METHODS.items():
        if not any(points[name, fold] for fold in FOLDS):
            (withdrawn if name in WITHDRAWN else missing).append(method.label)
            continue
        cells = [method.label]
        for fold, comparisons in zip(FOLDS, per_fold, strict=True):
            cells += [_mean_sd(points[name, fold]), difference(comparisons.get(name))]
        both = overall.get(name)
        cells += [difference(both), p_value(both.p_corrected if both else None)]
        rows.append([*cells, number(both.effect if both else None)])
    if not rows:
        return [f"{NOT_MEASURED.capitalize()}."]
    header = [
        "method",
        *(text for fold in FOLDS for text in (f"fold {fold}: Dice (%)", "difference")),
        "all pairs: difference",
        "p, corrected",
        "effect size",
    ]
    note = (
        "Dice: mean ± standard deviation over draws. Difference to "
        f"{METHODS[BASELINE].label}: mean and 95 % interval (Student's t) over pairs. p: exact "
        f"sign-flip test over all pairs, corrected over these methods (Holm). Effect size: "
        "Cohen's d_z, corrected for few pairs (Hedges)."
    )
    if some := [c for found in (*per_fold, overall) for c in found.values()]:
        note += (
            f" Before correction, the smallest p that can be reached is {smallest_p(some)}, which "
            "is why no fold is tested on its own."
        )
    if left_out := sum(c.left_out for c in overall.values()):
        note += f" {left_out} runs without a partner are left out of the differences."
    lines = [markdown_table(header, rows, groups=0), "", note]
    for why, names in ((NOT_MEASURED, missing), (NOT_AGAIN, withdrawn)):
        if names:
            lines += ["", f"{why.capitalize()}: {'; '.join(names)}."]
    return lines


def more_labels_lines(results: Sequence[Result]) -> list[str]:
    """A table of the methods that were measured with more labels, over all pairs."""
    found = {fraction: compare_all(results, DATASET, fraction) for fraction in FRACTIONS[1:]}
    rows = [
        [
            percent(fraction),
            METHODS[c.method].label,
            str(c.n),
            f"{100 * c.mean_baseline:.1f}",
            f"{100 * c.mean_method:.1f}",
            difference(c),
            p_value(c.p_corrected),
        ]
        for fraction, compared in found.items()
        for c in compared
    ]
    if not rows:
        return [f"{NOT_MEASURED.capitalize()}."]
    header = ["labels", "method", "pairs", f"{METHODS[BASELINE].label}: Dice (%)",
              "method: Dice (%)", "difference", "p, corrected"]  # fmt: skip
    return [
        markdown_table(header, rows),
        "",
        "Differences and tests as above, corrected within a label fraction."
        + _undecidable([c for compared in found.values() for c in compared]),
    ]


def _undecidable(found: Sequence[Comparison]) -> str:
    """A sentence on those that have too few pairs for any outcome of the test to count."""
    few = [c for c in found if not is_decidable(c)]
    if not few:
        return ""
    return (
        f" By the test, {len(few)} of these {len(found)} comparisons **{CANNOT}**: before "
        f"correction, the smallest p that can be reached is {smallest_p(few)}."
    )


def saved_lines(results: Sequence[Result]) -> list[str]:
    """A table: how many labels each method saves."""
    baseline = label_curve(results, DATASET, BASELINE)
    rows = []
    for name, method in METHODS.items():
        saved = labels_saved(label_curve(results, DATASET, name), baseline)
        if name != BASELINE and saved:
            rows.append(
                [
                    method.label,
                    f"{saved.cases:.0f}",
                    _needed(saved),
                    factor(saved.factor, saved),
                    f"{factor(saved.low, saved)} to {factor(saved.high, saved)}",
                ]
            )
    if not rows:
        return [f"{NOT_MEASURED.capitalize()}."]
    header = ["method", "labelled cases", f"{METHODS[BASELINE].label} needs", "times as many",
              "95 % interval"]  # fmt: skip
    return [
        f"How many labelled cases does {METHODS[BASELINE].label} need for the Dice that a method "
        "has with the fewest? This is read from straight lines between the measured sizes, over "
        "the logarithm of the cases. The interval comes from drawing the draws again (bootstrap); "
        "it is too narrow where a size has few draws.",
        "",
        markdown_table(header, rows, groups=0),
    ]


def _needed(saved: Saving) -> str:
    if saved.answer == "none":
        return f"≤ {saved.cases:.0f}"
    if saved.answer == "factor":
        return f"{saved.factor * saved.cases:.1f}"
    return f"> {saved.measured_to:.0f}"


def _point(results: Sequence[Result], method: str, fold: int) -> CurvePoint | None:
    points = label_curve(results, DATASET, method, fold)
    return next((point for point in points if point.fraction == FEWEST), None)


def _mean_sd(point: CurvePoint | None) -> str:
    if point is None:
        return NOTHING
    return f"{100 * point.mean:.1f}" + (f" ± {100 * point.sd:.1f}" if point.sd is not None else "")
