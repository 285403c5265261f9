"""BLIP captions by transformers, and a small BLIP that is trained here.

The paper's generator is `BlipForConditionalGeneration` with an unpublished checkpoint. The small
one has the same class with a small configuration (two vision and two text layers of width 128),
learns slice → description, and is read back by the same call as a published one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

from gtgm import paths
from gtgm.errors import DataError, SettingsError
from gtgm.loop import make_schedule
from gtgm.loop import steps as progress
from gtgm.text.describe import Facts
from gtgm.text.hub import is_folder, load_pretrained, load_weights, quiet
from gtgm.text.tokenizer import build_tokenizer
from gtgm.text.trained import RECORD, trained

MAX_TOKENS = 48
PATCH = 16
#: Captions of other slices that are remembered.
KNOWN = 100_000


class BlipCaptioner:
    """Unconditional BLIP captions, greedy, at most 50 tokens as in the release.

    Equal slices are captioned once.

    Args:
        model, processor: of transformers.
        name: written beside each caption.
        batch_size: slices per call of the model.
    """

    def __init__(
        self, model: Any, processor: Any, name: str, batch_size: int = 64, max_new_tokens: int = 50
    ) -> None:
        self.model, self.processor, self.name = model, processor, name
        self.batch_size, self.max_new_tokens = batch_size, max_new_tokens
        self._known: dict[bytes, str] = {}

    @classmethod
    def from_pretrained(cls, source: str | Path, batch_size: int | None = None) -> BlipCaptioner:
        """Load by folder or hub id; on a GPU, if there is one, in half precision.

        Args:
            source: folder or id.
            batch_size: slices per call of the model; by default 64, on a GPU 256.

        Raises:
            DataError, WeightsError: see :mod:`gtgm.text.hub`.
        """
        gpu = torch.cuda.is_available()
        processor = load_pretrained(AutoProcessor, source)
        dtype = torch.float16 if gpu else torch.float32
        model = load_weights(BlipForConditionalGeneration, source, dtype=dtype)
        model = model.to("cuda" if gpu else "cpu")
        name = model_name(source) + ("[float16]" if gpu else "")
        return cls(model, processor, name, batch_size or (256 if gpu else 64))

    def __call__(self, slices: Sequence[np.ndarray], facts: Sequence[Facts] = ()) -> list[str]:
        keys = [hashlib.sha256(_bytes(pixels)).digest() for pixels in slices]
        new = {k: p for k, p in zip(keys, slices, strict=True) if k not in self._known}
        found = dict(zip(new, self._generate(list(new.values())), strict=True))
        captions = [found[k] if k in found else self._known[k] for k in keys]
        if len(self._known) > KNOWN:
            self._known.clear()
        self._known |= found
        return captions

    @torch.no_grad()
    def _generate(self, slices: Sequence[np.ndarray]) -> list[str]:
        captions = []
        for start in range(0, len(slices), self.batch_size):
            images = _pictures(slices[start : start + self.batch_size])
            pixels = self.processor(images=images, return_tensors="pt")["pixel_values"]
            out = self.model.generate(
                pixel_values=pixels.to(self.model.device, self.model.dtype),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                num_beams=1,
            )
            texts = self.processor.batch_decode(out, skip_special_tokens=True)
            captions += [" ".join(text.replace(" ,", ",").split()) for text in texts]
        return captions


def train_blip(
    slices: Sequence[np.ndarray],
    texts: Sequence[str],
    folder: str | Path,
    steps: int = 300,
    image_size: int = 64,
    batch: int = 32,
    lr: float = 2e-3,
    seed: int = 0,
    show: bool = True,
) -> dict[str, Any]:
    """Train the small BLIP on slices and their descriptions, and save it.

    A folder that holds the same training (settings, slices and texts) is left as it is.

    Args:
        slices: uint8 (H, W), any sizes.
        texts: one per slice.
        folder: gets config.json, model.safetensors, processor and tokenizer files, training.json.
        steps, batch, lr: AdamW with warm-up and cosine decay.
        image_size: side that slices are resized to; a multiple of 16.
        seed: of weights and batches.
        show: a progress bar.

    Returns:
        What training.json holds: key, settings, parameters, vocabulary, ``loss`` as
        ``[[step, value], …]``.

    Raises:
        DataError: no slices, not as many texts as slices, or a slice that is not uint8 (H, W).
        SettingsError: ``image_size`` is no multiple of 16.
    """
    _check_pairs(slices, texts)
    if image_size < PATCH or image_size % PATCH:
        raise SettingsError(f"image_size is {image_size}", expected=f"a multiple of {PATCH}")
    folder = Path(folder)
    settings = {"steps": steps, "image_size": image_size, "batch": batch, "lr": lr, "seed": seed}
    key = _key(settings, slices, texts)
    if stats := trained(folder, key):
        return stats
    tokenizer = build_tokenizer(texts)
    processor = BlipProcessor(
        BlipImageProcessorPil(
            size={"height": image_size, "width": image_size},
            image_mean=[0.5] * 3,
            image_std=[0.25] * 3,
        ),
        tokenizer,
    )
    pixels = _pixels(processor, slices)  # (N, 1, S, S)
    tokens = tokenizer(
        list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BlipForConditionalGeneration(_config(tokenizer, image_size))
        _place_patches(model.vision_model.embeddings)
        loss = _fit(model, pixels, tokens, steps, batch, lr, seed, show)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    stats = {
        "key": key,
        "settings": settings,
        "parameters": model.num_parameters(),
        "vocabulary": len(tokenizer),
        "pairs": len(texts),
        "unique_texts": len(set(texts)),
        "loss": loss,
    }
    paths.write_json(folder / RECORD, stats)
    return stats


def model_name(source: str | Path) -> str:
    """A hub id, or a folder's name and a short hash of its weights: no path in it."""
    if not is_folder(source):
        return str(source)
    weights = sorted(Path(source).glob("*.safetensors"))
    digest = hashlib.sha256("".join(map(paths.sha256, weights)).encode()).hexdigest()[:8]
    return f"{Path(source).resolve().name}@{digest}"


def _fit(
    model: torch.nn.Module,
    pixels: torch.Tensor,
    tokens: Any,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    show: bool,
) -> list[list[float]]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    schedule = make_schedule(optimizer, "onecycle", steps)
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    order = np.random.default_rng(seed)
    queue: list[int] = []
    curve = []
    model.train()
    for step in progress(0, steps, "BLIP", show):
        while len(queue) < batch:
            queue += order.permutation(len(ids)).tolist()
        rows, queue = queue[:batch], queue[batch:]
        length = int(mask[rows].sum(1).max())
        words, seen = ids[rows, :length], mask[rows, :length]
        out = model(
            pixel_values=pixels[rows].expand(-1, 3, -1, -1),
            input_ids=words,
            attention_mask=seen,
            labels=words.masked_fill(seen == 0, -100),
        )
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        curve.append([step + 1, round(out.loss.item(), 5)])
    model.eval()
    return curve


def _config(tokenizer: Any, image_size: int) -> BlipConfig:
    width = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    vision = BlipVisionConfig(
        **width,
        num_hidden_layers=2,
        image_size=image_size,
        patch_size=PATCH,
        # BLIP's default of 1e-10 is for weights that are loaded anyway.
        initializer_range=0.02,
    )
    text = BlipTextConfig(
        **width,
        num_hidden_layers=2,
        projection_dim=128,
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        sep_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return BlipConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128
    )


@torch.no_grad()
def _place_patches(embeddings: torch.nn.Module) -> None:
    """Start the position embedding as 2D sines and cosines, which a short training can use."""
    position = embeddings.position_embedding  # (1, 1 + S*S, width)
    side, width = round((position.shape[1] - 1) ** 0.5), position.shape[2]
    frequency = 100.0 ** -torch.linspace(0, 1, width // 4)
    angle = torch.arange(side)[:, None] * frequency  # (S, width / 4)
    wave = torch.cat([angle.sin(), angle.cos()], 1)  # (S, width / 2)
    rows, columns = wave[:, None].expand(-1, side, -1), wave[None].expand(side, -1, -1)
    position[0, 1:] = 0.2 * torch.cat([rows, columns], 2).flatten(0, 1)


def _pixels(processor: BlipProcessor, slices: Sequence[np.ndarray]) -> torch.Tensor:
    """What the model sees of each slice; the three equal colour channels are kept once."""
    parts = [
        processor(images=_pictures(slices[i : i + 64]), return_tensors="pt")["pixel_values"][:, :1]
        for i in range(0, len(slices), 64)
    ]
    return torch.cat(parts)


def _pictures(slices: Sequence[np.ndarray]) -> list[Image.Image]:
    return [Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB") for pixels in slices]


def _bytes(pixels: np.ndarray) -> bytes:
    """Shape and grey values of a slice."""
    return str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()


def _key(settings: dict[str, Any], slices: Sequence[np.ndarray], texts: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([settings, list(texts)]).encode())
    for pixels in slices:
        digest.update(_bytes(pixels))
    return digest.hexdigest()[:16]


def _check_pairs(slices: Sequence[np.ndarray], texts: Sequence[str]) -> None:
    if not len(slices) or len(slices) != len(texts):
        raise DataError(
            f"{len(slices)} slices and {len(texts)} texts", expected="one text for each slice"
        )
    for pixels in slices:
        if pixels.ndim != 2 or pixels.dtype != np.uint8:
            raise DataError(f"a slice is {pixels.dtype} {pixels.shape}", expected="uint8 (H, W)")
