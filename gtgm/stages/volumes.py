"""Normalised volumes of a study: kept in memory while they fit, else cut from a store on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod

import torch

from gtgm.cache import VolumeCache
from gtgm.container import free_memory
from gtgm.datasets.nifti import stored_shape
from gtgm.progress import tqdm
from gtgm.stages.study import Study
from gtgm.volume_store import StoredVolume, VolumeStore

Item = Mapping[str, torch.Tensor | StoredVolume]
#: Dataset and case.
Key = tuple[str, str]


def items(
    study: Study,
    keys: Sequence[Key],
    load: Callable[[Key], Mapping[str, torch.Tensor]],
    identity: object,
    volumes: str,
    workers: int,
) -> Callable[[Key], Item]:
    """What gives the items of training cases.

    Args:
        study: whose cases they are.
        keys: of all cases.
        load: makes an item from its files.
        identity: everything, beside data and case, that an item depends on.
        volumes: ``memory``, ``disk`` or ``auto``.
        workers: processes that will read them; each would keep its own memory.
    """
    sizes = [bytes_of(study, *key) for key in keys] if volumes == "auto" else []
    fits = not workers and sum(sizes) <= free_memory() // 3
    if volumes == "memory" or (volumes == "auto" and fits):
        return VolumeCache(load, lambda item: sum(tensor.nbytes for tensor in item.values()))
    stores = {
        name: VolumeStore(study.root.parent / "store", name, study.data_key(name), identity)
        for name in {name for name, _ in keys}
    }

    # Once, under a bar, and not in the middle of a training step.
    return {
        (name, case): stores[name].get(case, partial(load, (name, case)))
        for name, case in tqdm(keys, desc="volumes", leave=False)
    }.__getitem__


def bytes_of(study: Study, name: str, case: str) -> int:
    """Bytes of a case in fp32, from its header."""
    dataset = study.open(name)
    if dataset.info.format == "cremi":
        return study.em_volume(name).raw.size * 4 // len(study.pool()[name])
    return prod(stored_shape(dataset.case(case).image)) * 4
