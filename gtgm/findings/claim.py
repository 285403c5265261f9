"""The measured gain beside the one that the authors report."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gtgm.changed import changed_frame
from gtgm.datasets import registry
from gtgm.deviations import AS_RELEASED
from gtgm.findings.study import DATASET, FEWEST, FRACTIONS
from gtgm.label_curves import label_curve
from gtgm.methods import METHODS
from gtgm.reported import claim_notes, reported_cell
from gtgm.results import Result
from gtgm.statistics import BASELINE, Comparison, paired
from gtgm.words import NOT_MEASURED, difference, listed, percent, signed

METHOD = "gtgm"


def claim_lines(results: Sequence[Result], reported: pd.DataFrame) -> list[str]:
    """A list: reported gains, the headline, measured gains, and how the baselines compare.

    Args:
        results: any results; those of the study count.
        reported: see :func:`gtgm.reported.load_reported`.
    """
    info, label = registry.get(DATASET), METHODS[METHOD].reported
    gains = _reported_gains(reported)
    lines = []
    for modality, group in gains.groupby(level="modality"):
        means = group.groupby(level="fraction").mean()
        told = listed(f"{signed(gain)} points at {percent(f)}" for f, gain in means.items())
        datasets = group.index.get_level_values("dataset").nunique()
        lines.append(
            f"Reported for {modality} ({datasets} datasets, mean), {label} against random "
            f"initialisation: {told}."
        )
    if info.modality not in gains.index.get_level_values("modality"):
        lines.append(
            f"For {info.modality}, the modality measured here, no random initialisation is "
            "reported, so the reported gain is unknown."
        )
    lines += claim_notes(reported, info.modality)
    measured = {f: paired(results, METHOD, dataset=DATASET, fraction=f) for f in FRACTIONS}
    told = "; ".join(f"{difference(c)} at {percent(f)}" for f, c in measured.items() if c)
    lines.append(
        f"Measured on {info.title}, {label} against random initialisation (points, 95 % interval): "
        f"{told or NOT_MEASURED}."
    )
    for modality, group in gains.groupby(level="modality"):
        means = group.groupby(level="fraction").mean()
        told = [
            f"{_where(comparison, gain / 100)} it at {percent(f)}"
            for f, gain in means.items()
            if (comparison := measured.get(f)) and comparison.low is not None
        ]
        if told:
            lines.append(
                f"The measured interval, beside the mean gain reported for {modality}, lies "
                f"{listed(told)}. These are different datasets."
            )
    lines += _baseline_lines(results, reported) + _released_lines(results, reported)
    return [f"- {line}" for line in lines]


def _where(comparison: Comparison, value: float) -> str:
    return "below" if comparison.high < value else "above" if comparison.low > value else "around"


def _reported_gains(reported: pd.DataFrame) -> pd.Series:
    """Reported method minus reported baseline, by modality, dataset and fraction."""
    cells = reported[reported["dataset"] != "all"]
    wide = cells.pivot(index=["modality", "dataset", "fraction"], columns="method", values="value")
    return (wide[METHODS[METHOD].reported] - wide[METHODS[BASELINE].reported]).dropna()


def _baseline_lines(results: Sequence[Result], reported: pd.DataFrame) -> list[str]:
    """How far the measured baseline lies from the reported method, if both are known."""
    info, label = registry.get(DATASET), METHODS[METHOD].reported
    gaps = {}
    for point in label_curve(results, DATASET, BASELINE):
        cell = reported_cell(reported, info, point.fraction, label)
        if cell.value is not None:
            gaps[point.fraction] = 100 * point.mean - cell.value
    if not gaps:
        return []
    told = listed(f"{signed(gap, 1)} points at {percent(f)}" for f, gap in gaps.items())
    stronger = (
        "The baseline here is above the reported method at each of them: gains here are over a "
        "stronger baseline."
        if min(gaps.values()) > 0
        else "The baseline here is not above the reported method at each of them."
    )
    return [f"Measured random initialisation minus reported {label} on {info.title}: {told}. "
            f"{stronger}"]  # fmt: skip


def _released_lines(results: Sequence[Result], reported: pd.DataFrame) -> list[str]:
    """Dice with every departure of the released code, beside what its authors report."""
    frame = changed_frame(results, DATASET, FEWEST, METHOD)
    scores = 100 * frame.loc[frame["label"] == AS_RELEASED.label, "dice"]
    label = METHODS[METHOD].reported
    cell = reported_cell(reported, registry.get(DATASET), FEWEST, label)
    if scores.empty or cell.value is None:
        return []
    return [
        f"With every departure of the released code at once (protocol `as_released`), {label} "
        f"reaches {scores.mean():.1f} % here with {percent(FEWEST)} of the labels "
        f"({listed(f'{score:.1f}' for score in sorted(scores))} by draw); reported are "
        f"{cell.value:.1f} %. Backbone, budget and labelled cases are not those of the authors, so "
        "how far apart the two are may be chance; what each departure does alone stands below."
    ]
