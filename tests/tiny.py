"""Models of a few thousand weights and a world of a few sentences, for tests that need a real transformer.

    row 3 of the world    Where was Dorin born?    Fenwick    p3: "Dorin was born in Fenwick. Dorin owns a dog."

Numbers of the real params are shrunk, not replaced: profiles/default.yaml is read.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bitter_retrieval.encoders.encoder import Encoder, Usage
from bitter_retrieval.encoders.fit import build_bert
from bitter_retrieval.labels.targets import Targets, binary_targets, soft_targets
from bitter_retrieval.models.vocabulary import fit_bpe_tokenizer, fit_word_tokenizer, fit_wordpiece_tokenizer
from bitter_retrieval.params import load_params, parse_params
from bitter_retrieval.readers.language_model import Reader
from bitter_retrieval.readers.prompts import Prompt
from bitter_retrieval.records import Row, passage_texts
from bitter_retrieval.typed_yaml import read_yaml

PROFILE = Path(__file__).parents[1] / "profiles/default.yaml"
PARAMS = load_params(PROFILE)
PROMPT = Prompt(PARAMS.readers["reader_a"].prompt)
NAMES = "Aldan Brenn Corvin Dorin Elmar Falk Gerda Hanno Imre Jorun Kaja Lorne".split()
TOWNS = "Ashby Caldbury Dunmore Fenwick Garth Holt Ilford Kelso Lorton Marlow Norden Oxley".split()
PETS = "goat hen cat dog mule crow".split()
ODD_ANSWERS = ["Caldbury", "Answer: Caldbury", "7 goats", "42", "🙂 yes", "北京", "  Marlow  ", 'O\'Hara-Lane, "B"']


def world(count: int, first: int = 0) -> list[Row]:
    """Prepared rows, two to a group; each has a passage that states its answer and two about others."""
    return [_row(number) for number in range(first, first + count)]


def _person(number: int) -> tuple[str, str, str]:
    return NAMES[number % 12], TOWNS[(5 * number + number // 12) % 12], PETS[(number + number // 6) % 6]


def _row(number: int) -> Row:
    name, town, _ = _person(number)
    passages = [_passage(number, "plain"), _passage(number + 1, "other"), _passage(number + 5, "other")]
    return {
        "query_id": f"q{number}",
        "group_id": f"g{number // 2}",
        "query": f"Where was {name} born?",
        "answers": [town],
        "passages": passages[number % 3 :] + passages[: number % 3],
    }


def _passage(number: int, role: str) -> Row:
    name, town, pet = _person(number)
    text = f"{name} was born in {town}. {name} owns a {pet}."
    return {"passage_id": f"p{number}", "text": text, "is_selected": None, "role": role}


def soft(rows: Sequence[Row], source: str = "reader_a", gap: float = 2.0) -> list[Row]:
    """Soft labels: a supporting passage costs 0.2 nats, no passage 2, another one 2 or a little more; `gap` scales."""
    labels = []
    for row in rows:
        for place, passage in enumerate([*row["passages"], {"passage_id": "", "role": None}]):
            nll = 0.2 if passage["role"] == "plain" else 0.2 + gap * (0.9 + 0.05 * place)
            pair = {"query_id": row["query_id"], "passage_id": passage["passage_id"]}
            labels.append({**pair, "answer_index": 0, "nll_sum": 2 * nll, "n_tokens": 2})
    return labels


def soft_labelled(rows: list[Row], gap: float = 2.0, scale: float | None = None) -> Targets:
    return soft_targets(rows, soft(rows, gap=gap), "reader_a", "mean", "first", scale)


def truth(rows: Sequence[Row]) -> list[Row]:
    return [
        {"query_id": row["query_id"], "passage_id": p["passage_id"], "relevant": int(p["role"] == "plain")}
        for row in rows
        for p in row["passages"]
    ]


def truth_labelled(rows: list[Row]) -> Targets:
    return binary_targets(rows, truth(rows), "truth")


# -- runs ------------------------------------------------------------------------------------------------------------


def trained(labels: str, **losses: float) -> dict[str, Any]:
    temperature = {"student": 0.05, "teacher": 0.2}
    return {"labels": labels, "encoder": "mini", "losses": losses, "temperature": temperature, "margin": 0.2}


def with_runs(tree: dict[str, Any]) -> dict[str, Any]:
    """A profile's tree with runs whose names and losses tests know."""
    runs = {
        "infonce": trained("human", infonce=1.0),
        "kl": trained("reader_a", kl=1.0),
        "kl_human": trained("human", kl=1.0),
        "kl_flat": trained("flat", kl=1.0),
        "mse": trained("reader_a", mse=1.0),
        "margin": trained("reader_a", margin=1.0),
        "full_modular": trained("reader_a", kl=0.4, mse=0.2, margin=0.3, infonce_soft=0.1),
    }
    return tree | {
        "runs": runs,
        "compare": tree["compare"] | {"baseline": "infonce", "primary": "kl", "contrasts": None},
    }


RUNS = parse_params(with_runs(read_yaml(PROFILE)), PROFILE).runs


# -- readers ---------------------------------------------------------------------------------------------------------

SIZE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
}
GPT2_SIZE = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024, "attn_pdrop": 0, "embd_pdrop": 0}
LAYERS = ["sliding_attention", "full_attention"]
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen3": SIZE,
    "olmo2": SIZE,
    "llama": SIZE,
    "gpt2": {**GPT2_SIZE, "resid_pdrop": 0},  # learned absolute positions
    "gemma2": {**SIZE, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},  # logits are changed after the head
    "granite": {**SIZE, "logits_scaling": 4.0},  # likewise
    "mistral": {**SIZE, "sliding_window": 16},
    "phi3": {**SIZE, "sliding_window": 16},
    "gemma3_text": {**SIZE, "layer_types": LAYERS, "sliding_window": 16, "query_pre_attn_scalar": 8},
    "phi": SIZE,  # its head has a bias
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},  # attends without transformers' attention interface
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},  # does not attend
}


@cache
def tokenizer_of(kind: str) -> Any:
    """A tokenizer ("word" or "bpe") of the world and its prompts."""
    rows = world(12)
    prompts = ["".join(PROMPT.parts(row["query"])) + " " + row["answers"][0] for row in rows]
    fit = {"word": fit_word_tokenizer, "bpe": fit_bpe_tokenizer}[kind]
    return fit([*prompts, *passage_texts(rows).values()], 360)


def tiny_model(architecture: str, vocabulary: int, seed: int = 0, **changes: Any) -> Any:
    """An untrained causal model whose weights are large enough that its losses differ between texts."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokens = {"pad_token_id": 0, "eos_token_id": None, "bos_token_id": None}
    settings = {**ARCHITECTURES[architecture], "vocab_size": vocabulary, "tie_word_embeddings": True, **tokens}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **{**settings, **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=generator)
    return model.eval().requires_grad_(False)


def tiny_reader(architecture: str = "qwen3", tokenizer: str = "word", seed: int = 0, **changes: Any) -> Reader:
    """A reader called tiny; `changes` are fields of Reader."""
    chosen = changes.pop("tokenizer_object", None) or tokenizer_of(tokenizer)
    model = changes.pop("model", None) or tiny_model(architecture, len(chosen), seed)
    reader = Reader("tiny", model, chosen, PROMPT, 96, 6, f"{architecture}-{tokenizer}-{seed}")
    return replace(reader, **changes)


# -- encoders --------------------------------------------------------------------------------------------------------


def tiny_encoder(seed: int = 0, **usage: Any) -> Encoder:
    """A BERT of one layer and width 32; `usage` are fields of Usage."""
    rows = world(12)
    torch.manual_seed(seed)
    tokenizer = wordpiece_of((*passage_texts(rows).values(), *(row["query"] for row in rows)))
    size = {"width": 32, "layers": 1, "heads": 2, "feed_forward": 48, "vocabulary": 300}
    fit = replace(PARAMS.encoders["mini"].fit, **size)
    settings = replace(Usage("mean", "", "", 32), **usage)
    model = build_bert(fit, tokenizer, settings.max_length)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)  # otherwise one layer hardly distinguishes texts
    return Encoder(model, tokenizer, settings)


@cache
def wordpiece_of(texts: tuple[str, ...]) -> Any:
    return fit_wordpiece_tokenizer(texts, 300)
