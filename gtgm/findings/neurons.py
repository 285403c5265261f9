"""What the EM results say: VOI of the pretrained network against random initialisation."""

from __future__ import annotations

from collections.abc import Sequence

from gtgm.datasets import registry
from gtgm.gains import gains
from gtgm.markup import markdown_table
from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.statistics import BASELINE, STUDY, Comparison, correct
from gtgm.words import (
    LEVEL,
    NOT_MEASURED,
    difference,
    p_value,
    percent,
    smallest_p,
    unlabelled,
    verdict,
)

METHOD = "gtgm"


def neuron_lines(results: Sequence[Result]) -> list[str]:
    """A paragraph and a table per EM dataset, label fraction and post-processing."""
    runs = [r for r in results if r.stage == "neurons"]
    found = _comparisons(runs)
    if not found:
        return [f"{NOT_MEASURED.capitalize()} with both initialisations on the same draws."]
    rows = [
        [
            registry.get(dataset).title,
            percent(fraction),
            post.replace("_", " "),
            str(c.n),
            f"{c.mean_baseline:.3f}",
            f"{c.mean_method:.3f}",
            difference(c, 1, 3),
            p_value(c.p_corrected),
            verdict(c, c, better=-1),
        ]
        for (dataset, fraction, post), c in found.items()
    ]
    header = ["dataset", "labels", "post-processing", "pairs", f"{METHODS[BASELINE].label}, VOI",
              f"{METHODS[METHOD].label}, VOI", "difference", "p, corrected", "verdict"]  # fmt: skip
    lower = sum(c.mean < 0 for c in found.values())
    clear = sum(c.low is not None and (c.low > 0 or c.high < 0) for c in found.values())
    return [
        markdown_table(header, rows, groups=2),
        "",
        "VOI split + merge in bits, lower is better. Difference: mean and 95 % interval over "
        "pairs, each a repetition (a draw, with random numbers of its own) on the same training "
        "and test sections. With "
        f"{METHODS[METHOD].label} it is lower in {lower} of {len(found)} comparisons, and the "
        f"interval excludes zero in {clear} of them. *Shown* needs an interval below zero and "
        f"p ≤ {LEVEL} in the exact test, corrected for all of these (Holm). Before correction, the "
        f"smallest p that can be reached is {smallest_p(found.values())}: where it is above "
        f"{LEVEL}, no outcome could decide.",
        "",
        unlabelled((dataset, fraction) for dataset, fraction, _ in found),
    ]


def _comparisons(runs: Sequence[Result]) -> dict[tuple[str, float, str], Comparison]:
    """By dataset, label fraction and post-processing, corrected together."""
    found = gains(runs, METHOD, STUDY)
    corrected = correct([gain.comparison for gain in found])
    return {(g.dataset, g.fraction, g.post): c for g, c in zip(found, corrected, strict=True)}
