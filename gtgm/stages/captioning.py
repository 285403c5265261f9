"""Stage 1: captions of the training volumes, and their text embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from gtgm import paths
from gtgm.at_work import RESULT, once
from gtgm.errors import ResultError
from gtgm.hashing import to_dict
from gtgm.models.weights import read_state
from gtgm.results import Result, load_result, measure
from gtgm.rich import facts_html, pairs_html
from gtgm.settings import EMBEDDED
from gtgm.stages.disjoint import check_pool
from gtgm.stages.record import record
from gtgm.stages.study import Study, pooled_cases, text_folder
from gtgm.text.blip import train_blip
from gtgm.text.captioners import NONE, Captioner, load_captioner
from gtgm.text.captioning import Sample, caption_volumes, describe_slices, samples_of
from gtgm.text.encoder import TextEncoder, train_text_encoder
from gtgm.text.grid import RELEASED_STEPS
from gtgm.text.store import CaptionStore

EMBEDDINGS, TEXTS, ENCODER = "embeddings.safetensors", "texts.json", "text_encoder"
#: Cases per dataset whose captions are compared with the measured descriptions.
AUDITED = 20
#: Slices of each patch that the embedded captioner is trained on. With one, it memorises them and
#: gives nearly every slice the same caption.
SLICES_PER_PATCH = 3
_AGAIN = "delete the run's result.json and caption again; captions that are there are kept"


@dataclass(frozen=True)
class CaptionRun:
    """Captions of a pool.

    Attributes:
        folder: ``captions/<dataset>/<case>.jsonl``, embeddings, and the trained text models.
        result: counts and agreement with the measured descriptions.
        cases: captioned case ids per dataset.
        study: whose captions these are.
    """

    folder: Path
    result: Result
    cases: dict[str, list[str]]
    study: Study = field(repr=False)

    @cached_property
    def stores(self) -> dict[str, CaptionStore]:
        """Caption store of each dataset."""
        return {name: CaptionStore(self.folder / "captions" / name) for name in self.cases}

    @cached_property
    def texts(self) -> list[str]:
        """Unique captions, in the order of :attr:`embeddings`."""
        return paths.read_json(self.folder / TEXTS, ResultError, fix=_AGAIN)

    @cached_property
    def embeddings(self) -> torch.Tensor:
        """Frozen text embeddings (U, T)."""
        return read_state(self.folder / EMBEDDINGS)["embeddings"]

    def _repr_html_(self, most: int = 4) -> str:
        name = next(iter(self.cases))
        shown = caption_pairs(self.study, self, name, most)
        facts = {
            "cases": ", ".join(f"{name} {len(cases)}" for name, cases in self.cases.items()),
            "captions": f"{self.result.summary['captions']:.0f}, "
            f"{self.result.summary['unique']:.0f} of them different",
            "captioner": self.study.settings("text").captioner,
            "files": "a JSONL file per case in captions, a line per position",
        }
        return facts_html("Captions", facts, pairs_html([(p.slice, p.text) for p in shown]))


@dataclass(frozen=True)
class CaptionPair:
    """A captioned slice: its grey values (H, W), the caption, and what was measured on it."""

    slice: np.ndarray
    origin: list[int]
    text: str
    measured: str

    @property
    def shared(self) -> float:
        """Share of the words that the caption and the measured text have in common."""
        return _shared(_words(self.text), _words(self.measured))


def caption(study: Study) -> CaptionRun:
    """Caption the pool's training volumes and embed the captions; finished work is read.

    Captions are written volume by volume, so a stopped run continues where it was.

    Raises:
        DataError: a test case is in the pool, and no setting says so.
    """
    folder, cases = text_folder(study), pooled_cases(study)
    once(folder, partial(_caption, study, folder, cases))
    return CaptionRun(folder, load_result(folder / RESULT), cases, study)


def _caption(study: Study, folder: Path, cases: dict[str, list[str]]) -> None:
    settings, patch = study.settings("text"), study.settings("pretrain").patch
    check_pool(study)
    with measure() as used:
        captioner = _captioner(study, folder, cases)
        stores = {name: CaptionStore(folder / "captions" / name) for name in study.datasets}
        stats = [
            caption_volumes(
                _volumes(study, name, cases[name]),
                study.open(name).info,
                captioner,
                stores[name],
                patch,
                caption_step(study, name),
                settings.seed,
                settings.prefix_file_name,
            )
            for name in study.datasets
        ]
        texts = sorted({t for n, store in stores.items() for t in store.unique_texts(cases[n])})
        embeddings = _embed(study, folder, texts)
        paths.write_json(folder / TEXTS, texts)
        with paths.atomic(folder / EMBEDDINGS) as temporary:
            save_file({"embeddings": embeddings.contiguous()}, temporary)
    agreement, chance = _agreement(study, stores, cases)
    record(
        folder / RESULT,
        study,
        "text",
        study.datasets,
        used,
        to_dict(settings) | {"captioner_name": captioner.name},
        study.pool_hashes(cases),
        f"caption {' '.join(study.datasets)}",
        contents=study.pool_contents(cases),
        n_train=sum(map(len, cases.values())),
        summary={
            "captions": sum(s["captions"] for s in stats),
            "unique": len(texts),
            "filtered": sum(s["filtered"] for s in stats),
            "agreement": agreement,
            "agreement_by_chance": chance,
        },
    )


def caption_step(study: Study, name: str) -> tuple[int, ...]:
    """Step of the caption grid: as set, as released for the modality, or empty for half a patch."""
    settings = study.settings("text")
    released = RELEASED_STEPS[study.open(name).info.modality] if settings.released_grid else ()
    return settings.grid_step or released


def caption_samples(study: Study, name: str, case: str) -> list[Sample]:
    """What the captioner sees of a case, position by position, and what was measured there.

    Measured on the slice that it sees; on the whole patch for ``describe``, which reads that.
    """
    return samples_of(
        case,
        study.pool_image(name, case).numpy(),
        study.pool_spacing(name, case),
        study.open(name).info,
        study.settings("pretrain").patch,
        caption_step(study, name),
        study.settings("text").seed,
        of_slice=study.settings("text").captioner != "describe",
    )


def caption_pairs(study: Study, run: CaptionRun, name: str, count: int) -> list[CaptionPair]:
    """At most ``count`` captions beside what was measured on the same patches.

    Case after case, each time at another position.
    """
    axes, pairs, samples = study.settings("text").axes, {}, {}
    for number in range(count):
        case = run.cases[name][number % len(run.cases[name])]
        rows = run.stores[name].rows(case)
        place = number * 5 % len(rows)
        if (case, place) in pairs:
            continue
        if case not in samples:
            samples[case] = caption_samples(study, name, case)
        sample = samples[case][place]
        pairs[case, place] = CaptionPair(
            sample.pixels, list(sample.origin), rows[place]["text"], sample.facts.sentence(axes)
        )
    return list(pairs.values())


def _captioner(study: Study, folder: Path, cases: dict[str, list[str]]) -> Captioner:
    """The captioner of the settings; the embedded one is trained on the pool first."""
    settings = study.settings("text")
    if settings.captioner != EMBEDDED:
        return load_captioner(settings.captioner, settings.prompt or None, settings.axes)
    slices, texts = [], []
    for name in study.datasets:
        # Another seed than the captions', so that the slices it learns from are not those that it
        # captions.
        found = describe_slices(
            _volumes(study, name, cases[name]),
            study.open(name).info,
            study.settings("pretrain").patch,
            caption_step(study, name),
            settings.axes,
            settings.seed + 1,
            SLICES_PER_PATCH,
        )
        slices += found[0]
        texts += found[1]
    captioner = folder / "captioner"
    train_blip(
        slices,
        texts,
        captioner,
        steps=settings.captioner_steps,
        image_size=settings.image_size,
        seed=settings.seed,
    )
    return load_captioner(captioner)


def load_text_encoder(study: Study, run: CaptionRun) -> TextEncoder:
    """The text encoder that embedded the captions of a run."""
    encoder = study.settings("text").encoder
    return TextEncoder.from_pretrained(run.folder / ENCODER if encoder == EMBEDDED else encoder)


def _embed(study: Study, folder: Path, texts: list[str]) -> torch.Tensor:
    """Text embeddings (U, T); the embedded encoder is trained on the captions first."""
    settings = study.settings("text")
    if settings.captioner == NONE:
        return torch.zeros(len(texts), 1)
    source: str | Path = settings.encoder
    if source == EMBEDDED:
        source = folder / ENCODER
        train_text_encoder(texts, source, steps=settings.encoder_steps, seed=settings.seed)
    return TextEncoder.from_pretrained(source).embed(texts)


def _agreement(
    study: Study, stores: dict[str, CaptionStore], cases: dict[str, list[str]]
) -> tuple[float, float]:
    """Mean share of words that a caption and a description have in common (Jaccard index).

    Of what was measured on the same slice (or patch), and, as chance level, of the one that comes
    half a list later.
    """
    written, measured = [], []
    axes = study.settings("text").axes
    for name, ids in cases.items():
        for case in ids[:: max(1, len(ids) // AUDITED)]:
            written += [_words(row["text"]) for row in stores[name].rows(case)]
            measured += [_words(s.facts.sentence(axes)) for s in caption_samples(study, name, case)]
    shift = len(measured) // 2
    other = measured[shift:] + measured[:shift]

    def mean(others: list[set[str]]) -> float:
        pairs = zip(written, others, strict=True)
        return float(np.mean([_shared(a, b) for a, b in pairs]))

    return mean(measured), mean(other)


def _shared(first: set[str], second: set[str]) -> float:
    """Jaccard index; 1 for two empty texts."""
    return len(first & second) / len(first | second) if first | second else 1.0


def _words(text: str) -> set[str]:
    return set(text.lower().replace(",", " ").split())


def _volumes(
    study: Study, name: str, cases: list[str]
) -> Iterator[tuple[str, np.ndarray, tuple[float, float, float]]]:
    for case in cases:
        yield case, study.pool_image(name, case).numpy(), study.pool_spacing(name, case)
