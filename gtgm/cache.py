"""Volumes kept in memory as long as they fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gtgm.container import free_memory

V = TypeVar("V")


class VolumeCache(Generic[V]):
    """Loads each volume once and keeps the most recently used ones.

    Args:
        load: makes a volume from its key.
        size: bytes that a volume takes.
        budget: most bytes to keep; by default a third of the memory that is free now.
    """

    def __init__(
        self,
        load: Callable[[Hashable], V],
        size: Callable[[V], int],
        budget: int | None = None,
    ) -> None:
        self._load, self._size = load, size
        self._budget = free_memory() // 3 if budget is None else budget
        self._kept: OrderedDict[Hashable, V] = OrderedDict()
        self._used = 0

    def __call__(self, key: Hashable) -> V:
        """The volume of ``key``."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        volume = self._load(key)
        self._used += self._size(volume)
        self._kept[key] = volume
        while self._used > self._budget and len(self._kept) > 1:
            self._used -= self._size(self._kept.popitem(last=False)[1])
        return volume
