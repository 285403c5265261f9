"""Volumes in memory."""

from __future__ import annotations

from gtgm.cache import VolumeCache


def test_loads_once_and_forgets_the_oldest():
    loaded = []

    def load(key):
        loaded.append(key)
        return bytes(4)

    cache = VolumeCache(load, len, budget=8)
    for key in "abab":
        cache(key)
    assert loaded == ["a", "b"]
    cache("c")
    cache("b")
    assert loaded == ["a", "b", "c"]
    cache("a")
    assert loaded == ["a", "b", "c", "a"]


def test_one_volume_above_the_budget_is_still_served():
    cache = VolumeCache(lambda _: bytes(100), len, budget=8)
    assert len(cache("big")) == 100
