"""What has become of the units of a batch, as far as their files tell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gtgm.batch.units import Unit

DONE, FAILED, TO_RUN = "done", "failed", "to run"


def state(unit: Unit, folder: str | Path) -> str:
    """``done`` (executed notebook and all outputs are there), ``failed``, or ``to run``."""
    if unit.executed(folder).is_file() and not missing_outputs(unit, folder):
        return DONE
    return FAILED if unit.failed(folder).is_file() else TO_RUN


def states(units: Iterable[Unit], folder: str | Path) -> dict[str, str]:
    """State of every unit by name."""
    return {unit.name: state(unit, folder) for unit in units}


def missing_outputs(unit: Unit, folder: str | Path) -> list[str]:
    """Declared outputs that do not exist."""
    return [name for name in unit.outputs if not (Path(folder) / name).exists()]
