"""A WordPiece tokenizer made from the captions themselves."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable

from transformers import BertTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def build_tokenizer(texts: Iterable[str], vocabulary: int = 2000) -> BertTokenizer:
    """Lower-case WordPiece over ``texts``, in the class that BERT and BLIP use.

    The vocabulary is single characters, at the beginning of a word and inside it, and the most
    frequent whole words; any other word is spelt. Equal texts give equal vocabularies, which the
    trainer of `tokenizers` does not promise.

    Args:
        texts: captions.
        vocabulary: most entries, special ones and characters included.
    """
    splitter = BertTokenizer().backend_tokenizer
    normalise = splitter.normalizer.normalize_str
    words = Counter(
        word
        for text in texts
        for word, _ in splitter.pre_tokenizer.pre_tokenize_str(normalise(text))
    )
    letters = sorted({*string.ascii_lowercase, *string.digits}.union(*words))
    tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    whole = sorted((word for word in words if len(word) > 1), key=lambda w: (-words[w], w))
    tokens += whole[: max(0, vocabulary - len(tokens))]
    vocab = {token: number for number, token in enumerate(tokens)}
    return BertTokenizer(vocab=vocab, model_max_length=128)
