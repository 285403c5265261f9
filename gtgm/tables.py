"""The paper's three tables, measured beside reported, and the table of the README.

Measured values come from result files, reported ones from ``results/reported/reported.csv``.
Nothing that stands in a cell is typed here.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import combinations
from pathlib import Path

import pandas as pd

from gtgm import paths
from gtgm.datasets import registry
from gtgm.errors import ResultError, SettingsError
from gtgm.neurons.published import PUBLISHED
from gtgm.results import Result, load_results
from gtgm.table import Table

FRACTIONS = {"CT": (0.01, 0.1, 1.0), "MRI": (0.01, 0.1, 1.0), "EM": (0.1, 0.75)}
METRIC = {
    "CT": "Dice (%), foreground mean",
    "MRI": "Dice (%), foreground mean",
    "EM": "VOI split + merge (bits), lower is better",
}
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
#: Name of a method in the reported numbers.
_REPORTED_NAME = {"random": "Random Init", "gtgm": "GTGM"}


def load_reported(path: str | Path = paths.REPORTED / "reported.csv") -> pd.DataFrame:
    """The authors' numbers, one row each, with their source and note; ``fraction`` is a share.

    Raises:
        ResultError: the file is missing or lacks a column.
    """
    columns = {
        "method",
        "modality",
        "dataset",
        "label_fraction",
        "metric",
        "value",
        "source",
        "note",
    }
    if not Path(path).is_file():
        raise ResultError("no reported numbers", where=path, fix="restore the file from git")
    frame = pd.read_csv(path, dtype={"note": str, "label_fraction": str}, encoding="utf-8")
    if not columns <= set(frame.columns):
        lacking = ", ".join(sorted(columns - set(frame.columns)))
        raise ResultError(f"lacks the columns {lacking}", where=path)
    frame["note"] = frame["note"].fillna("")
    frame["fraction"] = pd.to_numeric(frame["label_fraction"].str.rstrip("%")) / 100
    return frame


def build_table(
    modality: str, results: Iterable[Result], reported: pd.DataFrame | None = None
) -> Table:
    """One table of the paper.

    A block per dataset of the modality and a row per label fraction, whether measured or not;
    real and phantom data, protocols, backbones and profiles never share a row. Datasets that are
    not in the paper get a block if there is a result.

    Args:
        modality: ``CT``, ``MRI`` or ``EM``.
        results: any results; only fine-tuning and neuron segmentation of the modality count, and
            not those of the profile ``tiny``, which the notebooks have for looking.
        reported: see :func:`load_reported`, which is the default.

    Raises:
        SettingsError: another modality, or a result of an unknown dataset.
    """
    if modality not in FRACTIONS:
        raise SettingsError(f"unknown modality {modality!r}", expected="CT, MRI or EM")
    reported = load_reported() if reported is None else reported
    results = list(results)
    runs = [r for r in results if r.stage in ("finetune", "neurons") and _score(r) is not None]
    runs = [r for r in runs if r.profile != "tiny"]
    runs = [r for r in runs if registry.get(r.datasets[0]).modality == modality]
    measured = {r.datasets[0] for r in runs}
    names = registry.names(modality, in_paper=True)
    names += [n for n in registry.names(modality, in_paper=False) if n in measured]
    rows, dropped = [], []
    for name in names:
        info = registry.get(name)
        mine = [r for r in runs if r.datasets[0] == name]
        fractions = sorted({*FRACTIONS[modality], *(r.fraction for r in mine if r.fraction)})
        for fraction in fractions:
            here = [r for r in mine if r.fraction == fraction]
            groups = _group(here, _setting) or {("", ""): []}
            for (source, setting), group in sorted(groups.items()):
                kept, older = _newest(group)
                dropped += older
                rows += [
                    _row(info, fraction, source, setting, kept, reported, post)
                    for post in _postprocessings(kept)
                ]
    notes = [
        "± is the standard deviation over label draws, or over seeds or folds where there is one "
        "draw. gain = GTGM − random over the same runs; gap = measured GTGM − reported GTGM, for "
        "real data only.",
        f"Reported numbers: {'; '.join(sorted(set(reported['source'])))}.",
        *_claims(reported, modality),
    ]
    notes += _text_note(results)
    if modality == "EM":
        notes.append(
            "The source states neither the logarithm of its VOI nor, for each number, the "
            "post-processing; measured VOI is in bits."
        )
        notes += _published_notes(results)
    if dropped:
        notes.append(f"Older runs of a cell that are left out: {', '.join(sorted(dropped))}.")
    frame = pd.DataFrame(rows)
    return Table(f"{modality} segmentation: {METRIC[modality]}", modality, frame, tuple(notes))


def readme_table(results: Iterable[Result], reported: pd.DataFrame | None = None) -> str:
    """Markdown table of everything measured on real data, for the README."""
    real = [r for r in results if r.source == "real"]
    parts = []
    for modality in FRACTIONS:
        table = build_table(modality, real, reported)
        kept = table.frame[table.frame["source"] == "real"]
        if len(kept):
            notes = _published_notes(real) if modality == "EM" else []
            short = Table(table.title, modality, kept.reset_index(drop=True), tuple(notes))
            parts.append(f"**{table.title}**\n\n{short.to_markdown()}")
    return "\n\n".join(parts) or "Nothing has been measured on real data yet."


def update_readme(
    readme: str | Path = paths.ROOT / "README.md", measured: str | Path = paths.MEASURED
) -> bool:
    """Write the table of the published results between the README's markers.

    Returns:
        Whether the README changed.

    Raises:
        ResultError: the README lacks the markers, or a published result cannot be used.
    """
    text = Path(readme).read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ResultError("lacks the markers of the table", where=readme, expected=f"{BEGIN} {END}")
    results = load_results([measured]) if Path(measured).is_dir() else []
    new = f"{head}{BEGIN}\n{readme_table(results)}\n{END}{tail}"
    if new != text:
        paths.write_text(readme, new)
    return new != text


def _row(
    info: registry.DatasetInfo,
    fraction: float,
    source: str,
    setting: str,
    runs: list[Result],
    reported: pd.DataFrame,
    post: str,
) -> dict:
    """One row, as plain values; ``None`` where there is nothing."""

    def scores(group: list[Result]) -> dict[tuple, float]:
        return {_key(r): _score(r, post) for r in group if _score(r, post) is not None}

    methods = {m: [r for r in runs if r.method == m] for m in _REPORTED_NAME}
    gtgm = methods["gtgm"] or methods["random"]
    row: dict = {
        "dataset": info.name,
        "title": info.title,
        "fraction": fraction,
        "source": source or "not run",
        "setting": setting,
        "n_train": _range(r.n_train for r in runs),
        "n_test": _range(r.n_test for r in runs),
        "draws": len({r.draw for r in gtgm}),
        "seeds": len({r.seed for r in gtgm}),
        "folds": len({r.fold for r in gtgm}),
    }
    for method, group in methods.items():
        row[method], row[f"{method}_sd"] = _mean_sd(scores(group))
    pairs = [scores(methods[m]) for m in ("random", "gtgm")]
    common = pairs[0].keys() & pairs[1].keys()
    row["gain"], row["gain_sd"] = _mean_sd({k: pairs[1][k] - pairs[0][k] for k in common})
    if info.modality == "EM":
        row["post"] = post or None
        for method, group in methods.items():
            for metric in ("arand", "voi_sum_border_masked"):
                found = {_key(r): _neuron_metric(r, post, metric) for r in group}
                found = {key: value for key, value in found.items() if value is not None}
                row[f"{method}_{metric}"], _ = _mean_sd(found)
    cells = reported[(reported["dataset"] == info.title) & (reported["fraction"] == fraction)]
    notes = []
    for method, label in _REPORTED_NAME.items():
        cell = cells[cells["method"] == label]
        row[f"reported_{method}"] = float(cell["value"].iloc[0]) if len(cell) else None
        notes += [n for n in cell["note"] if n]
    row["gap"] = None
    if source == "real" and row["gtgm"] is not None and row["reported_gtgm"] is not None:
        row["gap"] = row["gtgm"] - row["reported_gtgm"]
    row["notes"] = tuple(dict.fromkeys([*notes, *_twins(info, fraction, reported)]))
    row["command"] = _command(gtgm)
    return row


def _score(result: Result, post: str = "") -> float | None:
    """Dice in per cent, or the sum of both parts of the VOI."""
    if result.stage == "neurons":
        return _neuron_metric(result, post, "voi_sum")
    dice = result.summary.get("dice")
    return None if dice is None else 100 * dice


def _neuron_metric(result: Result, post: str, metric: str) -> float | None:
    """A score of neuron segmentation; without ``post``, of the run's first post-processing."""
    if not post:
        return result.summary.get(metric)
    rows = [r for r in result.metrics if r["class"] == post and r["metric"] == metric]
    return rows[0]["value"] if rows else None


def _postprocessings(runs: list[Result]) -> list[str]:
    """Names of the post-processings of EM runs, the first one first; one empty name otherwise."""
    rows = (row for r in runs if r.stage == "neurons" for row in r.metrics)
    return list(dict.fromkeys(row["class"] for row in rows)) or [""]


def _published_notes(results: Iterable[Result]) -> list[str]:
    """What published segmentations of the same voxels score."""
    notes = []
    for result in (r for r in results if r.method == PUBLISHED):
        rows = [row for row in result.metrics if row["metric"] == "voi_sum"]
        listed = "; ".join(f"{row['class']}: {row['value']:.2f}" for row in rows)
        first, last = result.settings["sections"]
        title = registry.get(result.datasets[0]).title
        notes.append(
            f"{result.settings['name']}, VOI on the same sections {first}–{last - 1} of {title}: "
            f"{listed}. {result.settings['remark']}"
        )
    return notes


def _setting(result: Result) -> tuple[str, str]:
    parts = (result.protocol, result.backbone, result.profile)
    return result.source, ", ".join(p for p in parts if p)


def _key(result: Result) -> tuple:
    return result.draw, result.seed, result.fold


def _group(runs: list[Result], key: Callable) -> dict:
    groups = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return dict(groups)


def _newest(runs: list[Result]) -> tuple[list[Result], list[str]]:
    """The newest run of each method, draw, seed and fold, and the ids of the others."""
    kept, older = [], []
    for group in _group(runs, lambda r: (r.method, *_key(r))).values():
        *rest, newest = sorted(group, key=lambda r: r.started or "")
        kept.append(newest)
        older += [r.id for r in rest]
    return kept, older


def _mean_sd(values: dict[tuple, float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation over the first of draw, seed and fold that varies."""
    if not values:
        return None, None
    axis = next((i for i in range(3) if len({k[i] for k in values}) > 1), 0)
    units = _group(list(values), lambda k: k[axis])
    means = [statistics.fmean(values[k] for k in keys) for keys in units.values()]
    return statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else None


def _range(counts: Iterable[int | None]) -> str | None:
    known = sorted({c for c in counts if c is not None})
    if not known:
        return None
    return str(known[0]) if len(known) == 1 else f"{known[0]}–{known[-1]}"


def _command(runs: list[Result]) -> str | None:
    commands = list(dict.fromkeys(r.command for r in runs if r.command))
    if not commands:
        return None
    more = len(commands) - 1
    return commands[0] + (f" (and {more} more of its kind)" if more else "")


def _text_note(results: list[Result]) -> list[str]:
    """Which text the GTGM rows learned from, if it is not the paper's."""
    own = {"embedded", "describe", "metadata"}
    if any(r.stage == "text" and r.settings.get("captioner") in own for r in results):
        return [
            "GTGM was measured with the embedded text, learned from measured facts of each patch; "
            "these rows say nothing about BLIP and BioBERT, which the paper uses."
        ]
    return []


def _twins(info: registry.DatasetInfo, fraction: float, reported: pd.DataFrame) -> list[str]:
    """A note if another dataset of the modality has the very same reported GTGM value."""
    cells = reported[
        (reported["method"] == "GTGM")
        & (reported["modality"] == info.modality)
        & (reported["fraction"] == fraction)
    ]
    notes = []
    for (_, a), (_, b) in combinations(cells.iterrows(), 2):
        if a["value"] == b["value"] and info.title in (a["dataset"], b["dataset"]):
            notes.append(
                f"{a['dataset']} and {b['dataset']} have the same reported value at "
                f"{a['label_fraction']} of the labels, {a['value']:g}; "
                "one of them may be a slip, so neither is a safe target"
            )
    return notes


def _claims(reported: pd.DataFrame, modality: str) -> list[str]:
    """What the headline claim says, and what the cells it summarises give."""
    notes = []
    claims = reported[(reported["modality"] == modality) & (reported["dataset"] == "all")]
    for _, claim in claims.iterrows():
        cells = reported[(reported["modality"] == modality) & (reported["dataset"] != "all")]
        wide = cells.pivot(index=["dataset", "fraction"], columns="method", values="value")
        better = wide[claim["method"]]
        sign = -1 if modality == "EM" else 1
        gains, found = [], False
        for baseline in wide.columns.drop(claim["method"]):
            points = sign * (better - wide[baseline]).mean()
            relative = 100 * sign * (better.mean() / wide[baseline].mean() - 1)
            found |= claim["value"] in (round(points, 1), round(relative, 1))
            unit = "VOI" if modality == "EM" else "points"
            gains.append(f"{baseline} by {points:.2f} {unit} ({relative:.1f} %)")
        verdict = "one of these is it" if found else "none of these is it"
        notes.append(
            f"The source claims, without naming the baseline: {claim['metric']}: "
            f"{claim['value']:g} for {claim['method']}. Over the cells, its mean is better than "
            f"{', '.join(gains)}; {verdict}."
        )
    return notes
