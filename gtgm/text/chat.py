"""Captions from a chat vision–language model, such as MedGemma, through transformers."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from gtgm.errors import DataError, SettingsError
from gtgm.precision import has_bf16
from gtgm.text.blip import model_name
from gtgm.text.describe import Facts
from gtgm.text.hub import load_pretrained, load_weights

DEFAULT_PROMPT = (
    "This is one {plane} slice of a patch of {modality} of the {anatomy}. Describe in one short "
    "sentence, as in a figure caption, only what is visible: structures, their brightness, size "
    "and texture. Do not name a diagnosis."
)
PLACEHOLDERS = ("modality", "anatomy", "plane")
MODALITIES = {"EM": "electron microscopy"}


class ChatCaptioner:
    """One chat turn per slice: the picture and the prompt.

    Args:
        model: an image-text-to-text model.
        processor: with a chat template and a tokenizer.
        name: written beside each caption.
        prompt: template with ``{modality}``, ``{anatomy}`` and ``{plane}``, all optional.
        batch_size: slices per call of the model.
        max_new_tokens: longest caption.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        name: str,
        prompt: str = DEFAULT_PROMPT,
        batch_size: int = 4,
        max_new_tokens: int = 50,
    ) -> None:
        if not getattr(processor, "chat_template", None):
            raise DataError(
                "the model has no chat template",
                where=name,
                expected="an image-text-to-text model tuned for chat",
                fix="name another model, or a BLIP without 'chat:'",
            )
        check_prompt(prompt)
        self.model, self.processor, self.prompt = model, processor, prompt
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self.name = f"chat:{name}#{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"
        if model.dtype != torch.float32:
            self.name += f"[{str(model.dtype).removeprefix('torch.')}]"
        processor.tokenizer.padding_side = "left"  # answers begin where the padded prompts end

    @classmethod
    def from_pretrained(
        cls, source: str | Path, prompt: str = DEFAULT_PROMPT, **options: Any
    ) -> ChatCaptioner:
        """Load model and processor by folder or hub id; on a GPU if there is one.

        Raises:
            DataError, WeightsError: see :mod:`gtgm.text.hub`.
        """
        check_prompt(prompt)
        processor = load_pretrained(AutoProcessor, source)
        dtype = "auto" if has_bf16() else torch.float32  # "auto" is often bf16
        model = load_weights(AutoModelForImageTextToText, source, dtype=dtype)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return cls(model.to(device), processor, model_name(source), prompt, **options)

    def __call__(self, slices: Sequence[np.ndarray], facts: Sequence[Facts]) -> list[str]:
        captions = []
        for start in range(0, len(slices), self.batch_size):
            part = slice(start, start + self.batch_size)
            captions += self._answer(slices[part], facts[part])
        return captions

    @torch.no_grad()
    def _answer(self, slices: Sequence[np.ndarray], facts: Sequence[Facts]) -> list[str]:
        conversations = [
            chat_turn(pixels, fill_prompt(self.prompt, fact))
            for pixels, fact in zip(slices, facts, strict=True)
        ]
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self.model.device, self.model.dtype)
        out = self.model.generate(
            **inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1
        )
        answers = out[:, inputs["input_ids"].shape[1] :]
        return [
            " ".join(text.split())
            for text in self.processor.batch_decode(answers, skip_special_tokens=True)
        ]


def chat_turn(pixels: np.ndarray, prompt: str) -> list[dict[str, Any]]:
    """A conversation of one user turn: a uint8 slice (H, W) as picture, then the prompt."""
    picture = Image.fromarray(pixels).convert("RGB")
    content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
    return [{"role": "user", "content": content}]


def fill_prompt(prompt: str, facts: Facts) -> str:
    """The template with the patch's modality, anatomy and plane."""
    modality = MODALITIES.get(facts.modality, facts.modality)
    return prompt.format(
        modality=f"{facts.channel} {modality}".strip(), anatomy=facts.anatomy, plane=facts.plane
    )


def check_prompt(prompt: str) -> None:
    """SettingsError if the template is malformed or has a placeholder that is not known."""
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(prompt) if name is not None}
    except ValueError as error:
        raise SettingsError(f"the prompt is malformed ({error})", where=prompt) from error
    if unknown := sorted(fields - set(PLACEHOLDERS)):
        raise SettingsError(
            f"the prompt has unknown placeholders: {', '.join(map(repr, unknown))}",
            where=prompt,
            expected=", ".join(f"{{{p}}}" for p in PLACEHOLDERS),
            fix="write {{ and }} for literal braces",
        )
