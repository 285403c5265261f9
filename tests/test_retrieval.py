"""Retrieval against a loop; ties never help."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gtgm.retrieval import retrieval, similarity_matrix


def test_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(30, 6, generator=generator), torch.randn(8, 6, generator=generator)
    owner = torch.randint(8, (30,), generator=generator)
    scores = retrieval(image, text, owner)
    hits = {1: 0, 5: 0}
    for i in range(30):
        cosine = [
            float(np.dot(image[i], t) / np.linalg.norm(image[i]) / np.linalg.norm(t)) for t in text
        ]
        ranking = sorted(range(8), key=lambda j: -cosine[j])
        for k in hits:
            hits[k] += int(owner[i]) in ranking[:k]
    assert scores["r@1"] == pytest.approx(hits[1] / 30)
    assert scores["r@5"] == pytest.approx(hits[5] / 30)
    assert scores["chance"] == 1 / 8
    assert scores["captions"] == 8


def test_perfect_and_constant_answers():
    text = torch.eye(5)
    owner = torch.tensor([0, 1, 2, 3, 4, 4])
    assert retrieval(text[owner], text, owner)["r@1"] == 1
    constant = retrieval(torch.ones(6, 5), torch.ones(5, 5), owner)
    assert constant["r@1"] == 0
    assert constant["most_common"] == pytest.approx(2 / 6)


def test_similarity_is_a_cosine():
    a = torch.randn(4, 3)
    assert torch.allclose(similarity_matrix(a, 2 * a).diagonal(), torch.ones(4), atol=1e-6)
