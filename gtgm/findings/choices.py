"""What a single choice does: departures of the released code, and other changed settings."""

from __future__ import annotations

from collections.abc import Sequence

from gtgm.changed import changed_frame
from gtgm.deviations import AS_RELEASED, DEVIATIONS
from gtgm.findings.study import DATASET, FEWEST
from gtgm.markup import markdown_table
from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.variants import comparisons, conclusions
from gtgm.words import NOT_MEASURED, difference, listed, percent


def choice_lines(results: Sequence[Result]) -> list[str]:
    """A table: each changed run against the same run without the change."""
    frame = changed_frame(results, DATASET, FEWEST)
    if frame.empty:
        return [f"{NOT_MEASURED.capitalize()}."]
    found = comparisons(frame)
    rows = [
        [
            c.method,
            c.baseline,
            str(c.n),
            f"{100 * c.mean_baseline:.2f}",
            f"{100 * c.mean_method:.2f}",
            difference(c),
        ]
        for c in found
    ]
    header = ["what is changed", "compared with", "pairs", "that one: Dice (%)",
              "changed: Dice (%)", "difference"]  # fmt: skip
    measured = {c.method for c in found}
    notes = [
        f"{variant.label}: {variant.note}."
        for variant in (*(d.variant for d in DEVIATIONS), AS_RELEASED)
        if variant.note and variant.label in measured
    ]
    folds = listed(sorted({fold for c in found for fold, _ in c.units}))
    return [
        f"{METHODS['gtgm'].label} with {percent(FEWEST)} of the labels, fold {folds}, with one "
        "thing changed at a time; where it is a matter of pretraining, that is repeated. A row "
        "with a number is a departure of the released code "
        "([the list](../notebooks/06_deviations.ipynb)).",
        "",
        markdown_table(header, rows, notes, groups=0),
        "",
        conclusions(frame)[-1],
    ]
