"""Patches and crops are the same whether the volumes are in memory or on disk."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from gtgm.crop import with_places
from gtgm.finetune import make_augmentation
from gtgm.pool import PatchPool
from gtgm.stages import Study, caption
from gtgm.stages.finetuning import training_item, working_patch
from gtgm.stages.pretraining import pooled_volumes
from gtgm.stages.volumes import bytes_of, items
from gtgm.volume_store import StoredVolume

NAME = "Task04_Hippocampus"


def study(folder, volumes: str = "auto", **changes) -> Study:
    text = {"captioner": "describe", "cases": 3, "encoder_steps": 3}
    return Study(
        (NAME,),
        runs=str(folder),
        changes={"text": text, "pretrain": {"volumes": volumes, **changes}},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("volumes")


def test_pretraining_sees_the_same_patches(folder):
    batches = []
    for where in ("memory", "disk"):
        mine = study(folder, where)
        captions = caption(mine)
        volumes = pooled_volumes(mine, captions)
        assert isinstance(volumes[0].load(), StoredVolume if where == "disk" else torch.Tensor)
        pool = PatchPool(volumes, captions.texts, mine.settings("pretrain").patch)
        batches.append(pool.sample(6, np.random.default_rng(0)))
    assert torch.equal(batches[0].patches, batches[1].patches)
    assert torch.equal(batches[0].captions, batches[1].captions)


def test_the_disk_is_taken_where_memory_is_short(folder, monkeypatch):
    mine = study(folder)
    captions = caption(mine)
    assert isinstance(pooled_volumes(mine, captions)[0].load(), torch.Tensor)
    assert isinstance(pooled_volumes(study(folder, workers=1), captions)[0].load(), StoredVolume)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10))
    assert isinstance(pooled_volumes(mine, captions)[0].load(), StoredVolume)


def test_the_size_of_a_volume_is_known_without_reading_it(folder):
    mine = study(folder)
    case = mine.pool()[NAME][0]
    assert bytes_of(mine, NAME, case) == mine.volume(NAME, case).image.nbytes


def test_finetuning_sees_the_same_crops(folder):
    mine = study(folder)
    settings, patch = mine.settings("finetune"), working_patch(mine, NAME)
    cases = mine.split(NAME).train(0)[:2]
    crops = []
    for where in ("memory", "disk"):
        read = items(
            mine,
            [(NAME, case) for case in cases],
            lambda key: with_places(training_item(mine, *key, settings), patch),
            "test",
            where,
            0,
        )
        augment = make_augmentation(settings, patch).set_random_state(3)
        crops += [augment(read((NAME, case)))[0] for case in cases]
    for one, other in zip(crops[:2], crops[2:], strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])
