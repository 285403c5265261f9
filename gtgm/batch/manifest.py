"""The manifest: every run of a reproduction, from the registries of datasets and methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gtgm.batch.run import Run
from gtgm.datasets import registry
from gtgm.datasets.dataset import find
from gtgm.datasets.splits import FOLDS
from gtgm.errors import DataError, SettingsError
from gtgm.methods import METHODS
from gtgm.setting_checks import check_choice

TABLES = {"ct": "CT", "mri": "MRI", "em": "EM"}
REPRODUCTIONS = ("demo", "hippocampus", "ablations", "paper")
HIPPOCAMPUS = "Task04_Hippocampus"
#: Training of an EM dataset on its whole training range: as good as an hour allows, where the
#: comparison of initialisations has a small, equal budget.
LONGER = {"neurons": {"steps": 2000}}


@dataclass(frozen=True)
class Share:
    """What is compared at a share of the labels: methods, each on the same draws."""

    fraction: float
    draws: int
    methods: tuple[str, ...]


PAIR = ("random", "gtgm")
#: The methods whose numbers the authors report, and those that need no model from a hub.
REPORTED = tuple(name for name, method in METHODS.items() if method.reported)
OFFLINE = tuple(name for name, method in METHODS.items() if method.offline)
#: A method of each kind: no pretraining, images alone, text alone, images at two scales, both.
KINDS = ("random", "barlow", "vlp", "pcrlv2", "gtgm")
#: At 1 % the draw decides more than the method, hence several.
FEW = 3


def _shares(methods: tuple[str, ...]) -> tuple[Share, ...]:
    return Share(1.0, 1, methods), Share(0.1, 1, methods), Share(0.01, FEW, methods)


CASES = {"demo": _shares(PAIR), "paper": _shares(REPORTED)}
SECTIONS = (Share(0.75, FEW, PAIR), Share(0.1, FEW, PAIR))
STUDY = (Share(0.01, 5, OFFLINE), Share(0.1, 2, KINDS), Share(1.0, 1, KINDS))
#: What the variants of the ablations are compared with.
ABLATED = (Share(0.01, FEW, PAIR),)
#: Settings are chosen on the first fold; the second one confirms.
STUDY_FOLDS = (0, 1)
#: Beside the study where there is a GPU, at the paper's sizes.
STUDY_GPU = ("resnet50", "swin")


def list_runs(
    reproduction: str = "demo",
    tables: Iterable[str] = tuple(TABLES),
    data: str | Path | None = None,
    backbone: str | None = None,
    protocol: str = "corrected",
    folds: Sequence[int] | None = None,
    gpu: bool = False,
) -> list[Run]:
    """Every run of a reproduction, table by table.

    A dataset that is found under ``data`` or ``$GTGM_DATA`` is real; each other one of the paper
    is a phantom with the sizes of the demo. Phantoms of a modality are pretrained on together; so
    are the real datasets of a modality in ``paper``, while ``demo`` and ``hippocampus`` pretrain
    on one dataset alone.

    Args:
        reproduction: ``demo``, ``hippocampus``, ``ablations`` (only what all of its variants are
            compared with) or ``paper``.
        tables: among ``ct``, ``mri``, ``em``; ``hippocampus`` and ``ablations`` are of MRI alone.
        data: folder of real datasets.
        backbone: of runs on real data; ``swin`` in ``paper`` and ``unet`` elsewhere by default.
        protocol: ``corrected`` or ``as_released``.
        folds: other held-out folds than the reproduction's own.
        gpu: with the runs of ``hippocampus`` at the paper's sizes, which need one.

    Raises:
        SettingsError: an unknown reproduction or table, or no table.
        DataError: ``data`` does not exist or is empty, or the study's dataset is not there.
    """
    check_choice("profile", reproduction, REPRODUCTIONS)
    chosen = list(dict.fromkeys(tables))
    for table in chosen:
        check_choice("table", table, TABLES)
    if not chosen:
        raise SettingsError("no table is named", expected=f"some of {', '.join(TABLES)}")
    if reproduction in ("hippocampus", "ablations"):
        _check_study(reproduction, chosen, data)
        study = reproduction == "hippocampus"
        runs = _hippocampus(backbone, gpu) if study else _ablations(backbone)
    else:
        runs = [run for table in chosen for run in _table(reproduction, table, data, backbone)]
    if folds is not None:
        for fold in folds:
            if fold not in range(FOLDS):
                raise SettingsError(f"there is no fold {fold}", expected=f"0 to {FOLDS - 1}")
        first = {replace(run, fold=-1): run for run in runs}
        runs = [replace(run, fold=fold) for run in first.values() for fold in folds]
    return [replace(run, protocol=protocol) for run in runs]


def _table(
    reproduction: str, table: str, data: str | Path | None, backbone: str | None
) -> list[Run]:
    """Phantoms first, then real datasets."""
    real = [name for name in registry.names(modality=TABLES[table]) if find(name, data)]
    phantoms = [n for n in registry.names(modality=TABLES[table], in_paper=True) if n not in real]
    whole = 0.75 if table == "em" else 1.0
    runs = []
    for name in phantoms:
        # One MRI dataset shows all methods.
        every = name == HIPPOCAMPUS and reproduction == "demo"
        shares = (Share(whole, 1, OFFLINE if every else PAIR),)
        runs += _arm(name, shares, pool=tuple(phantoms), profile="demo")
    demo = reproduction == "demo"
    profile = "cpu" if demo else "paper"
    for name in real:
        common = {
            "pool": (name,) if demo else tuple(real),
            "profile": profile,
            "backbone": backbone or ("unet" if demo else "swin"),
        }
        runs += _arm(name, SECTIONS if table == "em" else CASES[reproduction], **common)
        if table == "em" and not registry.get(name).in_paper:
            # Fractions are of its training range, all of which the paper's two do not use.
            changes = LONGER if demo else {}
            runs += _arm(name, (Share(1.0, FEW, ("random",)),), **common, changes=changes)
    return runs


def _check_study(reproduction: str, tables: Sequence[str], data: str | Path | None) -> None:
    """Refuse a study of Hippocampus without MRI or without the real dataset."""
    if "mri" not in tables:
        raise SettingsError(
            f"the study has no part in the tables {', '.join(tables)}",
            where=reproduction,
            expected="mri among the tables",
        )
    if find(HIPPOCAMPUS, data) is None:
        raise DataError(
            "the real study needs the real dataset, which is in no data folder",
            where=HIPPOCAMPUS,
            expected=f"a folder {HIPPOCAMPUS} under --data or $GTGM_DATA",
            fix=f"run `gtgm data get {HIPPOCAMPUS} --to data`, then name the folder: --data data",
        )


def _ablations(backbone: str | None) -> list[Run]:
    common = {"pool": (HIPPOCAMPUS,), "profile": "cpu", "backbone": backbone or "unet"}
    return _arm(HIPPOCAMPUS, ABLATED, **common)


def _hippocampus(backbone: str | None, gpu: bool) -> list[Run]:
    pool = (HIPPOCAMPUS,)
    runs = []
    for fold in STUDY_FOLDS:
        runs += _arm(
            HIPPOCAMPUS, STUDY, pool=pool, profile="cpu", backbone=backbone or "unet", fold=fold
        )
    if backbone is None and gpu:
        for name in STUDY_GPU:
            runs += _arm(HIPPOCAMPUS, CASES["paper"], pool=pool, profile="paper", backbone=name)
    return runs


def _arm(dataset: str, shares: Iterable[Share], **common: Any) -> list[Run]:
    """Runs of a dataset that differ in method, fraction and draw; method by method."""
    shares = list(shares)
    methods = dict.fromkeys(method for share in shares for method in share.methods)
    return [
        Run(dataset, method, share.fraction, draw, **common)
        for method in methods
        for share in shares
        if method in share.methods
        for draw in range(share.draws)
    ]
