"""The paper's three tables, measured beside reported, and the table of the README.

Measured values come from result files, reported ones from ``results/reported/reported.csv``.
Nothing that stands in a cell is typed here.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from gtgm import methods, paths
from gtgm.changed import is_changed
from gtgm.datasets import registry
from gtgm.errors import ResultError, SettingsError
from gtgm.markup import between
from gtgm.methods import METHODS
from gtgm.neurons.published import AS_IS, ASSIGNED, NEAREST, PUBLISHED
from gtgm.references import reference_table
from gtgm.reported import claim_notes, load_reported, reported_cell, source_note
from gtgm.result_check import SOURCES
from gtgm.results import Result, load_results, newest
from gtgm.scores import neuron_score, postprocessings
from gtgm.settings import PROTOCOLS
from gtgm.table import Table
from gtgm.words import listed, unlabelled

FRACTIONS = {"CT": (0.01, 0.1, 1.0), "MRI": (0.01, 0.1, 1.0), "EM": (0.1, 0.75)}
METRIC = {
    "CT": "Dice (%), foreground mean",
    "MRI": "Dice (%), foreground mean",
    "EM": "VOI split + merge (bits), lower is better",
}
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
_NOT_RUN = "not run"
#: Columns that are numbers or NaN, also where no row has one.
_SCORES = (
    "measured", "measured_sd", "difference", "difference_sd", "reported", "gap",
    "border_masked", "arand", "arand_border_masked",
)  # fmt: skip
#: Columns of EM and the metrics that they show, in the order in which they are compared.
_EM_METRICS = {
    "measured": "voi_sum",
    "arand": "arand",
    "border_masked": "voi_sum_border_masked",
    "arand_border_masked": "arand_border_masked",
}
_EM_NAMES = ("VOI", "ARAND", "border-masked VOI", "border-masked ARAND")
_RELEASED = "as_released"
_HOW_TO_READ = (
    "± is the standard deviation over sets of labels (each draw of each fold is one; seeds are "
    "averaged within it), or over seeds where there is one set. Over several folds it also holds "
    "how much the folds differ; the ± of the difference does not.",
    "difference = method − random over the same draws, seeds and folds; gap = measured − reported, "
    "for real data only.",
)
_BACKGROUND = (
    "Measured Dice is the foreground mean. The released code's metric also averages the "
    "background, whose Dice is usually the highest, so that a gap is rather too small than too "
    "large; the gap of the protocol as_released is by that metric. Which of the two the reported "
    "numbers are is not stated."
)
_PHANTOMS = (
    "Rows marked phantom were measured on generated volumes: they show that every stage runs, and "
    "say nothing about the method on patients or tissue."
)


def build_table(
    modality: str, results: Iterable[Result], reported: pd.DataFrame | None = None
) -> Table:
    """One table of the paper.

    A block per dataset of the modality and label fraction, and in it a row per method: every
    method that was measured or reported, and GTGM in any case. Real and phantom data, protocols,
    backbones, profiles and changed settings never share a row. Datasets and fractions that are not
    in the paper get a block if there is a result.

    Columns of ``frame``: dataset, title, fraction, method, source, setting, n_train, n_test, runs,
    draws, seeds, folds, measured, measured_sd, difference, difference_sd, pairs, reported, gap,
    notes, command, ids (of the runs); for EM also post, border_masked, arand and
    arand_border_masked. Dice and differences are in per cent, VOI in bits.

    Args:
        modality: ``CT``, ``MRI`` or ``EM``.
        results: any results; only fine-tuning and neuron segmentation of the modality count, and
            not those of the profile ``tiny``, which the notebooks have for looking.
        reported: see :func:`gtgm.reported.load_reported`, which is the default.

    Raises:
        SettingsError: another modality, or a result of an unknown dataset or method.
    """
    if modality not in FRACTIONS:
        raise SettingsError(f"unknown modality {modality!r}", expected="CT, MRI or EM")
    reported = load_reported() if reported is None else reported
    results = list(results)
    runs = [r for r in results if r.stage in ("finetune", "neurons") and _score(r) is not None]
    runs = [r for r in runs if r.profile != "tiny"]
    runs = [r for r in runs if registry.get(r.datasets[0]).modality == modality]
    for method in {r.method for r in runs}:
        methods.get(method)
    runs, dropped = newest(runs, _cell)
    measured = {r.datasets[0] for r in runs}
    names = registry.names(modality, in_paper=True)
    names += [n for n in registry.names(modality, in_paper=False) if n in measured]
    rows = []
    for name in names:
        info = registry.get(name)
        mine = [r for r in runs if r.datasets[0] == name]
        expected = FRACTIONS[modality] if info.in_paper else ()
        for fraction in sorted({*expected, *(r.fraction for r in mine if r.fraction)}):
            here = [r for r in mine if r.fraction == fraction]
            rows += _block(info, fraction, here, reported)
    compared = {m.reported for m in METHODS.values()}
    frame = pd.DataFrame(rows)
    frame = frame.astype({column: float for column in _SCORES if column in frame})
    notes = [*_how_to_read(modality), source_note(reported, modality, compared)]
    notes += claim_notes(reported, modality)
    notes += _text_note(results, modality)
    if modality == "EM":
        notes.append(
            "The source states neither the logarithm of its VOI nor, for each number, the "
            "post-processing; measured VOI is in bits."
        )
        notes += _em_notes(results, frame)
    if any(r.source == "phantom" for r in runs):
        notes.append(_PHANTOMS)
    if dropped:
        notes.append(
            f"Older runs of a cell that are left out: {', '.join(sorted(r.id for r in dropped))}."
        )
    return Table(f"{modality} segmentation: {METRIC[modality]}", modality, frame, tuple(notes))


def readme_table(results: Iterable[Result], reported: pd.DataFrame | None = None) -> str:
    """Markdown of what was measured on real data, for the README: tables without commands.

    Runs with one choice changed are left to the page of findings.
    Below each, collapsed, stand reference systems on the same datasets, if there are any.
    """
    real = [r for r in results if r.source == "real" and not is_changed(r)]
    parts = []
    for modality in FRACTIONS:
        table = build_table(modality, real, reported)
        kept = table.frame[table.frame["source"] == "real"]
        if kept.empty:
            continue
        frame = kept.reset_index(drop=True)
        notes = [*_how_to_read(modality), *(_em_notes(real, frame) if modality == "EM" else [])]
        short = Table(table.title, modality, frame, tuple(notes)).compact()
        parts.append(f"**{short.title}**\n\n{short.to_markdown()}")
        references = reference_table(modality, set(kept["dataset"]))
        if not references.frame.empty:
            parts.append(references.to_markdown())
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
    results = load_results([measured]) if Path(measured).is_dir() else []
    new = between(text, BEGIN, END, f"{readme_table(results)}\n")
    if new is None:
        raise ResultError("lacks the markers of the table", where=readme, expected=f"{BEGIN} {END}")
    if new != text:
        paths.write_text(readme, new)
    return new != text


def _block(
    info: registry.DatasetInfo, fraction: float, runs: list[Result], reported: pd.DataFrame
) -> list[dict]:
    """Rows of a dataset and label fraction: what was measured, then what was only reported."""
    rows = []
    for (source, setting), group in _group(sorted(runs, key=_place), _setting).items():
        for post in postprocessings(group):
            found = {r.method for r in group if _score(r, post) is not None}
            for method in (m for m in METHODS if m in found):
                rows.append(_row(info, fraction, method, source, setting, group, reported, post))
    measured = {r.method for r in runs}
    for method in (m for m in METHODS if m not in measured):
        row = _row(info, fraction, method, _NOT_RUN, "", [], reported, "")
        if row["reported"] is not None or (method == "gtgm" and info.in_paper):
            rows.append(row)
    return rows


def _row(
    info: registry.DatasetInfo,
    fraction: float,
    method: str,
    source: str,
    setting: str,
    group: list[Result],
    reported: pd.DataFrame,
    post: str,
) -> dict:
    """One row, as plain values; ``None`` where there is nothing. ``group`` has all methods."""

    def scores(name: str, metric: str = "") -> dict[tuple, float]:
        found = {_key(r): _score(r, post, metric) for r in group if r.method == name}
        return {key: value for key, value in found.items() if value is not None}

    runs = [r for r in group if r.method == method]
    own, random = scores(method), scores("random")
    measured, measured_sd = _mean_sd(own)
    common = own.keys() & random.keys() if method != "random" else set()
    difference, difference_sd = _mean_sd({key: own[key] - random[key] for key in common})
    cell = reported_cell(reported, info, fraction, methods.get(method).reported)
    released = info.modality != "EM" and any(r.protocol == _RELEASED for r in runs)
    beside = _mean_sd(scores(method, "dice_with_background"))[0] if released else measured
    comparable = source == "real" and beside is not None and cell.value is not None
    row = {
        "dataset": info.name,
        "title": info.title,
        "fraction": fraction,
        "method": method,
        "source": source,
        "setting": setting,
        "n_train": _range(r.n_train for r in runs),
        "n_test": _range(r.n_test for r in runs),
        "runs": len(own),
        "draws": len({draw for draw, _, _ in own}),
        "seeds": len({seed for _, seed, _ in own}),
        "folds": len({fold for _, _, fold in own}),
        "measured": measured,
        "measured_sd": measured_sd,
        "difference": difference,
        "difference_sd": difference_sd,
        "pairs": len(common),
        "reported": cell.value,
        "gap": beside - cell.value if comparable else None,
        "notes": cell.notes,
        "command": _command(runs),
        "ids": tuple(r.id for r in runs if _key(r) in own),
    }
    if info.modality == "EM":
        row["post"] = post
        for column, metric in _EM_METRICS.items():
            if column not in row:
                row[column], _ = _mean_sd(scores(method, metric))
    return row


def _score(result: Result, post: str = "", metric: str = "") -> float | None:
    """Dice in per cent, by default of the foreground, or a metric of neuron segmentation, which is
    by default the VOI's sum.

    Without ``post``, neurons are those of the run's first post-processing.
    """
    if result.stage == "finetune":
        dice = result.summary.get(metric or "dice")
        return None if dice is None else 100 * dice
    metric = metric or "voi_sum"
    if not post:
        return result.summary.get(metric)
    return neuron_score(result, post, metric)


def _setting(result: Result) -> tuple[str, str]:
    parts = (result.protocol, result.backbone, result.profile, result.changes)
    return result.source, ", ".join(p for p in parts if p)


def _place(result: Result) -> tuple:
    """Order of blocks: real before phantom data, protocols as named, then by setting."""
    protocols = [*PROTOCOLS, result.protocol]
    return SOURCES.index(result.source), protocols.index(result.protocol), _setting(result)


def _key(result: Result) -> tuple:
    return result.draw, result.seed, result.fold


def _group(runs: list[Result], key: Callable) -> dict:
    groups = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return dict(groups)


def _cell(result: Result) -> tuple:
    return result.datasets[0], result.fraction, *_setting(result), result.method, *_key(result)


def _mean_sd(values: dict[tuple, float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation over sets of labels, or over seeds if there is one set.

    A set of labels is a draw of a fold: draw 0 of fold 0 and draw 0 of fold 1 have nothing in
    common but the number, so they are not averaged first, which would hide how much draws differ.

    Args:
        values: by (draw, seed, fold).
    """
    if not values:
        return None, None
    sets = _group(list(values), lambda key: (key[0], key[2]))
    units = list(sets.values()) if len(sets) > 1 else [[key] for key in values]
    means = [statistics.fmean(values[key] for key in keys) for keys in units]
    return statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else None


def _range(counts: Iterable[int | None]) -> str | None:
    known = sorted({c for c in counts if c is not None})
    if not known:
        return None
    return str(known[0]) if len(known) == 1 else f"{known[0]}–{known[-1]}"


def _command(runs: list[Result]) -> str:
    commands = list(dict.fromkeys(r.command for r in runs if r.command))
    more = f" (and {len(commands) - 1} more of its kind)" if len(commands) > 1 else ""
    return commands[0] + more if commands else ""


def _text_note(results: list[Result], modality: str) -> list[str]:
    """Which text the rows learned from, if it is not the paper's."""
    own = {"embedded", "describe", "metadata", "none"}
    made = [r for r in results if r.stage == "text" and r.settings.get("captioner") in own]
    if not any(registry.get(name).modality == modality for r in made for name in r.datasets):
        return []
    online = " or ".join(f"“{m.label}”" for m in METHODS.values() if not m.offline)
    profiles = sorted({r.profile for r in made if r.profile})
    rows = f"rows with the settings {', '.join(profiles)}" if profiles else "these rows"
    return [
        f"The text of {rows} is this project's own, made from measured facts of each patch: but "
        f"for {online}, they say nothing about BLIP and BioBERT, which the paper uses."
    ]


def _how_to_read(modality: str) -> list[str]:
    return [*_HOW_TO_READ, *([] if modality == "EM" else [_BACKGROUND])]


def _em_notes(results: Iterable[Result], frame: pd.DataFrame) -> list[str]:
    """What pretraining can add, and what published segmentations of the same voxels score.

    Args:
        results: any results.
        frame: the rows of the table.
    """
    pairs = [
        (row["dataset"], row["fraction"])
        for row in frame.to_dict("records")
        if METHODS[row["method"]].pretrains and _RELEASED not in row["setting"]
    ]
    notes = [unlabelled(pairs)] if pairs else []
    for result in (r for r in results if r.method == PUBLISHED):
        classes = dict.fromkeys(row["class"] for row in result.metrics)
        scores = {
            name: [neuron_score(result, name, metric) for metric in _EM_METRICS.values()]
            for name in classes
        }
        each = "; ".join(f"{name}: {_named(values)}" for name, values in scores.items())
        first, last = result.settings["sections"]
        title = registry.get(result.datasets[0]).title
        same = (frame["dataset"] == result.dataset) & (frame["source"] == result.source)
        ours = [None if math.isnan(x) else x for x in frame.loc[same, list(_EM_METRICS)].min()]
        theirs = [scores[name] for name in (AS_IS, NEAREST) if name in scores]
        notes.append(
            f"{result.settings['name']}, scored on the same sections {first}–{last - 1} of "
            f"{title}, lower is better: {each}. {_beside(title, ours, theirs)}"
            f"{result.settings['remark']}"
        )
    return notes


def _named(values: Iterable[float | None]) -> str:
    pairs = zip(_EM_NAMES, values, strict=True)
    return ", ".join(f"{name} {value:.3f}" for name, value in pairs if value is not None)


def _beside(title: str, ours: list[float | None], theirs: list[list[float | None]]) -> str:
    """A sentence: by each metric, how the best row of the table lies beside the published one."""
    told = []
    for name, mine, *others in zip(_EM_NAMES, ours, *theirs, strict=True):
        if mine is None or None in others or not others:
            continue
        place = "between" if min(others) < mine < max(others) else "equal to one of"
        place = "better than" if mine < min(others) else place
        place = "worse than" if mine > max(others) else place
        told.append(f"{mine:.3f} in {name}, {place} {listed(f'{other:.3f}' for other in others)}")
    if not told:
        return ""
    ways = listed(f"“{name}”" for name in (AS_IS, NEAREST))
    return (
        f"The lowest value of any row of {title} is {'; '.join(told)} ({ways}; “{ASSIGNED}” is an "
        "easier task). "
    )
