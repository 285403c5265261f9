"""Settings of affinity networks and of the augmentation of their patches."""

from __future__ import annotations

from dataclasses import fields

import pytest

from gtgm.errors import SettingsError
from gtgm.neurons.settings import Augmentation, NeuronSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "l1"},
        {"optimiser": "sgd"},
        {"steps": 0},
        {"batch": -1},
        {"patch": (4, 4)},
        {"offsets": ()},
        {"learning_rate": 0.0},
    ],
)
def test_trainings_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        NeuronSettings(**wrong)


def test_every_strength_is_checked():
    for field in fields(Augmentation):
        for wrong in (-0.1, float("nan"), "much", None, True):
            with pytest.raises(SettingsError, match=field.name):
                Augmentation(**{field.name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [{"flip": 1.5}, {"cutout": 2}, {"noise": 1.0}, {"contrast": 1}, {"angle": 181}]
    + [{"misaligned_pixels": 2.5}, {"elastic_spacing": 1}, {"blur_sigma": float("inf")}],
)
def test_strengths_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Augmentation(**wrong)
