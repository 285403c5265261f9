"""Units of the ablations and of the released code's departures, whose notebooks run variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gtgm.batch.costs import COSTS, START
from gtgm.batch.run import Run
from gtgm.batch.units import Unit


def variation_units(
    runs: Sequence[Run], common: Mapping[str, Any], needs: Sequence[str]
) -> list[Unit]:
    """One execution of notebook 05 per ablation, and one of notebook 06, per fold.

    Args:
        runs: what the variants are compared with: same dataset, fraction and draws.
        common: parameters of all notebooks.
        needs: names of the units of ``runs``, which all variants read.
    """
    from gtgm.deviations import DEVIATIONS  # these two import every stage
    from gtgm.variants import ABLATIONS

    units = []
    for fold in sorted({run.fold for run in runs}):
        mine = [run for run in runs if run.fold == fold]
        run = mine[0]
        draws = len({other.draw for other in mine})
        values = {
            **common,
            "dataset": run.dataset,
            "fraction": run.fraction,
            "draws": draws,
            "profile": run.profile,
            "backbone": run.backbone,
            "fold": fold,
        }
        wanted = {
            f"05_ablations-{name}": ({"ablation": name, "protocol": run.protocol}, len(variants))
            for name, variants in ABLATIONS.items()
        }
        rows = [deviation.row for deviation in DEVIATIONS if deviation.runs]
        if run.protocol == "corrected":
            extra = {"rows": rows, "everything": True}
            wanted["06_deviations"] = extra, len(rows) + 2
        cost = COSTS[run.profile]
        for name, (parameters, variants) in wanted.items():
            notebook = name.partition("-")[0]
            units.append(
                Unit(
                    f"{name}-{run.dataset}-{run.profile}-{run.backbone}-fold{fold}",
                    f"{notebook}.ipynb",
                    values | parameters,
                    tuple(needs),
                    START + variants * (cost.pretrain + draws * cost.finetune),
                    memory_gb=cost.memory_gb,
                    gpus=cost.gpus,
                )
            )
    return units
