"""The text encoder: [CLS], padding, and what the small BERT learns."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from gtgm.errors import DataError
from gtgm.text.encoder import TextEncoder, train_text_encoder

TEXTS = [
    f"axial MRI of the hippocampus, {place} part, {level} signal, {a} bright structure, {b} dark"
    for place, level, a, b in itertools.product(
        ("lower", "upper", "middle"), ("low", "high"), ("one large", "no"), ("one small", "several")
    )
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    return folder, train_text_encoder(TEXTS, folder, steps=150, show=False)


def test_both_losses_fall(trained):
    for name in ("loss", "mlm", "phrases"):
        values = [value for _, value in trained[1][name]]
        assert len(values) == 150 and np.mean(values[-15:]) < 0.4 * np.mean(values[:15])


def test_embedding_is_cls_without_padding(trained):
    folder, _ = trained
    encoder = TextEncoder.from_pretrained(folder)
    short, long = "upper part", TEXTS[0]
    got = encoder.embed([long, short, long])
    assert got.shape == (3, encoder.dim) == (3, 128) and got.dtype == torch.float32
    assert torch.equal(got[0], got[2])
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text, row in zip((long, short), got, strict=False):
        with torch.no_grad():
            alone = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.embed(TEXTS, 3), encoder.embed(TEXTS, 64), atol=1e-5, rtol=0)


def test_frozen(trained):
    encoder = TextEncoder.from_pretrained(trained[0])
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert not encoder.model.training and not encoder.embed(TEXTS[:2]).requires_grad
    assert encoder.embed([]).shape == (0, 128)
    assert encoder.embed(["word " * 500]).isfinite().all()  # cut at 128 tokens


def test_distinct_captions_are_distinct_and_related_ones_near(trained):
    embedded = F.normalize(TextEncoder.from_pretrained(trained[0]).embed(TEXTS), dim=1)
    similarity = (embedded @ embedded.T).numpy()
    pairs = list(itertools.combinations(range(len(TEXTS)), 2))
    assert max(similarity[i, j] for i, j in pairs) < 0.995
    shared = [len(set(TEXTS[i].split(", ")) & set(TEXTS[j].split(", "))) for i, j in pairs]
    values = np.array([similarity[i, j] for i, j in pairs])
    near, far = (values[np.array(shared) == n].mean() for n in (4, 1))
    assert near > far + 0.2


def test_which_word_belongs_to_which_matters(tmp_path):
    texts = [
        f"{a} bright structure, {b} dark structure"
        for a, b in itertools.permutations(("one small", "one large", "several fine", "no"), 2)
    ]
    train_text_encoder(texts, tmp_path, steps=200, show=False)
    embedded = F.normalize(TextEncoder.from_pretrained(tmp_path).embed(texts), dim=1)
    swapped = [
        texts.index(t.replace("bright", "*").replace("dark", "bright").replace("*", "dark"))
        for t in [", ".join(reversed(t.split(", "))) for t in texts]
    ]
    assert (embedded * embedded[swapped]).sum(1).max() < 0.98


def test_saved_safely_and_not_trained_again(trained):
    folder, stats = trained
    assert (folder / "model.safetensors").is_file() and not list(folder.glob("*.bin"))
    assert json.loads((folder / "training.json").read_text()) == stats
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert train_text_encoder(TEXTS[::-1] + TEXTS, folder, steps=150, show=False) == stats
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_one_caption_is_enough_and_none_is_not(tmp_path):
    stats = train_text_encoder(["MRI of the hippocampus"], tmp_path, steps=3, show=False)
    assert all(np.isfinite(value) for _, value in stats["loss"])
    assert TextEncoder.from_pretrained(tmp_path).embed(["MRI of the brain"]).shape == (1, 128)
    with pytest.raises(DataError, match="no texts"):
        train_text_encoder([], tmp_path)
    with pytest.raises(DataError, match="empty"):
        train_text_encoder(["a", " "], tmp_path)


def test_seed_decides(tmp_path):
    runs = [
        train_text_encoder(TEXTS, tmp_path / str(i), steps=3, seed=seed, show=False)["loss"]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert runs[0] == runs[1] != runs[2]
