"""The kernels give what the plain implementation gives; without a GPU, in Triton's interpreter."""

from __future__ import annotations

import os
from importlib import import_module

import pytest
import torch

GPU = torch.cuda.is_available()
if not GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton", reason="Triton comes with torch's builds for GPUs")

plain = import_module("gtgm.models.window_attention")
FusedAttention = import_module("gtgm.models.window_attention_triton").FusedAttention

SMALL = [
    ((4, 9, 8), (4, 5, 4), (0, 2, 2), 2, 16),
    ((6, 7, 5), (4, 4, 5), (2, 2, 0), 3, 4),
    ((6, 6, 6), (3, 3, 3), (0, 0, 0), 1, 16),
]
#: Several blocks of queries and of keys per window.
LARGE = [((16, 20, 23), (7, 7, 7), (3, 3, 3), 3, 16), ((8, 14, 20), (7, 7, 7), (0, 0, 0), 6, 16)]


@pytest.mark.parametrize(("grid", "window", "shift", "heads", "width"), SMALL + LARGE * GPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16] if GPU else [torch.float32])
def test_result_and_gradients(grid, window, shift, heads, width, dtype, monkeypatch):
    monkeypatch.setattr(plain, "_fused_kernels", lambda: None)
    device = "cuda" if GPU else "cpu"
    torch.manual_seed(0)
    tokens = grid[0] * grid[1] * grid[2]
    qkv = torch.randn(2, tokens + 1, 3, heads, width, device=device)
    qkv[:, -1] = qkv[0, -1]  # padding
    bias = torch.randn(heads, *window, *window, device=device)
    gradient = torch.randn(2, tokens, heads, width, device=device)
    found = []
    for function, kind in ((plain.window_attention, torch.float32), (FusedAttention.apply, dtype)):
        a = qkv.clone().to(kind).requires_grad_()
        b = bias.clone().requires_grad_()
        out = function(a, b, grid, shift)
        out.backward(gradient.to(kind))
        d_qkv = a.grad.float()
        padding = d_qkv[:, -1].sum(0)  # only their sum has a meaning
        found.append((out.detach().float(), d_qkv[:, :-1], padding, b.grad))
    for name, one, other in zip(("out", "qkv", "padding", "bias"), *found, strict=True):
        error = (one - other).norm() / one.norm().clamp_min(1e-6)
        assert error < (1e-5 if dtype == torch.float32 else 2e-2), name


@pytest.mark.skipif(not GPU, reason="a GPU's limit")
def test_more_programs_than_a_second_axis_may_have(monkeypatch):
    """65,535, which a large batch of large patches has exceeded."""
    monkeypatch.setattr(plain, "_fused_kernels", lambda: None)
    torch.manual_seed(0)
    qkv = torch.randn(66_000, 81, 3, 1, 16, device="cuda")
    bias = torch.randn(1, *(4, 5, 4) * 2, device="cuda")
    last = qkv[-4:].clone().requires_grad_()
    qkv.requires_grad_()
    for items, function in ((qkv, FusedAttention.apply), (last, plain.window_attention)):
        function(items, bias, (4, 5, 4), (0, 0, 0))[-4:].square().sum().backward()
    torch.testing.assert_close(qkv.grad[-4:], last.grad, rtol=1e-4, atol=1e-5)
