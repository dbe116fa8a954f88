"""What a model is tried for when it is loaded: causal, and the same in a batch as alone."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from bitter_retrieval.models.checkpoints import CheckpointError
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import generate_tokens
from bitter_retrieval.readers.language_model import Reader, ReaderSettings, open_reader
from bitter_retrieval.readers.probes import is_causal, pads_left, pads_right

LARGE = 10**5  # a budget that puts everything into one batch
SMALL = {"hidden_size": 32, "num_hidden_layers": 2}
BERT = {**SMALL, "intermediate_size": 48, "num_attention_heads": 2}
GRIFFIN = {**tiny.SIZE, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16}
OTHERS = {
    "rwkv": {**SMALL, "attention_hidden_size": 32, "context_length": 256},
    "recurrent_gemma": {**GRIFFIN, "block_types": ["recurrent", "recurrent", "attention"]},
    "bert": BERT,
    "roberta": {**BERT, "is_decoder": True},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48},
}
READING_PADS = ["rwkv", "recurrent_gemma"]  # as text, if it comes first
ONLY_BOTH_WAYS = ["bert", "xlnet"]


@pytest.fixture(autouse=True)
def architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in OTHERS.items():
        monkeypatch.setitem(tiny.ARCHITECTURES, name, size)


def opened(architecture: str, folder: Path, **changes: Any) -> Reader:
    tokenizer = tiny.tokenizer_of("word")
    tied = {} if architecture in ONLY_BOTH_WAYS else {"tie_word_embeddings": False}
    for part in (tiny.tiny_model(architecture, len(tokenizer), **tied), tokenizer):
        part.save_pretrained(folder)
    settings = {"prompt": tiny.PROMPT.template, "dtype": "float32", "max_length": 120, "max_new_tokens": 6}
    return open_reader("tiny", str(folder), None, ReaderSettings(**{**settings, **changes}))


@pytest.mark.parametrize("architecture", ["qwen3", "olmo2", "llama", "gpt2", "gemma2", "bloom", "mamba", "roberta"])
def test_causal_models_are_scored_and_asked_in_batches(architecture: str) -> None:
    model = tiny.tiny_model(architecture, 50)
    assert is_causal(model) and pads_right(model, 0) and pads_left(model, 0)


@pytest.mark.parametrize("architecture", ONLY_BOTH_WAYS)
def test_model_that_is_not_causal_is_no_reader(architecture: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="LMHead.*is no causal language model: its tokens see those after them"):
        opened(architecture, tmp_path)


@pytest.mark.parametrize("architecture", [*READING_PADS, "mamba", "qwen3"])
def test_batches_answer_and_score_as_one_sequence_alone_does(architecture: str, tmp_path: Path) -> None:
    reader = opened(architecture, tmp_path)
    rows = tiny.world(6)
    items = [(row["query"], passage["text"]) for row in rows for passage in [*row["passages"], {"text": ""}]]
    prompts = [item.ids for item in reader.encode(*zip(*items, strict=True), None)]
    found = generate_tokens(reader, prompts, LARGE)
    assert found == [generate_tokens(reader, [prompt], LARGE)[0] for prompt in prompts]
    assert reader.pads_left == (architecture not in READING_PADS) and len(set(map(tuple, found))) > 1
    triples = [Triple(query, text, "Ashby") for query, text in items]
    together = [score.nll_sum for score in Scorer(reader, LARGE).score(triples)]
    alone = [Scorer(reader, LARGE).score([triple])[0].nll_sum for triple in triples]
    assert together == pytest.approx(alone, rel=1e-4)


def test_a_model_whose_batches_leak_is_scored_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = tiny.tiny_reader("mamba", max_length=120)
    forward = reader.model.forward

    def leaking(*arguments: Any, **settings: Any) -> Any:
        found = forward(*arguments, **settings)
        found.logits = found.logits + found.logits.mean(0) if len(found.logits) > 1 else found.logits
        return found

    triples = [Triple("Where was Aldan born?", "Aldan owns a goat. " * n, "Ashby") for n in (1, 2, 3)]
    wanted = [score.nll_sum for score in Scorer(reader, LARGE).score(triples)]
    monkeypatch.setattr(reader.model, "forward", leaking)
    assert not pads_right(reader.model, 0)
    reader.pads_right = False
    assert [score.nll_sum for score in Scorer(reader, LARGE).score(triples)] == pytest.approx(wanted, rel=1e-4)


def test_what_goes_one_by_one_is_another_reader_than_what_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = opened("rwkv", tmp_path).identity
    monkeypatch.setattr("bitter_retrieval.readers.language_model.pads_left", lambda *_: True)
    assert opened("rwkv", tmp_path).identity != own


def test_trying_draws_no_random_number_and_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    reader = opened("qwen3", tmp_path)
    before, wishes = torch.get_rng_state(), reader.model.generation_config
    assert is_causal(reader.model) and pads_right(reader.model, 0) and pads_left(reader.model, 0)
    assert torch.get_rng_state().equal(before) and reader.model.generation_config is wishes
