"""Saliency of a caption: against similarities measured by hand, and by what it must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gtgm.methods import METHODS
from gtgm.models.encoder import build_encoder
from gtgm.pretrain import make_objective
from gtgm.saliency import CaptionSimilarity, text_saliency
from gtgm.settings import PretrainSettings
from gtgm.text.tower import FrozenText

SHAPE = (16, 16, 24)


class Halves(nn.Module):
    """Sees the means of the two halves along z; caption 0 is about the first, 1 the second."""

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        return torch.stack([half.mean((1, 2, 3, 4)) for half in patches.chunk(2, dim=2)], 1)

    def embed_captions(self, captions: torch.Tensor) -> torch.Tensor:
        return torch.eye(2)[captions]


@pytest.fixture
def patch() -> torch.Tensor:
    return torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0)) + 2


def trained() -> nn.Module:
    torch.manual_seed(0)
    settings = PretrainSettings(width=16, embedding=8)
    text = FrozenText(torch.randn(3, 5))
    model = make_objective(METHODS["gtgm"].objective, build_encoder("unet"), settings, text)
    with torch.no_grad():  # statistics of the heads
        for _ in range(3):
            model([torch.randn(4, 1, *SHAPE)] * 2, torch.tensor([0, 1, 2, 0]))
    return model.eval()


def test_similarity_is_the_cosine_of_the_projections(patch: torch.Tensor) -> None:
    model = trained()
    with torch.no_grad():
        expected = F.cosine_similarity(
            model.embed(patch[None]), model.embed_captions(torch.tensor([2, 0]))
        )
        assert torch.allclose(CaptionSimilarity(model, [2, 0])(patch[None])[0], expected)


@pytest.mark.parametrize("captions", [[1], [0, 2]])
def test_without_overlap_each_box_is_the_fall_measured_by_hand(
    patch: torch.Tensor, captions: list[int]
) -> None:
    model, box = trained(), (8, 8, 8)
    similarity = CaptionSimilarity(model, captions)
    found = text_saliency(similarity, patch, box, overlap=0)
    assert found.shape == (len(captions), *SHAPE)
    with torch.no_grad():
        whole = similarity(patch[None])[0]
        for corner in ((0, 0, 0), (8, 0, 16), (0, 8, 8)):
            here = tuple(slice(c, c + b) for c, b in zip(corner, box, strict=True))
            hidden = patch.clone()
            hidden[0][here] = patch.mean()
            fall = whole - similarity(hidden[None])[0]
            for part, expected in zip(found, fall, strict=True):
                np.testing.assert_allclose(part[here], expected, atol=1e-5)


def test_a_caption_needs_only_what_it_is_about(patch: torch.Tensor) -> None:
    patch[:, :, :8] *= 3  # darker boxes next to bright ones: hiding changes the mean
    first, second = text_saliency(CaptionSimilarity(Halves(), [0, 1]), patch, (4, 4, 4))
    # What lowers the share of one half raises that of the other.
    for part in (slice(0, 6), slice(10, 16)):
        assert np.sign(first[part].mean()) == -np.sign(second[part].mean())
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) > 0.9
    assert first.std() > 0


def test_a_flat_patch_has_no_salient_place() -> None:
    flat = torch.full((1, *SHAPE), 3.0)
    assert np.abs(text_saliency(CaptionSimilarity(trained(), [0, 1]), flat)).max() < 1e-5


def test_looking_leaves_the_model_as_it_was(patch: torch.Tensor) -> None:
    model = trained()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    text_saliency(CaptionSimilarity(model, [0]), patch)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
