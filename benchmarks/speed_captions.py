"""Captions: transformers called slice by slice, and this package's captioner.

The embedded captioner is trained here, so that its captions mean something and can be compared.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from benchmarks.measure import timed
from gtgm.stages import Study
from gtgm.stages.captioning import caption_samples
from gtgm.text.blip import BlipCaptioner, train_blip

NAME, UNIT = "captions", "s per slice"
SMALL, BASE = "embedded captioner, slice by slice", "BLIP-base size, slice by slice"
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    SMALL: ("", {}),
    "embedded captioner, gtgm": (SMALL, {"ours": True}),
    BASE: ("", {"base": True}),
    "BLIP-base size, gtgm": (BASE, {"base": True, "ours": True}),
}
DATASET = "Task04_Hippocampus"


def measure(name: str, options: Any) -> dict[str, Any]:
    """Seconds per slice, and how many captions are those of the other way."""
    row = ROWS[name][1]
    samples = _samples(options, 16 if row.get("base") and not torch.cuda.is_available() else 256)
    slices = [sample.pixels for sample in samples]
    with tempfile.TemporaryDirectory() as folder:
        if row.get("base"):
            _random_base(folder)
        else:
            texts = [sample.facts.sentence() for sample in samples]
            train_blip(slices, texts, folder, steps=options.captioner_steps, show=False)
        if not row.get("ours"):
            one_by_one = _one_by_one(folder)
            few = slices[: 8 if row.get("base") else 48]
            return _per_slice(timed(lambda: one_by_one(few), 1, 0), len(few))
        captioner = BlipCaptioner.from_pretrained(folder)
        captioner(slices[:2])
        captions: list[str] = []

        def step() -> None:
            captioner._known.clear()
            captions[:] = captioner(slices)

        found = _per_slice(timed(step, options.repeats), len(slices))
        if not row.get("base"):
            few = _one_by_one(folder)(slices[:48])
            found["same"] = float(np.mean([a == b for a, b in zip(few, captions, strict=False)]))
        return found


def describe(options: Any) -> str:
    """Where the slices are from, for a reader."""
    source = Study((DATASET,), data=options.data or "").open(DATASET).source
    return f"slices of {DATASET} ({source}), at most 50 tokens; BLIP-base has random weights"


def _samples(options: Any, count: int) -> list[Any]:
    study = Study((DATASET,), profile="cpu", data=options.data or "", runs=options.work)
    samples: list[Any] = []
    for case in study.split(DATASET).train(0):
        samples += caption_samples(study, DATASET, case)
        if len(samples) >= count:
            break
    return samples[:count]


def _one_by_one(folder: str) -> Any:
    processor = AutoProcessor.from_pretrained(folder)
    model = BlipForConditionalGeneration.from_pretrained(folder).eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")

    @torch.no_grad()
    def caption(slices: list[np.ndarray]) -> list[str]:
        captions = []
        for pixels in slices:
            image = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
            inputs = processor(images=image, return_tensors="pt").to(model.device)
            out = model.generate(**inputs, max_new_tokens=50)
            text = processor.decode(out[0], skip_special_tokens=True)
            captions.append(" ".join(text.replace(" ,", ",").split()))
        return captions

    return caption


def _per_slice(found: dict[str, Any], count: int) -> dict[str, Any]:
    seconds = [value / count for value in found["all_seconds"]]
    return found | {"seconds": found["seconds"] / count, "all_seconds": seconds}


def _random_base(folder: str) -> None:
    """A BLIP of the published size with random weights, which never end a caption early."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(30519))]
    (Path(folder) / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = BertTokenizerFast(str(Path(folder) / "vocab.txt"))
    BlipProcessor(BlipImageProcessorPil(), tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    BlipForConditionalGeneration(BlipConfig()).save_pretrained(folder)
