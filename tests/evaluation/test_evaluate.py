"""The stages evaluate and control in a small project: who reads what how often, and from which corpus."""

import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from commands import refused, run

import control
import evaluate
from bitter_retrieval.evaluation import embeddings
from bitter_retrieval.records import (
    BINARY_LABELS,
    CORPUS,
    PREDICTIONS,
    PREPARED,
    SOFT_LABELS,
    Row,
    passage_texts,
    read_rows,
    write_rows,
)

ROWS = tiny.world(6)
PASSAGES = {p["passage_id"]: p["text"] for row in tiny.world(12) for p in row["passages"]}  # six rows' own, and others
NOT_RETRIEVED = {"no_passage", "annotated", "oracle", "random"}


LONG = "Ashby " * 99


def selected(row: Row) -> Row:
    return row | {"passages": [p | {"is_selected": int(p["role"] == "plain")} for p in row["passages"]]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    set_params(shown=[1, 3])
    write_rows("data/prepared/test.parquet", ROWS, PREPARED)
    write_rows("data/prepared/corpus.parquet", [{"passage_id": p, "text": t} for p, t in PASSAGES.items()], CORPUS)
    set_beyond([])
    write_rows("data/labels/human/test.parquet", tiny.truth(ROWS), BINARY_LABELS)
    write_rows("data/labels/reader_a/test.parquet", tiny.soft(ROWS), SOFT_LABELS)
    for folder, seed in {"encoders/mini": 0, "runs/kl/seed0": 0, "runs/kl/seed7": 7}.items():
        tiny.tiny_encoder(seed).save(tmp_path / "models" / folder)
    for module in (evaluate, control):
        monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
        monkeypatch.setattr(module, "load_reader", lambda folder: reader(folder.name))
    return tmp_path


def set_params(**changes: Any) -> None:
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["evaluate"] |= changes
    del tree["labels"]["reader_b"]  # which then has no oracle
    tree["control"]["random_draws"], tree["train"]["seeds"] = 2, [0, 7]
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def set_beyond(rows: list[Row], **more: str) -> None:
    """Questions from another domain, and a corpus of their passages and `more`."""
    corpus = passage_texts(rows) | more
    write_rows("data/prepared/beyond.parquet", rows, PREPARED)
    write_rows("data/prepared/beyond_corpus.parquet", [{"passage_id": p, "text": t} for p, t in corpus.items()], CORPUS)


def reader(name: str) -> Any:
    seed = {"reader_a": 0, "reader_b": 1}[name]
    return replace(tiny.tiny_reader(seed=seed), name=name, identity=name)


@pytest.fixture
def predict(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Row]]:
    """Run evaluate on the run kl."""

    def predicted() -> list[Row]:
        run(evaluate, "kl", monkeypatch=monkeypatch)
        return read_rows("data/predictions/runs/kl.parquet", PREDICTIONS)

    return predicted


def test_every_seed_reader_and_number_of_passages_is_read(predict: Callable[[], list[Row]]) -> None:
    rows = predict()
    calls = [(row["seed"], row["reader"], row["shown"]) for row in rows]
    wanted = [(seed, name, shown) for name in ("reader_a", "reader_b") for shown in (1, 3) for seed in (0, 7)]
    assert calls == [call for call in wanted for _ in ROWS]
    for row in rows:
        assert row["shown_ids"] == row["ranked_ids"][: row["shown"]] and len(row["ranked_ids"]) == 10
        assert len(row["candidate_ranks"]) == 3
    assert {row["query_id"] for row in rows} == {row["query_id"] for row in ROWS}


def test_the_first_number_reads_the_same_whatever_follows(predict: Callable[[], list[Row]]) -> None:
    both = predict()
    set_params(shown=[1])
    assert predict() == [row for row in both if row["shown"] == 1]


def test_what_was_done_once_asks_neither_encoder_nor_reader(
    predict: Callable[[], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predict()
    monkeypatch.setattr(embeddings, "load_encoder", None)
    monkeypatch.setattr(evaluate, "load_reader", lambda folder: replace(reader(folder.name), model=None))
    assert predict() == first


def test_readers_are_loaded_one_at_a_time(predict: Callable[[], list[Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[weakref.ref] = []

    def load(folder: Path) -> Any:
        assert not [model for model in models if model()]
        loaded = reader(folder.name)
        models.append(weakref.ref(loaded.model))
        return loaded

    for module in (evaluate, control):
        monkeypatch.setattr(module, "load_reader", load)
    predict()
    control.main([])
    assert len(models) == 4


def test_references_that_no_reader_can_score_are_told(
    predict: Callable[[], list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows("data/prepared/test.parquet", [*ROWS[:5], ROWS[5] | {"answers": [LONG]}], PREPARED)
    for rows in (predict(), (control.main([]), controlled("bm25"))[1]):
        assert {row["query_id"] for row in rows if row["answer_nll"] is None} == {"q5"}
    told = capsys.readouterr().err
    assert "evaluate kl: 8 of 48 answers have no answer loss, the first by reader_a to query 'q5'" in told
    assert "control bm25: 4 of 24 answers have no answer loss" in told


def test_questions_of_which_no_passage_has_a_word_are_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("data/prepared/test.parquet", [*ROWS[:5], ROWS[5] | {"query": "zzz?"}], PREPARED)
    control.main([])
    assert "control bm25: no passage has a word of 1 of 6 questions: their ranking is" in capsys.readouterr().err


def test_only_the_corpus_of_the_size_is_searched(
    predict: Callable[[], list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {p["passage_id"] for row in ROWS for p in row["passages"]}
    assert len(own) == 11 and len(PASSAGES) > 12
    set_params(shown=[1], corpus_size=11)
    assert {passage for row in predict() for passage in row["ranked_ids"]} <= own
    set_params(shown=[1], corpus_size=10)
    assert "got 10" in refused(evaluate, "kl", monkeypatch=monkeypatch)


def test_the_empty_passage_can_be_retrieved_and_shown(predict: Callable[[], list[Row]]) -> None:
    set_params(shown=[12], empty_passage=True, top_k=18)
    rows = predict()
    assert len(rows[0]["ranked_ids"]) == len(PASSAGES) + 1 and "" in rows[0]["ranked_ids"]
    assert any("" in row["shown_ids"] for row in rows)
    assert "" not in rows[0]["candidate_ids"]


FAR = [selected(row) | {"query_id": f"q{number}"} for number, row in enumerate(tiny.world(4, first=20))]  # as ROWS


def parted(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Rows on questions of the data, and rows on another domain."""
    return [row for row in rows if not row["beyond"]], [row for row in rows if row["beyond"]]


def test_questions_from_another_domain_are_read_once_from_a_corpus_of_their_own(
    predict: Callable[[], list[Row]],
) -> None:
    before = predict()
    set_beyond(FAR, extra="Nobody asks for it.")
    set_params(shown=[1, 3], corpus_size=len(PASSAGES))  # a size is of the split's own corpus
    rows = predict()
    here, far = parted(rows)
    assert here == before
    calls = [(row["seed"], row["reader"], row["shown"]) for row in far]
    assert calls == [(seed, name, 1) for name in ("reader_a", "reader_b") for seed in (0, 7) for _ in FAR]
    assert {row["query_id"] for row in far} == {row["query_id"] for row in FAR}
    searched = {passage for row in far for passage in row["ranked_ids"]}
    assert searched == {*passage_texts(FAR), "extra"}


def test_controls_answer_questions_from_another_domain_save_the_oracle(project: Path) -> None:
    set_params(shown=[1, 3])
    control.main([])
    before = {name: controlled(name) for name in (*NOT_RETRIEVED, "bm25", "untrained")}
    set_beyond([*FAR[1:], FAR[0] | {"passages": [p | {"is_selected": None} for p in FAR[0]["passages"]]}])
    control.main([])
    for name, rows in before.items():
        here, far = parted(controlled(name))
        assert here == rows
        draws, asked = (2 if name == "random" else 1), {"annotated": 3, "oracle": 0}.get(name, 4)
        assert len(far) == 2 * draws * asked and {row["shown"] for row in far} <= {1}, name
    chosen = {row["query_id"]: row["shown_ids"] for row in parted(controlled("annotated"))[1]}
    assert chosen == {
        row["query_id"]: [p["passage_id"] for p in row["passages"] if p["is_selected"]] for row in FAR[1:]
    }


def test_every_encoder_is_a_control_before_training(project: Path) -> None:
    set_params(shown=[1])
    tree = yaml.safe_load(Path("params.yaml").read_text())
    tree["encoders"]["other"] = tree["encoders"]["mini"]
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    tiny.tiny_encoder(3).save(project / "models/encoders/other")
    (project / "models/encoders/gone").mkdir()
    control.main([])
    assert not (project / "models/encoders/gone").exists()
    own, other = controlled("untrained"), controlled("untrained_other")
    assert [row["query_id"] for row in own] == [row["query_id"] for row in other] and {
        row["system"] for row in other
    } == {"untrained_other"}
    assert [row["ranked_scores"] for row in own] != [row["ranked_scores"] for row in other]


def controlled(name: str) -> list[Row]:
    return read_rows(f"data/predictions/controls/{name}.parquet", PREDICTIONS)


def test_controls_that_rank_are_read_for_every_number_and_the_others_once(project: Path) -> None:
    control.main([])
    for name in [*NOT_RETRIEVED, "bm25", "untrained"]:
        rows = read_rows(f"data/predictions/controls/{name}.parquet", PREDICTIONS)
        readings = Counter((row["reader"], row["seed"], row["shown"]) for row in rows)
        readers = ["reader_a"] if name == "oracle" else ["reader_a", "reader_b"]
        draws = [0, 1] if name == "random" else [0]
        numbers = [1] if name in NOT_RETRIEVED else [1, 3]
        wanted = {(one, draw, shown): len(ROWS) for one in readers for draw in draws for shown in numbers}
        assert readings == wanted, name
        shown = {len(row["shown_ids"]) for row in rows}
        assert shown == ({0} if name == "no_passage" else set(numbers))


def test_the_oracle_shows_the_first_of_the_best_candidates(project: Path) -> None:
    """The second and third tie; the first has the loss of an easy reference only, so it is not compared."""
    losses = [[None, 0.01], [0.5 + 5e-7, 3.0], [0.5, 3.0], [2.0, 0.1]]
    ids = [[*(passage["passage_id"] for passage in row["passages"]), ""] for row in ROWS]
    assert all(len(names) == len(losses) for names in ids)
    labels = [
        {"query_id": row["query_id"], "passage_id": name, "answer_index": index, "nll_sum": loss, "n_tokens": 1}
        for row, names in zip(ROWS, ids, strict=True)
        for name, of_passage in zip(names, losses, strict=True)
        for index, loss in enumerate(of_passage)
    ]
    write_rows("data/labels/reader_a/test.parquet", labels, SOFT_LABELS)
    control.main([])
    assert [row["shown_ids"] for row in controlled("oracle")] == [[names[1]] for names in ids]


def test_controls_search_the_corpus_that_runs_search(project: Path) -> None:
    set_params(shown=[1], corpus_size=11, empty_passage=True)
    control.main([])
    own = {p["passage_id"] for row in ROWS for p in row["passages"]}
    for name in ("bm25", "untrained"):
        rows = read_rows(f"data/predictions/controls/{name}.parquet", PREDICTIONS)
        assert {passage for row in rows for passage in row["ranked_ids"]} <= {*own, ""}


def test_run_that_params_do_not_have_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'k1' is none of" in refused(evaluate, "k1", monkeypatch=monkeypatch)
    assert not Path("data/predictions").exists()
