"""What a forward pass keeps in memory for its backward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch


def kept_bytes(forward: Callable[[], object]) -> int:
    """Bytes of all tensors that autograd saves, each storage once."""
    seen: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = forward()  # alive until all is counted
    del result
    return sum(seen.values())
