"""Scores of a segmentation that others published for an EM dataset, as a result like any other."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from gtgm.errors import SettingsError
from gtgm.neurons.metrics import with_border_mask, without_borders
from gtgm.neurons.published import PUBLISHED, read_published, score_published
from gtgm.neurons.run_length import expected_run_length, read_skeletons
from gtgm.paths import sha256
from gtgm.results import Result, measure
from gtgm.stages.record import record
from gtgm.stages.study import Study

#: What a published segmentation is compared by, each with and without border mask.
COMPARED = ("voi_sum", "arand")


def score_published_file(
    study: Study,
    dataset: str,
    path: str | Path,
    name: str,
    remark: str = "",
    skeletons: str | Path | None = None,
) -> Result:
    """Score a published segmentation on the test sections that networks are scored on.

    Args:
        study: gives data and protocol; nothing is trained.
        dataset: an EM dataset with truth.
        path: ``.npz`` with ``segmentation`` (D, H, W), of the whole volume.
        name: whose segmentation it is, with its citation; shown under the table.
        remark: what a reader must know to compare, such as what it was trained on.
        skeletons: folder of SWC files (nm, one neuron each), for the expected run length in the
            whole volume.
    Raises:
        SettingsError: not an EM dataset.
        DataError: the file cannot be used, or lies on another grid.
    """
    opened = study.open(dataset)
    if opened.info.format != "cremi":
        raise SettingsError(f"{dataset} has no neurons", where="dataset", expected="an EM dataset")
    volume, ranges = study.em_volume(dataset), study.sections(dataset)
    with measure() as used:
        segmentation = read_published(path)
        scores = score_published(
            segmentation, volume.labels, sections=slice(*ranges.test), resolution=volume.resolution
        )
        unsure = without_borders(volume.labels, volume.resolution)
        whole = with_border_mask(segmentation, volume.labels, unsure)
        if skeletons:
            run = expected_run_length(segmentation, read_skeletons(skeletons), volume.resolution)
            whole |= dataclasses.asdict(run)
        scores |= {"all sections, as it is": whole}
    rows = [
        {"case": dataset, "class": kind, "metric": metric, "value": value}
        for kind, values in scores.items()
        for metric, value in values.items()
    ]
    settings = {"name": name, "remark": remark, "sections": ranges.test, "sha256": sha256(path)}
    command = f"evaluate {dataset} --segmentation FILE --name {shlex.quote(name)}"
    command += f" --remark {shlex.quote(remark)}" if remark else ""
    command += " --skeletons FOLDER" if skeletons else ""
    return record(
        study.folder("neurons", f"{dataset}-{PUBLISHED}", settings) / "result.json",
        study,
        "neurons",
        dataset,
        used,
        settings,
        study.hashes(dataset, opened.ids),
        command,
        method=PUBLISHED,
        backbone=None,
        labels=study.label_hashes(dataset, opened.ids),
        n_test=ranges.test[1] - ranges.test[0],
        metrics=rows,
        summary={
            f"{kind}/{metric}": values[metric]
            for kind, values in scores.items()
            for metric in (*COMPARED, *(f"{metric}_border_masked" for metric in COMPARED))
            if metric in values
        },
    )
