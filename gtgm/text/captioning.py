"""Stage 1: caption volumes on a grid of patch positions, and make pairs to train a captioner.

As in the paper's workshop figure: random slice → captioner → filter. The text encoder follows in
:mod:`gtgm.text.encoder`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gtgm.datasets.geometry import upright
from gtgm.datasets.registry import DatasetInfo
from gtgm.progress import tqdm
from gtgm.text.captioners import Captioner
from gtgm.text.describe import Facts, facts, reference_range
from gtgm.text.filters import strip_figure_prefix
from gtgm.text.grid import Position, caption_grid
from gtgm.text.store import CaptionStore, Row

#: (case id, image (C, D, H, W) with raw intensities, spacing (z, y, x)).
CaseImage = tuple[str, Any, Sequence[float]]

CT_WINDOW = (-160.0, 240.0)
PERCENTILES = (0.5, 99.5)
#: Slices that are gathered over cases before a captioner without a ``batch_size`` is called.
GATHER = 64


@dataclass(frozen=True)
class Sample:
    """A patch position and what a captioner gets to see of it.

    Attributes:
        origin, size: of the patch (z, y, x) in voxels, cut at the end of a smaller volume.
        slice: index of the axial slice inside the patch.
        channel: index of the channel.
        pixels: the slice, uint8 (h, w). CT and MRI are shown as radiologists look at them: anterior
            up, the patient's right on the left.
        facts: of the whole patch, or of the slice alone.
    """

    origin: Position
    size: Position
    slice: int
    channel: int
    pixels: np.ndarray
    facts: Facts


def caption_volumes(
    volumes: Iterable[CaseImage],
    info: DatasetInfo,
    captioner: Captioner,
    store: CaptionStore,
    patch: Sequence[int],
    step: Sequence[int] = (),
    seed: int = 0,
    prefix_file_name: bool = False,
    show: bool = True,
) -> dict[str, Any]:
    """Caption every volume and store the rows, case by case.

    A case whose stored rows have the same positions, slices, channels and captioner is kept, so a
    killed run continues.

    Args:
        volumes: see :data:`CaseImage`; may be a generator.
        info: the dataset's entry in the registry.
        captioner: see :func:`gtgm.text.captioners.load_captioner`.
        store: where the captions go.
        patch, step: see :func:`gtgm.text.grid.caption_grid`.
        seed: which slice, and of several channels which one, is shown at each position.
        prefix_file_name: put the case id before each caption, as released (`deviations.md`, row 6).
        show: a progress bar.

    Returns:
        ``cases``, ``kept`` (of them, found in the store), ``captions``, ``unique`` and
        ``filtered`` (captions that lost a figure prefix).
    """
    ids: list[str] = []
    kept = 0
    waiting: list[tuple[str, list[Sample]]] = []
    gather = getattr(captioner, "batch_size", GATHER)

    def flush() -> None:
        samples = [sample for _, part in waiting for sample in part]
        if samples:
            raw = iter(captioner([s.pixels for s in samples], [s.facts for s in samples]))
            for case, part in waiting:
                words = [next(raw) for _ in part]
                store.write(case, _rows(case, part, words, captioner.name, prefix_file_name))
            waiting.clear()

    for case, image, spacing in tqdm(volumes, desc="captions", leave=False) if show else volumes:
        ids.append(case)
        plan = _plan(case, np.shape(image), patch, step, seed)
        if case in store and _same(store.rows(case), plan, captioner.name, case, prefix_file_name):
            kept += 1
            continue
        waiting.append((case, _samples(np.asarray(image), spacing, info, plan)))
        if sum(len(part) for _, part in waiting) >= gather:
            flush()
    flush()
    rows = [row for case in ids for row in store.rows(case)]
    return {
        "cases": len(ids),
        "kept": kept,
        "captions": len(rows),
        "unique": len({row["text"] for row in rows}),
        "filtered": sum(strip_figure_prefix(row["raw"]) != _clean(row["raw"]) for row in rows),
    }


def describe_slices(
    volumes: Iterable[CaseImage],
    info: DatasetInfo,
    patch: Sequence[int],
    step: Sequence[int] = (),
    axes: str = "DH",
    seed: int = 0,
    slices_per_patch: int = 1,
) -> tuple[list[np.ndarray], list[str]]:
    """Pairs of slice and rule-based sentence, from which :func:`gtgm.text.blip.train_blip` learns.

    Args:
        axes: axes along which the sentences may name a side or position.
        volumes, info, patch, step, seed: as in :func:`caption_volumes`; take another seed than
            there, so that the captioner does not caption the very slices that it learnt from.
        slices_per_patch: slices of each patch, spread over its depth.

    Returns:
        Slices, uint8 (h, w), and as many sentences, each of what is measured on its slice alone:
        a captioner cannot learn to say what it cannot see.
    """
    slices: list[np.ndarray] = []
    texts: list[str] = []
    for case, image, spacing in volumes:
        plan = _plan(case, np.shape(image), patch, step, seed)
        for sample in _samples(np.asarray(image), spacing, info, plan, True, slices_per_patch):
            slices.append(sample.pixels)
            texts.append(sample.facts.sentence(axes))
    return slices, texts


def samples_of(
    case: str,
    image: np.ndarray,
    spacing: Sequence[float],
    info: DatasetInfo,
    patch: Sequence[int],
    step: Sequence[int] = (),
    seed: int = 0,
    of_slice: bool = False,
) -> list[Sample]:
    """All positions of one volume (C, D, H, W), for a look at what the captioner sees.

    Args:
        of_slice: measure the facts on the slice that is shown, not on the whole patch.
    """
    plan = _plan(case, image.shape, patch, step, seed)
    return _samples(np.asarray(image), spacing, info, plan, of_slice)


def to_grey(channel: np.ndarray, modality: str) -> np.ndarray:
    """A channel (D, H, W) as grey values, uint8.

    CT: a window of −160…240 HU. MRI and EM: the 0.5th to 99.5th percentile of the volume.
    """
    low, high = CT_WINDOW if modality == "CT" else np.percentile(channel, PERCENTILES)
    scaled = (channel.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class _Spot:
    origin: Position
    size: Position
    slice: int
    channel: int


def _plan(
    case: str, shape: Sequence[int], patch: Sequence[int], step: Sequence[int], seed: int
) -> list[_Spot]:
    """Positions, slices and channels of a case; they depend on its id and the seed alone."""
    generator = np.random.default_rng([seed, zlib.crc32(case.encode())])
    size = tuple(min(int(p), int(n)) for p, n in zip(patch, shape[1:], strict=True))
    return [
        _Spot(origin, size, int(generator.integers(size[0])), int(generator.integers(shape[0])))
        for origin in caption_grid(shape[1:], patch, step)
    ]


def _samples(
    image: np.ndarray,
    spacing: Sequence[float],
    info: DatasetInfo,
    plan: Sequence[_Spot],
    of_slice: bool = False,
    slices_per_patch: int = 1,
) -> list[Sample]:
    channels = {spot.channel for spot in plan}
    grey = {c: to_grey(image[c], info.modality) for c in channels}
    reference = {c: reference_range(image[c]) for c in channels}
    samples = []
    for spot in plan:
        box = tuple(slice(o, o + s) for o, s in zip(spot.origin, spot.size, strict=True))

        def measure(origin: Position, cut: np.ndarray, channel: int = spot.channel) -> Facts:
            return facts(cut, info, origin, image.shape[1:], spacing, reference[channel], channel)

        patch = image[(slice(None), *box)]
        whole = None if of_slice else measure(spot.origin, patch)
        depth, cut = spot.size[0], grey[spot.channel][box]
        for number in range(min(slices_per_patch, depth)):
            index = (spot.slice + number * depth // slices_per_patch) % depth
            first, *rest = spot.origin
            samples.append(
                Sample(
                    spot.origin,
                    spot.size,
                    index,
                    spot.channel,
                    upright(cut[index], info),
                    whole or measure((first + index, *rest), patch[:, index : index + 1]),
                )
            )
    return samples


def _rows(
    case: str, samples: Sequence[Sample], raw: Sequence[str], name: str, prefix: bool
) -> list[Row]:
    return [
        {
            "origin": list(sample.origin),
            "size": list(sample.size),
            "slice": sample.slice,
            "channel": sample.channel,
            "text": _text(case, words, prefix),
            "raw": words,
            "captioner": name,
        }
        for sample, words in zip(samples, raw, strict=True)
    ]


def _text(case: str, raw: str, prefix: bool) -> str:
    # A caption that is nothing but a figure number stays: an empty text says even less.
    text = strip_figure_prefix(raw) or _clean(raw) or "image"
    return f"{case}, {text}" if prefix else text


def _same(rows: Sequence[Row], plan: Sequence[_Spot], name: str, case: str, prefix: bool) -> bool:
    return len(rows) == len(plan) and all(
        tuple(row["origin"]) == spot.origin
        and tuple(row["size"]) == spot.size
        and row["slice"] == spot.slice
        and row["channel"] == spot.channel
        and row["captioner"] == name
        and row["text"] == _text(case, row["raw"], prefix)
        for row, spot in zip(rows, plan, strict=True)
    )


def _clean(text: str) -> str:
    return " ".join(text.split())
