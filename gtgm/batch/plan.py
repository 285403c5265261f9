"""Which notebooks a reproduction executes, with which parameters, in which order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gtgm import paths
from gtgm.batch.units import Unit
from gtgm.datasets import registry
from gtgm.datasets.dataset import find
from gtgm.errors import SettingsError
from gtgm.settings import check_choice

TABLES = {"ct": "CT", "mri": "MRI", "em": "EM"}
REPRODUCTIONS = ("demo", "paper")
#: Label draws at 1 %, where the draw decides; seeds of EM, whose labelled sections are fixed.
DRAWS = 3
#: Training of an EM dataset on its whole training range: as good as an hour allows, where the
#: comparison of initialisations has a small, equal budget.
LONGER = {"neurons": {"steps": 2000}}

#: Seconds that a unit takes on two cores (demo, cpu) or one GPU (paper), kernel start included.
#: They order nothing and limit nothing; `--dry-run` shows them.
ESTIMATES = {
    "demo": {"text": 60, "pretrain": 60, "finetune": 70, "neurons": 80},
    "cpu": {"text": 120, "pretrain": 160, "finetune": 220, "neurons": 300},
    "paper": {"text": 7200, "pretrain": 180000, "finetune": 14400, "neurons": 86400},
}


def plan(
    profile: str = "demo",
    tables: Iterable[str] = tuple(TABLES),
    data: str | Path | None = None,
    folder: str | Path | None = None,
    backbone: str | None = None,
    protocol: str = "corrected",
) -> list[Unit]:
    """Units of a reproduction.

    A dataset that is found under ``data`` or ``$GTGM_DATA`` is real; each other one of the paper
    is a phantom with the sizes of the demo. Phantoms of a modality are pretrained on together. A
    real dataset is pretrained on alone in the demo, with its modality in the paper's profile.

    Args:
        profile: ``demo`` or ``paper``.
        tables: among ``ct``, ``mri``, ``em``.
        data: folder of real datasets.
        folder: run folder; ``runs/<profile>`` by default.
        protocol: ``corrected`` or ``as_released``.
        backbone: ``unet`` in the demo and ``swin`` in the paper's profile by default.

    Raises:
        SettingsError: unknown profile or table.
        DataError: ``data`` does not exist or is empty.
    """
    check_choice("profile", profile, REPRODUCTIONS)
    chosen = list(dict.fromkeys(tables))
    for table in chosen:
        check_choice("table", table, TABLES)
    if not chosen:
        raise SettingsError("no table is named", expected=f"some of {', '.join(TABLES)}")
    folder = Path(folder or paths.runs_dir() / profile).resolve()
    common = {
        "data": str(Path(data).resolve()) if data else "",
        "runs": str(folder),
        "protocol": protocol,
    }
    real_profile = "cpu" if profile == "demo" else "paper"
    real_backbone = backbone or ("unet" if profile == "demo" else "swin")
    units = []
    if profile == "demo":
        units.append(Unit("00_quickstart", "00_quickstart.ipynb", {"runs": str(folder)}, (), 60))
    for table in chosen:
        names = registry.names(modality=TABLES[table], in_paper=True)
        real = [name for name in registry.names(modality=TABLES[table]) if find(name, data)]
        phantom = [name for name in names if name not in real]
        pools = [(phantom, "demo", "unet", "phantoms")] if phantom else []
        if profile == "demo":
            pools += [([name], real_profile, real_backbone, name) for name in real]
        elif real:
            pools.append((real, real_profile, real_backbone, "real"))
        leaves = []
        for pool, sizes, network, label in pools:
            made = _pool(table, pool, sizes, network, label, common)
            units += made
            leaves += [unit.name for unit in made[2:]]
        units.append(
            Unit(
                f"table_{table}",
                f"table_{table}.ipynb",
                {"results": str(folder)},
                tuple(leaves),
                12,
                memory_gb=1,
            )
        )
    return units


def _pool(
    table: str, names: list[str], sizes: str, backbone: str, label: str, common: dict
) -> list[Unit]:
    """Text, pretraining, then one unit per dataset, or more where there is much to train."""
    seconds = ESTIMATES[sizes]
    shared = {**common, "profile": sizes, "backbone": backbone}
    pool = {**shared, "datasets": names}
    text = Unit(f"01-text-{table}-{label}", "01_text_generation.ipynb", pool, (), seconds["text"])
    pretraining = Unit(
        f"02-pretraining-{table}-{label}",
        "02_pretraining.ipynb",
        pool,
        (text.name,),
        seconds["pretrain"],
    )
    units = [text, pretraining]
    stage, notebook = (
        ("neurons", "04_neuron_segmentation")
        if table == "em"
        else (
            "finetune",
            "03_finetuning",
        )
    )
    full, few = (0.75, [0.1]) if table == "em" else (1.0, [0.1, 0.01])
    for name in names:
        for methods, fractions, draws in _runs(sizes, full, few, table, name):
            parameters = {
                **shared,
                "dataset": name,
                "pool": names,
                "methods": methods,
                "fractions": fractions,
                "draws": draws,
            }
            if fractions == [1.0] and table == "em" and sizes == "cpu":
                parameters["changes"] = LONGER
            parts = [notebook, name]
            if sizes != "demo":
                parts += [*methods, f"{fractions[0]:g}"]
            needs = (text.name,) if methods == ["random"] else (pretraining.name,)
            units.append(
                Unit("-".join(parts), f"{notebook}.ipynb", parameters, needs, seconds[stage])
            )
    return units


def _runs(
    sizes: str, full: float, few: list[float], table: str, name: str
) -> list[tuple[list[str], list, list]]:
    """Methods, fractions and numbers of draws of each execution on a dataset."""
    if sizes == "demo":
        return [(["random", "gtgm"], [full], [1])]
    fractions = [full, *few]
    draws = [DRAWS if table == "em" or fraction <= 0.01 else 1 for fraction in fractions]
    runs = [
        (method, [fraction], [number])
        for method in (["random"], ["gtgm"])
        for fraction, number in zip(fractions, draws, strict=True)
    ]
    if table == "em" and not registry.get(name).in_paper:
        # Fractions are of its training range, all of which the paper's two do not use.
        runs.append((["random"], [1.0], [DRAWS]))
    return runs
