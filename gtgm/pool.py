"""Patches with captions: what one pretraining step reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from gtgm.text.store import CaptionStore


@dataclass(frozen=True)
class PooledVolume:
    """One volume of the pool.

    Attributes:
        case: id of the case.
        load: gives the normalised volume (C, D, H, W): a tensor, or what is indexed alike and reads
            only what is asked for (:class:`gtgm.volume_store.StoredVolume`).
        captions: store that holds its captions.
        dataset: that it is of; another one may have a case of the same id.
    """

    case: str
    load: Callable[[], torch.Tensor]
    captions: CaptionStore
    dataset: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Dataset and case."""
        return self.dataset, self.case


#: A volume, and the first voxel (z, y, x) of a patch in it.
Place = tuple[PooledVolume, Sequence[int]]


class Batch(NamedTuple):
    """Patches (B, 1, D, H, W) and the index of each one's caption in the pool's ``texts`` (B,)."""

    patches: torch.Tensor
    captions: torch.Tensor


class PatchPool:
    """All volumes of a pretraining run and the unique captions of their patches.

    Args:
        volumes: what patches are cut from.
        texts: every caption that may occur, in the order of the text embeddings.
        patch: voxels (z, y, x); smaller volumes are padded at their far ends.
        shuffle: seed of a permutation of all captions, so that each place has the words of another
            one; None leaves them where they belong.
    """

    def __init__(
        self,
        volumes: Sequence[PooledVolume],
        texts: Sequence[str],
        patch: Sequence[int],
        shuffle: int | None = None,
    ) -> None:
        self.volumes = list(volumes)
        self.texts = list(texts)
        self.patch = tuple(patch)
        self._index = {text: i for i, text in enumerate(self.texts)}
        self._shuffled = {} if shuffle is None else self._shuffle(shuffle)

    def sample(self, batch: int, generator: np.random.Generator) -> Batch:
        """Random cases, a random position in each; the nearest caption and the channel it is of."""
        chosen = [self.volumes[i] for i in generator.integers(len(self.volumes), size=batch)]
        cut = []
        for volume in chosen:
            image = volume.load()
            room = [max(s - p, 0) for s, p in zip(image.shape[1:], self.patch, strict=True)]
            cut.append(self._cut(volume, image, [int(generator.integers(r + 1)) for r in room]))
        return self._batch(cut)

    def grid(self, most: int, generator: np.random.Generator) -> Batch:
        """Patches exactly at caption positions, at most ``most`` of them, drawn over all cases."""
        return self.at(self.places(most, generator))

    def places(self, most: int, generator: np.random.Generator) -> list[Place]:
        """At most ``most`` caption positions, drawn over all cases, in the order of the cases."""
        places = [
            (volume, row["origin"])
            for volume in self.volumes
            for row in volume.captions.rows(volume.case)
        ]
        order = generator.permutation(len(places))[:most]
        return [places[i] for i in sorted(order)]

    def at(self, places: Sequence[Place]) -> Batch:
        """The patches at these places."""
        return self._batch([self._cut(v, v.load(), origin) for v, origin in places])

    def _cut(
        self, volume: PooledVolume, image: torch.Tensor, origin: Sequence[int]
    ) -> tuple[torch.Tensor, int]:
        caption = volume.captions.nearest(volume.case, origin)
        channel = slice(caption["channel"], caption["channel"] + 1)
        box = tuple(slice(o, o + p) for o, p in zip(origin, self.patch, strict=True))
        place = volume.key, tuple(caption["origin"])
        text = self._shuffled.get(place, caption["text"])
        return pad_to(image[(channel, *box)], self.patch), self._index[text]

    def _shuffle(self, seed: int) -> dict[tuple, str]:
        """Text of another place, by volume and origin of every place."""
        rows = [(v.key, row) for v in self.volumes for row in v.captions.rows(v.case)]
        order = np.random.default_rng(seed).permutation(len(rows))
        return {
            (key, tuple(row["origin"])): rows[other][1]["text"]
            for (key, row), other in zip(rows, order, strict=True)
        }

    @staticmethod
    def _batch(cut: list[tuple[torch.Tensor, int]]) -> Batch:
        return Batch(torch.stack([c[0] for c in cut]), torch.tensor([c[1] for c in cut]))


def pad_to(image: torch.Tensor, patch: Sequence[int], value: float | None = None) -> torch.Tensor:
    """Pad (C, D, H, W) at the far ends to at least ``patch``, with its smallest value or another.

    Training, pretraining and inference pad alike.
    """
    short = [max(p - s, 0) for s, p in zip(image.shape[1:], patch, strict=True)]
    if not any(short):
        return image
    edge = [n for side in reversed(short) for n in (0, side)]
    return F.pad(image, edge, value=float(image.min()) if value is None else value)
