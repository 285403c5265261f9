"""Results: one JSON file per run, and what a run says about itself.

A result holds the metrics together with everything that is needed to judge and repeat them:
resolved settings, versions, commit, data, hardware, time, memory and the command. Tables and
figures read nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from gtgm import paths
from gtgm.errors import GTGMError, ResultError
from gtgm.provenance import MemoryPeak, provenance
from gtgm.result_check import check_result

SCHEMA_VERSION = 1

__all__ = [
    "Result",
    "load_results",
    "measure",
    "newest",
    "provenance",
    "publish",
    "save_result",
    "to_frame",
]

_RUN_COLUMNS = (
    "id", "stage", "dataset", "source", "method", "backbone", "protocol", "profile",
    "fraction", "fold", "draw", "seed",
)  # fmt: skip
# A path from the root of a file system, at the start of a word: /a/b, ~/a, C:\a, file:///a.
_ABSOLUTE = re.compile(r"(?<![\w./~…\\-])(?:file://)?(?:~?/(?=[\w.~-])|[A-Za-z]:\\)[^\s\"',;)\]}]*")


@dataclass(frozen=True)
class Result:
    """One run.

    Attributes:
        id: unique; also the name of the published file.
        stage: ``text``, ``pretrain``, ``finetune`` or ``neurons``.
        dataset: registry name, or a list of names for a pool.
        source: ``real`` or ``phantom``.
        method: ``random``, ``gtgm``; ``None`` for a stage that is shared by methods.
        fraction: share of the training labels that was used, in (0, 1].
        n_train, n_test: numbers of cases (sections for EM).
        summary: means, by metric; Dice as a share, not in per cent.
        metrics: rows ``{case, class, metric, value}``; ``None`` where a metric is undefined.
        curves: ``{name: [[step, value], …]}``.
        data: folder name, and ``{case: sha256}`` of images (``cases``) and ``labels``.
        started: ISO time.
        path: the file that this was read from; not part of the file.
    """

    id: str
    stage: str
    dataset: str | list[str]
    source: str
    method: str | None = None
    backbone: str | None = None
    protocol: str | None = None
    profile: str | None = None
    fraction: float | None = None
    fold: int | None = None
    draw: int | None = None
    seed: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    summary: dict[str, float | None] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    wall_seconds: float | None = None
    peak_memory_gb: float | None = None
    notebook: str | None = None
    command: str | None = None
    started: str | None = None
    path: Path | None = field(default=None, compare=False, repr=False)

    @property
    def datasets(self) -> list[str]:
        """Names of the datasets, whether one or a pool."""
        return [self.dataset] if isinstance(self.dataset, str) else list(self.dataset)

    @property
    def changes(self) -> str:
        """Settings that were not the profile's, such as ``neurons.steps=2000``; empty if none."""
        return ", ".join(
            f"{stage}.{name}={value}"
            for stage, changed in self.settings.get("changes", {}).items()
            for name, value in changed.items()
        )

    @property
    def leaks(self) -> list[str]:
        """Settings that let test cases in; results of before this was noted have some of them."""
        if "disjoint" in self.data:
            return list(self.data["disjoint"]["leaks"])
        names = {"include_test": "pretrain.", "select_on_test": "finetune."}
        return [stage + name for name, stage in names.items() if self.settings.get(name)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values in the order of the schema."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del values["path"]
        return {"schema_version": SCHEMA_VERSION, **values}

    def _repr_html_(self) -> str:
        from gtgm.rich import facts_html

        about = (self.stage, ", ".join(self.datasets), self.source, self.method, self.backbone)
        took = f"{self.wall_seconds:.0f} s" if self.wall_seconds is not None else "unknown"
        facts = {
            "run": " · ".join(str(value) for value in about if value),
            "time": took,
            **{name: f"{value:.4g}" for name, value in self.summary.items() if value is not None},
            "command": self.command or "",
        }
        return facts_html(self.id, {name: value for name, value in facts.items() if value})


def newest(
    results: Iterable[Result], key: Callable[[Result], Any]
) -> tuple[list[Result], list[Result]]:
    """Of the runs with the same ``key``, the one that started last; and all the others.

    Both keep the order of ``results``.
    """
    results = list(results)
    last = {key(r): r for r in sorted(results, key=lambda r: (r.started or "", r.id))}
    kept = [r for r in results if last[key(r)] is r]
    return kept, [r for r in results if last[key(r)] is not r]


def save_result(
    path: str | Path, first: Callable[[Result], Any] | None = None, **fields: Any
) -> Result:
    """Check ``fields`` and write them as one result file, atomically.

    Paths on this machine are shortened, in every text of the result: relative to the checkout
    where they lie in it, else ``…/name``. Versions, commit and hardware are filled in.

    Args:
        path: usually ``<run folder>/result.json``.
        first: called with the result before it is written: other files of the run, since a run
            whose result is there counts as finished.
        fields: those of :class:`Result` but ``path``.

    Raises:
        ResultError: a field is unknown, missing or of a wrong kind; a metric is not finite.
    """
    values = _portable({**provenance(), **fields})
    result = _from_dict({"schema_version": SCHEMA_VERSION, **values}, Path(path))
    if first:
        first(result)
    paths.write_json(path, result.to_dict())
    return result


def load_result(path: str | Path) -> Result:
    """Read one result file.

    Raises:
        ResultError: the file is missing, is not JSON, or does not follow the schema.
    """
    fix = "delete the file and run the unit again; it is written in one piece"
    return _from_dict(paths.read_json(path, ResultError, "a result file", fix), Path(path))


def load_results(folders: str | Path | Iterable[str | Path]) -> list[Result]:
    """Read every result under the folders.

    In a folder these are all files named ``result.json`` at any depth, and every ``*.json`` that
    lies directly in it (the layout of ``results/measured``; not in the folder of a run, which has
    other files). A file that is no result is an error.
    The same id found twice is used once, from the folder named first; a warning says so if the
    contents differ.

    Raises:
        ResultError: a folder does not exist, or a file in it cannot be used.
    """
    if isinstance(folders, str | Path):
        folders = [folders]
    found: dict[str, Result] = {}
    for folder in map(Path, folders):
        if not folder.exists():
            raise ResultError(
                "no such folder", where=folder, fix="run `gtgm reproduce` first, or name another"
            )
        files = {folder}
        if folder.is_dir():
            files = {*folder.rglob("result.json")}
            if folder / "result.json" not in files:  # a run's own folder has other files as well
                files |= {*folder.glob("*.json")}
        for file in sorted(files):
            result = load_result(file)
            first = found.setdefault(result.id, result)
            if first != result:
                warnings.warn(
                    f"result {result.id} differs in {first.path} (used) and {file}", stacklevel=2
                )
    return list(found.values())


def to_frame(results: Iterable[Result]) -> pd.DataFrame:
    """Long format: one row per run × case × class × metric, with the run's identity beside it."""
    rows = []
    for result in results:
        run = {name: getattr(result, name) for name in _RUN_COLUMNS}
        run["dataset"] = "+".join(result.datasets)
        rows += [{**run, **row} for row in result.metrics]
    columns = [*_RUN_COLUMNS, "case", "class", "metric", "value"]
    return pd.DataFrame(rows, columns=columns).astype({"value": "float64"})


def publish(
    chosen: str | Path | Sequence[str | Path],
    runs: str | Path | None = None,
    destination: str | Path = paths.MEASURED,
) -> list[Path]:
    """Copy results as ``<destination>/<id>.json``, unchanged.

    Args:
        chosen: folders, result files or ids of results under ``runs``.
        runs: where ids are looked up; the project's ``runs`` folder by default.
        destination: ``results/measured``, which is in git.

    Raises:
        ResultError: an id is unknown, a folder holds no result, or a result names an absolute path.
    """
    items = [chosen] if isinstance(chosen, str | Path) else list(chosen)
    results: list[Result] = []
    for item in items:
        if Path(item).exists():
            here = load_results([item])
            if not here:
                raise ResultError("holds no result", where=item, expected="files named result.json")
        else:
            known = {r.id: r for r in load_results([runs or paths.runs_dir()])}
            if str(item) not in known:
                close = difflib.get_close_matches(str(item), known, 3)
                raise ResultError(
                    f"no result has the id {str(item)!r}",
                    where=runs or paths.runs_dir(),
                    fix=f"did you mean {' or '.join(close)}" if close else "name a folder or an id",
                )
            here = [known[str(item)]]
        results += here
    for result in results:
        fix = "write results with gtgm.results.save_result, which shortens paths"
        refuse_paths(result.to_dict(), result.path, fix)
    return [paths.write_json(Path(destination) / f"{r.id}.json", r.to_dict()) for r in results]


@contextlib.contextmanager
def measure() -> Iterator[MemoryPeak]:
    """Wall time and peak memory of a block.

    The object has ``wall_seconds`` and ``peak_memory_gb``: the highest resident memory of this
    process with its children, sampled ten times a second. They grow while the block runs.
    """
    start = time.perf_counter()
    with MemoryPeak(start) as peak:
        yield peak


def refuse_paths(
    value: Any,
    where: Path | None,
    fix: str,
    expected: str = "paths relative to the checkout",
    error: type[GTGMError] = ResultError,
) -> None:
    """Raise if a text of a nested value names a path of this machine.

    Args:
        value: that is to be handed on.
        where, fix, expected, error: what is raised, and says what.
    """
    private = absolute_paths(value)
    if private:
        what = f"names a path of one machine: {private[0]!r}"
        raise error(what, where=where, expected=expected, fix=fix)


def absolute_paths(value: Any) -> list[str]:
    """Every absolute path in the texts of a nested value, keys included."""
    if isinstance(value, str):
        return _ABSOLUTE.findall(value)
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return [p for item in value for p in absolute_paths(item)]
    return []


def _portable(value: Any) -> Any:
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return _ABSOLUTE.sub(lambda match: _short(match.group()), value)
    if isinstance(value, dict):
        return {_portable(k): _portable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(v) for v in value]
    return value


def _short(path: str) -> str:
    path = path.removeprefix("file://")
    with contextlib.suppress(ValueError):
        return Path(path).relative_to(paths.ROOT).as_posix() or "."
    return "…/" + re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _from_dict(values: Any, path: Path) -> Result:
    def wrong(what: str, expected: str | None = None, fix: str | None = None) -> ResultError:
        return ResultError(what, where=path, expected=expected, fix=fix)

    if not isinstance(values, dict) or "schema_version" not in values:
        raise wrong("is not a result file", "a JSON object with `schema_version`", "move it away")
    version = values["schema_version"]
    if type(version) is not int or version != SCHEMA_VERSION:  # True equals 1
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise wrong(
            f"has schema version {version!r}",
            f"version {SCHEMA_VERSION}",
            "update gtgm, a newer one wrote this file" if newer else "run the unit again",
        )
    known = [f.name for f in dataclasses.fields(Result) if f.name != "path"]
    unknown = sorted(set(values) - set(known) - {"schema_version"})
    if unknown:
        raise wrong(f"has unknown fields {', '.join(unknown)}", f"only {', '.join(known)}")
    missing = [name for name in known[:4] if name not in values]
    if missing:
        raise wrong(f"lacks {', '.join(missing)}", fix="run the unit again")
    result = Result(**{k: v for k, v in values.items() if k != "schema_version"}, path=path)
    check_result(result, path)
    return result
