"""Encoders as users have them: which way of use is read from their files, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny

from bitter_retrieval.checkpoints import CheckpointError, write_pointer
from bitter_retrieval.encoder import Usage, load_encoder, save_passage_encoder
from bitter_retrieval.given_models import point_to_encoder

SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
TEXTS = ["Aldan was born in Ashby.", "goat"]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A checkpoint with sentence-transformers files: cls, with prefixes, 16 tokens."""
    tiny.tiny_encoder(pooling="cls", query_prefix="born ", passage_prefix="owns ", max_length=16).save(tmp_path / "a")
    return tmp_path / "a"


def used(model: Path, **stated: Any) -> Usage:
    folder, told = point_to_encoder(model.parent / "pointer", str(model), None, stated)
    usage = load_encoder(folder).usage
    assert told == {"model": str(model), "revision": None, **vars(usage)}
    return usage


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def bare(model: Path) -> None:
    for name in SENTENCE_FILES:
        (model / name).unlink()
    shutil.rmtree(model / "1_Pooling")


def test_usage_is_the_checkpoints_unless_stated(bert: Path) -> None:
    assert used(bert) == Usage("cls", "born ", "owns ", 16)
    assert used(bert, pooling="mean", query_prefix="", max_length=8) == Usage("mean", "", "owns ", 8)
    folder, _ = point_to_encoder(bert.parent / "pointer", str(bert), None, {})
    mine, own = load_encoder(folder), load_encoder(bert)
    assert (mine.embed(TEXTS, "query", 99) == own.embed(TEXTS, "query", 99)).all()


def test_files_of_other_versions_are_read(bert: Path) -> None:
    (bert / "1_Pooling/config.json").write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": "mean"}))
    (bert / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}}))
    (bert / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None}))
    positions = json.loads((bert / "config.json").read_text())["max_position_embeddings"]
    assert used(bert) == Usage("mean", "", "", positions)
    edit(bert / "config_sentence_transformers.json", prompts={"query": "Q: ", "passage": "P: "})
    assert used(bert).passage_prefix == "P: "


def test_a_bare_transformer_needs_a_pooling(bert: Path) -> None:
    bare(bert)
    with pytest.raises(CheckpointError, match="does not carry 1_Pooling/config.json. Say --pooling"):
        used(bert)
    assert used(bert, pooling="mean", passage_prefix="P: ", max_length=9) == Usage("mean", "", "P: ", 9)


def test_a_pointer_of_the_project_is_followed(bert: Path) -> None:
    own = bert.parent / "encoders/mini"
    write_pointer(own, str(bert), None)
    for name in (*SENTENCE_FILES, "1_Pooling/config.json"):
        (own / name).parent.mkdir(exist_ok=True)
        shutil.copy(bert / name, own / name)
    bare(bert)
    assert used(own) == Usage("cls", "born ", "owns ", 16)


def test_passages_with_an_encoder_of_their_own_keep_it(bert: Path) -> None:
    run = bert.parent / "run"
    shutil.copytree(bert, run)
    save_passage_encoder(run, bert)
    assert point_to_encoder(bert.parent / "pointer", str(run), None, {})[0] == run
    with pytest.raises(CheckpointError, match="an encoder of their own .* pooling cannot be set"):
        point_to_encoder(bert.parent / "pointer", str(run), None, {"pooling": "mean"})


def test_use_that_is_not_ours_is_refused(bert: Path) -> None:
    pooling = bert / "1_Pooling/config.json"
    whole = pooling.read_text()
    edit(pooling, pooling_mode_mean_tokens=True)
    with pytest.raises(CheckpointError, match="pools by .* Say --pooling mean or cls"):
        used(bert)
    pooling.write_text(whole)
    edit(pooling, include_prompt=False)
    with pytest.raises(CheckpointError, match="include_prompt false"):
        used(bert)
    pooling.write_text(whole)
    modules = json.loads((bert / "modules.json").read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    (bert / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(CheckpointError, match="ask for Dense, which is not done here"):
        used(bert)
    (bert / "modules.json").write_text("{")
    with pytest.raises(CheckpointError, match="no encoder is to be had there"):
        used(bert)
