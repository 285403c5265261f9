"""What every stage writes into its result, besides its own numbers."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gtgm.hashing import to_dict
from gtgm.provenance import MemoryPeak
from gtgm.results import Result, save_result
from gtgm.settings import POOL_STAGES
from gtgm.stages.study import Study


def record(
    path: Path,
    study: Study,
    stage: str,
    dataset: str | tuple[str, ...],
    used: MemoryPeak,
    settings: Any,
    cases: dict[str, str],
    command: str,
    first: Callable[[Result], Any] | None = None,
    contents: dict[str, str] | None = None,
    disjoint: dict[str, Any] | None = None,
    labels: dict[str, str] | None = None,
    **fields: Any,
) -> Result:
    """Write a run's result.

    Args:
        path: of the JSON file.
        study: gives protocol, profile, backbone, fold and seed.
        stage: ``text``, ``pretrain``, ``finetune`` or ``neurons``.
        dataset: one name, or the names of a pool.
        used: wall time and memory.
        settings: dataclass or plain values.
        cases: id → SHA-256 of the image of every case that was read.
        command: the options that run this stage again, after ``gtgm``.
        first: see :func:`gtgm.results.save_result`.
        contents: ``dataset/case`` → hash of its intensities, of cases that are pretrained on.
        disjoint: what was checked of training and test cases (:mod:`gtgm.stages.disjoint`).
        labels: id → SHA-256 of the label of every case whose label was read.
        fields: others of :class:`gtgm.results.Result`.
    """
    names = [dataset] if isinstance(dataset, str) else list(dataset)
    started = datetime.now(UTC) - timedelta(seconds=used.wall_seconds)
    opened = [study.open(name) for name in names]
    method = fields.get("method")
    pool = study.name if isinstance(dataset, tuple) else dataset
    identity = [stage, pool, method]
    if "fraction" in fields:
        identity += [f"{fields['fraction']:g}", f"draw{fields['draw']}"]
    backbone = fields.get("backbone", study.backbone)
    identity += [backbone, study.protocol, f"fold{study.fold}", f"seed{study.seed}"]
    # The digest of the folder stands for everything else that makes the run what it is.
    identity += [study.profile, path.parent.name.rpartition("-")[2]]
    sources = {o.source for o in opened}
    checked = {"labels": labels, "contents": contents, "disjoint": disjoint}
    checked = {name: value for name, value in checked.items() if value is not None}
    unit = os.environ.get("GTGM_UNIT")
    values = settings if isinstance(settings, dict) else to_dict(settings)
    return save_result(
        path,
        first,
        **{
            "id": "-".join(str(part) for part in identity if part is not None),
            "stage": stage,
            "dataset": names[0] if isinstance(dataset, str) else names,
            "source": "real" if sources == {"real"} else "phantom",
            "backbone": study.backbone,
            "protocol": study.protocol,
            "profile": study.profile,
            "fold": study.fold,
            "seed": study.seed,
            "settings": values | ({"changes": study.changes} if study.changes else {}),
            "data": {"root": ", ".join(o.root.name for o in opened), "cases": cases, **checked},
            "wall_seconds": round(used.wall_seconds, 1),
            "peak_memory_gb": round(used.peak_memory_gb, 2),
            "notebook": f"executed/{unit}.ipynb" if unit else None,
            "command": " ".join(
                ["gtgm", command, *_options(study, stage, dataset, sources, backbone)]
            ),
            "started": started.isoformat(timespec="seconds"),
            **fields,
        },
    )


def _options(
    study: Study,
    stage: str,
    dataset: str | tuple[str, ...],
    sources: set[str],
    backbone: str | None,
) -> list[str]:
    """Command-line options that differ from the defaults; few where nothing is trained."""
    options, stages = [f"--profile {study.profile}"], {*POOL_STAGES, stage}
    defaults = {"protocol": "corrected", "backbone": "unet", "fold": 0, "seed": 0}
    if backbone is None:
        defaults, stages = {"protocol": "corrected", "fold": 0}, set()
    elif not isinstance(dataset, str):
        if study.method != "gtgm":
            options.append(f"--method {study.method}")
    elif study.datasets != (dataset,):
        options.append(f"--pool {' '.join(study.datasets)}")
    options += [
        f"--{name} {getattr(study, name)}"
        for name, default in defaults.items()
        if getattr(study, name) != default
    ]
    for changed in [name for name in study.changes if name in stages]:
        values = study.changes[changed].items()
        options += [f"--set {shlex.quote(f'{changed}.{name}={v}')}" for name, v in values]
    return [*options, "--data DIR"] if "real" in sources else options
