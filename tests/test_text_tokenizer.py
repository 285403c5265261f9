"""The tokenizer that is made from captions."""

from __future__ import annotations

from transformers import AutoTokenizer

from gtgm.text.tokenizer import build_tokenizer

TEXTS = ["axial MRI of the hippocampus, fine texture", "axial CT of the liver, coarse texture"] * 3


def test_words_are_single_tokens_and_come_back():
    tokenizer = build_tokenizer(TEXTS)
    ids = tokenizer(TEXTS[0])["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "[CLS]", "axial", "mri", "of", "the", "hippocampus", ",", "fine", "texture", "[SEP]",
    ]  # fmt: skip
    decoded = tokenizer.decode(ids, skip_special_tokens=True)
    assert decoded.replace(" ,", ",") == TEXTS[0].lower()


def test_unknown_words_are_spelt():
    tokenizer = build_tokenizer(TEXTS)
    ids = tokenizer("liquid 7")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "liquid 7"


def test_the_most_frequent_words_stay_whole():
    texts = ["common words", "common words", "rare words"]
    small = build_tokenizer(texts, vocabulary=len(build_tokenizer(texts)) - 1)
    assert small.tokenize("common words") == ["common", "words"]
    assert small.tokenize("rare") == ["r", "##a", "##r", "##e"]


def test_order_and_repetition_do_not_matter_and_it_is_saved(tmp_path):
    tokenizer = build_tokenizer(TEXTS)
    assert build_tokenizer(TEXTS[::-1]).get_vocab() == tokenizer.get_vocab()
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert again(TEXTS[1])["input_ids"] == tokenizer(TEXTS[1])["input_ids"]
    assert again.model_max_length == 128
