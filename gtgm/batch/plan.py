"""Which notebooks execute the runs of a reproduction, with which parameters, in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gtgm import paths
from gtgm.batch.costs import COSTS, START, is_long, run_seconds
from gtgm.batch.manifest import TABLES, list_runs
from gtgm.batch.run import Run
from gtgm.batch.units import Unit
from gtgm.batch.variations import variation_units
from gtgm.batch.where import select
from gtgm.datasets import registry
from gtgm.methods import METHODS, Method

NOTEBOOKS = {"finetune": "03_finetuning", "neurons": "04_neuron_segmentation"}
#: Notebooks that draw from the runs of a whole reproduction.
FIGURES = (
    "figure_matrices",
    "figure_captions",
    "figure_augmentations",
    "figure_gains",
    "figure_segmentations",
    "figure_embeddings",
    "figure_saliency",
    "figure_em_errors",
)


def plan(
    profile: str = "demo",
    tables: Iterable[str] = tuple(TABLES),
    data: str | Path | None = None,
    folder: str | Path | None = None,
    backbone: str | None = None,
    protocol: str = "corrected",
    folds: Sequence[int] | None = None,
    where: str = "",
    gpu: bool = False,
) -> list[Unit]:
    """Units of a reproduction: its runs, what they need, and the tables that they enter.

    Args:
        profile, tables, data, backbone, protocol, folds, gpu: see
            :func:`gtgm.batch.manifest.list_runs`.
        folder: run folder; ``runs/<profile>`` by default.
        where: selects runs, see :func:`gtgm.batch.where.select`.

    Raises:
        SettingsError, DataError: see these two functions.
    """
    tables = list(tables)
    listed = list_runs(profile, tables, data, backbone, protocol, folds, gpu)
    runs = select(listed, where)
    folder = Path(folder or paths.runs_dir() / profile).resolve()
    data = str(Path(data).resolve()) if data else ""
    planner = _Planner(listed, {"data": data, "runs": str(folder)})
    units = []
    whole = profile == "demo" and not where.strip()
    if whole:
        units.append(Unit("00_quickstart", "00_quickstart.ipynb", {"runs": str(folder)}, (), 60))
    for table in dict.fromkeys(run.table for run in runs):
        leaves = []
        for group in _grouped([run for run in runs if run.table == table], _site).values():
            units += planner.preparations(group)
            leaves += planner.leaves(group)
        units += leaves
        if profile == "ablations":
            needs = [unit.name for unit in leaves]
            units += variation_units(runs, planner.common, needs)
            continue  # variants share no row of a table
        name = f"table_{table}"
        needs = tuple(unit.name for unit in leaves)
        parameters = {"results": str(folder)}
        units.append(Unit(name, f"{name}.ipynb", parameters, needs, START, memory_gb=1.0))
    if whole and set(tables) == set(TABLES):
        # Each draws from several stages and modalities: a part of the runs would leave holes.
        needs = tuple(unit.name for unit in units if unit.runs)
        units += [
            Unit(name, f"{name}.ipynb", {"results": str(folder)}, needs, START, memory_gb=1.0)
            for name in FIGURES
        ]
    return units


@dataclass
class _Piece:
    """Runs that one execution takes: each method at the same fractions and draws."""

    methods: list[str]
    labels: dict[float, list[int]]  # fraction → draws
    runs: list[Run]
    seconds: float


@dataclass
class _Planner:
    """Makes the units of runs that share a pool, a fold and everything else of a study.

    Args:
        listed: all runs of the reproduction, selected or not: so that a selection does not change
            what a unit is.
        common: parameters of all notebooks.
    """

    listed: list[Run]
    common: dict[str, str]
    users: dict[Run, set[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.users = {
            key: {run.dataset for run in runs}
            for key, runs in _grouped(self.listed, _pretraining).items()
        }

    def preparations(self, runs: list[Run]) -> list[Unit]:
        """Text, then pretraining, of runs of one site."""
        site = _site(runs[0])
        methods = [METHODS[name] for name in dict.fromkeys(run.method for run in runs)]
        texts: dict[str, dict[str, str]] = {}
        trained = []
        for method in methods:
            if _needs_captioner(method):
                own = {"method": method.name} if method.changes.get("text") else {}
                texts[self._text(site, method)] = own
            if method.pretrains and self._is_apart(replace(site, method=method.name)):
                trained.append(method)
        cost = COSTS[site.profile]
        units = [
            self._unit(name, "01_text_generation", site, own, (), cost.text)
            for name, own in texts.items()
        ]
        units += [
            self._unit(
                self._name("02_pretraining", site, _pool(site), method.name),
                "02_pretraining",
                site,
                {"method": method.name},
                self._needs_text(site, method),
                cost.pretrain,
            )
            for method in trained
        ]
        return units

    def leaves(self, runs: list[Run]) -> list[Unit]:
        """Units that train and score the runs of one site."""
        return [
            self._leaf(piece)
            for group in _grouped(runs, lambda run: (run.dataset, str(run.changes))).values()
            for piece in self._pieces(group)
        ]

    def _pieces(self, runs: list[Run]) -> list[_Piece]:
        """Runs of a dataset, in pieces of the length that the profile sets."""
        longest, pieces = COSTS[runs[0].profile].piece, []
        latest: dict[str, _Piece] = {}
        for group in _grouped(runs, lambda run: run.method).values():
            for piece in self._of_method(group, longest):
                before = latest.get(str(piece.labels))
                if before and before.seconds + piece.seconds <= longest:
                    before.methods += piece.methods
                    before.runs += piece.runs
                    before.seconds += piece.seconds
                else:
                    pieces.append(piece)
                    latest[str(piece.labels)] = piece
        return pieces

    def _of_method(self, runs: list[Run], longest: float) -> list[_Piece]:
        inside = METHODS[runs[0].method].pretrains and not self._is_apart(runs[0])
        extra = COSTS[runs[0].profile].pretrain if inside else 0.0
        pieces: list[_Piece] = []
        for run in runs:
            seconds = run_seconds(run)
            if not pieces or pieces[-1].seconds + seconds > longest:
                pieces.append(_Piece([run.method], {}, [], extra))
            piece = pieces[-1]
            piece.labels.setdefault(run.fraction, []).append(run.draw)
            piece.runs.append(run)
            piece.seconds += seconds
        return pieces

    def _leaf(self, piece: _Piece) -> Unit:
        run = piece.runs[0]
        site = _site(run)
        notebook = NOTEBOOKS[run.stage]
        parameters = {
            "dataset": run.dataset,
            "methods": piece.methods,
            "fractions": list(piece.labels),
            "draws": [_draws(draws) for draws in piece.labels.values()],
        }
        needs: dict[str, None] = {}
        for method in (METHODS[name] for name in piece.methods):
            if not method.pretrains:
                continue
            if self._is_apart(replace(site, method=method.name)):
                needs[self._name("02_pretraining", site, _pool(site), method.name)] = None
            else:
                needs |= dict.fromkeys(self._needs_text(site, method))
        labels = "+".join(f"{f:g}{_suffix(draws)}" for f, draws in piece.labels.items())
        return self._unit(
            self._name(notebook, site, run.dataset, "+".join(piece.methods), labels),
            notebook,
            site,
            parameters,
            tuple(needs),
            piece.seconds,
            tuple(piece.runs),
        )

    def _unit(
        self,
        name: str,
        notebook: str,
        site: Run,
        parameters: dict[str, Any],
        needs: tuple[str, ...],
        seconds: float,
        runs: tuple[Run, ...] = (),
    ) -> Unit:
        cost, pool = COSTS[site.profile], "pool" if runs else "datasets"
        names = ("profile", "protocol", "backbone", "fold", "seed")
        study = {name: getattr(site, name) for name in names}
        values = {**self.common, **study, pool: list(site.pool), **parameters}
        if site.changes:
            values["changes"] = site.changes
        return Unit(
            name,
            f"{notebook}.ipynb",
            values,
            needs,
            START + seconds,
            memory_gb=cost.memory_gb,
            gpus=cost.gpus,
            runs=runs,
        )

    def _is_apart(self, run: Run) -> bool:
        """Whether the pretraining that a run starts from has a unit of its own."""
        return is_long(run.profile) or len(self.users[_pretraining(run)]) > 1

    def _needs_text(self, site: Run, method: Method) -> tuple[str, ...]:
        return (self._text(site, method),) if _needs_captioner(method) else ()

    def _text(self, site: Run, method: Method) -> str:
        """Name of the unit that writes a method's text: one for all that share a captioner."""
        own = [method.name] if method.changes.get("text") else []
        return self._name("01_text", site, _pool(site), *own)

    def _name(self, notebook: str, site: Run, *parts: str) -> str:
        ends = [site.profile, site.backbone, f"fold{site.fold}"]
        ends += [site.protocol] if site.protocol != "corrected" else []
        return "-".join([notebook, *parts, *ends])


def _grouped(runs: Iterable[Run], key: Any) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _site(run: Run) -> Run:
    """What runs share that use the same captions; not a run itself."""
    return replace(run, dataset="", method="", fraction=0.0, draw=0)


def _pretraining(run: Run) -> Run:
    """What runs share that start from the same encoder; not a run itself."""
    return replace(_site(run), method=run.method)


def _pool(site: Run) -> str:
    """A pool in a name: its dataset, or modality and number of datasets."""
    if len(site.pool) == 1:
        return site.pool[0]
    return f"{registry.get(site.pool[0]).modality}-{len(site.pool)}-datasets"


def _needs_captioner(method: Method) -> bool:
    """Whether a model writes its captions; those that rules write are made within pretraining."""
    return method.uses_text and not (method.changes.get("text") and method.offline)


def _draws(draws: list[int]) -> int | list[int]:
    """As the notebooks take them: how many, or which ones if they do not start at 0."""
    return len(draws) if draws == list(range(len(draws))) else draws


def _suffix(draws: list[int]) -> str:
    """Draws in a name: nothing for the first alone, ``x5`` for five, ``d3.4`` for some."""
    given = _draws(draws)
    if given == 1:
        return ""
    return f"x{given}" if isinstance(given, int) else "d" + ".".join(map(str, given))
