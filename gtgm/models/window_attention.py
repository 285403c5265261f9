"""Attention in shifted windows whose scores are never kept, the same mathematics as MONAI's.

In windows of 7×7×7 tokens, attention has 343×343 scores per window and head. MONAI's layer writes
them, their bias, their softmax and the gradients of all three to memory, for padding too. Here

- scores are computed for a few windows at a time, which stay in the cache, and once more in the
  backward pass (Dao et al. 2022, FlashAttention); the bias of relative positions keeps its
  gradient, which the fused kernels of torch give only with all scores in memory;
- tokens that a shifted window must not join are apart from the start, so there is no mask;
- padding asks nothing, and as a key it counts once: its keys and values are all alike, so the sum
  of their exponentials is that of one key whose bias is the ``logsumexp`` of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

#: Scores at a time: what the cache of a CPU's core holds, and 256 MB of a GPU in fp32.
CPU_SCORES, GPU_SCORES = 2**19, 2**26


class Segment(NamedTuple):
    """On one axis, tokens that attend to each other, in all windows where they lie alike.

    Attributes:
        tokens: coordinates on the axis (windows, tokens).
        start, stop: of the tokens within their window.
        end: of the padding behind them.
    """

    tokens: torch.Tensor
    start: int
    stop: int
    end: int


class Region(NamedTuple):
    """A segment on every axis.

    Attributes:
        tokens: indices into the flattened grid (windows, tokens).
        segments: of the axes (z, y, x).
    """

    tokens: torch.Tensor
    segments: tuple[Segment, ...]

    def bias(self, bias: torch.Tensor) -> torch.Tensor:
        """Its part of a window's bias (heads, z, y, x, z, y, x): (heads, N, N); where there is
        padding, (heads, N, N + 1), which is the last key."""
        inside = tuple(slice(s.start, s.stop) for s in self.segments)
        whole = tuple(slice(s.start, s.end) for s in self.segments)
        count = self.tokens.shape[1]
        kept = bias[(slice(None), *inside, *inside)].reshape(len(bias), count, count)
        if inside == whole:
            return kept
        keys = bias[(slice(None), *inside, *whole)]
        padding = torch.ones(keys.shape[4:], dtype=torch.bool, device=bias.device)
        padding[tuple(slice(s.stop - s.start) for s in self.segments)] = False
        keys = keys.flatten(4).flatten(1, 3)[:, :, padding.flatten()]
        return torch.cat([kept, keys.logsumexp(-1, keepdim=True)], -1)


@lru_cache(maxsize=64)
def regions(
    grid: tuple[int, int, int],
    window: tuple[int, int, int],
    shift: tuple[int, int, int],
    device: torch.device,
) -> tuple[Region, ...]:
    """All regions of a grid; every token is in exactly one.

    Args:
        grid: tokens (z, y, x).
        window: tokens of a window; the grid is padded at its far ends to a multiple.
        shift: tokens that the windows are moved by; those left out at the near ends share the last
            window with others, and do not attend to them (Liu et al. 2021, figure 4).
        device: of the indices.
    """
    depth, height, width = (_segments(*axis) for axis in zip(grid, window, shift, strict=True))
    found = []
    for z in depth:
        for y in height:
            for x in width:
                rows = (z.tokens[:, None, :, None] * grid[1] + y.tokens[:, None, :]) * grid[2]
                rows = rows.flatten(2).flatten(0, 1)  # (windows z·y, tokens z·y)
                tokens = rows[:, None, :, None] + x.tokens[:, None, :]
                found.append(Region(tokens.flatten(2).flatten(0, 1).to(device), (z, y, x)))
    return tuple(found)


def _segments(length: int, window: int, shift: int) -> list[Segment]:
    windows = -(-length // window)
    found: dict[tuple[int, int, int], list[torch.Tensor]] = {}
    for number in range(windows):
        # The end of the last shifted window is the near end of the grid.
        cut = window - shift if shift and number == windows - 1 else window
        for start, end in ((0, cut), (cut, window)):
            places = (torch.arange(start, end) + number * window + shift) % (windows * window)
            real = places[places < length]
            if len(real):
                found.setdefault((start, start + len(real), end), []).append(real)
    return [Segment(torch.stack(tokens), *place) for place, tokens in found.items()]


def window_attention(
    qkv: torch.Tensor, bias: torch.Tensor, grid: Sequence[int], shift: Sequence[int]
) -> torch.Tensor:
    """Attention of every token to those of its window.

    Args:
        qkv: queries, keys and values (B, T + 1, 3, heads, d) of the tokens of the flattened grid,
            and last of padding.
        bias: of a query and a key in a window (heads, z, y, x, z, y, x).
        grid: tokens (z, y, x).
        shift: see :func:`regions`.

    Returns:
        (B, T, heads, d)
    """
    if qkv.is_cuda and (fused := _fused_kernels()):
        return fused.FusedAttention.apply(qkv, bias, tuple(grid), tuple(shift))
    plan = regions(tuple(grid), tuple(bias.shape[1:4]), tuple(shift), qkv.device)
    biases = [region.bias(bias).to(qkv.dtype) for region in plan]
    return _Attention.apply(qkv.contiguous(), [region.tokens for region in plan], *biases)


@cache
def _fused_kernels() -> ModuleType | None:
    """The kernels of Triton, where it is installed; many small regions would keep a GPU waiting."""
    try:
        return import_module("gtgm.models.window_attention_triton")
    except ImportError:
        return None


class _Attention(torch.autograd.Function):
    """Region by region; scores exist for a few windows at a time."""

    @staticmethod
    def forward(
        ctx: Any, qkv: torch.Tensor, tokens: list[torch.Tensor], *biases: torch.Tensor
    ) -> torch.Tensor:
        batch, rows, _, heads, width = qkv.shape
        out = qkv.new_empty(batch * (rows - 1), heads, width)
        flat = qkv.view(batch * rows, 3, heads, width)
        for where, bias in zip(tokens, biases, strict=True):
            for index in _chunks(where, batch, bias, fused=True):
                q, k, v = _gather(flat, index, rows, bias)
                # Only a mask that asks for no gradient gets a kernel that keeps no scores.
                found = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.detach()[None])
                out[_place(index, rows - 1)] = found.transpose(1, 2).flatten(0, 1)
        out = out.view(batch, rows - 1, heads, width)
        ctx.save_for_backward(qkv, out, *biases)
        ctx.tokens = tokens
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        qkv, out, *biases = ctx.saved_tensors
        batch, rows, _, heads, width = qkv.shape
        scale = width**-0.5
        flat = qkv.view(batch * rows, 3, heads, width)
        d_qkv = torch.zeros_like(flat)
        precise = torch.promote_types(qkv.dtype, torch.float32)
        d_padding = flat.new_zeros(2, heads, width, dtype=precise)  # key and value
        d_biases = []
        # The sum over keys of a probability and its gradient (Dao et al. 2022, equation 4).
        gradient = gradient.flatten(0, 1)
        share = (gradient.to(precise) * out.flatten(0, 1)).sum(-1)  # (B·T, heads)
        for where, bias in zip(ctx.tokens, biases, strict=True):
            d_bias = torch.zeros_like(bias, dtype=precise)
            for index in _chunks(where, batch, bias):
                q, k, v = (part.flatten(0, 1) for part in _gather(flat, index, rows, bias))
                place = _place(index, rows - 1)
                g = gradient[place].view(*index[0].shape, heads, width)
                g = g.transpose(1, 2).flatten(0, 1)  # (windows·heads, N, d)
                d = share[place].view(*index[0].shape, heads).transpose(1, 2).reshape(len(g), -1, 1)
                p = torch.baddbmm(
                    bias.repeat(len(index[0]), 1, 1), q, k.transpose(1, 2), alpha=scale
                ).softmax(-1, dtype=precise)
                d_v = torch.bmm(p.to(g.dtype).transpose(1, 2), g)
                # Two numbers that are almost alike: the difference needs more digits than bf16 has.
                d_s = torch.bmm(g, v.transpose(1, 2)).sub(d).mul_(p)
                d_bias += d_s.view(-1, *bias.shape).sum(0)
                d_s = d_s.to(q.dtype)
                d_q = torch.bmm(d_s, k).mul_(scale)
                d_k = torch.bmm(d_s.transpose(1, 2), q).mul_(scale)
                count = q.shape[1]
                if k.shape[1] > count:
                    ends = torch.stack([d_k[:, count], d_v[:, count]])
                    d_padding += ends.view(2, -1, heads, width).sum(1, dtype=precise)
                parts = torch.stack([d_q, d_k[:, :count], d_v[:, :count]])
                parts = parts.view(3, -1, heads, count, width).permute(1, 3, 0, 2, 4)
                d_qkv[_place(index, rows)] = parts.flatten(0, 1)
            d_biases.append(d_bias.to(bias.dtype))
        d_qkv = d_qkv.view_as(qkv)
        d_qkv[0, -1, 1:] = d_padding.to(qkv.dtype)  # the rows of padding are one and the same
        return d_qkv, None, *d_biases


def _chunks(
    tokens: torch.Tensor, batch: int, bias: torch.Tensor, fused: bool = False
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Some windows of the batch at a time: tokens (windows, N) and the items that they are of."""
    windows = tokens.repeat(batch, 1)
    items = torch.arange(batch, device=tokens.device).repeat_interleave(len(tokens))[:, None]
    if tokens.device.type == "cpu":
        # A fused kernel has no scores; enough windows for all cores.
        most = torch.get_num_threads() * CPU_SCORES * (16 if fused else 1)
    else:
        most = GPU_SCORES * (16 if fused else 1)
    count = max(1, most // bias.numel())
    return list(zip(windows.split(count), items.split(count), strict=True))


def _place(index: tuple[torch.Tensor, torch.Tensor], rows: int) -> torch.Tensor:
    """Rows of a flattened batch that has ``rows`` of each item."""
    tokens, items = index
    return (tokens + items * rows).flatten()


def _gather(
    flat: torch.Tensor, index: tuple[torch.Tensor, torch.Tensor], rows: int, bias: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values (windows, heads, N, d); padding, if any, is the last key."""
    found = flat.index_select(0, _place(index, rows)).view(*index[0].shape, *flat.shape[1:])
    q, k, v = found.permute(2, 0, 3, 1, 4)
    if bias.shape[2] > bias.shape[1]:
        last = flat[rows - 1, 1:, None, :, None].expand(-1, len(q), -1, 1, -1)
        k, v = (torch.cat([part, end], 2) for part, end in zip((k, v), last, strict=True))
    return q, k, v
