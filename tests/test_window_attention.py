"""Attention that keeps no scores, against MONAI's own layers."""

from __future__ import annotations

import copy

import pytest
import torch
from kept_bytes import kept_bytes
from monai.networks.nets import SwinUNETR
from torch import nn

from gtgm.models import swin_transformer
from gtgm.models import window_attention as attention
from gtgm.models.encoder import build_encoder, save_memory
from gtgm.models.swin_transformer import WindowTransformer
from gtgm.models.window_attention import regions

CPU = torch.device("cpu")
GRIDS = [
    ((32, 64, 96), (7, 7, 7)),  # padding on every axis, and windows that are cut
    ((64, 64, 128), (3, 7, 7)),
    ((32, 32, 224), (7, 7, 7)),  # a grid of whole windows on one axis
]


def both(window: tuple[int, int, int]) -> tuple[nn.Module, WindowTransformer]:
    """MONAI's transformer with weights that matter, and ours with the same ones."""
    torch.manual_seed(0)
    stock = SwinUNETR(1, 1, depths=(2, 1, 2, 1), feature_size=12, window_size=window).swinViT
    for name, weight in stock.named_parameters():
        if weight.ndim == 1 or "bias_table" in name:
            nn.init.normal_(weight, std=0.5)
    return stock, WindowTransformer(copy.deepcopy(stock))


def gradients(network: nn.Module, volume: torch.Tensor) -> tuple[list, dict]:
    maps = network(volume)
    weights = [torch.arange(m.numel()).view(m.shape).sin().to(m.dtype) for m in maps]
    sum((m * w).sum() for m, w in zip(maps, weights, strict=True)).backward()
    return maps, {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize(
    ("size", "window", "batch"), [(*GRIDS[0], 2), *((*grid, 1) for grid in GRIDS[1:])]
)
def test_maps_and_gradients_are_those_of_monai(size, window, batch):
    stock, ours = both(window)
    volume = torch.randn(batch, 1, *size, dtype=torch.float64)
    wanted_maps, wanted = gradients(stock.double(), volume)
    maps, found = gradients(ours.double(), volume)
    for a, b in zip(maps, wanted_maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert list(found) == list(wanted)
    for name, gradient in found.items():
        error = (gradient - wanted[name]).norm() / wanted[name].norm()
        assert error < 1e-8, name


def test_bf16_is_as_exact_as_that_of_monai():
    stock, ours = both((7, 7, 7))
    volume = torch.randn(1, 1, 32, 64, 64)
    _, exact = gradients(copy.deepcopy(stock).double(), volume.double())
    errors = {}
    for name, network in (("stock", stock), ("ours", ours)):
        with torch.autocast("cpu", torch.bfloat16):
            maps = network(volume)
        weights = [torch.arange(m.numel()).view(m.shape).sin() for m in maps]
        sum((m.float() * w).sum() for m, w in zip(maps, weights, strict=True)).backward()
        errors[name] = {
            k: float((p.grad - exact[k]).norm() / exact[k].norm())
            for k, p in network.named_parameters()
        }
    for name, error in errors["ours"].items():
        assert error < 2 * errors["stock"][name] + 0.01, name


def test_the_number_of_windows_at_a_time_changes_nothing(monkeypatch):
    _, ours = both((7, 7, 7))
    volume = torch.randn(2, 1, 32, 64, 64, dtype=torch.float64)
    _, wanted = gradients(copy.deepcopy(ours).double(), volume)
    monkeypatch.setattr(attention, "CPU_SCORES", 1)
    _, found = gradients(ours.double(), volume)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shift", [(0, 0, 0), (3, 3, 3), (0, 3, 1)])
@pytest.mark.parametrize("grid", [(16, 20, 9), (7, 14, 8), (8, 11, 13)])
def test_every_token_is_in_one_region_with_those_of_its_window(grid, shift):
    found = regions(grid, (7, 7, 7), shift, CPU)
    tokens = torch.cat([region.tokens.flatten() for region in found])
    assert torch.equal(tokens.sort().values, torch.arange(tokens.numel()))
    assert len(tokens) == grid[0] * grid[1] * grid[2]
    for region in found:
        places = torch.stack(torch.unravel_index(region.tokens, grid))  # (3, windows, N)
        assert (places.amax(-1) - places.amin(-1) < 7).all()


def kept(network: nn.Module, volume: torch.Tensor) -> int:
    return kept_bytes(lambda: network(volume)[-1].sum())


def test_no_scores_are_kept_and_checkpointing_keeps_less():
    stock, ours = both((7, 7, 7))
    volume = torch.randn(1, 1, 32, 64, 64)
    keeps = kept(ours, volume)
    assert keeps < kept(stock, volume) / 3
    _, wanted = gradients(copy.deepcopy(ours), volume)
    ours.checkpointing = True
    assert kept(ours, volume) < keeps / 2
    _, found = gradients(ours, volume)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name])


def test_a_gpu_may_take_the_layers_of_monai(monkeypatch):
    """The rule of what is faster there, and that the two ways are one network."""
    _, ours = both((7, 7, 7))
    volume = torch.randn(2, 1, 32, 64, 64, dtype=torch.float64)
    maps, found = gradients(copy.deepcopy(ours).double(), volume)
    monkeypatch.setattr(swin_transformer, "_lean", lambda x: False)
    stock_maps, wanted = gradients(ours.double(), volume)
    assert set(wanted) == set(ours.state_dict()) - {
        k for k in ours.state_dict() if "relative_position_index" in k
    }
    for a, b in zip(maps, stock_maps, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for name, gradient in found.items():
        assert (gradient - wanted[name]).norm() / wanted[name].norm() < 1e-8, name


def test_a_short_memory_keeps_no_scores_anywhere():
    encoder = build_encoder("swin", depths=(1, 1, 1, 1), feature_size=12)
    for chunk, checkpointing, lean in ((0, False, False), (2, False, True), (0, True, True)):
        save_memory(encoder, chunk, checkpointing)
        assert encoder.swinViT.lean is lean
        assert encoder.swinViT.checkpointing is checkpointing
