"""Publishing: from run folders to ``results``, and from there to every page that shows them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gtgm import paths
from gtgm.changed import is_changed
from gtgm.figures import save_figure
from gtgm.figures_across import across_figures
from gtgm.figures_study import write_study_figures
from gtgm.findings import write_findings
from gtgm.findings.study import DATASET, FEWEST
from gtgm.reported import load_reported
from gtgm.results import Result, load_results, publish
from gtgm.tables import FRACTIONS, build_table, update_readme


def publish_all(
    chosen: Sequence[str | Path],
    results: str | Path = paths.RESULTS,
    readme: str | Path = paths.ROOT / "README.md",
) -> list[Path]:
    """Copy results and figures of runs, then write tables, figures, findings and the README anew.

    Args:
        chosen: run folders, result files or ids.
        results: folder of ``measured``, ``figures``, ``tables`` and the page of findings.
        readme: its table is written between its markers.

    Returns:
        What was written; the README, if it changed, at the end.

    Raises:
        ResultError: see :func:`gtgm.results.publish` and :func:`gtgm.tables.update_readme`.
    """
    results = Path(results)
    written = publish(chosen, destination=results / "measured")
    kept = (file for c in map(Path, chosen) for file in sorted(c.rglob("figures/*")))
    for figure in (file for file in kept if file.suffix in (".png", ".pdf", ".npz")):
        with paths.atomic(results / "figures" / figure.name) as temporary:
            shutil.copyfile(figure, temporary)
        written.append(results / "figures" / figure.name)
    published = load_results([results / "measured"])
    written += write_tables(published, results / "tables")
    written += write_study_figures(published, DATASET, FEWEST, results / "figures")
    for name, (caption, credit, draw) in across_figures(published, results / "figures").items():
        written.append(save_figure(draw(), results / "figures" / name, caption, credit))
    written.append(write_findings(published, load_reported(), results / "README.md"))
    if update_readme(readme, results / "measured"):
        written.append(Path(readme))
    return written


def write_tables(results: Sequence[Result], folder: str | Path) -> list[Path]:
    """The tables of the paper as ``<modality>.md``, ``.csv`` and ``.tex``; returns the paths.

    Runs with one choice changed are left to the page of findings.
    """
    default = [result for result in results if not is_changed(result)]
    return [
        path
        for modality in FRACTIONS
        for path in build_table(modality, default).write(Path(folder) / modality.lower())
    ]
