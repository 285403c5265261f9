"""Runs with a changed choice, beside the same runs without it; read from results, never trained.

What :func:`gtgm.variants.run_variants` and :func:`gtgm.deviations.run_deviations` compare, for
whoever has the result files alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from gtgm.deviations import AS_RELEASED, DEFAULT, DEVIATIONS, compared_pairs
from gtgm.results import Result, newest
from gtgm.statistics import STUDY, Setting, dice
from gtgm.variants import Variant

_COLUMNS = ["label", "against", "fold", "draw", "dice", "difference", "seconds"]


def is_changed(result: Result) -> bool:
    """Whether it is a run on CT or MRI with settings or a protocol that are not the default."""
    return result.stage == "finetune" and bool(
        result.changes or result.protocol not in (None, STUDY.protocol)
    )


def changed_frame(
    results: Iterable[Result],
    dataset: str,
    fraction: float,
    method: str = "gtgm",
    setting: Setting = STUDY,
) -> pd.DataFrame:
    """Every changed run that has a partner on the same fold, draw and seed.

    Args:
        results: any results; the newest of several with the same settings counts.
        dataset, fraction, method: which runs.
        setting: source, backbone and profile of the runs, and the protocol of the default.

    Returns:
        Rows as of :func:`gtgm.variants.run_variants`: the default first, then the departures of
        the released code in the order of their rows, then other changes. Empty if nothing has a
        partner.
    """
    runs = [
        r
        for r in results
        if r.stage == "finetune"
        and (r.dataset, r.fraction, r.method) == (dataset, fraction, method)
        and (r.source, r.backbone, r.profile) == (setting.source, setting.backbone, setting.profile)
        and None not in (r.fold, r.draw, r.seed, dice(r))
    ]
    groups: dict[tuple[str, str], dict[tuple, Result]] = {}
    for run in newest(runs, lambda r: (_identity(r), r.fold, r.draw, r.seed))[0]:
        groups.setdefault(_identity(run), {})[run.fold, run.draw, run.seed] = run
    pairs = compared_pairs(DEVIATIONS, [AS_RELEASED])
    known = {_identity_of(variant, setting) for pair in pairs for variant in pair}
    for identity in sorted(groups.keys() - known):
        if identity[0] == setting.protocol:
            label = next(iter(groups[identity].values())).changes
            pairs.append((DEFAULT, Variant(label, changes=json.loads(identity[1]))))
    rows, used = [], {}
    for against, variant in pairs:
        others, mine = (groups.get(_identity_of(v, setting), {}) for v in (against, variant))
        for key in sorted(mine.keys() & others.keys()):
            rows.append(_row(variant, against, mine[key], others[key]))
            if against == DEFAULT:
                used[key] = others[key]
    first = [_row(DEFAULT, DEFAULT, run, run) for _, run in sorted(used.items())]
    return pd.DataFrame(first + rows, columns=_COLUMNS)


def _identity(result: Result) -> tuple[str | None, str]:
    return result.protocol, _canonical(result.settings.get("changes", {}))


def _identity_of(variant: Variant, setting: Setting) -> tuple[str, str]:
    return variant.protocol or setting.protocol, _canonical(variant.changes)


def _canonical(changes: Mapping[str, Mapping[str, Any]]) -> str:
    return json.dumps(changes, sort_keys=True)


def _row(variant: Variant, against: Variant, run: Result, other: Result) -> dict:
    return {
        "label": variant.label,
        "against": against.label,
        "fold": run.fold,
        "draw": run.draw,
        "dice": dice(run),
        "difference": dice(run) - dice(other),
        "seconds": run.wall_seconds,
    }
