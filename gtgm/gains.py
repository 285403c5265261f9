"""What a pretraining gains over random initialisation, on every dataset and label fraction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from gtgm.datasets import registry
from gtgm.results import Result
from gtgm.scores import neuron_score, postprocessings
from gtgm.statistics import Comparison, Setting, dice, paired, select, settings_of
from gtgm.words import percent


@dataclass(frozen=True)
class Gain:
    """A paired comparison on one dataset.

    Attributes:
        dataset: name of the registry.
        fraction: share of the labels.
        post: post-processing of neurons; empty for Dice.
        setting: of the runs that are compared.
        comparison: Dice as a share (more is better), or VOI in bits (less is better).
    """

    dataset: str
    fraction: float
    post: str
    setting: Setting
    comparison: Comparison

    @property
    def label(self) -> str:
        """Dataset, share of the labels, post-processing, and phantom where it is one."""
        parts = [registry.get(self.dataset).title, percent(self.fraction)]
        parts += [self.post.replace("_", " ")] if self.post else []
        parts += ["phantom"] if self.setting.source == "phantom" else []
        return ", ".join(parts)


def gains(results: Iterable[Result], method: str, setting: Setting | None = None) -> list[Gain]:
    """Every comparison of a method with random initialisation that has a pair.

    Args:
        results: any results.
        method: of :data:`gtgm.methods.METHODS`.
        setting: one setting; all by default, real data before phantoms.

    Returns:
        In the order of the registry, then by fraction and post-processing; not corrected.
    """
    results = list(results)
    found = []
    for dataset in registry.names():
        for where in [setting] if setting else settings_of(results, dataset):
            mine = select(results, dataset, setting=where)
            posts = postprocessings(mine)
            for fraction in sorted({run.fraction for run in mine}):
                for post in posts:
                    compared = paired(
                        mine,
                        method,
                        dataset=dataset,
                        fraction=fraction,
                        setting=where,
                        score=partial(neuron_score, post=post) if post else dice,
                    )
                    if compared:
                        found.append(Gain(dataset, fraction, post, where, compared))
    return sorted(found, key=lambda gain: gain.setting.source == "phantom")
