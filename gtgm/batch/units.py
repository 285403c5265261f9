"""A unit of a batch: one execution of one notebook with parameters."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gtgm import paths
from gtgm.batch.run import Run
from gtgm.errors import SettingsError
from gtgm.hashing import settings_hash

EXECUTED = "executed"
BATCH = "batch"
#: Snakemake's rule by the notebook's name; ``workflow/profiles`` give resources per rule.
RULES = {
    "01_": "text",
    "02_": "pretrain",
    "03_": "finetune",
    "04_": "neurons",
    "05_": "variants",
    "06_": "variants",
    "table_": "table",
    "figure_": "figure",
}


@dataclass(frozen=True)
class Unit:
    """One execution.

    Attributes:
        name: unique; also the name of the executed notebook.
        notebook: file in ``notebooks/``, or a path.
        parameters: plain values that go into the notebook's parameters cell.
        needs: names of the units that must be finished before.
        seconds: estimate of the time it takes.
        outputs: files that it writes, relative to the run folder.
        memory_gb: estimate of the memory it takes; units run side by side only if all fit.
        gpus: that it needs to end in the estimated time.
        runs: of the manifest that it trains and scores.
    """

    name: str
    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    seconds: float = 60.0
    outputs: tuple[str, ...] = ()
    memory_gb: float = 3.0
    gpus: int = 0
    runs: tuple[Run, ...] = ()

    @property
    def key(self) -> str:
        """Hash of the notebook's name and parameters; with another one a finished unit runs
        again."""
        return settings_hash(Path(self.notebook).name, self.parameters)

    @property
    def rule(self) -> str:
        """Snakemake's rule: the stage, with ``_gpu`` where it needs one."""
        name = Path(self.notebook).name
        stage = next((rule for start, rule in RULES.items() if name.startswith(start)), "notebook")
        return f"{stage}_gpu" if self.gpus else stage

    @property
    def source(self) -> Path:
        """The notebook that is executed."""
        return paths.NOTEBOOKS / self.notebook

    def executed(self, folder: str | Path) -> Path:
        """Where the executed notebook lies in a run folder."""
        return Path(folder) / EXECUTED / f"{self.name}.ipynb"

    def failed(self, folder: str | Path) -> Path:
        """Where the notebook is kept if it fails."""
        return failed_path(self.executed(folder))


def failed_path(executed: Path) -> Path:
    """Where a notebook that fails is kept: beside the place of the finished one."""
    return executed.with_name(f"{executed.stem}.failed.ipynb")


def code_hash(notebook: str | Path) -> str:
    """Hash of a notebook's code cells; its outputs, its prose and its date do not enter.

    Raises:
        SettingsError: the file cannot be read as a notebook.
    """
    try:
        read = json.loads(Path(notebook).read_text(encoding="utf-8"))
        if read["nbformat"] != 4:
            raise ValueError
        # Each source is a text, or a list of its lines.
        code = ["".join(cell["source"]) for cell in read["cells"] if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"cannot be read as a notebook ({type(error).__name__})",
            where=notebook,
            expected="a notebook of format 4",
        ) from None
    return settings_hash(code)


def log_path(folder: str | Path, unit: str) -> Path:
    """Where the printed output of a unit goes."""
    return Path(folder) / BATCH / "logs" / f"{unit}.log"


def lock_path(folder: str | Path, unit: str) -> Path:
    """File that is locked while a unit is executed."""
    return Path(folder) / BATCH / "locks" / unit


def write_manifest(units: Iterable[Unit], path: str | Path) -> Path:
    """Check the units and write them, each with its runs, as one JSON file.

    Raises:
        SettingsError: a name is not unique or not usable as a file name, a need is unknown or
            circular, a notebook does not exist.
    """
    units = list(units)
    _check(units)
    codes = {source: code_hash(source) for source in {u.source for u in units}}
    rows = [
        {**dataclasses.asdict(u), "rule": u.rule, "key": u.key, "code": codes[u.source]}
        for u in units
    ]
    return paths.write_json(path, {"units": rows})


def read_manifest(path: str | Path) -> dict[str, Unit]:
    """Units of a manifest by name, in its order.

    Raises:
        SettingsError: the file is missing or is no manifest.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))["units"]
        fields = {f.name for f in dataclasses.fields(Unit)}
        units = [Unit(**{k: _frozen(k, v) for k, v in row.items() if k in fields}) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"is no manifest of a batch ({type(error).__name__})",
            where=path,
            fix="start the batch with `gtgm reproduce`, which writes it",
        ) from None
    return {unit.name: unit for unit in units}


def ordered(units: Iterable[Unit]) -> list[Unit]:
    """The units with every need before the unit that needs it.

    Raises:
        SettingsError: the needs are circular.
    """
    waiting, done = {u.name: u for u in units}, {}
    while waiting:
        ready = [u for u in waiting.values() if all(n in done for n in u.needs)]
        if not ready:
            raise SettingsError("units need each other in a circle", where=", ".join(waiting))
        for unit in ready:
            done[unit.name] = waiting.pop(unit.name)
    return list(done.values())


def _frozen(name: str, value: Any) -> Any:
    """A field as it was before it went through JSON."""
    if name == "runs":
        return tuple(Run(**{**row, "pool": tuple(row["pool"])}) for row in value)
    return tuple(value) if name in ("needs", "outputs") else value


def _check(units: list[Unit]) -> None:
    names = [u.name for u in units]
    for unit in units:
        if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", unit.name) or unit.name.endswith(".failed"):
            raise SettingsError(
                f"unit name {unit.name!r} is no plain file name",
                expected="letters, digits, and any of . _ + -",
            )
        if names.count(unit.name) > 1:
            raise SettingsError(f"two units are called {unit.name!r}")
        unknown = [n for n in unit.needs if n not in names]
        if unknown:
            raise SettingsError(f"needs unknown units {', '.join(unknown)}", where=unit.name)
        if not unit.source.is_file():
            raise SettingsError("there is no such notebook", where=unit.source)
    ordered(units)
