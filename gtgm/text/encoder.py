"""The frozen text encoder: BioBERT by id, or a small BERT that is trained on the captions here.

The embedding of a text is [CLS] of the last hidden state (`released_settings.csv`, text encoder).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from gtgm import paths
from gtgm.errors import DataError
from gtgm.loop import make_schedule
from gtgm.loop import steps as progress
from gtgm.progress import tqdm
from gtgm.text.hub import load_pretrained, load_weights, quiet
from gtgm.text.tokenizer import build_tokenizer
from gtgm.text.trained import RECORD, trained

MAX_TOKENS = 128
MASKED = 0.15
PHRASES = 1000


class TextEncoder:
    """A text model of transformers whose weights are never changed.

    Attributes:
        dim: length of an embedding (768 for BioBERT, 128 for the small BERT).
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.dim = int(model.config.hidden_size)

    @classmethod
    def from_pretrained(cls, source: str | Path) -> TextEncoder:
        """Load by folder or hub id, such as ``dmis-lab/biobert-v1.1``; on a GPU if there is one.

        Raises:
            DataError, WeightsError: see :mod:`gtgm.text.hub`.
        """
        tokenizer = load_pretrained(AutoTokenizer, source)
        model = load_weights(AutoModel, source)
        return cls(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """[CLS] of each text.

        Equal texts are computed once and get equal rows. Texts are cut at 128 tokens and padded to
        the longest of their batch.

        Args:
            texts: N captions.
            batch_size: texts per call of the model.

        Returns:
            float32 (N, dim), on the CPU.
        """
        if not texts:
            return torch.zeros(0, self.dim)
        # Neighbours of similar length need little padding.
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        parts = []
        for start in tqdm(range(0, len(unique), batch_size), desc="embeddings", leave=False):
            tokens = self.tokenizer(
                unique[start : start + batch_size],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            ).to(self.model.device)
            parts.append(self.model(**tokens).last_hidden_state[:, 0].float().cpu())
        place = {text: i for i, text in enumerate(unique)}
        return torch.cat(parts)[[place[text] for text in texts]]


def train_text_encoder(
    texts: Sequence[str],
    folder: str | Path,
    steps: int = 300,
    batch: int = 32,
    lr: float = 3e-3,
    hidden: int = 128,
    layers: int = 2,
    seed: int = 0,
    show: bool = True,
) -> dict[str, Any]:
    """Train a small BERT on captions and save it for :meth:`TextEncoder.from_pretrained`.

    Two objectives of equal weight. Masked language modelling (Devlin et al. 2019: 15 % of the
    tokens, of these 80 % masked, 10 % replaced, 10 % kept), which alone leaves [CLS] untrained. And
    a bag of phrases: [CLS], of the masked text, predicts by one linear layer which of the most
    frequent runs of one to three words the whole caption has. So [CLS] holds what is said of what,
    and captions with common phrases lie near each other.

    A folder that holds the same training (settings and texts) is left as it is.

    Args:
        texts: captions; equal ones count once.
        folder: gets config.json, model.safetensors, tokenizer files and training.json.
        steps, batch, lr: AdamW with warm-up and cosine decay.
        hidden, layers: size of the model.
        seed: of weights, batches and masks.
        show: a progress bar.

    Returns:
        What training.json holds: key, settings, parameters, vocabulary, ``loss`` as
        ``[[step, total], …]``, and the same of each objective, ``mlm`` and ``phrases``.

    Raises:
        DataError: there are no texts.
    """
    unique = sorted(set(texts))
    if not unique or not all(text.strip() for text in unique):
        raise DataError(
            f"{len(unique)} texts, empty ones among them" if unique else "there are no texts",
            expected="at least one caption, none of them empty",
        )
    folder = Path(folder)
    settings = {"steps": steps, "batch": batch, "lr": lr, "hidden": hidden, "layers": layers}
    settings["seed"] = seed
    key = hashlib.sha256(json.dumps([settings, unique]).encode()).hexdigest()[:16]
    if stats := trained(folder, key):
        return stats
    tokenizer = build_tokenizer(unique)
    tokens = tokenizer(
        unique, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 32),
        intermediate_size=2 * hidden,
        max_position_embeddings=MAX_TOKENS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.05,
    )
    counter = CountVectorizer(
        ngram_range=(1, 3), binary=True, max_features=PHRASES, token_pattern=r"\w+|[^\w\s]"
    )
    phrases = torch.from_numpy(counter.fit_transform(unique).toarray()).float()  # (N, P)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = _Learner(BertModel(config), phrases.shape[1])
        _place_words(learner.bert.embeddings.position_embeddings.weight)
        curves = _fit(learner, tokens, phrases, tokenizer, steps, batch, lr, seed, show)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        learner.bert.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    stats = {
        "key": key,
        "settings": settings,
        "parameters": learner.bert.num_parameters(),
        "vocabulary": len(tokenizer),
        "texts": len(unique),
        **curves,
    }
    paths.write_json(folder / RECORD, stats)
    return stats


class _Learner(nn.Module):
    """BERT with its two heads; only BERT is saved."""

    def __init__(self, bert: BertModel, phrases: int) -> None:
        super().__init__()
        self.bert = bert
        width, vocabulary = bert.config.hidden_size, bert.config.vocab_size
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.bag = nn.Linear(width, phrases)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token logits (B, L, V), tied to the input embedding, and phrase logits (B, P)."""
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        embedding = self.bert.embeddings.word_embeddings.weight
        return F.linear(self.transform(hidden), embedding, self.bias), self.bag(hidden[:, 0])


def _fit(
    learner: _Learner,
    tokens: Any,
    phrases: torch.Tensor,
    tokenizer: Any,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    show: bool,
) -> dict[str, list[list[float]]]:
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    special = torch.tensor(tokenizer.all_special_ids)
    vocabulary = len(tokenizer)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=lr, weight_decay=0.01)
    schedule = make_schedule(optimizer, "onecycle", steps)
    generator = np.random.default_rng(seed)
    curves: dict[str, list[list[float]]] = {"loss": [], "mlm": [], "phrases": []}
    learner.train()
    for step in progress(0, steps, "BERT", show):
        rows = torch.from_numpy(generator.integers(len(ids), size=batch))
        masked, labels = _mask(ids[rows], special, tokenizer.mask_token_id, vocabulary)
        logits, bag = learner(masked, mask[rows])
        mlm = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)
        # The sum over phrases, brought to the scale of the other loss; a caption has about 60.
        said = F.binary_cross_entropy_with_logits(bag, phrases[rows], reduction="sum")
        said = said / (batch * 10)
        loss = mlm + said
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for name, value in (("loss", loss), ("mlm", mlm), ("phrases", said)):
            curves[name].append([step + 1, round(value.item(), 5)])
    learner.eval()
    return curves


@torch.no_grad()
def _place_words(position: torch.Tensor) -> None:
    """Start the positions (L, width) as sines and cosines (Vaswani et al. 2017).

    With random ones, a short training does not learn which word stands beside which, and "large
    bright, small dark" has the embedding of "small bright, large dark".
    """
    length, width = position.shape
    angle = torch.arange(length)[:, None] * 1e3 ** -torch.linspace(0, 1, width // 2)
    position.copy_(0.1 * torch.cat([angle.sin(), angle.cos()], 1))


def _mask(
    ids: torch.Tensor, special: torch.Tensor, mask_id: int, vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masked input and labels (−100 where nothing is asked); at least one token of the batch."""
    usable = ~torch.isin(ids, special)
    chosen = usable & (torch.rand(ids.shape) < MASKED)
    if not chosen.any():
        chosen = usable & (usable.cumsum(1) == 1)
    labels = ids.masked_fill(~chosen, -100)
    dice = torch.rand(ids.shape)
    replaced = torch.where(dice < 0.9, torch.randint_like(ids, len(special), vocabulary), ids)
    changed = torch.where(dice < 0.8, torch.full_like(ids, mask_id), replaced)
    return torch.where(chosen, changed, ids), labels
