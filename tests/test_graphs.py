"""CUDA graphs: refused where they cannot be; on a GPU, the same gradients."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from gtgm.errors import SettingsError
from gtgm.models.encoder import build_encoder
from gtgm.models.graphs import check_recordable, record
from gtgm.models.heads import ImageTower
from gtgm.settings import PretrainSettings

SETTINGS = PretrainSettings(graphs=True)
SIZES = {"features": [4, 6, 8, 10]}


@pytest.mark.parametrize(
    ("changes", "processes"), [({"chunk": 2}, 1), ({"checkpointing": True}, 1), ({}, 2)]
)
def test_what_cannot_be_recorded_is_refused(changes, processes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = dataclasses.replace(SETTINGS, **changes)
    with pytest.raises(SettingsError, match=r"pretrain.graphs: is on.*one process"):
        check_recordable(settings, processes, "pretrain.graphs")
    check_recordable(SETTINGS, 1, "pretrain.graphs")
    check_recordable(dataclasses.replace(settings, graphs=False), 2, "pretrain.graphs")


def test_a_cpu_records_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"finetune.graphs: is on. Expected: an NVIDIA GPU"):
        check_recordable(SETTINGS, 1, "finetune.graphs")
    tower = ImageTower(build_encoder("unet", **SIZES), 8, 6)
    with pytest.raises(SettingsError, match=r"pretrain.graphs: is on. Expected: an NVIDIA GPU"):
        tower.record(torch.zeros(2, 1, 16, 16, 16), "no", "pretrain.graphs")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="graphs are those of a GPU")
def test_replays_have_the_same_gradients():
    torch.manual_seed(0)
    network = build_encoder("resnet50", layers=[1, 1, 1, 1], width=4)
    plain = torch.nn.Sequential(network.net.conv1, network.net.bn1).cuda()
    recorded = copy.deepcopy(plain)
    x = torch.randn(2, 1, 16, 16, 16, device="cuda")
    record(recorded, x, "no", "test")
    for _ in range(3):
        for module in (plain, recorded):
            module.zero_grad()
            module(x).square().mean().backward()
        for a, b in zip(plain.parameters(), recorded.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
        for a, b in zip(plain.buffers(), recorded.buffers(), strict=True):
            torch.testing.assert_close(a, b)
