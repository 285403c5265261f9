"""Crops are those of MONAI, from memory and from a store."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import RandCropByPosNegLabeld

from gtgm import crop
from gtgm.crop import RandCropStoredd, with_places
from gtgm.volume_store import VolumeStore

PATCH = (12, 16, 20)


@pytest.fixture
def item() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(1, 20, 30, 40, generator=generator) > 0.995).float()
    return {"image": torch.randn(2, 20, 30, 40, generator=generator), "label": label}


@pytest.mark.parametrize("where", ["memory", "store"])
def test_the_crops_of_monai(item, where, tmp_path):
    keys = ["image", "label"]
    stock = RandCropByPosNegLabeld(keys, "label", PATCH, pos=2.0, neg=1.0)
    ours = RandCropStoredd(keys, "label", PATCH, pos=2.0, neg=1.0)
    prepared = with_places(item, PATCH)
    if where == "store":
        prepared = VolumeStore(tmp_path, "x").get("a", lambda: with_places(item, PATCH))
    for seed in range(20):
        (wanted,) = stock.set_random_state(seed)(item)
        (found,) = ours.set_random_state(seed)(prepared)
        for key in keys:
            assert torch.equal(torch.as_tensor(wanted[key]), found[key])


def test_small_volumes_are_padded(item):
    prepared = with_places({k: v[:, :5] for k, v in item.items()}, PATCH)
    assert prepared["image"].shape == (2, 12, 30, 40)
    (cut,) = RandCropStoredd(["image", "label"], "label", PATCH).set_random_state(0)(prepared)
    assert cut["image"].shape == (2, *PATCH)


def test_a_sample_of_many_places_is_spread_over_the_volume(item, monkeypatch):
    monkeypatch.setattr(crop, "PLACES", 500)
    prepared = with_places(item, PATCH)
    places = prepared[crop.BACKGROUND]
    assert len(places) == 500
    assert len(prepared[crop.FOREGROUND]) == int(item["label"].sum())
    assert not item["label"].flatten()[places].any()
    counts = torch.histc(places.double(), 10, 0, item["label"].numel())
    assert counts.min() > 25
