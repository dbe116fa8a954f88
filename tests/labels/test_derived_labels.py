"""Stage derive as DVC runs it, and training on its labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import yaml
from saved_reader import PROMPT

import derive
import train
from bitter_retrieval.command_line import bar
from bitter_retrieval.labels.scored import score_splits
from bitter_retrieval.params import load_params
from bitter_retrieval.readers.language_model import ReaderSettings, save_settings
from bitter_retrieval.records import (
    BINARY_LABELS,
    NEGATIVES,
    NO_PASSAGE,
    PREPARED,
    SOFT_LABELS,
    Row,
    passage_texts,
    read_rows,
    write_rows,
)
from bitter_retrieval.typed_yaml import ParamsError

SPLITS = {"train": tiny.world(20), "validation": tiny.world(8, first=24)}
TEXTS = passage_texts(SPLITS["train"])
DERIVED = {
    "hard": {
        "kind": "mined",
        "needs": "data/labels/human",
        "encoder": "models/encoders/mini",
        "per_query": 2,
        "depth": 20,
        "below": 0.99,
    },
    "hard_soft": {
        "kind": "mined",
        "needs": "data/labels/reader_a",
        "encoder": "models/runs/infonce",
        "per_query": 2,
        "depth": 20,
        "below": 0.99,
    },
    "second": {
        "kind": "on_policy",
        "needs": "models/readers/reader_a",
        "encoder": "models/runs/infonce",
        "per_query": 2,
    },
    "distilled": {
        "kind": "reranker",
        "needs": "data/labels/reader_a",
        "encoder": "models/encoders/mini",
        "fit": {"steps": 3, "batch": 4, "learning_rate": 0.01, "temperature": 0.5, "seed": 0},
    },
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stages before derive are done, with the real profile shrunk; infonce has seeds 3 and 10."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(derive, "keep_freed_memory", lambda: None)
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["tracking"]["mlflow"] = False
    tree["derived_labels"] = DERIVED
    tree["runs"] |= {name: tree["runs"][run] | {"labels": name} for name, run in RUNS.items()}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    for split, rows in SPLITS.items():
        write_rows(f"data/prepared/{split}.parquet", rows, PREPARED)
        write_rows(f"data/labels/human/{split}.parquet", tiny.truth(rows), BINARY_LABELS)
        write_rows(f"data/labels/reader_a/{split}.parquet", tiny.soft(rows), SOFT_LABELS)
    tiny.tiny_encoder().save(Path("models/encoders/mini"))
    for seed in (3, 10):
        tiny.tiny_encoder(seed).save(Path(f"models/runs/infonce/seed{seed}"))
    reader, folder = tiny.tiny_reader(tokenizer="bpe"), Path("models/readers/reader_a")
    reader.model.save_pretrained(folder)
    reader.tokenizer.save_pretrained(folder)
    save_settings(folder, ReaderSettings(PROMPT, "float32", 96, 0))
    return tmp_path


RUNS = {"hard": "infonce", "hard_soft": "kl", "second": "kl", "distilled": "full_modular"}


def run(source: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["derive.py", source])
    derive.main()
    return json.loads(Path(f"data/figures/label/{source}.json").read_text())


def labels(source: str, split: str) -> list[Row]:
    return read_rows(f"data/labels/{source}/{split}.parquet", SOFT_LABELS)


@pytest.mark.parametrize(("name", "needs"), [("hard", "human"), ("hard_soft", "reader_a")])
def test_mined_source_is_its_own_source_with_negatives(
    name: str, needs: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = run(name, monkeypatch)
    for split in SPLITS:
        same = [Path(f"data/labels/{source}/{split}.parquet").read_bytes() for source in (name, needs)]
        assert same[0] == same[1]
    found = read_rows(f"data/labels/{name}/negatives.parquet", NEGATIVES)
    assert account["negatives"] == len(found) > 0 and account["queries"] == 20
    assert account["queries_without_negative"] == 20 - len({row["query_id"] for row in found})
    before = Path(f"data/labels/{name}/negatives.parquet").read_bytes()
    run(name, monkeypatch)
    assert Path(f"data/labels/{name}/negatives.parquet").read_bytes() == before
    params = load_params()
    training, validation = train.load_sets(params, params.runs[name])
    negatives = {query: len(own) for query, own in zip(training.query_ids, training.negatives, strict=True)}
    assert sum(negatives.values()) == len(found) and not any(map(len, validation.negatives))
    plain = train.load_sets(params, params.runs[RUNS[name]])[0]
    assert all((own == other).all() for own, other in zip(training.candidates, plain.candidates, strict=True))
    assert training.passages == plain.passages and training.targets.scale == plain.targets.scale


def test_mining_takes_the_encoder_that_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hard_soft mines with the run's lowest seed, 3; with seed 10 it would find others."""
    run("hard_soft", monkeypatch)
    first = read_rows("data/labels/hard_soft/negatives.parquet", NEGATIVES)
    Path("models/runs/infonce/seed3").rename("models/runs/infonce/seed11")
    run("hard_soft", monkeypatch)
    assert read_rows("data/labels/hard_soft/negatives.parquet", NEGATIVES) != first


def test_reader_labels_what_a_run_retrieves_and_training_takes_it_as_candidates(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row of three given candidates and no passage, 4 triples; further passages retrieved are labelled too."""
    score_splits(load_reader(), SPLITS, load_params().label, bar, print)  # reader_a's labels of the candidates alone
    capsys.readouterr()
    account = run("second", monkeypatch)
    told = " ".join(capsys.readouterr().err.split())
    beyond = {split: len(labels("second", split)) - 4 * len(rows) for split, rows in SPLITS.items()}
    assert 0 < beyond["train"] <= 2 * 20 and account["train"]["candidates_without_label"] == 0
    assert f"{80 + beyond['train']} triples, 80 of them from the journal" in told
    params = load_params()
    training, _ = train.load_sets(params, params.runs["second"])
    given = train.load_sets(params, params.runs["kl"])[0]
    assert sum(map(len, training.candidates)) == sum(map(len, given.candidates)) + beyond["train"]
    for own, before in zip(training.candidates, given.candidates, strict=True):
        texts = [training.passages[place] for place in own]
        assert texts[: len(before)] == [given.passages[place] for place in before]
    rows = labels("second", "train")
    found = {(row["query_id"], row["passage_id"]): row["nll_sum"] / row["n_tokens"] for row in rows}
    tokens = tiny.tiny_encoder().tokens(list(TEXTS.values()), "passage")
    for query, own, nll in zip(training.query_ids, training.candidates, training.targets.nll, strict=True):
        ids = [list(TEXTS)[tokens.index(training.passages[place])] for place in own]
        assert nll.tolist() == pytest.approx([found[query, passage_id] for passage_id in ids])
    assert all((query, NO_PASSAGE) in found for query in training.query_ids)


def load_reader() -> Any:
    from bitter_retrieval.readers.language_model import load_reader

    return load_reader(Path("models/readers/reader_a"))


def test_cross_encoder_labels_every_candidate_and_no_passage(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = run("distilled", monkeypatch)
    written = {split: Path(f"data/labels/distilled/{split}.parquet").read_bytes() for split in SPLITS}
    run("distilled", monkeypatch)
    for split, rows in SPLITS.items():
        assert Path(f"data/labels/distilled/{split}.parquet").read_bytes() == written[split]
        found = labels("distilled", split)
        pairs = [(row["query_id"], p["passage_id"]) for row in rows for p in [*row["passages"], {"passage_id": ""}]]
        assert [(row["query_id"], row["passage_id"]) for row in found] == pairs
        assert {row["n_tokens"] for row in found} == {None} and len({row["nll_sum"] for row in found}) > len(rows)
        assert account[split]["candidates_without_label"] == 0 and 0 <= account[split]["agreement"] <= 1
    params = load_params()
    training, _ = train.load_sets(params, params.runs["distilled"])
    first = [row["nll_sum"] for row in labels("distilled", "train")[:3]]
    assert training.targets.nll[0].tolist() == pytest.approx(first)


def test_labels_of_a_cross_encoder_are_at_its_scale() -> None:
    """softmax(-label / temperature) is the distribution of its scores."""
    rows, scores = SPLITS["train"][:1], np.array([2.0, -1.0, 0.5])
    found = np.array([row["nll_sum"] for row in derive.reranked(rows, [scores], 0.25)])
    assert np.exp(-found / 0.25) / np.exp(-found / 0.25).sum() == pytest.approx(np.exp(scores) / np.exp(scores).sum())


def test_source_that_params_do_not_have_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match="derived_labels: 'hrad' is none of distilled, hard, hard_soft, second"):
        run("hrad", monkeypatch)
