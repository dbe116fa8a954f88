"""Every family of models that profiles/presets.yaml names goes through all stages by parameters alone.

Each entry's hub id is replaced by a tiny checkpoint: the family's config and tokenizer class, as its own library saves
them. GPT-2 (any causal language model), XLM-R and MPNet (any encoder) come in addition.
"""

import copy
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_nomic
import tiny
import tiny_tokenizers
import torch
import yaml
from safetensors.torch import save_file
from tokenizers.processors import TemplateProcessing
from torch import nn

import encoder
import evaluate
import label
import reader
import train
from bitter_retrieval.encoders.encoder import load_encoder
from bitter_retrieval.records import (
    CORPUS,
    PREDICTIONS,
    PREPARED,
    SOFT_LABELS,
    passage_texts,
    read_rows,
    write_rows,
)
from bitter_retrieval.typed_yaml import read_yaml

READY = read_yaml(tiny.PROFILE.with_name("presets.yaml"))
STAGES = (reader, encoder, label, train, evaluate)
TRAIN, VALIDATION, TEST = tiny.world(8), tiny.world(4, first=12), tiny.world(4, first=20)
CHAT = (
    "{% for said in messages %}<|im_start|>{{ said['role'] }}\n{{ said['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def tokenizer_of(kind: str) -> Any:
    """A tokenizer of the class that the family's checkpoints name, fitted on the world."""
    import transformers

    if kind == "Llama":
        return tiny_tokenizers.tokenizer_of("llama3")
    if kind == "ModernBert":  # byte-level pairs between BERT's marks
        made = copy.deepcopy(tokenizer_of("GPT2Tokenizer"))._tokenizer
        marks = ["[CLS]", "[SEP]", "[PAD]"]
        made.add_special_tokens(marks)
        places = [(mark, made.token_to_id(mark)) for mark in marks[:2]]
        made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=places)
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
        return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named)
    rows = tiny.world(36)
    asked = ["".join(tiny.PROMPT.parts(row["query"])) for row in rows]
    texts = [*passage_texts(rows).values(), *asked, "search_query: search_document: passage: "]
    return getattr(transformers, kind)().train_new_from_iterator(texts, 400, show_progress=False)


def enlarge(model: nn.Module) -> None:
    """Larger weights: untrained layers hardly tell texts apart otherwise."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5)


def save_causal(folder: Path, architecture: str, kind: str, chat: bool) -> None:
    tokenizer = copy.deepcopy(tokenizer_of(kind))
    if chat:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.chat_template = CHAT
    model = tiny.tiny_model(architecture, len(tokenizer), eos_token_id=tokenizer.eos_token_id)
    for part in (model, tokenizer):
        part.save_pretrained(folder)


BERT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def save_encoder(folder: Path, architecture: str, kind: str) -> None:
    from transformers import AutoConfig, AutoModel

    tokenizer = tokenizer_of(kind)
    marks = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep")}
    settings = BERT | {name: place for name, place in marks.items() if architecture == "modernbert" or "pad" in name}
    settings |= {"vocab_size": len(tokenizer), "max_position_embeddings": 516, "bos_token_id": 0, "eos_token_id": 2}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(architecture, **settings))
    enlarge(model)
    for part in (model, tokenizer):
        part.save_pretrained(folder)


def save_old_nomic(folder: Path, _: str, kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(test_nomic.CONFIG | {"vocab_size": len(tokenizer)}))
    save_file(test_nomic.old_tensors(len(tokenizer)), folder / "model.safetensors", metadata={"format": "pt"})


ANY = {"reader": READY["readers"]["qwen3_0_6b_base"], "encoder": READY["encoders"]["e5_base_v2"]}
READERS = {  # architecture, and class of the tokenizer
    "qwen3_8b_base": ("qwen3", "Qwen2Tokenizer"),
    "qwen3_8b": ("qwen3", "Qwen2Tokenizer"),
    "llama_3_1_8b": ("llama", "Llama"),
    "llama_3_2_1b_instruct": ("llama", "Llama"),
    "gpt2": ("gpt2", "GPT2Tokenizer"),
}
ENCODERS: dict[str, tuple[Callable[[Path, str, str], None], str, str]] = {
    "bert_base_uncased": (save_encoder, "bert", "BertTokenizer"),
    "modernbert_base": (save_encoder, "modernbert", "ModernBert"),
    "nomic_embed_text_v1": (save_encoder, "nomic_bert", "BertTokenizer"),
    "nomic_embed_text_v1_unsupervised": (save_old_nomic, "nomic_bert", "BertTokenizer"),
    "e5_base_v2": (save_encoder, "bert", "BertTokenizer"),
    "bge_base_en_v1_5": (save_encoder, "bert", "BertTokenizer"),
    "gte_base": (save_encoder, "bert", "BertTokenizer"),
    "all_minilm_l6_v2": (save_encoder, "bert", "BertTokenizer"),
    "xlm-roberta": (save_encoder, "xlm-roberta", "XLMRobertaTokenizer"),
    "mpnet": (save_encoder, "mpnet", "MPNetTokenizer"),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared data of the world, without a part for fitting readers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for stage in STAGES:
        monkeypatch.setattr(stage, "keep_freed_memory", lambda: None)
    splits = {"reader": [], "train": TRAIN, "validation": VALIDATION, "test": TEST, "beyond": []}
    for name, rows in splits.items():
        write_rows(f"data/prepared/{name}.parquet", rows, PREPARED)
    passages = passage_texts([*TRAIN, *TEST])
    corpora = {"corpus": [{"passage_id": one, "text": text} for one, text in passages.items()], "beyond_corpus": []}
    for name, rows in corpora.items():
        write_rows(f"data/prepared/{name}.parquet", rows, CORPUS)
    return tmp_path


def write_params(of_reader: str, of_encoder: str) -> None:
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    here = {"revision": None}
    tree["readers"] = {"reader_a": READY["readers"].get(of_reader, ANY["reader"]) | here | {"model": "./reader"}}
    tree["encoders"] = {"mini": READY["encoders"].get(of_encoder, ANY["encoder"]) | here | {"model": "./encoder"}}
    del tree["labels"]["reader_b"]
    tree["runs"] = {name: tree["runs"][name] for name in ("infonce", "kl")}
    tree["tracking"]["mlflow"] = False
    tree["train"] |= {"seeds": [0], "epochs": 1, "queries_per_batch": 4, "learning_rate": 0.01}
    tree["evaluate"]["shown"], tree["control"]["random_draws"] = [1], 1
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def run(stage: Any, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [stage.__name__, *arguments])
    stage.main()


PAIRS = list(zip(ENCODERS, [*READERS, *READERS], strict=True))


@pytest.mark.parametrize(("of_encoder", "of_reader"), PAIRS)
def test_tiny_checkpoint_of_the_family_goes_through_all_stages(
    of_encoder: str, of_reader: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_params(of_reader, of_encoder)
    save, *family = ENCODERS[of_encoder]
    (project / "encoder").mkdir()
    save(project / "encoder", *family)
    save_causal(project / "reader", *READERS[of_reader], READY["readers"].get(of_reader, {}).get("chat", False))

    run(reader, "reader_a", monkeypatch=monkeypatch)
    found = json.loads((project / "data/figures/reader/reader_a.json").read_text())
    assert found == {"questions": 0, "em_supporting": None, "em_random": None, "em_no_passage": None}
    run(encoder, "mini", monkeypatch=monkeypatch)
    run(label, "reader_a", monkeypatch=monkeypatch)
    for split, rows in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        labels = read_rows(f"data/labels/reader_a/{split}.parquet", SOFT_LABELS)
        losses = np.array([row["nll_sum"] for row in labels])
        assert len(labels) == 4 * len(rows) and (losses > 0).all() and losses.std() > 0.1

    run(train, "kl", monkeypatch=monkeypatch)
    start, trained = (load_encoder(project / "models" / folder) for folder in ("encoders/mini", "runs/kl/seed0"))
    stated = yaml.safe_load((project / "params.yaml").read_text())["encoders"]["mini"]
    assert all(stated[name] == value for name, value in vars(trained.usage).items())
    queries = [row["query"] for row in TEST]
    assert np.abs(start.embed(queries, "query", 999) - trained.embed(queries, "query", 999)).max() > 0.01
    run(evaluate, "kl", monkeypatch=monkeypatch)
    predictions = read_rows("data/predictions/runs/kl.parquet", PREDICTIONS)
    assert [row["query_id"] for row in predictions] == [row["query_id"] for row in TEST]
    assert all(np.isfinite(row["answer_nll"]) and len(row["shown_ids"]) == 1 for row in predictions)
