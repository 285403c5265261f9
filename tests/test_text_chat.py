"""Chat vision–language models, with a tiny random Gemma 3 (the class of MedGemma)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from text_samples import EM, any_facts
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    PreTrainedTokenizerFast,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

from gtgm.errors import DataError, SettingsError
from gtgm.text.captioners import load_captioner
from gtgm.text.chat import DEFAULT_PROMPT, ChatCaptioner, chat_turn, check_prompt, fill_prompt

SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<boi>", "<img>", "<eoi>", "<turn>"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<turn>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<boi>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<turn>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    vocabulary = {w: i for i, w in enumerate([*SPECIAL, *"abcdefghijklmnopqrstuvwxyzMRI ,."])}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    letters.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens={"boi_token": "<boi>", "image_token": "<img>", "eoi_token": "<eoi>"},
    )  # fmt: skip
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 28, "width": 28}),
        tokenizer,
        chat_template=TEMPLATE,
        image_seq_length=4,
    )
    small = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2
    }  # fmt: skip
    text = small | {
        "vocab_size": len(vocabulary), "num_key_value_heads": 1, "head_dim": 16,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "initializer_range": 1.0,
    }  # fmt: skip
    config = Gemma3Config(
        text_config=text,
        vision_config=small | {"image_size": 28, "patch_size": 7, "initializer_range": 0.5},
        mm_tokens_per_image=4,
        image_token_index=vocabulary["<img>"],
        boi_token_index=vocabulary["<boi>"],
        eoi_token_index=vocabulary["<eoi>"],
    )
    torch.manual_seed(0)
    model = Gemma3ForConditionalGeneration(config)
    model.generation_config.suppress_tokens = list(range(len(SPECIAL)))  # it answers in letters
    path = tmp_path_factory.mktemp("chat") / "tiny"
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_answers_without_the_prompt_and_whatever_the_batch(folder):
    prompt = "a {modality} of the {anatomy}."
    rng = np.random.default_rng(0)
    slices = [rng.integers(0, 255, (20, 15 + i)).astype(np.uint8) for i in range(5)]
    measured = [any_facts(), any_facts(EM)] * 2 + [any_facts()]  # prompts of different lengths
    answers = [
        ChatCaptioner.from_pretrained(folder, prompt, batch_size=n, max_new_tokens=6)(
            slices, measured
        )
        for n in (1, 2)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 5 and all(0 < len(a) <= 6 for a in answers[0])
    assert not any("hippocampus" in a for a in answers[0])


def test_setting_names_a_chat_model(folder):
    captioner = load_captioner(f"chat:{folder}")
    assert isinstance(captioner, ChatCaptioner) and captioner.prompt == DEFAULT_PROMPT
    other = load_captioner(f"chat:{folder}", prompt="What is this?")
    assert other.name != captioner.name and str(folder.parent) not in captioner.name


@pytest.mark.parametrize(("bf16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_half_precision_only_where_it_is_fast(folder, tmp_path, monkeypatch, bf16, dtype):
    shutil.copytree(folder, tmp_path / "half")
    model = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    monkeypatch.setattr("gtgm.text.chat.has_bf16", lambda: bf16)
    captioner = load_captioner(f"chat:{tmp_path / 'half'}")
    assert str(captioner.model.dtype) == f"torch.{dtype}"
    assert captioner.name.endswith("[bfloat16]") == bf16  # other captions, another name


def test_prompt_is_filled():
    assert fill_prompt("{plane} {modality} of {anatomy}", any_facts()) == "axial MRI of hippocampus"
    assert "section slice of a patch of electron microscopy" in fill_prompt(
        DEFAULT_PROMPT, any_facts(EM)
    )
    assert fill_prompt("{{literal}}", any_facts()) == "{literal}"


@pytest.mark.parametrize("prompt", ["{organ}", "{0}", "{", "{modality.__class__}"])
def test_wrong_prompts(prompt, folder):
    with pytest.raises(SettingsError, match="prompt"):
        check_prompt(prompt)
    with pytest.raises(SettingsError, match="prompt"):
        load_captioner(f"chat:{folder}", prompt=prompt)


def test_a_turn_holds_the_picture_and_the_prompt():
    (turn,) = chat_turn(np.full((3, 5), 7, np.uint8), "what?")
    picture, text = turn["content"]
    assert turn["role"] == "user" and text == {"type": "text", "text": "what?"}
    assert picture["image"].mode == "RGB" and picture["image"].size == (5, 3)
    assert picture["image"].getpixel((0, 0)) == (7, 7, 7)


def test_a_model_without_chat_template(folder, tmp_path):
    captioner = ChatCaptioner.from_pretrained(folder)
    captioner.processor.chat_template = None
    with pytest.raises(DataError, match="chat template"):
        ChatCaptioner(captioner.model, captioner.processor, "x")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(DataError):
        ChatCaptioner.from_pretrained(tmp_path)
