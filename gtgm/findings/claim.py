"""The measured gain beside the one that the authors report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import fmean

import pandas as pd

from gtgm.datasets import registry
from gtgm.deviations import AS_RELEASED, DEVIATIONS
from gtgm.findings.study import DATASET, FEWEST, FRACTIONS
from gtgm.methods import METHODS
from gtgm.reported import claim_notes, reported_cell
from gtgm.results import Result
from gtgm.statistics import BASELINE, STUDY, Comparison, by_unit, paired, select
from gtgm.words import NOT_MEASURED, difference, listed, percent, signed

METHOD = "gtgm"
#: What the released code reports (`deviations.md`, row 4).
RELEASED_METRIC = "dice_with_background"
COUNTED = {
    "dice": "by the foreground mean",
    RELEASED_METRIC: "by the released code's metric, which averages the background in",
}


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
    """How far the measured baseline lies from the reported method, by either way to count."""
    info, label = registry.get(DATASET), METHODS[METHOD].reported
    runs = select(results, DATASET, method=BASELINE)
    told, gaps = [], []
    for metric, counted in COUNTED.items():
        here = {
            fraction: 100 * fmean(scores) - cell.value
            for fraction in FRACTIONS
            if (scores := _scores(runs, fraction, metric))
            and (cell := reported_cell(reported, info, fraction, label)).value is not None
        }
        gaps += here.values()
        if here:
            each = listed(f"{signed(gap, 1)} points at {percent(f)}" for f, gap in here.items())
            told.append(f"{each} ({counted})")
    if not gaps:
        return []
    stronger = (
        "The baseline here is above the reported method at each of them: gains here are over a "
        "stronger baseline."
        if min(gaps) > 0
        else "The baseline here is not above the reported method at each of them."
    )
    return [f"Measured random initialisation minus reported {label} on {info.title}: "
            f"{'; '.join(told)}. {stronger}"]  # fmt: skip


def _released_lines(results: Sequence[Result], reported: pd.DataFrame) -> list[str]:
    """Dice with the protocol of the release, by its own metric, and what was run for it."""
    setting = dataclasses.replace(STUDY, protocol=AS_RELEASED.protocol)
    runs = select(results, DATASET, method=METHOD, fraction=FEWEST, setting=setting)
    scores = [100 * score for score in _scores(runs, FEWEST, RELEASED_METRIC)]
    label = METHODS[METHOD].reported
    cell = reported_cell(reported, registry.get(DATASET), FEWEST, label)
    if not scores or cell.value is None:
        return []
    rows = listed(d.row for d in DEVIATIONS if d.changes and d.runs)
    encoders = [
        r
        for r in results
        if (r.stage, r.datasets, r.method, r.changes) == ("pretrain", [DATASET], METHOD, "")
        and (r.source, r.backbone, r.protocol, r.profile) == dataclasses.astuple(setting)
    ]
    return [
        f"With the protocol `{setting.protocol}`, {label} reaches {fmean(scores):.1f} % here with "
        f"{percent(FEWEST)} of the labels ({listed(f'{score:.1f}' for score in sorted(scores))} by "
        f"draw), {COUNTED[RELEASED_METRIC]}; reported are {cell.value:.1f} %, whose metric is not "
        f"stated. What was run: the network `{setting.backbone}` with the settings "
        f"`{setting.profile}` of this project and rows {rows} of "
        "[the departures](../notebooks/06_deviations.ipynb) together"
        f"{_lengths('pretrained', encoders)}{_lengths('fine-tuned', runs)}. Network, lengths, "
        "learning rates and labelled cases are not those of the authors, so neither number says "
        "anything about the other; what some departures do alone stands below."
    ]


def _scores(runs: Sequence[Result], fraction: float, metric: str) -> list[float]:
    """Of every draw of every fold, as shares; those that lack the metric are left out."""
    found = {
        (r.fold, r.draw, r.seed): r.summary[metric]
        for r in runs
        if r.fraction == fraction and r.summary.get(metric) is not None
    }
    return list(by_unit(found).values())


def _lengths(done: str, runs: Sequence[Result]) -> str:
    """Part of a sentence: steps, batch and learning rate of the first run, if it names them."""
    settings = runs[0].settings if runs else {}
    if not {"steps", "batch", "lr", "schedule"} <= settings.keys():
        return ""
    return (f", {done} for {settings['steps']} steps of {settings['batch']} patches at the "
            f"learning rate {settings['lr']:g} ({settings['schedule']})")  # fmt: skip
