"""A batch in chunks has the gradient of the whole batch."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from kept_bytes import kept_bytes
from monai.losses import DiceCELoss

from gtgm import methods
from gtgm.errors import SettingsError
from gtgm.models.chunks import check_independent, in_chunks
from gtgm.models.encoder import build_encoder, save_memory
from gtgm.models.segmenter import build_segmenter
from gtgm.pretrain import make_objective
from gtgm.settings import PretrainSettings
from gtgm.text.tower import FrozenText

SIZES = {
    "unet": {"features": [4, 6, 8, 10]},
    "resnet50": {"layers": [1, 1, 1, 1], "width": 4, "norm": "group"},
    "swin": {"depths": [1, 1, 1, 1], "feature_size": 12},
}
SETTINGS = PretrainSettings(width=16, embedding=12)


@pytest.fixture(autouse=True)
def double(monkeypatch):
    """Everything in fp64, also what the losses bring to fp32: equal then means equal."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def loss_and_gradients(model: torch.nn.Module, views: list, captions: torch.Tensor) -> tuple:
    torch.manual_seed(0)  # for what a method draws itself
    loss = model(views, captions)["loss"]
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


def compare(name: str, backbone: str, batch: int, chunk: int, side: int) -> None:
    torch.manual_seed(0)
    text = FrozenText(torch.randn(5, 10))
    method = methods.get(name)
    encoder = build_encoder(backbone, 1, **SIZES[backbone])
    whole = make_objective(method.objective, encoder, SETTINGS, text)
    parts = copy.deepcopy(whole)
    parts.settings = dataclasses.replace(SETTINGS, chunk=chunk)
    views = [torch.randn(batch, 1, side, side, side) for _ in range(2)]
    captions = torch.from_numpy(np.random.default_rng(0).integers(5, size=batch))
    wanted, exact = loss_and_gradients(whole, views, captions)
    found, gradients = loss_and_gradients(parts, views, captions)
    assert found == pytest.approx(wanted, rel=1e-9)
    for key, gradient in gradients.items():
        assert (gradient - exact[key]).norm() <= 1e-7 * exact[key].norm() + 1e-10, key


@pytest.mark.parametrize("backbone", SIZES)
def test_a_batch_of_64_in_chunks_of_2(backbone):
    side = 32 if backbone == "swin" else 16
    compare("gtgm", backbone, 64 if backbone != "swin" else 6, 2, side)


@pytest.mark.parametrize("name", [n for n, m in methods.METHODS.items() if m.pretrains])
def test_every_method_in_chunks(name):
    compare(name, "unet", 6, 4, 16)


def test_a_segmenter_in_chunks():
    torch.manual_seed(0)
    network = build_segmenter("unet", 1, 3, **SIZES["unet"])
    images = torch.randn(5, 1, 16, 16, 16)
    labels = torch.randint(3, (5, 1, 16, 16, 16))
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, batch=True)
    found = []
    for size in (0, 2):
        network.zero_grad()
        criterion(in_chunks(network, images, size), labels).backward()
        found.append([p.grad.clone() for p in network.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


def test_nothing_is_kept_of_a_chunk_but_its_input():
    network = build_encoder("unet", 1, **SIZES["unet"])
    volume = torch.randn(8, 1, 16, 16, 16)

    def kept(size: int) -> int:
        return kept_bytes(lambda: in_chunks(lambda x: network(x)[-1].mean((2, 3, 4)), volume, size))

    assert kept(2) == volume.nbytes
    assert kept(0) > 4 * volume.nbytes


def test_batch_norm_is_refused_where_it_would_see_chunks():
    network = build_encoder("resnet50", 1, layers=[1, 1, 1, 1], width=4)
    with pytest.raises(SettingsError, match=r"pretrain.chunk: is 2 of 8 views.*'group'"):
        check_independent(network, 2, 8, "pretrain.chunk")
    check_independent(network, 0, 8, "pretrain.chunk")
    check_independent(network, 8, 8, "pretrain.chunk")
    check_independent(build_encoder("resnet50", 1, **SIZES["resnet50"]), 2, 8, "pretrain.chunk")


def test_checkpointing_is_refused_where_it_does_nothing():
    with pytest.raises(SettingsError, match="unet has no checkpointing"):
        save_memory(build_encoder("unet"), checkpointing=True)
    save_memory(build_encoder("unet"), chunk=2)
    with pytest.raises(SettingsError, match="unknown norm 'layer'"):
        build_encoder("resnet50", 1, norm="layer")
