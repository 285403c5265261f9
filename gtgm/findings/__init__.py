"""The page of findings: what the published results say, in plain words, with its certainty.

Every number and every verdict is computed from result files and from the reported numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gtgm import paths
from gtgm.datasets import registry
from gtgm.figures_study import study_figures
from gtgm.findings.answers import answer_lines, target_lines
from gtgm.findings.choices import choice_lines
from gtgm.findings.claim import claim_lines
from gtgm.findings.comparisons import fewest_lines, more_labels_lines, saved_lines
from gtgm.findings.neurons import neuron_lines
from gtgm.findings.nnunet import load_nnunet, nnunet_lines
from gtgm.findings.runs import certainty_lines, run_lines
from gtgm.findings.study import DATASET, FEWEST
from gtgm.findings.withdrawn import withdrawn_lines
from gtgm.results import Result
from gtgm.statistics import select
from gtgm.words import percent

__all__ = ["findings_page", "write_findings"]


def write_findings(
    results: Iterable[Result],
    reported: pd.DataFrame,
    path: str | Path = paths.RESULTS / "README.md",
) -> Path:
    """Write the page; the same results give the same bytes.

    Args:
        results: the published ones; see :func:`gtgm.statistics.select` for those that count.
        reported: see :func:`gtgm.reported.load_reported`.
        path: of the page; its figures are those of
            :func:`gtgm.figures_study.write_study_figures`, in ``figures`` beside it, and runs of
            nnU-Net are read from ``benchmarks``.
    """
    benchmarks = load_nnunet(Path(path).parent / "benchmarks")
    return paths.write_text(path, findings_page(list(results), reported, benchmarks))


def findings_page(
    results: Sequence[Result],
    reported: pd.DataFrame,
    benchmarks: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The page of :func:`write_findings`, as Markdown."""
    runs = select(results, DATASET)
    figures = study_figures(results, DATASET, FEWEST)
    pictures = {
        name.partition("-")[0]: ["", f"![{name}](figures/{name}.png)", "", f"*{caption}*"]
        for name, (caption, _) in figures.items()
    }
    sections = {
        "In short": answer_lines(results),
        "Targets": target_lines(results),
        "Beside the paper's claim": claim_lines(results, reported),
        f"All methods with {percent(FEWEST)} of the labels": [
            *fewest_lines(results),
            *pictures.get("differences", []),
            *pictures.get("draws", []),
        ],
        "More labels": [*more_labels_lines(results), *pictures.get("label", [])],
        "Labels saved": saved_lines(results),
        "One choice at a time": [*choice_lines(results), *pictures.get("choices", [])],
        "Beside nnU-Net": nnunet_lines(results, benchmarks),
        "Neurons": neuron_lines(results),
        "Withdrawn": withdrawn_lines(results),
        "What was run": run_lines(runs),
        "What the certainty covers": certainty_lines(runs),
    }
    head = [
        "# What was found",
        "",
        "Written by `gtgm publish` from [`measured`](measured) and "
        "[`reported`](reported/reported.csv); no number is typed by hand. Dice is the foreground "
        f"mean over the test cases of a fold of {registry.get(DATASET).title}. Differences are in "
        "Dice points, and always between runs of the same fold, label draw and seed.",
    ]
    body = [line for title, lines in sections.items() for line in ("", f"## {title}", "", *lines)]
    return "\n".join([*head, *body]) + "\n"
