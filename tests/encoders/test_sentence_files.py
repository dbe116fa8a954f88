"""Files of sentence-transformers beside weights: each is obeyed or refused, as a start of training and as given."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import encoder as stage
from bitter_retrieval.encoders.encoder import Usage, load_encoder
from bitter_retrieval.encoders.sentence_files import SIZES
from bitter_retrieval.evaluation.given_models import point_to_encoder
from bitter_retrieval.models.checkpoints import CheckpointError

TEXTS = ["Aldan was born in Ashby. Aldan owns a goat, and so does Brenn.", "goat"]
TYPES = {kind: f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Normalize", "Dense")}
PATHS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    tiny.tiny_encoder(max_length=32).save(tmp_path / "bert")
    return tmp_path / "bert"


def edit(path: Path, **changes: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | changes))


def set_modules(folder: Path, *kinds: str, **paths: str) -> None:
    modules = [{"path": {**PATHS, **paths}.get(kind, kind), "type": TYPES.get(kind, kind)} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))


def given(folder: Path) -> Usage:
    pointer, _ = point_to_encoder(folder.parent / "pointer", str(folder), None, {}, {}, lambda line: None)
    return load_encoder(pointer).usage


def refused(folder: Path, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        given(folder)
    with pytest.raises(CheckpointError, match=said):
        stage.point(folder.parent / "encoders/bert", str(folder), None, Usage("mean", "", "", 16))
    with pytest.raises(CheckpointError, match=said):
        load_encoder(folder)


@pytest.mark.parametrize("name", SIZES)
def test_length_is_read_from_a_file_of_any_of_its_names(name: str, bert: Path) -> None:
    (bert / "sentence_bert_config.json").rename(bert / name)
    edit(bert / name, max_seq_length=8)
    assert given(bert).max_length == 8


def test_the_first_of_several_is_obeyed_as_there(bert: Path) -> None:
    edit(bert / "sentence_xlnet_config.json", max_seq_length=9)
    edit(bert / "sentence_roberta_config.json", max_seq_length=8)
    (bert / "sentence_bert_config.json").write_text("{}")
    assert given(bert).max_length == 8


@pytest.mark.parametrize(
    ("similarity", "normalized", "right"),
    [
        ("cosine", False, True),
        ("dot", True, True),
        ("euclidean", True, True),
        (None, False, True),
        ("dot", False, False),
        ("euclidean", False, False),
        ("manhattan", True, False),
    ],
)
def test_similarity_that_ranks_otherwise_is_refused(
    similarity: str | None, normalized: bool, right: bool, bert: Path
) -> None:
    set_modules(bert, "Transformer", "Pooling", *["Normalize"] * normalized)
    edit(bert / "config_sentence_transformers.json", similarity_fn_name=similarity)
    if right:
        assert given(bert).pooling == "mean"
    else:
        refused(bert, f"ask for similarity_fn_name {similarity}, which is not supported")


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (["Transformer", "Pooling", "Dense", "Normalize"], "ask for Dense,"),
        (["custom_code.Transformer", "Pooling"], "ask for custom_code.Transformer,"),
        (["Transformer"], r"the modules \['Transformer'\] in modules.json"),
        (["Transformer", "Normalize", "Pooling"], "the modules .*'Normalize', 'Pooling'. in modules.json"),
    ],
)
def test_modules_that_an_encoder_here_has_not_are_refused(kinds: list[str], said: str, bert: Path) -> None:
    set_modules(bert, *kinds)
    refused(bert, said)


def test_weights_elsewhere_are_refused(bert: Path) -> None:
    set_modules(bert, "Transformer", "Pooling", Transformer="0_Transformer")
    refused(bert, "a Transformer in 0_Transformer by modules.json")


@pytest.mark.parametrize(
    ("file", "asked", "said"),
    [
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt false"),
        ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, "Normalize of token_embeddings"),
        ("sentence_bert_config.json", {"query_length": 4}, "query_length 4"),
        ("sentence_bert_config.json", {"tokenizer_args": {"do_lower_case": True}}, "tokenizer_args"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task fill-mask"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type SparseEncoder"),
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim 8"),
    ],
)
def test_what_would_make_other_vectors_is_refused_by_name(
    file: str, asked: dict[str, Any], said: str, bert: Path
) -> None:
    edit(bert / file, **asked)
    refused(bert, f"ask for {said}")


def test_lower_case_is_the_tokenizers_or_refused(bert: Path) -> None:
    edit(bert / "sentence_bert_config.json", do_lower_case=True)
    assert given(bert).max_length == 32  # this tokenizer lowers anyway
    path = bert / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": None}))
    refused(bert, "ask for do_lower_case True")


def test_default_prompt_stands_before_what_has_none_of_its_own(bert: Path) -> None:
    files = {"prompts": {"query": "born ", "all": "owns "}, "default_prompt_name": "all"}
    edit(bert / "config_sentence_transformers.json", **files)
    usage = given(bert)
    assert (usage.query_prefix, usage.passage_prefix) == ("born ", "owns ")


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"])
@pytest.mark.parametrize("content", ["{", "3"])
def test_file_that_is_broken_is_named(name: str, content: str, bert: Path) -> None:
    (bert / name).write_text(content)
    for load in (given, load_encoder):
        with pytest.raises(CheckpointError, match=name):
            load(bert)


def test_what_a_later_version_writes_changes_nothing(bert: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    saved = bert.parent / "saved"
    library.SentenceTransformer(str(bert), device="cpu").save(str(saved))
    wanted = load_encoder(bert).embed(TEXTS, "query", 99)
    pointer, _ = point_to_encoder(bert.parent / "pointer", str(saved), None, {}, {}, lambda line: None)
    np.testing.assert_array_equal(load_encoder(pointer).embed(TEXTS, "query", 99), wanted)
