"""Small tokenizers of the families that readers have, and a second implementation of their rules.

tokenizer_of("llama3")("Ashby</s>").input_ids    [0, 372, 380, 1]                 <begin> As hby </s>
reference_ids("llama3", "Ashby</s>")             [0, 372, 380, 29, 16, 84, 31]    <begin> As hby < / s >
"""

import json
from functools import cache
from typing import Any

import tiny
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from bitter_retrieval.models.vocabulary import fit_word_tokenizer, fit_wordpiece_tokenizer
from bitter_retrieval.records import passage_texts

SIZE = 420
FAMILIES = {  # tokens before every text
    "gpt2": [],  # byte-level pairs
    "llama3": ["<begin>"],  # byte-level pairs, words that the vocabulary has taken whole
    "llama2": ["<s>"],  # pairs within words that "▁" begins, bytes for what is unknown
    "unigram": ["<s>"],  # sentencepiece's other model, to which the text of a special token is a piece
    "bert": ["[CLS]"],  # WordPiece; [SEP] follows every text
    "word": [],  # one token a word
}
MARKS = ["<user>", "<assistant>", "<end>"]  # of the chat template
TEMPLATE = (
    "{% for said in messages %}<user>{{ said['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LLAMA3 = (  # how Llama 3 splits texts: a mark with the line ends after it, numbers of three digits
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@cache
def tokenizer_of(family: str) -> Any:
    """A tokenizer of the family, made from the world and the odd answers; "chat" is gpt2 with a template."""
    return {
        "gpt2": lambda: _byte_level(models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"]),
        "chat": _chat,
        "llama3": _llama3,
        "llama2": _llama2,
        "unigram": _unigram,
        "bert": lambda: fit_wordpiece_tokenizer(_texts(), SIZE),
        "word": lambda: fit_word_tokenizer(_texts(), SIZE),
    }[family]()


def reference_ids(family: str, text: str) -> list[int]:
    """Tokens of a text to be continued, by the family's rules, without special tokens except the first."""
    return [tokenizer_of(family).convert_tokens_to_ids(token) for token in FAMILIES[family]] + plain_ids(family, text)


def plain_ids(family: str, text: str) -> list[int]:
    return _without_special(family).encode(text, add_special_tokens=False).ids


@cache
def _without_special(family: str) -> Tokenizer:
    parts = json.loads(tokenizer_of(family).backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**parts, "added_tokens": [], "post_processor": None}))


@cache
def _texts() -> tuple[str, ...]:
    rows = tiny.world(12)
    prompts = ["".join(tiny.PROMPT.parts(row["query"])) + " " + row["answers"][0] for row in rows]
    marks = "< s > </ [ SEP CLS ] <| endoftext |> begin pad unk"  # of which texts like "</s>" are made
    return (*prompts, *passage_texts(rows).values(), *tiny.ODD_ANSWERS, marks)


def _trained(model: Any, splitter: Any, trainer: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _byte_level(model: Any, splitter: Any, special: list[str], first: str = "") -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    settings = {"vocab_size": SIZE, "special_tokens": special, "initial_alphabet": alphabet, "show_progress": False}
    tokenizer = _trained(model, splitter, trainers.BpeTrainer(**settings))
    tokenizer.decoder = decoders.ByteLevel()
    if first:
        _put_first(tokenizer, first)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[-1], bos_token=first or None)


def _put_first(tokenizer: Tokenizer, first: str) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.token_to_id(first))]
    )


def _llama3() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splitter = pre_tokenizers.Sequence([split, as_bytes])
    return _byte_level(models.BPE(ignore_merges=True), splitter, ["<begin>", "</s>"], "<begin>")


def _chat() -> PreTrainedTokenizerFast:
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = _byte_level(models.BPE(), splitter, MARKS)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _llama2() -> PreTrainedTokenizerFast:
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=special, show_progress=False)
    trained = _trained(models.BPE(unk_token="<unk>"), pre_tokenizers.Metaspace(prepend_scheme="first"), trainer)
    parts = json.loads(trained.to_str())
    known = len(parts["model"]["vocab"])
    parts["model"]["vocab"] |= {f"<0x{byte:02X}>": known + byte for byte in range(256)}
    parts["model"]["byte_fallback"] = True
    return _sentencepiece(Tokenizer.from_str(json.dumps(parts)))


def _unigram() -> PreTrainedTokenizerFast:
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=SIZE, special_tokens=special, unk_token="<unk>", show_progress=False)
    return _sentencepiece(_trained(models.Unigram(), pre_tokenizers.Metaspace(), trainer))


def _sentencepiece(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    _put_first(tokenizer, "<s>")
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
