"""Encoders as users have them: the usage read from their files, and what is refused."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import CLIPConfig, CLIPModel

import encoder as stage
from bitter_retrieval.encoders.encoder import Usage, load_encoder, save_passage_encoder
from bitter_retrieval.evaluation.given_models import point_to_encoder
from bitter_retrieval.models.checkpoints import CheckpointError, write_pointer

SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
NOTHING: Mapping[str, Any] = {}
TEXTS = ["Aldan was born in Ashby.", "goat"]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A checkpoint with sentence-transformers files: cls, with prefixes, 16 tokens."""
    tiny.tiny_encoder(pooling="cls", query_prefix="born ", passage_prefix="owns ", max_length=16).save(tmp_path / "a")
    return tmp_path / "a"


def silent(line: str) -> None:
    pytest.fail(f"warns: {line}")


def used(
    model: Path, preset: Mapping[str, Any] = NOTHING, warn: Callable[[str], None] = silent, **stated: Any
) -> Usage:
    folder, told = point_to_encoder(model.parent / "pointer", str(model), None, stated, preset, warn)
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
    folder, _ = point_to_encoder(bert.parent / "pointer", str(bert), None, {}, {}, silent)
    mine, own = load_encoder(folder), load_encoder(bert)
    assert (mine.embed(TEXTS, "query", 99) == own.embed(TEXTS, "query", 99)).all()


def test_files_of_other_versions_are_read(bert: Path) -> None:
    (bert / "1_Pooling/config.json").write_text(json.dumps({"embedding_dimension": 32, "pooling_mode": "mean"}))
    (bert / "config_sentence_transformers.json").write_text(json.dumps({"__version__": {}}))
    (bert / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": None}))
    positions = json.loads((bert / "config.json").read_text())["max_position_embeddings"]
    warned: list[str] = []
    assert used(bert, warn=warned.append) == Usage("mean", "", "", positions)
    assert used(bert, warn=warned.append, query_prefix="Q: ") == Usage("mean", "Q: ", "", positions)
    options = [line.partition("none is used. Pass ")[2] for line in warned]
    assert options == ["--query-prefix and --passage-prefix.", "--passage-prefix."]
    assert used(bert, query_prefix="Q: ", passage_prefix="") == Usage("mean", "Q: ", "", positions)
    edit(bert / "config_sentence_transformers.json", prompts={"query": "Q: ", "passage": "P: "})
    assert used(bert).passage_prefix == "P: "


PRESET = {"model": "me/bert", "pooling": "mean", "query_prefix": "Q: ", "passage_prefix": "", "max_length": 9}


def test_what_is_stated_goes_before_the_files_and_these_before_the_preset(bert: Path) -> None:
    assert used(bert, PRESET) == Usage("cls", "born ", "owns ", 16)
    edit(bert / "config_sentence_transformers.json", prompts={"query": "", "document": "D: "})
    edit(bert / "sentence_bert_config.json", max_seq_length=None)
    assert used(bert, PRESET) == Usage("cls", "Q: ", "D: ", 9)
    assert used(bert, PRESET, query_prefix="", max_length=8) == Usage("cls", "", "D: ", 8)
    bare(bert)
    assert used(bert, PRESET) == Usage("mean", "Q: ", "", 9)
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": "lasttoken"}))
    with pytest.raises(CheckpointError, match="pools by .*lasttoken"):
        used(bert, PRESET)


def test_several_models_in_one_are_no_encoder(bert: Path) -> None:
    """As a user names it, and as the stage encoder does."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**vision, "vocab_size": 300, "max_position_embeddings": 32}
    folder = bert.parent / "clip"
    CLIPModel(CLIPConfig(text_config=text, vision_config={**vision, "image_size": 8, "patch_size": 4})).save_pretrained(
        folder
    )
    tiny.tiny_encoder().tokenizer.save_pretrained(folder)
    said = r"clip': CLIPConfig has no hidden_size.* Name an encoder of texts alone"
    with pytest.raises(CheckpointError, match=said):
        used(folder, pooling="mean")
    with pytest.raises(CheckpointError, match=said):
        stage.point(bert.parent / "encoders/clip", str(folder), None, Usage("mean", "", "", 16))


def test_a_bare_transformer_needs_a_pooling(bert: Path) -> None:
    bare(bert)
    with pytest.raises(CheckpointError, match="has no 1_Pooling/config.json. Pass --pooling"):
        used(bert)
    stated = {"query_prefix": "", "passage_prefix": "P: ", "max_length": 9}
    assert used(bert, pooling="mean", **stated) == Usage("mean", "", "P: ", 9)


def test_a_pointer_of_the_project_is_followed(bert: Path) -> None:
    own = bert.parent / "encoders/mini"
    for name in (*SENTENCE_FILES, "1_Pooling/config.json"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bert / name, own / name)
    bare(bert)
    write_pointer(own, str(bert), None)
    assert used(own) == Usage("cls", "born ", "owns ", 16)


def test_passages_with_an_encoder_of_their_own_keep_it(bert: Path) -> None:
    run = bert.parent / "run"
    shutil.copytree(bert, run)
    save_passage_encoder(run, bert)
    assert point_to_encoder(bert.parent / "pointer", str(run), None, {}, {}, silent)[0] == run
    with pytest.raises(CheckpointError, match="an encoder of their own .* pooling cannot be set"):
        point_to_encoder(bert.parent / "pointer", str(run), None, {"pooling": "mean"}, {}, silent)


def test_use_that_is_not_ours_is_refused(bert: Path) -> None:
    pooling = bert / "1_Pooling/config.json"
    whole = pooling.read_text()
    edit(pooling, pooling_mode_mean_tokens=True)
    with pytest.raises(CheckpointError, match="pools by .* Pass --pooling mean or cls"):
        used(bert)
    pooling.write_text(whole)
    edit(pooling, include_prompt=False)
    with pytest.raises(CheckpointError, match="include_prompt false"):
        used(bert)
    pooling.write_text(whole)
    modules = json.loads((bert / "modules.json").read_text())
    dense = {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"}
    (bert / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(CheckpointError, match="ask for Dense, which is not supported here"):
        used(bert)
    (bert / "modules.json").write_text("{")
    with pytest.raises(CheckpointError, match="no encoder can be loaded from there"):
        used(bert)
