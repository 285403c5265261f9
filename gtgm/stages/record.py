"""What every stage writes into its result, besides its own numbers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gtgm.hashing import to_dict
from gtgm.provenance import MemoryPeak
from gtgm.results import Result, save_result
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
        cases: id → SHA-256 of every case that was read.
        command: the options that run this stage again, after ``gtgm``.
        fields: others of :class:`gtgm.results.Result`.
    """
    names = [dataset] if isinstance(dataset, str) else list(dataset)
    opened = [study.open(name) for name in names]
    method = fields.get("method")
    pool = study.name if isinstance(dataset, tuple) else dataset
    identity = [stage, pool, method]
    if "fraction" in fields:
        identity += [f"{fields['fraction']:g}", f"draw{fields['draw']}"]
    identity += [study.backbone, study.protocol, f"fold{study.fold}", f"seed{study.seed}"]
    options = [f"--profile {study.profile}", f"--backbone {study.backbone}", f"--fold {study.fold}"]
    if study.protocol != "corrected":
        options.append(f"--protocol {study.protocol}")
    sources = {o.source for o in opened}
    unit = os.environ.get("GTGM_UNIT")
    return save_result(
        path,
        **{
            "id": "-".join(str(part) for part in [*identity, study.profile] if part is not None),
            "stage": stage,
            "dataset": names[0] if isinstance(dataset, str) else names,
            "source": "real" if sources == {"real"} else "phantom",
            "backbone": study.backbone,
            "protocol": study.protocol,
            "profile": study.profile,
            "fold": study.fold,
            "seed": study.seed,
            "settings": settings if isinstance(settings, dict) else to_dict(settings),
            "data": {"root": ", ".join(o.root.name for o in opened), "cases": cases},
            "wall_seconds": round(used.wall_seconds, 1),
            "peak_memory_gb": round(used.peak_memory_gb, 2),
            "notebook": f"executed/{unit}.ipynb" if unit else None,
            "command": f"gtgm {command} {' '.join(options)}",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **fields,
        },
    )
