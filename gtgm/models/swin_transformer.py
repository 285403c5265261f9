"""MONAI's Swin transformer with attention that keeps no scores."""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import (
    BasicLayer,
    SwinTransformer,
    compute_mask,
    get_window_size,
)
from monai.networks.nets.swin_unetr import SwinTransformerBlock as MonaiBlock
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gtgm.models.window_attention import window_attention

#: Tokens of the first stage (of all items of the batch) from which a GPU gains.
MANY = 300_000


class WindowTransformer(nn.Module):
    """What a MONAI ``SwinTransformer`` computes, from its own tensors under their own names.

    Args:
        source: the network whose modules are taken over.

    Attributes:
        checkpointing: keep only the input of each block for the backward pass, which computes the
            rest again: less memory, a third more arithmetic.
        lean: keep no scores on a GPU either, where MONAI's layers may be faster.
    """

    def __init__(self, source: SwinTransformer) -> None:
        super().__init__()
        self.checkpointing = self.lean = False
        self.patch_embed = source.patch_embed
        for number in range(1, 5):
            (layer,) = getattr(source, f"layers{number}")
            setattr(self, f"layers{number}", nn.ModuleList([_Stage(layer)]))

    def forward(self, x: torch.Tensor, normalize: bool = True) -> list[torch.Tensor]:
        """(B, C, D, H, W) → maps (B, channels, D, H, W), the finest first.

        Args:
            normalize: bring each voxel's features to zero mean and unit variance.
        """
        x = self._embed(x)  # (B, D, H, W, channels)
        maps = [x]
        again = self.checkpointing and torch.is_grad_enabled()
        lean = self.lean or _lean(x)
        for number in range(1, 5):
            x = getattr(self, f"layers{number}")[0](x, lean, again)
            maps.append(x)
        if normalize:
            maps = [F.layer_norm(x, x.shape[-1:]) for x in maps]
        return [x.permute(0, 4, 1, 2, 3) for x in maps]

    def _embed(self, x: torch.Tensor) -> torch.Tensor:
        """What the strided convolution of the embedding gives, as a product of matrices."""
        weight, size = self.patch_embed.proj.weight, self.patch_embed.patch_size
        short = [-n % p for n, p in zip(x.shape[2:], size, strict=True)]
        x = F.pad(x, [n for side in reversed(short) for n in (0, side)])
        for axis, side in zip((2, 4, 6), size, strict=True):
            x = x.unflatten(axis, (-1, side))
        patches = x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return F.linear(patches, weight.flatten(1), self.patch_embed.proj.bias)


def _lean(x: torch.Tensor) -> bool:
    """Whether to keep no scores of these tokens (B, D, H, W, channels).

    On a CPU always: it is faster. On a GPU MONAI's layers are faster in fp32 and with few windows,
    and not with many in half precision (results/benchmarks/speed_gpu.md).
    """
    many = torch.is_autocast_enabled(x.device.type) and x[..., 0].numel() >= MANY
    return many or not x.is_cuda


class _Stage(nn.Module):
    """Blocks on one grid, and the merging to the next."""

    def __init__(self, source: BasicLayer) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(block) for block in source.blocks)
        self.downsample = source.downsample
        self.window, self.shift = source.window_size, source.shift_size

    def forward(self, x: torch.Tensor, lean: bool, again: bool) -> torch.Tensor:
        """(B, D, H, W, channels) → (B, D/2, H/2, W/2, 2·channels)"""
        mask = None if lean else self._mask(x)
        for block in self.blocks:
            x = (
                checkpoint(block, x, lean, mask, use_reentrant=False)
                if again
                else block(x, lean, mask)
            )
        return self.downsample(x)

    def _mask(self, x: torch.Tensor) -> torch.Tensor:
        """Of MONAI's shifted windows (windows, N, N)."""
        grid = x.shape[1:4]
        window, shift = get_window_size(grid, self.window, self.shift)
        padded = [-(-n // w) * w for n, w in zip(grid, window, strict=True)]
        return compute_mask(padded, window, shift, x.device)


class _Block(nn.Module):
    """Attention in windows and a perceptron, each with a normalisation before and a shortcut."""

    def __init__(self, source: MonaiBlock) -> None:
        super().__init__()
        self.window, self.shift = source.window_size, source.shift_size
        self.norm1, self.attn = source.norm1, source.attn
        self.norm2, self.mlp = source.norm2, source.mlp
        # It shares its modules; the tuple hides them from `parameters()`.
        self._stock = (source,)

    def forward(self, x: torch.Tensor, lean: bool, mask: torch.Tensor | None) -> torch.Tensor:
        """(B, D, H, W, channels), the same shape."""
        if not lean:
            return self._stock[0](x, mask)
        batch, *grid, channels = x.shape
        window, shift = get_window_size(grid, self.window, self.shift)
        # One token more, of zeros: what MONAI pads with behind the normalisation.
        tokens = F.pad(self.norm1(x).flatten(1, 3), (0, 0, 0, 1))
        qkv = self.attn.qkv(tokens).unflatten(-1, (3, self.attn.num_heads, -1))
        found = window_attention(qkv, self._bias(window), grid, shift)
        x = x + self.attn.proj(found.flatten(2)).view(batch, *grid, channels)
        return x + self.mlp(self.norm2(x))

    def _bias(self, window: tuple[int, int, int]) -> torch.Tensor:
        """Of a query and a key in a window (heads, z, y, x, z, y, x)."""
        count = window[0] * window[1] * window[2]
        # A window that is smaller than the table was made for takes its first tokens, as in MONAI.
        index = self.attn.relative_position_index[:count, :count].flatten()
        table = self.attn.relative_position_bias_table
        # Each is slow in its backward pass on the other device.
        bias = table.index_select(0, index) if table.is_cuda else F.embedding(index, table)
        return bias.T.reshape(-1, *window, *window)
