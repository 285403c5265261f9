"""nnU-Net on the same labelled cases, beside the networks of the study."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gtgm.datasets import registry
from gtgm.errors import ResultError
from gtgm.findings.study import DATASET
from gtgm.markup import NOTHING, markdown_table
from gtgm.methods import METHODS
from gtgm.results import Result
from gtgm.statistics import BASELINE, dice, select
from gtgm.words import NOT_MEASURED, percent

FILES = "nnunet*.json"


def load_nnunet(folder: str | Path) -> list[dict[str, Any]]:
    """What ``benchmarks/nnunet.py`` wrote into a folder, the shortest training first.

    Raises:
        ResultError: a file is not what it wrote.
    """
    found = []
    for path in sorted(Path(folder).glob(FILES)):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            report["summary"]["dice"], report["used"]["train"]["seconds"], report["steps"]
        except (ValueError, KeyError, TypeError) as error:
            raise ResultError(
                f"cannot be read ({type(error).__name__}: {error})",
                where=path,
                expected="a file that benchmarks/nnunet.py wrote",
                fix="run the benchmark again with --out naming this file",
            ) from None
        found.append({**report, "file": path.name})
    return sorted(found, key=lambda report: report["used"]["train"]["seconds"])


def nnunet_lines(results: Sequence[Result], reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table: a row per training of nnU-Net, and the study's run of the same cases.

    Args:
        results: any results; the study's random initialisation counts.
        reports: of :func:`load_nnunet`; only real data of the study's dataset count.
    """
    mine = [r for r in reports if (r["dataset"], r["source"]) == (DATASET, "real")]
    if not mine:
        return [f"{NOT_MEASURED.capitalize()}: `python benchmarks/nnunet.py --help`."]
    rows = []
    for report in mine:
        where = {name: report[name] for name in ("fraction", "fold", "draw", "seed")}
        same = [
            r
            for r in select(results, DATASET, method=BASELINE)
            if all(getattr(r, name) == value for name, value in where.items())
        ]
        row = [
            f"{percent(report['fraction'])}, {report['n_train']} cases",
            f"fold {report['fold']}, draw {report['draw']}",
            f"[{report['used']['train']['seconds'] / 60:.1f}](benchmarks/{report['file']})",
            f"{report['steps']} of {report['own_steps']}",
            _percent(report["summary"]["dice"]),
        ]
        rows += [[*row, f"{(r.wall_seconds or 0) / 60:.1f}", _percent(dice(r))] for r in same] or [
            [*row, NOTHING, NOTHING]
        ]
    label = METHODS[BASELINE].label
    header = ["labels", "cases", "nnU-Net: minutes of training", "steps of its own schedule",
              "nnU-Net: Dice (%)", f"{label}: minutes, all", f"{label}: Dice (%)"]  # fmt: skip
    versions = {r["versions"].get("nnunetv2", "?") for r in mine}
    machines = {f"{r['device']}, {r['threads']} thread(s)" for r in mine}
    return [
        f"nnU-Net v2 ({', '.join(sorted(versions))}; {', '.join(sorted(machines))}) on the same "
        f"labelled cases of {registry.get(DATASET).title}, with its own plans, network, "
        "augmentation, loss and inference; only its schedule is shortened to the wall time "
        "(`benchmarks/nnunet.py`). Its minutes are of training alone; those of the study's network "
        "also hold evaluation.",
        "",
        markdown_table(header, rows, groups=0),
        "",
        "nnU-Net is made for a GPU and a thousand epochs: these rows say what it reaches in a "
        "short time on one CPU core, not what it can do. For that, see the other systems "
        "under the table of the [README](../README.md#reported-and-measured).",
    ]


def _percent(dice: float | None) -> str:
    return NOTHING if dice is None else f"{100 * dice:.1f}"
