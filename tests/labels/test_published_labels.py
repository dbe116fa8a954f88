"""Published soft labels matched with prepared rows by content alone; what does not fit is counted or refused."""

import json
import sys
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from source_files import MARCO, marco, published, write_marco, write_rows

import label
from bitter_retrieval.data.question_files import read_questions
from bitter_retrieval.files.settings import Hub
from bitter_retrieval.files.tables import Place, Record
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.labels.published import PublishedError, published_labels
from bitter_retrieval.publishing.published_layout import published_tables
from bitter_retrieval.records import PREPARED, SOFT_LABELS, Row, read_rows
from bitter_retrieval.records import write_rows as write_records


def prepared(folder: Path, rows: list[Row]) -> list[Row]:
    return read_questions(write_rows(folder / "rows.jsonl", rows)).rows


def records(rows: list[Row]) -> list[Record]:
    return [(Place(Path("them/train"), "row", number), row) for number, row in enumerate(rows, 1)]


def loss(row: Row, text: str) -> float:
    return len(text) / 64 + len(row["query"])


def losses(labels: list[Row]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for one in labels:
        found.setdefault(one["query_id"], {})[one["passage_id"]] = one["nll_sum"]
    return found


def test_labels_are_those_of_the_same_query_and_text_whatever_the_ids_and_the_order(tmp_path: Path) -> None:
    mine = prepared(tmp_path, [marco(number, count=1 + number) for number in range(6)])
    theirs = [row | {"query_id": 7 * number} for number, row in enumerate(published(MARCO["train"][::-1], loss))]
    labels, unmatched, unused = published_labels(records(theirs), {"train": mine[:4], "validation": mine[4:]}, "them")
    for row in mine:
        found = losses(labels["train"] + labels["validation"])[row["query_id"]]
        expected = {one["passage_id"]: loss(row, one["text"]) for one in row["passages"]} | {"": loss(row, "")}
        assert found == expected and list(found)[-1] == ""
    assert {(one["answer_index"], one["n_tokens"]) for one in labels["train"]} == {(0, None)}
    assert set(labels["train"][0]) == set(SOFT_LABELS.names)
    assert not any(count for counts in unmatched.values() for count in counts.values())
    assert unused == {"rows": 33, "other_queries": 27, "other_answers": 0, "repeated_queries": 0, "not_finite": 0}


def test_what_is_not_there_is_null_and_counted(tmp_path: Path) -> None:
    mine = prepared(tmp_path, [marco(number, count=3) for number in range(5)])
    theirs = published([marco(0, count=3), marco(1, count=2), marco(2, count=3), marco(9)], loss)
    for values in theirs[2]["passages"].values():
        values.pop()  # it has no empty passage
    labels, unmatched, _ = published_labels(records(theirs), {"train": mine, "test": mine[3:]}, "them")
    assert unmatched["train"] == {"questions": 2, "passages": 1, "empty_passages": 1}
    assert unmatched["test"] == {"questions": 2, "passages": 0, "empty_passages": 0}, "test may be without labels"
    null = [[value is None for value in of.values()] for of in losses(labels["train"]).values()]
    assert null == [[False] * 4, [False, False, True, False], [False] * 3 + [True], [True] * 4, [True] * 4]


def test_of_what_comes_again_the_first_counts_and_of_an_empty_passage_the_last(tmp_path: Path) -> None:
    mine = prepared(tmp_path, [marco(0, count=2)])
    first, second = published([marco(0, count=1), marco(0, count=2)], loss)
    first["passages"] = {name: [values[1], *values] for name, values in first["passages"].items()}
    first["passages"]["soft_labels"] = [8.0, 1.0, 2.0]
    second["passages"]["soft_labels"] = [9.0, 3.0, 9.0]
    labels, _, unused = published_labels(records([first, second]), {"train": mine}, "them")
    assert list(losses(labels["train"])[mine[0]["query_id"]].values()) == [1.0, 3.0, 2.0]
    assert unused["repeated_queries"] == 1


def test_a_query_that_comes_again_with_another_answer_has_labels_of_its_own(tmp_path: Path) -> None:
    other, third = ({"query_id": n, "answers": [text, "Ashby"]} for n, text in enumerate(("elsewhere", "nowhere")))
    mine = prepared(tmp_path, [marco(0, count=2), marco(0, count=2, **other), marco(0, count=2, **third)])
    theirs = published([marco(0, count=2), marco(0, count=2, **other | {"answers": ["", "elsewhere"]})], loss)
    theirs.append(published([marco(0, count=2, answers=["somewhere"])], loss)[0])
    theirs[1]["passages"]["soft_labels"] = [7.0, 8.0, 9.0]
    labels, unmatched, unused = published_labels(records(theirs), {"train": mine}, "them")
    first, second, none = (list(of.values()) for of in losses(labels["train"]).values())
    assert second == [7.0, 8.0, 9.0] and first == theirs[0]["passages"]["soft_labels"] and none == [None] * 3
    assert unmatched["train"]["questions"] == 1
    assert (unused["other_answers"], unused["other_queries"], unused["repeated_queries"]) == (1, 0, 0)


@pytest.mark.parametrize("odd", [inf, -inf, nan, None])
def test_a_loss_that_is_no_number_to_learn_from_is_null(tmp_path: Path, odd: float | None) -> None:
    mine = prepared(tmp_path, [marco(0, count=2)])
    theirs = published([marco(0, count=2)], loss)
    theirs[0]["passages"]["soft_labels"][1] = odd
    labels, unmatched, unused = published_labels(records(theirs), {"train": mine}, "them")
    assert [one["nll_sum"] is None for one in labels["train"]] == [False, True, False]
    assert unused["not_finite"] == (odd is not None) and unmatched["train"]["passages"] == 0


def test_labels_of_other_data_are_refused(tmp_path: Path) -> None:
    mine = prepared(tmp_path, [marco(number) for number in range(3)])
    theirs = published([marco(0), marco(7)], loss)
    for split in ("train", "validation"):
        with pytest.raises(PublishedError, match=f"them: none of 2 {split} questions was published .*of 2 rows"):
            published_labels(records(theirs), {"test": mine[:1], split: mine[1:]}, "them")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"soft_labels": ["low", 1.0]}, PublishedError, "them/train, row 1: soft_labels holds 'low'"),
        ({"soft_labels": [True, 1.0]}, PublishedError, "holds True"),
        ({"soft_labels": [1.0]}, DataFileError, "row 1: 2 passage_text and 1 soft_labels are not parallel"),
        ({"soft_labels": None}, DataFileError, "row 1: soft_labels in passages should be a list parallel"),
        ({"passage_text": [None, ""]}, DataFileError, "row 1: passage 1 should be text, is None"),
    ],
)
def test_rows_that_are_no_labels_are_refused_with_their_place(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], said: str
) -> None:
    mine = prepared(tmp_path, [marco(0, count=1)])
    theirs = published([marco(0, count=1)], loss)
    theirs[0]["passages"] |= change
    with pytest.raises(error, match=said):
        published_labels(records(theirs), {"train": mine}, "them")
    with pytest.raises(DataFileError, match="row 1: soft_labels in passages should be a list parallel"):
        published_labels(records([marco(0)]), {"train": mine}, "them")


def test_what_this_project_publishes_reads_back(tmp_path: Path) -> None:
    rows = tiny.world(6)
    labels = tiny.soft(rows)
    table, _ = published_tables(rows, labels, "reader_a", whole=False)
    found, unmatched, _ = published_labels(records(table.to_pylist()), {"train": rows}, "them")
    means = {(one["query_id"], one["passage_id"]): one["nll_sum"] / one["n_tokens"] for one in labels}
    assert {(one["query_id"], one["passage_id"]): one["nll_sum"] for one in found["train"]} == pytest.approx(means)
    assert not any(unmatched["train"].values())


# -- the stage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_hub", [False, True])
def test_the_stage_reads_all_parts_and_writes_labels_and_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_hub: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, split in enumerate(("train", "validation", "test")):
        rows = prepared(tmp_path, [marco(10 * number + place) for place in range(3)])
        write_records(f"data/prepared/{split}.parquet", rows, PREPARED)
    theirs = {"train": published([marco(n) for n in (0, 1, 10)], loss), "test": published([marco(11), marco(20)], loss)}
    hub = {"id": "them/labels", "revision": "a" * 40}
    entry = {"kind": "published", "needs": "data/theirs"}
    if of_hub:
        entry = {"kind": "published", "needs": "data/prepared/train.parquet", "hub": hub}
        asked = [(Hub(**hub), "labels.theirs.hub", "labels.theirs.needs")]
        given = {split: records(rows) for split, rows in theirs.items()}
        monkeypatch.setattr(label, "hub_parts", lambda *what: given if what == asked[0] else pytest.fail(str(what)))
    else:
        write_marco(Path("data/theirs"), theirs, ".jsonl")
    tree = tiny.with_runs(yaml.safe_load(tiny.PROFILE.read_text()))
    tree["data"]["source"] = "msmarco"
    tree["labels"] = {name: one for name, one in tree["labels"].items() if name not in ("human", "truth")}
    tree["labels"] |= {"human": {"kind": "selected", "needs": "data/prepared/train.parquet"}, "theirs": entry}
    Path("params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setattr(label, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(sys, "argv", ["label.py", "theirs"])
    label.main()
    labels = {s: read_rows(f"data/labels/theirs/{s}.parquet", SOFT_LABELS) for s in ("train", "validation", "test")}
    assert [sum(one["nll_sum"] is not None for one in of) for of in labels.values()] == [22, 22, 11]
    counted = json.loads(Path("data/figures/label/theirs.json").read_text())
    unused = {"rows": 5, "other_queries": 0, "other_answers": 0, "repeated_queries": 0, "not_finite": 0}
    assert counted["unused"] == unused
    assert [counted["unmatched"][split]["questions"] for split in labels] == [1, 1, 2]
    assert [counted[split]["unscorable"] for split in labels] == [11, 11, 22]


# -- scores of a teacher ---------------------------------------------------------------------------------------------


def scores(*records: dict) -> dict[str, float | None]:
    """Losses of one question by text, from records of teachers' scores."""
    texts = ["a", "b", "c", "d"]
    passages = [{"passage_id": text, "text": text, "is_selected": None, "role": None} for text in texts]
    row = {"query_id": "q", "group_id": "q", "query": "q", "answers": ["x"], "passages": passages}
    places = [(Place(Path("f"), "line", number), record) for number, record in enumerate(records, 1)]
    labels, *_ = published_labels(places, {"train": [row]}, "here")
    return {label["passage_id"]: label["nll_sum"] for label in labels["train"]}


def test_the_worst_of_all_rows_of_a_question_stands_for_no_passage() -> None:
    first = {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [5], "neg_scores": [3]}
    second = {"query": "q", "pos": ["c"], "neg": ["d"], "pos_scores": [4], "neg_scores": [-4]}
    assert scores(first, second) == {"a": -5, "b": -3, "c": -4, "d": 4, "": 4}


def test_a_text_keeps_its_first_known_score() -> None:
    twice = {"query": "q", "pos": ["a", "a"], "neg": ["b", "a"], "pos_scores": [None, 5], "neg_scores": [3, 1]}
    assert scores(twice) == {"a": -5, "b": -3, "c": None, "d": None, "": -3}


def test_scores_in_columns_of_sentence_transformers() -> None:
    row = {"anchor": "q", "positive": "a", "negative_1": "b", "negative_2": None, "negative_3": "c", "label": [3, 2, 1]}
    assert scores(row | {"negative_score": 7}) == {"a": -3, "b": -2, "c": -1, "d": None, "": -1}
    with pytest.raises(DataFileError, match="3 texts and 2 scores of label"):
        scores(row | {"label": [3, 2]})


def test_rows_without_scores_have_no_labels() -> None:
    known = {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [5], "neg_scores": [3]}
    empty = {"query": "q", "pos": ["c"], "neg": ["d"], "pos_scores": None, "neg_scores": None}
    assert scores(known, empty) == {"a": -5, "b": -3, "c": None, "d": None, "": -3}
