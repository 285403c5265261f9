"""Window attention in one kernel per pass, on GPUs: with Triton, which torch brings for them.

The scores of a block of queries and a block of keys live in registers only (Dao et al. 2022); a
window's shift, its padding and its bias are looked up where they are needed, so that no window is
copied. The mathematics is that of :mod:`gtgm.models.window_attention`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

BLOCK = 64
#: Of every grid: a kernel is compiled once for all of them.
_SIZES = [
    *("heads", "width", "tokens", "GZ", "GY", "GX", "WZ", "WY", "WX"),
    *("SZ", "SY", "SX", "NZ", "NY", "NX"),
]


@triton.jit
def _tokens(n, number, tokens, GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX):
    """Of places ``n`` in a window: row in the grid (``tokens`` for padding), whether it is a token,
    and the part of a shifted window that it attends to."""
    inside = n < WZ * WY * WX
    iz, iy, ix = number // (NY * NX), number // NX % NY, number % NX
    z, y, x = n // (WY * WX), n // WX % WY, n % WX
    gz = (iz * WZ + z + SZ) % (NZ * WZ)
    gy = (iy * WY + y + SY) % (NY * WY)
    gx = (ix * WX + x + SX) % (NX * WX)
    real = inside & (gz < GZ) & (gy < GY) & (gx < GX)
    row = tl.where(real, (gz * GY + gy) * GX + gx, tokens)
    part = tl.where((iz == NZ - 1) & (z >= WZ - SZ), 4, 0)
    part += tl.where((iy == NY - 1) & (y >= WY - SY), 2, 0)
    part += tl.where((ix == NX - 1) & (x >= WX - SX), 1, 0)
    return row, real, tl.where(inside, part, 8)


@triton.jit
def _program(heads, count, windows, BLOCK: tl.constexpr):
    """Places in a window that this program works on, head, number of the window, and item."""
    blocks = tl.cdiv(count, BLOCK)
    places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    rest = tl.program_id(0) // blocks
    item = (rest // (heads * windows)).to(tl.int64)
    return places, rest % heads, rest // heads % windows, item


@triton.jit(do_not_specialize=_SIZES)
def _forward(
    qkv, bias, out, lse, scale, heads, width, tokens,
    GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    count = WZ * WY * WX
    qn, head, number, item = _program(heads, count, NZ * NY * NX, BLOCK)
    d = tl.arange(0, WIDTH)
    q_row, q_real, q_part = _tokens(
        qn, number, tokens, GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX
    )
    if tl.max(q_real.to(tl.int32), 0) == 0:
        return
    first = qkv + item * (tokens + 1) * 3 * heads * width + head * width
    some = d[None, :] < width
    q = tl.load(first + q_row[:, None] * 3 * heads * width + d[None, :], mask=some, other=0.0)
    top = tl.full([BLOCK], -1e30, tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    found = tl.zeros([BLOCK, WIDTH], tl.float32)
    for start in range(0, count, BLOCK):
        kn = start + tl.arange(0, BLOCK)
        k_row, _, k_part = _tokens(
            kn, number, tokens, GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX
        )
        k_at = first + heads * width + k_row[:, None] * 3 * heads * width + d[None, :]
        k = tl.load(k_at, mask=some, other=0.0)
        v = tl.load(k_at + heads * width, mask=some, other=0.0)
        seen = (q_part[:, None] == k_part[None, :]) & (kn[None, :] < count)
        place = (head * count + qn[:, None]) * count + kn[None, :]
        b = tl.load(bias + place, mask=seen & (qn[:, None] < count), other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale + b
        s = tl.where(seen, s, -1e30)
        higher = tl.maximum(top, tl.max(s, 1))
        p = tl.where(seen, tl.exp(s - higher[:, None]), 0.0)
        shrink = tl.exp(top - higher)
        total = total * shrink + tl.sum(p, 1)
        found = found * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
        top = higher
    total = tl.where(total > 0, total, 1.0)
    at = (item * tokens + q_row)[:, None] * heads * width + head * width + d[None, :]
    tl.store(out + at, (found / total[:, None]).to(q.dtype), mask=some & q_real[:, None])
    tl.store(lse + (item * tokens + q_row) * heads + head, top + tl.log(total), mask=q_real)


@triton.jit(do_not_specialize=_SIZES)
def _backward_keys(
    qkv, bias, gradient, lse, share, d_qkv, d_bias, d_padding, scale, heads, width, tokens,
    GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of keys and values, and of the bias to them."""
    count = WZ * WY * WX
    kn, head, number, item = _program(heads, count, NZ * NY * NX, BLOCK)
    d = tl.arange(0, WIDTH)
    some = d[None, :] < width
    k_row, k_real, k_part = _tokens(
        kn, number, tokens, GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX
    )
    begin = item * (tokens + 1) * 3 * heads * width + head * width
    k_at = begin + heads * width + k_row[:, None] * 3 * heads * width + d[None, :]
    k = tl.load(qkv + k_at, mask=some, other=0.0)
    v = tl.load(qkv + k_at + heads * width, mask=some, other=0.0)
    d_k = tl.zeros([BLOCK, WIDTH], tl.float32)
    d_v = tl.zeros([BLOCK, WIDTH], tl.float32)
    for start in range(0, count, BLOCK):
        qn = start + tl.arange(0, BLOCK)
        q_row, q_real, q_part = _tokens(
            qn, number, tokens, GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX
        )
        if tl.max(q_real.to(tl.int32), 0) > 0:
            q_at = qkv + begin + q_row[:, None] * 3 * heads * width + d[None, :]
            q = tl.load(q_at, mask=some, other=0.0)
            at = (item * tokens + q_row) * heads + head
            g_at = gradient + at[:, None] * width + d[None, :]
            g = tl.load(g_at, mask=some & q_real[:, None], other=0.0)
            high = tl.load(lse + at, mask=q_real, other=0.0)
            shared = tl.load(share + at, mask=q_real, other=0.0)
            seen = (q_part[:, None] == k_part[None, :]) & q_real[:, None] & (kn[None, :] < count)
            place = (head * count + qn[:, None]) * count + kn[None, :]
            b = tl.load(bias + place, mask=seen, other=0.0)
            s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale + b
            p = tl.where(seen, tl.exp(s - high[:, None]), 0.0)
            d_v += tl.dot(tl.trans(p.to(g.dtype)), g, input_precision="ieee")
            d_p = tl.dot(g, tl.trans(v), input_precision="ieee")
            d_s = p * (d_p - shared[:, None])
            tl.atomic_add(d_bias + place, d_s, mask=seen, sem="relaxed")
            d_k += tl.dot(tl.trans(d_s.to(q.dtype)), q, input_precision="ieee")
    d_k *= scale
    tl.store(d_qkv + k_at, d_k.to(k.dtype), mask=some & k_real[:, None])
    tl.store(d_qkv + k_at + heads * width, d_v.to(k.dtype), mask=some & k_real[:, None])
    padding = (kn < count) & ~k_real
    if tl.max(padding.to(tl.int32), 0) > 0:
        end = d_padding + head * width + d
        tl.atomic_add(end, tl.sum(tl.where(padding[:, None], d_k, 0.0), 0), mask=d < width)
        end += heads * width
        tl.atomic_add(end, tl.sum(tl.where(padding[:, None], d_v, 0.0), 0), mask=d < width)


@triton.jit(do_not_specialize=_SIZES)
def _backward_queries(
    qkv, bias, gradient, lse, share, d_qkv, scale, heads, width, tokens,
    GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX,
    BLOCK: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of queries."""
    count = WZ * WY * WX
    qn, head, number, item = _program(heads, count, NZ * NY * NX, BLOCK)
    d = tl.arange(0, WIDTH)
    some = d[None, :] < width
    q_row, q_real, q_part = _tokens(
        qn, number, tokens, GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX
    )
    if tl.max(q_real.to(tl.int32), 0) == 0:
        return
    begin = item * (tokens + 1) * 3 * heads * width + head * width
    q_at = begin + q_row[:, None] * 3 * heads * width + d[None, :]
    q = tl.load(qkv + q_at, mask=some, other=0.0)
    at = (item * tokens + q_row) * heads + head
    g_at = gradient + at[:, None] * width + d[None, :]
    g = tl.load(g_at, mask=some & q_real[:, None], other=0.0)
    high = tl.load(lse + at, mask=q_real, other=0.0)
    shared = tl.load(share + at, mask=q_real, other=0.0)
    d_q = tl.zeros([BLOCK, WIDTH], tl.float32)
    for start in range(0, count, BLOCK):
        kn = start + tl.arange(0, BLOCK)
        k_row, _, k_part = _tokens(
            kn, number, tokens, GZ, GY, GX, WZ, WY, WX, SZ, SY, SX, NZ, NY, NX
        )
        k_at = qkv + begin + heads * width + k_row[:, None] * 3 * heads * width + d[None, :]
        k = tl.load(k_at, mask=some, other=0.0)
        v = tl.load(k_at + heads * width, mask=some, other=0.0)
        seen = (q_part[:, None] == k_part[None, :]) & q_real[:, None] & (kn[None, :] < count)
        place = (head * count + qn[:, None]) * count + kn[None, :]
        b = tl.load(bias + place, mask=seen, other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale + b
        p = tl.where(seen, tl.exp(s - high[:, None]), 0.0)
        d_s = p * (tl.dot(g, tl.trans(v), input_precision="ieee") - shared[:, None])
        d_q += tl.dot(d_s.to(k.dtype), k, input_precision="ieee")
    tl.store(d_qkv + q_at, (d_q * scale).to(q.dtype), mask=some & q_real[:, None])


class FusedAttention(torch.autograd.Function):
    """See :func:`gtgm.models.window_attention.window_attention`, with its arguments."""

    @staticmethod
    def forward(
        ctx: Any, qkv: torch.Tensor, bias: torch.Tensor, grid: Sequence[int], shift: Sequence[int]
    ) -> torch.Tensor:
        batch, rows, _, heads, width = qkv.shape
        qkv, flat = qkv.contiguous(), bias.detach().float().contiguous()
        window = bias.shape[1:4]
        windows = [-(-n // w) for n, w in zip(grid, window, strict=True)]
        sizes = (heads, width, rows - 1, *grid, *window, *shift, *windows)
        # One axis, as CUDA allows 65 535 programs on the others; blocks of a window side by side.
        launch = (triton.cdiv(math.prod(window), BLOCK) * batch * math.prod(windows) * heads,)
        block = {"BLOCK": BLOCK, "WIDTH": max(16, triton.next_power_of_2(width))}
        out = qkv.new_empty(batch, rows - 1, heads, width)
        lse = qkv.new_empty(batch, rows - 1, heads, dtype=torch.float32)
        _forward[launch](qkv, flat, out, lse, width**-0.5, *sizes, **block)
        ctx.save_for_backward(qkv, flat, out, lse)
        ctx.how = launch, sizes, block, bias.dtype
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        qkv, bias, out, lse = ctx.saved_tensors
        launch, sizes, block, dtype = ctx.how
        heads, width = qkv.shape[3:]
        gradient = gradient.contiguous()
        share = (gradient.float() * out).sum(-1)
        d_qkv, d_bias = torch.empty_like(qkv), torch.zeros_like(bias)
        d_qkv[:, -1] = 0
        d_padding = bias.new_zeros(2, heads, width)
        given = (qkv, bias, gradient, lse, share, d_qkv)
        scale = width**-0.5
        _backward_keys[launch](*given, d_bias, d_padding, scale, *sizes, **block)
        _backward_queries[launch](*given, scale, *sizes, **block)
        d_qkv[0, -1, 1:] = d_padding.to(qkv.dtype)  # the rows of padding are one and the same
        return d_qkv, d_bias.to(dtype), None, None
