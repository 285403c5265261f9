"""Text inside the training: a table of embeddings, or an encoder whose last layers learn."""

from __future__ import annotations

import pytest
import torch

from gtgm.errors import SettingsError
from gtgm.text.encoder import TextEncoder, train_text_encoder
from gtgm.text.tower import FrozenText, TrainedText

TEXTS = ["a bright part above", "a dark part below", "nothing at all", "two dark and long parts"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    train_text_encoder(TEXTS, folder, steps=2, hidden=32, layers=2, show=False)
    return folder


def test_frozen_text_looks_up_rows_and_learns_nothing():
    table = torch.randn(4, 3)
    tower = FrozenText(table)
    captions = torch.tensor([2, 0, 2])
    assert torch.equal(tower(captions), table[captions])
    assert tower.dim == 3
    assert not list(tower.parameters()) and not tower.state_dict()


def test_trained_text_starts_with_the_frozen_embeddings(encoder_folder):
    expected = TextEncoder.from_pretrained(encoder_folder).embed(TEXTS)
    tower = TrainedText(TextEncoder.from_pretrained(encoder_folder), TEXTS, 1)
    captions = torch.tensor([3, 1, 3, 0])
    torch.testing.assert_close(tower(captions), expected[captions], rtol=1e-4, atol=1e-5)
    assert tower.dim == expected.shape[1]


def test_only_the_last_layers_are_trained(encoder_folder):
    tower = TrainedText(TextEncoder.from_pretrained(encoder_folder), TEXTS, 1)
    tower(torch.tensor([0, 1])).square().sum().backward()
    trained = {name for name, p in tower.named_parameters() if p.grad is not None}
    assert trained and all(".layer.1." in name for name in trained)
    both = TrainedText(TextEncoder.from_pretrained(encoder_folder), TEXTS, 2)
    names = [name for name, p in both.named_parameters() if p.requires_grad]
    assert {name.split(".layer.")[1][0] for name in names} == {"0", "1"}


@pytest.mark.parametrize("layers", [0, 3])
def test_layers_that_are_not_there_are_refused(encoder_folder, layers):
    with pytest.raises(SettingsError, match="text_layers.*1 to 2"):
        TrainedText(TextEncoder.from_pretrained(encoder_folder), TEXTS, layers)
