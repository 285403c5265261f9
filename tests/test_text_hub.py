"""Loading models: folders, ids, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from gtgm.errors import DataError, WeightsError
from gtgm.text.hub import is_folder, load_pretrained, load_weights


@pytest.fixture
def bert(tmp_path):
    config = BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_a_folder_loads_in_evaluation_mode(bert):
    model = load_weights(AutoModel, bert)
    saved = load_file(bert / "model.safetensors")
    assert not model.training
    assert torch.equal(
        model.state_dict()["embeddings.word_embeddings.weight"],
        saved["embeddings.word_embeddings.weight"],
    )


def test_missing_weights_are_an_error_and_a_missing_pooler_is_not(bert):
    weights = load_file(bert / "model.safetensors")
    kept = {k: v for k, v in weights.items() if not k.startswith("pooler.")}
    save_file(kept, bert / "model.safetensors", {"format": "pt"})
    load_weights(AutoModel, bert)
    kept.pop("encoder.layer.0.output.dense.weight")
    save_file(kept, bert / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match="1 weights are missing.*output.dense.weight"):
        load_weights(AutoModel, bert)


def test_pickled_weights_are_refused(bert):
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    with pytest.raises(DataError, match="safetensors"):
        load_weights(AutoModel, bert)


def test_an_absent_or_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no such model folder"):
        load_pretrained(AutoTokenizer, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="complete the folder"):
        load_weights(AutoModel, tmp_path / "empty")


def test_an_id_without_network_says_what_to_do(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="no-org/no-model.*network.*name its folder"):
        load_weights(AutoModel, "no-org/no-model")


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("dmis-lab/biobert-v1.1", False), ("bert-base-uncased", False), ("./x", True),
        ("/a/b", True), ("a/b/c", True), (Path("x"), True),
    ],
)  # fmt: skip
def test_folder_or_id(source, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_folder(source) is folder
    (tmp_path / "own-blip").mkdir()
    assert is_folder("own-blip")
