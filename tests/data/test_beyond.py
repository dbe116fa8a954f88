"""Stage prepare on another domain: beyond.parquet, its corpus, its account and its refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import source_files
import tiny
import yaml

import prepare
from bitter_retrieval.files.hub_datasets import DatasetError
from bitter_retrieval.records import CORPUS, PREPARED, Row, read_rows
from bitter_retrieval.typed_yaml import ParamsError

WORLD = {"reader_clusters": 1, "train_clusters": 1, "validation_clusters": 1, "test_clusters": 1}
SQUAD = {"source": "squad", "path": "data/raw/squad", "seed": 3, "candidates": 4}
SHARES = {"reader": 0, "train": 0, "validation": 0, "test": 1}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source_files.write_rows(Path("data/raw/squad/train.parquet"), source_files.squad())
    source_files.write_marco(Path("data/raw/marco"), source_files.MARCO)


def prepared(beyond: dict[str, Any] | None) -> tuple[list[Row], list[str], dict[str, Any]]:
    """Questions, ids of the corpus, and the account."""
    tree = yaml.safe_load(tiny.PROFILE.read_text())
    tree["data"]["world"] |= WORLD
    tree["beyond"] = beyond
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    prepare.main([])
    corpus = [row["passage_id"] for row in read_rows("data/prepared/beyond_corpus.parquet", CORPUS)]
    account = json.loads(Path("data/figures/prepare.json").read_text())
    return read_rows("data/prepared/beyond.parquet", PREPARED), corpus, account


def test_without_another_domain_there_are_no_rows() -> None:
    rows, corpus, account = prepared(None)
    assert rows == [] and corpus == [] and "beyond" not in account


def test_its_test_split_is_added_and_the_data_stay_as_they_are() -> None:
    rows, corpus, account = prepared(SQUAD | {"articles": SHARES, "num_titles": 3, "questions_per_title": 2})
    assert len(rows) == 6 and len({row["group_id"] for row in rows}) == 3
    assert all(len(row["passages"]) == 4 for row in rows)
    assert len(corpus) == 9 and {p["passage_id"] for row in rows for p in row["passages"]} <= set(corpus)
    assert account["beyond"]["splits"] == {"test": account["beyond"]["splits"]["test"]}
    assert account["beyond"]["splits"]["test"]["questions"] == 6
    assert account["beyond"]["source"]["name"] == "data/raw/squad"
    before = {name: read_rows(f"data/prepared/{name}.parquet", PREPARED) for name in prepare.SPLITS}
    prepared(None)
    assert before == {name: read_rows(f"data/prepared/{name}.parquet", PREPARED) for name in prepare.SPLITS}


def test_an_unstated_commit_is_refused_before_anything_is_written() -> None:
    hub = {"id": "rajpurkar/squad", "revision": None}
    with pytest.raises(DatasetError, match=r"beyond\.hub\.revision: null\. `git ls-remote"):
        prepared(SQUAD | {"articles": SHARES, "hub": hub})
    assert not Path("data/prepared").exists()


def test_ms_marco_elsewhere_takes_no_question_of_its_training_split() -> None:
    marco = {"source": "msmarco", "path": "data/raw/marco", "seed": 0, "candidates": 10}
    rows, _, _ = prepared(marco | {"limits": {"train": 1, "validation": 1, "test": 5}})
    asked = {row["query"] for row in source_files.MARCO["test"]}
    assert len(rows) == 5 and {row["query"] for row in rows} <= asked


def test_a_domain_without_questions_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"beyond: data/raw/squad has no question for test .*beyond.articles"):
        prepared(SQUAD | {"articles": SHARES | {"test": 0}})
