"""The bi-encoder: texts to unit vectors; their dot product is the similarity of query and passage.

A saved encoder is a folder that transformers' AutoModel and sentence-transformers both load:

    config.json model.safetensors tokenizer.json …      the transformer
    modules.json 1_Pooling/config.json sentence_bert_config.json config_sentence_transformers.json   how to use it

Pooling, prefixes and maximal length are read from those files, so a checkpoint carries them along. If only the queries'
side was trained, one more file, unknown to those libraries, names the encoder of the passages:

    passage_encoder.json   {"encoder": "../../../encoders/mini"}
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from bitter_retrieval.encoders.sentence_files import read_sentence_files, refuse_other_use
from bitter_retrieval.models.batching import balanced_batches, pad_right
from bitter_retrieval.models.checkpoints import CheckpointError, read_stated, resolve_checkpoint, save_checkpoint
from bitter_retrieval.models.pretrained import (
    HEADS,
    load_model,
    load_tokenizer,
    positions,
    read_config,
    refuse_larger_tokenizer,
    usable_pad,
)
from bitter_retrieval.records import replacing

Kind = Literal["query", "passage"]
PASSAGE_ENCODER = "passage_encoder.json"
SAME = 1e-3  # distance of unit vectors: rounding stays far below
PROBED = 2**16  # tokens at once: all that is tried
REMEDY = (
    "An encoder is a bidirectional transformer (BERT, ModernBERT, NomicBERT) with config.json, its weights and its "
    "tokenizer: name one in params.yaml under encoders, or make this folder again with `dvc repro`."
)


@dataclass(frozen=True)
class Usage:
    """How texts become vectors: pooling (mean or cls), what is put before a text, how many tokens are read."""

    pooling: str
    query_prefix: str
    passage_prefix: str
    max_length: int


class Encoder(nn.Module):
    """A transformer with pooling and normalisation."""

    def __init__(self, model: Any, tokenizer: Any, usage: Usage, pads: bool = True) -> None:
        """pads: padding changes no vector, so that texts of several lengths may share a batch."""
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.usage = usage
        self.pad = usable_pad(tokenizer, model)
        self.pads = pads

    def tokens(self, texts: Sequence[str], kind: Kind) -> list[list[int]]:
        """Token ids of each text with its prefix, cut at max_length."""
        if not texts:
            return []
        prefix = self.usage.query_prefix if kind == "query" else self.usage.passage_prefix
        texts = [prefix + text for text in texts]
        return self.tokenizer(texts, truncation=True, max_length=self.usage.max_length).input_ids

    def count_cut(self, texts: Sequence[str], tokens: Sequence[Sequence[int]], kind: Kind) -> int:
        """Number of texts that lost their tail when they became `tokens`."""
        full = [text for text, own in zip(texts, tokens, strict=True) if len(own) == self.usage.max_length]
        if not full:
            return 0
        prefix = self.usage.query_prefix if kind == "query" else self.usage.passage_prefix
        whole = self.tokenizer([prefix + text for text in full], verbose=False).input_ids
        return sum(len(own) > self.usage.max_length for own in whole)

    def forward(self, sequences: Sequence[Sequence[int]], budget: int, recompute: bool = False) -> Tensor:
        """Unit vectors [n, d] of token sequences, encoded in micro-batches of at most `budget` tokens, or one by one.

        recompute: keep no activations; the backward pass encodes each micro-batch again, with the same dropout.
        """
        encode = partial(checkpoint, self._encode, use_reentrant=False) if recompute else self._encode
        batches = balanced_batches([len(sequence) for sequence in sequences], budget if self.pads else 0)
        vectors = torch.cat([encode(*self._padded([sequences[place] for place in batch])) for batch in batches])
        places = torch.tensor([place for batch in batches for place in batch], device=vectors.device)
        return vectors[torch.argsort(places)]  # batches go by length: back into the given order

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and mask [n, T], on the model's device already: `checkpoint` keeps that device's random state."""
        most = self.usage.max_length if self.pads else 0  # 0: one sequence gets no padding
        ids, mask = pad_right(sequences, self.pad, most)
        return ids.to(self.model.device), mask.to(self.model.device)

    def _encode(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.model(input_ids=ids, attention_mask=None if mask.all() else mask.long()).last_hidden_state
        hidden = hidden.float()  # pooled and normalised in full precision under autocast too
        if self.usage.pooling == "cls":
            return normalize(hidden[:, 0], dim=-1)
        weights = mask[..., None].to(hidden.dtype)
        return normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)

    def side(self, kind: Kind) -> "Encoder":
        """The encoder of queries or of passages: one and the same, unless only queries were trained."""
        return self

    def embed(self, texts: Sequence[str], kind: Kind, budget: int) -> np.ndarray:
        """Unit vectors [n, d] float32 of texts, without gradients."""
        encoder = self.side(kind)
        return encoder.embed_tokens(encoder.tokens(texts, kind), budget)

    @torch.no_grad()
    def embed_tokens(self, sequences: Sequence[Sequence[int]], budget: int) -> np.ndarray:
        """Unit vectors [n, d] float32 of token sequences, without gradients."""
        self.eval()
        return self.forward(sequences, budget).float().cpu().numpy()

    def save(self, folder: Path, passages: Path | None = None) -> None:
        """Write the checkpoint in the place of all that is in `folder`, as records.replacing does.

        passages: the encoder of passages, if only queries were trained.
        """
        with replacing(folder) as partial:
            save_checkpoint(partial, self.model, self.tokenizer)
            save_usage(partial, self.usage, self.model.config.hidden_size)
            if passages:
                save_passage_encoder(partial, passages)


class QueryEncoder(Encoder):
    """An encoder of queries, with the encoder of passages that it was trained against."""

    def __init__(self, queries: Encoder, passages: Encoder) -> None:
        super().__init__(queries.model, queries.tokenizer, queries.usage, queries.pads)
        self.passages = passages

    def side(self, kind: Kind) -> Encoder:
        return self if kind == "query" else self.passages


def save_passage_encoder(folder: Path, passages: Path) -> None:
    """Let the checkpoint in `folder` embed queries only, and the encoder in `passages` the passages."""
    pointer = {"encoder": Path(os.path.relpath(passages, folder)).as_posix()}
    (folder / PASSAGE_ENCODER).write_text(json.dumps(pointer, indent=2) + "\n", encoding="utf-8")


def load_encoder(folder: Path, copies: int = 1) -> Encoder:
    """Load `models/encoders/<encoder>/` or `models/runs/<run>/seed<k>/`, in float32.

    copies: of its weights that memory will hold (pretrained.TRAINED to train it). Raises CheckpointError if it is
    unavailable, does not fit, or is no encoder: no weights, weights of another model, a decoder.
    """
    path, revision = resolve_checkpoint(folder)
    usage = load_usage(folder)
    try:
        model, tokenizer = _load_transformer(path, revision, copies)
        refuse_other_use(path, read_sentence_files(path, model.config._commit_hash, optional=True), tokenizer)
        _refuse_too_long(path, model, usage)
        encoder = Encoder(model, tokenizer, usage)
        reads_both_ways = _reads_both_ways(model)
        encoder.pads = reads_both_ways and _same_alone(encoder)
    except CheckpointError as error:
        raise CheckpointError(f"encoder {folder}: {error}") from error
    except Exception as error:  # a model or tokenizer may raise anything
        raise CheckpointError(f"encoder {folder}: {path} does not load as one: {error}. {REMEDY}") from error
    if not reads_both_ways:
        raise CheckpointError(
            f"encoder {folder}: {type(model).__name__} in {path} is a decoder: its tokens do not see those after "
            f"them. {REMEDY}"
        )
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    pointer = folder / PASSAGE_ENCODER
    if not pointer.is_file():
        return encoder
    return QueryEncoder(encoder, load_encoder(folder / read_stated(pointer)["encoder"]))


def _load_transformer(path: str, revision: str | None, copies: int) -> tuple[Any, Any]:
    """Model and tokenizer. A checkpoint may lack the pooler, which nothing uses: it is drawn the same each time."""
    from transformers import AutoModel

    config = read_config(path, revision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = load_model(AutoModel, path, config, torch.float32, HEADS, copies)
    tokenizer = load_tokenizer(path, config)
    refuse_larger_tokenizer(tokenizer, model, tokenizer("a").input_ids)
    return model, tokenizer


def _refuse_too_long(path: str, model: Any, usage: Usage) -> None:
    """Raise CheckpointError if max_length exceeds the positions.

    RoBERTa, XLM-R and MPNet keep the first positions for padding.
    """
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    taken = 0 if padding is None else padding + 1
    most = (positions(model.config) or usage.max_length + taken) - taken
    if most < usage.max_length:
        raise CheckpointError(
            f"model {path!r}: reads {most} tokens, max_length is {usage.max_length}. Lower it to {most}."
        )


@torch.no_grad()
def _reads_both_ways(model: Any) -> bool:
    """Whether the state of a first token changes with the tokens after it.

    The ids come from all over the vocabulary. A text could be nothing but unknown words, and equal tokens hide what
    they attend to if positions are rotations: every value is the same.
    """
    size = model.get_input_embeddings().num_embeddings
    ids = [size * part // 8 for part in range(1, 8)]
    pair = torch.tensor([ids[:4], [ids[0], *ids[4:]]])
    first, other = model(input_ids=pair, attention_mask=torch.ones_like(pair)).last_hidden_state[:, 0]
    return not torch.allclose(first, other, rtol=0, atol=1e-4 * first.abs().max().item())


@torch.no_grad()
def _same_alone(encoder: Encoder) -> bool:
    """Whether padding changes no vector: tried on random tokens of three lengths.

    Raises CheckpointError if a text alone has no vector of its own, but another one each time.
    """
    size = encoder.model.get_input_embeddings().num_embeddings
    lengths = [min(length, encoder.usage.max_length) for length in (5, 11, 34)]
    drawn = torch.randint(size - 1, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    drawn += drawn >= encoder.pad  # a model may take the pad token for padding wherever it stands
    sequences = [part.tolist() for part in drawn.split(lengths)]
    one_by_one = Encoder(encoder.model, encoder.tokenizer, encoder.usage, pads=False)
    vectors = [way(sequences, PROBED) for way in (encoder, one_by_one, one_by_one)]
    apart = [(vectors[1] - other).norm(dim=-1).max().item() for other in (vectors[0], vectors[2])]
    name = type(encoder.model).__name__
    if apart[1] > SAME:
        raise CheckpointError(f"{name} gives a text another vector each time ({apart[1]:.2g} apart). {REMEDY}")
    if apart[0] > SAME:
        log = logging.getLogger(__name__)
        log.warning("%s encodes texts one by one: in a batch, vectors are %.2g apart", name, apart[0])
    return apart[0] <= SAME


def save_usage(folder: Path, usage: Usage, width: int) -> None:
    """Write the files that tell sentence-transformers and load_usage how to use a transformer."""
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
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "2_Normalize").mkdir(exist_ok=True)


def load_usage(folder: Path) -> Usage:
    """Read what save_usage wrote. Raises CheckpointError."""
    name = ""
    try:
        name = "1_Pooling/config.json"
        mode = "cls" if json.loads((folder / name).read_text(encoding="utf-8"))["pooling_mode_cls_token"] else "mean"
        name = "config_sentence_transformers.json"
        prompts = json.loads((folder / name).read_text(encoding="utf-8"))["prompts"]
        query, document = prompts["query"], prompts["document"]
        name = "sentence_bert_config.json"
        return Usage(mode, query, document, json.loads((folder / name).read_text(encoding="utf-8"))["max_seq_length"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"encoder {folder}: {name} does not say how it is used ({error!r}). Make the folder again with `dvc repro`."
        ) from error
