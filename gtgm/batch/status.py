"""What has become of the units of a batch, as far as their files tell."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from gtgm.batch.lock import held_since
from gtgm.batch.units import Unit, lock_path, log_path

DONE, RUNNING, FAILED, TO_RUN = "done", "running", "failed", "to run"


def state(unit: Unit, folder: str | Path) -> str:
    """``done`` (executed notebook and all outputs are there), ``running``, ``failed`` or
    ``to run``."""
    if held_since(lock_path(folder, unit.name)) is not None:
        return RUNNING
    if unit.executed(folder).is_file() and not missing_outputs(unit, folder):
        return DONE
    return FAILED if unit.failed(folder).is_file() else TO_RUN


def states(units: Iterable[Unit], folder: str | Path) -> dict[str, str]:
    """State of every unit by name."""
    return {unit.name: state(unit, folder) for unit in units}


def missing_outputs(unit: Unit, folder: str | Path) -> list[str]:
    """Declared outputs that do not exist."""
    return [name for name in unit.outputs if not (Path(folder) / name).exists()]


def seconds_taken(unit: Unit, folder: str | Path) -> float | None:
    """Time that the finished execution took; None if there is none, or it does not say."""
    try:
        notebook = json.loads(unit.executed(folder).read_text(encoding="utf-8"))
        return float(notebook["metadata"]["papermill"]["duration"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def failure(unit: Unit, folder: str | Path) -> str:
    """Why a unit failed, in one line."""
    try:
        notebook = json.loads(unit.failed(folder).read_text(encoding="utf-8"))
        cells = notebook["cells"]
        outputs = [o for cell in cells for o in cell.get("outputs", ())]
    except (OSError, ValueError, KeyError, TypeError):
        return f"the notebook cannot be read, see {log_path(folder, unit.name)}"
    errors = [o for o in outputs if o["output_type"] == "error"]
    if errors:
        return " ".join(f"{errors[-1]['ename']}: {errors[-1]['evalue']}".split())
    missing = missing_outputs(unit, folder)
    if missing and (outputs or any(cell.get("execution_count") for cell in cells)):
        return f"ended without writing {', '.join(missing)}"
    return f"stopped outside of a cell, see {log_path(folder, unit.name)}"
