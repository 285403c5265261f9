"""Scores of neuron segmentation, which a run has once for each of its post-processings."""

from __future__ import annotations

from collections.abc import Iterable

from gtgm.results import Result


def neuron_score(result: Result, post: str, metric: str = "voi_sum") -> float | None:
    """A metric of one post-processing, by default the sum of VOI; None if the run lacks it."""
    rows = (r for r in result.metrics if r["class"] == post and r["metric"] == metric)
    return next((row["value"] for row in rows), None)


def postprocessings(runs: Iterable[Result]) -> list[str]:
    """Names of the post-processings of EM runs, the first one first; one empty name otherwise."""
    rows = (row for r in runs if r.stage == "neurons" for row in r.metrics)
    return list(dict.fromkeys(row["class"] for row in rows)) or [""]
