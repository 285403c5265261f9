"""What a person reads about a batch: the plan before it, the state during and after it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gtgm.batch.lock import held_since
from gtgm.batch.run import Run
from gtgm.batch.status import DONE, FAILED, RUNNING, TO_RUN, failure, seconds_taken, states
from gtgm.batch.units import Unit, lock_path, ordered
from gtgm.errors import SettingsError
from gtgm.progress import time_text
from gtgm.results import Result, load_results

BAR = 30
#: Stages whose results are runs of the manifest.
STAGES = ("finetune", "neurons")


def plan_table(
    units: Sequence[Unit], now: Mapping[str, str], names: Sequence[str], jobs: int
) -> str:
    """What a dry run shows: every unit with its estimate, and what all take together.

    Args:
        units: in the order of their needs.
        now: state of each unit by name.
        names: of the units that would run.
        jobs: units side by side.
    """
    rows = []
    for unit in units:
        label = now[unit.name]
        if unit.name in names:
            label = {DONE: "to run, changed", FAILED: "to run, failed before"}.get(label, label)
        rows.append(
            (unit.name, label, time_text(unit.seconds), f"{unit.memory_gb:g} GB", unit.notebook)
        )
    chosen = [unit for unit in units if unit.name in names]
    seconds = {unit.name: unit.seconds for unit in chosen}
    total = sum(seconds.values())
    runs = sum(len(unit.runs) for unit in chosen)
    tail = f"{len(chosen)} of {len(units)} units to run"
    tail += f" with {runs} training runs" if runs else ""
    tail += f", about {time_text(total)} of work"
    if jobs > 1:
        tail += f", at least {time_text(wall_seconds(units, seconds, jobs))} with {jobs} jobs"
    return "\n".join([*_table(("unit", "state", "estimate", "memory", "notebook"), rows), tail])


@dataclass(frozen=True)
class Progress:
    """How far a unit is.

    Attributes:
        state: see :func:`gtgm.batch.status.state`.
        done: number of its runs with a result.
        seconds: that it took, or has taken so far; None before it starts, or if unknown.
        left: seconds that it may still take.
        memory_gb: the most that a stage of it was measured to take; None before.
    """

    state: str
    done: int
    seconds: float | None
    left: float
    memory_gb: float | None


def progress(units: Sequence[Unit], folder: str | Path) -> dict[str, Progress]:
    """How far every unit of a run folder is, by name.

    The rest is estimated: each unit's own estimate, times the ratio of measured to estimated time
    of what is finished of its kind (stage and settings), or of everything where nothing is.
    """
    folder, now = Path(folder), states(units, folder)
    results = load_results([folder]) if folder.is_dir() else []
    scored = {_identity(r): r for r in results if r.stage in STAGES}
    taken = {u.name: seconds_taken(u, folder) for u in units if now[u.name] == DONE}
    memory: dict[str, float] = {}
    for result in results:
        name = Path(result.notebook or "").stem
        memory[name] = max(memory.get(name, 0.0), result.peak_memory_gb or 0.0)
    found = {
        unit.name: [scored[r] for r in map(_identity, unit.runs) if r in scored] for unit in units
    }
    measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for unit in units:
        pairs = measured.setdefault(_kind(unit), [])
        if unit.runs:
            each = unit.seconds / len(unit.runs)
            pairs += [(r.wall_seconds, each) for r in found[unit.name] if r.wall_seconds]
        elif taken.get(unit.name) is not None:
            pairs.append((taken[unit.name], unit.seconds))
    overall = _ratio([pair for pairs in measured.values() for pair in pairs], 1.0)
    rows = {}
    for unit in units:
        state, done = now[unit.name], len(found[unit.name])
        expected = unit.seconds * _ratio(measured[_kind(unit)], overall)
        left = expected * (1 - done / len(unit.runs) if unit.runs else 1)
        seconds = taken.get(unit.name)
        if state == RUNNING:
            since = held_since(lock_path(folder, unit.name))
            seconds = time.time() - since if since is not None else None
            if not unit.runs and seconds is not None:
                left = max(0.0, left - seconds)
        rows[unit.name] = Progress(
            state, done, seconds, 0.0 if state == DONE else left, memory.get(unit.name)
        )
    return rows


def status_table(units: Sequence[Unit], folder: str | Path, jobs: int = 2) -> str:
    """What ``gtgm status`` shows: every unit, why units failed, and how long the rest takes.

    Args:
        units: of one batch, in any order.
        folder: its run folder.
        jobs: units side by side.

    Raises:
        SettingsError: no job at all.
        ResultError: a result in the folder cannot be read.
    """
    check_jobs(jobs)
    units = ordered(units)
    rows, failed = [], []
    known = progress(units, folder)
    for unit in units:
        at = known[unit.name]
        took = time_text(at.seconds) if at.seconds is not None else ""
        if at.state == RUNNING and took:
            took += " so far"
        rows.append(
            (
                unit.name,
                at.state,
                f"{at.done}/{len(unit.runs)}" if unit.runs else "",
                took,
                time_text(at.left) if at.state != DONE else "",
                f"{at.memory_gb:.1f} GB" if at.memory_gb else f"≤ {unit.memory_gb:g} GB",
            )
        )
        if at.state == FAILED:
            failed.append(f"failed: {unit.name}: {failure(unit, folder)}")
            failed.append(f"        its notebook is kept: {unit.failed(folder)}")
    lines = _table(("unit", "state", "runs", "took", "left", "memory"), rows)
    return "\n".join([*lines, *failed, _summary(units, known, jobs)])


def check_jobs(jobs: int) -> None:
    """Raise unless there is at least one job."""
    if jobs < 1:
        raise SettingsError(f"jobs is {jobs}", expected="a whole number of at least 1")


def wall_seconds(units: Iterable[Unit], seconds: Mapping[str, float], jobs: int) -> float:
    """The least time that units take side by side: all work shared among the jobs, or the longest
    chain of units that need each other.

    Args:
        units: in the order of their needs.
        seconds: work of each by name; what is not named takes none.
        jobs: units side by side.
    """
    ends: dict[str, float] = {}
    for unit in units:
        start = max((ends.get(name, 0.0) for name in unit.needs), default=0.0)
        ends[unit.name] = start + seconds.get(unit.name, 0.0)
    return max(sum(seconds.values()) / jobs, max(ends.values(), default=0.0))


def _summary(units: Sequence[Unit], known: Mapping[str, Progress], jobs: int) -> str:
    counts = {state: 0 for state in (DONE, RUNNING, FAILED, TO_RUN)}
    for at in known.values():
        counts[at.state] += 1
    left = {name: at.left for name, at in known.items()}
    whole = sum(u.seconds for u in units)
    share = sum(u.seconds * _share(u, known[u.name]) for u in units) / whole if whole else 1.0
    bar = "█" * int(share * BAR) + "░" * (BAR - int(share * BAR))
    runs = sum(len(u.runs) for u in units)
    parts = [f"{counts[DONE]} of {len(units)} units"]
    if runs:
        parts.append(f"{sum(at.done for at in known.values())} of {runs} runs done")
    parts += [f"{counts[state]} {state}" for state in (RUNNING, FAILED) if counts[state]]
    rest = wall_seconds(units, left, jobs)
    side = f"{jobs} jobs" if jobs > 1 else "one job"
    parts.append(f"about {time_text(rest)} left with {side}" if rest else "nothing left")
    return f"{bar} {share:.0%}  {', '.join(parts)}"


def _share(unit: Unit, at: Progress) -> float:
    """Part of a unit that is finished."""
    if at.state == DONE or not unit.runs:
        return float(at.state == DONE)
    return at.done / len(unit.runs)


def _identity(run: Run | Result) -> tuple:
    """What a run of the manifest and its result have in common."""
    names = ("dataset", "method", "fraction", "draw", "fold", "seed", "backbone", "protocol")
    changes = run.changes if isinstance(run, Run) else run.settings.get("changes", {})
    return (
        *(getattr(run, name) for name in (*names, "profile")),
        json.dumps(changes, sort_keys=True),
    )


def _kind(unit: Unit) -> tuple[str, str]:
    return unit.rule, unit.parameters.get("profile", "")


def _ratio(pairs: Sequence[tuple[float, float]], otherwise: float) -> float:
    """Measured by estimated time, over all pairs."""
    return sum(m for m, _ in pairs) / sum(e for _, e in pairs) if pairs else otherwise


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
