"""The bi-encoder: texts to unit vectors, whose dot product is the similarity of query and passage.

A saved encoder is a folder that transformers' AutoModel and sentence-transformers both load:

    config.json model.safetensors tokenizer.json …      the transformer
    modules.json 1_Pooling/config.json sentence_bert_config.json config_sentence_transformers.json   how to use it

Pooling, prefixes and maximal length are read from those files, so a checkpoint carries them along.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from bitter_retrieval.batching import length_batches, pad_right
from bitter_retrieval.checkpoints import resolve_checkpoint

Kind = Literal["query", "passage"]


@dataclass(frozen=True)
class Usage:
    """How texts become vectors: pooling (mean or cls), what is put before a text, tokens that are read of it."""

    pooling: str
    query_prefix: str
    passage_prefix: str
    max_length: int


class Encoder(nn.Module):
    """A transformer with pooling and normalisation."""

    def __init__(self, model: Any, tokenizer: Any, usage: Usage) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.usage = usage

    def tokens(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        """Token ids of each text with its prefix, cut at max_length."""
        if not texts:
            return []
        prefix = self.usage.query_prefix if kind == "query" else self.usage.passage_prefix
        texts = [prefix + text for text in texts]
        return self.tokenizer(texts, truncation=True, max_length=self.usage.max_length).input_ids

    def forward(self, sequences: Sequence[Sequence[int]], budget: int) -> Tensor:
        """Unit vectors [n, d] of token sequences, encoded in micro-batches of at most `budget` tokens."""
        batches = length_batches([len(sequence) for sequence in sequences], budget)
        vectors = torch.cat([self._encode([sequences[place] for place in batch]) for batch in batches])
        places = torch.tensor([place for batch in batches for place in batch], device=vectors.device)
        return vectors[torch.argsort(places)]

    def _encode(self, sequences: Sequence[Sequence[int]]) -> Tensor:
        ids, mask = pad_right(sequences, self.tokenizer.pad_token_id)
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        hidden = self.model(input_ids=ids, attention_mask=None if mask.all() else mask.long()).last_hidden_state
        if self.usage.pooling == "cls":
            return normalize(hidden[:, 0], dim=-1)
        weights = mask[..., None].to(hidden.dtype)
        return normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], kind: Kind, budget: int) -> np.ndarray:
        """Unit vectors [n, d] float32 of texts, without gradients."""
        self.eval()
        return self.forward(self.tokens(texts, kind), budget).float().cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write the checkpoint; weights as safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        save_usage(folder, self.usage, self.model.config.hidden_size)


def load_encoder(folder: Path) -> Encoder:
    """Load `models/encoders/<encoder>/` or `models/runs/<run>/seed<k>/`, in float32."""
    from transformers import AutoModel, AutoTokenizer

    path, revision = resolve_checkpoint(folder)
    model = AutoModel.from_pretrained(path, revision=revision, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Encoder(model.to(device), tokenizer, load_usage(folder))


def save_usage(folder: Path, usage: Usage, width: int) -> None:
    """Write the files by which sentence-transformers, and load_usage, know how to use a transformer."""
    types = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(types.items())
    ]
    pooling = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": usage.pooling == "cls",
        "pooling_mode_mean_tokens": usage.pooling == "mean",
        "include_prompt": True,
    }
    prompts = {"query": usage.query_prefix, "document": usage.passage_prefix}
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": usage.max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": prompts,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    (folder / "2_Normalize").mkdir(exist_ok=True)


def load_usage(folder: Path) -> Usage:
    """What save_usage wrote."""
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
    length = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    mode = "cls" if pooling["pooling_mode_cls_token"] else "mean"
    return Usage(mode, prompts["query"], prompts["document"], length)
