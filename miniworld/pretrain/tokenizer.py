"""A CLIP tokenizer (byte-level BPE with "</w>"): every word of the captions is one token."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own splitting rule: words, single digits, runs of other characters.
PIECES = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def train_tokenizer(captions: Iterable[str], max_tokens: int) -> CLIPTokenizer:
    """Merge until every word is one token.

    The vocabulary keeps all bytes, so any other text still survives the round trip.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PIECES, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    texts = sorted(set(captions)) + ["A photo of a person."] * 2
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=20_000,
            min_frequency=1,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    merges = _merges(learner)
    tokens = (
        alphabet + [f"{letter}</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    )
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*tokens, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_tokens)


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    """Pairs of the learner's merges, which some versions of tokenizers write as one text."""
    merges = json.loads(learner.to_str())["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [(first, second) for first, second in pairs]


def check(tokenizer: CLIPTokenizer, captions: Iterable[str]) -> None:
    """Every caption survives the round trip, word for token, within the model's length."""
    words: set[str] = set()
    for caption in set(captions):
        words |= {*caption.lower().replace(",", " ").replace(".", " ").split()}
    split = [w for w in sorted(words) if w.isalpha() and len(tokenizer.tokenize(w)) != 1]
    assert not split, f"these words are more than one token: {split}"
    longest = max(len(ids) for ids in tokenizer(sorted(set(captions)))["input_ids"])
    assert longest <= tokenizer.model_max_length, (
        f"the longest caption has {longest} tokens, max_tokens is {tokenizer.model_max_length}"
    )
    for text in ["A photo of a person.", "été 42 — ¿qué?"]:
        again = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
        assert again.replace(" ", "") == text.lower().replace(" ", ""), text


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer that a folder holds."""
    return CLIPTokenizer.from_pretrained(folder)
