"""Scores of neuron segmentation: of the post-processing that is asked for, and of no other."""

from __future__ import annotations

from test_gains import neurons

from gtgm.results import Result
from gtgm.scores import neuron_score, postprocessings


def test_each_post_processing_has_its_own_score() -> None:
    run = neurons("random", 0, 1.5, 1.2)
    assert (neuron_score(run, "waterz"), neuron_score(run, "multicut")) == (1.5, 1.2)
    assert neuron_score(run, "mutex") is None and neuron_score(run, "waterz", "arand") is None


def test_post_processings_are_listed_in_their_order_and_others_have_one_without_a_name() -> None:
    run = neurons("random", 0, 1.5, 1.2)
    assert postprocessings([run, run]) == ["waterz", "multicut"]
    assert postprocessings([Result("a", "finetune", "x", "real")]) == postprocessings([]) == [""]
