"""The published layout of soft labels: worked out by hand, against what training reads, and as users' files."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from bitter_retrieval.data.question_files import read_questions
from bitter_retrieval.files.tables import Place
from bitter_retrieval.labels.published import published_labels
from bitter_retrieval.labels.soft import LabelError
from bitter_retrieval.labels.targets import soft_targets
from bitter_retrieval.publishing.published_layout import published_tables, whole_ids
from bitter_retrieval.records import Row


def row(query_id: str = "1185", marks: tuple[Any, ...] = (0, 1)) -> Row:
    passages = [
        {"passage_id": f"p{place}", "text": f"Text {place}.", "is_selected": mark, "role": None}
        for place, mark in enumerate(marks)
    ]
    answers = ["the Vistula", "Vistula"]
    return {"query_id": query_id, "group_id": "rivers", "query": "which?", "answers": answers, "passages": passages}


def label(passage_id: str, nll_sum: float | None, n_tokens: int | None, index: int = 0, query_id: str = "1185") -> Row:
    pair = {"query_id": query_id, "passage_id": passage_id}
    return pair | {"answer_index": index, "nll_sum": nll_sum, "n_tokens": n_tokens}


LABELED = [label("p0", 3.0, 2), label("p0", 9.0, 3, 1), label("p1", 0.25, None), label("", 6.0, 2)]


def test_one_question_by_hand() -> None:
    published, records = published_tables([row()], LABELED, "reader_a", whole=True)
    assert published.to_pylist() == [
        {
            "answers": ["the Vistula", "Vistula"],
            "passages": {
                "is_selected": [0, 1, 0],
                "passage_text": ["Text 0.", "Text 1.", ""],
                "url": ["", "", ""],
                "soft_labels": [1.5, 0.25, 3.0],  # of the first reference; a mean stays what it is
            },
            "query": "which?",
            "query_id": 1185,
            "query_type": "",
            "wellFormedAnswers": [],
        }
    ]
    assert published.column_names == ["answers", "passages", "query", "query_id", "query_type", "wellFormedAnswers"]
    assert [field.name for field in published.schema.field("passages").type][-1] == "soft_labels"
    assert records.to_pylist()[1] == {
        "query_id": 1185,
        "group_id": "rivers",
        "passage_id": "p0",
        "passage_index": 0,
        "answer_index": 1,
        "nll_sum": 9.0,
        "n_tokens": 3,
    }
    assert [one["passage_index"] for one in records.to_pylist()] == [0, 0, 1, 2]


def test_what_is_not_known_is_null() -> None:
    """No annotation; p0 could not be scored, p1 has no label at all."""
    labels = [label("p0", None, None), label("", 2.0, 1)]
    published, records = published_tables([row(marks=(None, None))], labels, "reader_a", whole=False)
    (passages,) = published["passages"].to_pylist()
    assert passages["is_selected"] == [None, None, 0] and passages["soft_labels"] == [None, None, 2.0]
    assert records["nll_sum"].to_pylist() == [None, 2.0] and published["query_id"].to_pylist() == ["1185"]


def test_passages_labelled_beyond_the_candidates_come_before_the_empty_one() -> None:
    rows = [row(), row("1186") | {"passages": [row()["passages"][1] | {"passage_id": "p9", "text": "Text 9."}]}]
    labels = [*LABELED, label("p9", 1.0, 1), label("p9", 4.0, 1, query_id="1186"), label("", 1.0, 1, query_id="1186")]
    published, records = published_tables(rows, labels, "on_policy", whole=True)
    first = published["passages"].to_pylist()[0]
    assert first["passage_text"] == ["Text 0.", "Text 1.", "Text 9.", ""]
    assert first["soft_labels"] == [1.5, 0.25, 1.0, 3.0] and first["is_selected"] == [0, 1, None, 0]
    assert records["passage_index"].to_pylist() == [0, 0, 1, 3, 2, 0, 1]


def test_labels_of_other_data_are_refused() -> None:
    with pytest.raises(LabelError, match="labels reader_a: query 7 is in no prepared row.*dvc repro label@reader_a"):
        published_tables([row()], [*LABELED, label("p0", 1.0, 1, query_id="7")], "reader_a", whole=True)


@pytest.mark.parametrize(
    ("names", "whole"),
    [(["1", "1185"], True), (["1", "q2"], False), (["007"], False), (["2147483648"], False), (["-1"], False)],
)
def test_ids_are_numbers_where_all_can_be(names: list[str], whole: bool) -> None:
    assert whole_ids([{"query_id": name} for name in names]) is whole


def test_a_label_is_what_a_run_learns_from() -> None:
    rows = tiny.world(12)
    labels = tiny.soft(rows)
    published, _ = published_tables(rows, labels, "reader_a", whole=False)
    targets = soft_targets(rows, labels, "reader_a", "mean", "first")
    for place, passages in enumerate(published["passages"].to_pylist()):
        wanted = [*targets.nll[place].tolist(), float(targets.no_passage_nll[place])]
        assert passages["soft_labels"] == pytest.approx(wanted, abs=1e-6)


def test_published_files_are_read_as_questions(tmp_path: Path) -> None:
    """For example by the command label_file; the empty passage is no candidate and is counted."""
    rows = tiny.world(6)
    published, _ = published_tables(rows, tiny.soft(rows), "reader_a", whole=False)
    pq.write_table(published, tmp_path / "train.parquet")
    found = read_questions(tmp_path / "train.parquet")
    texts = [[passage["text"] for passage in one["passages"]] for one in found.rows]
    assert texts == [[passage["text"] for passage in one["passages"]] for one in rows]
    assert [one["answers"] for one in found.rows] == [one["answers"] for one in rows]
    assert found.left_out["empty_passages"] == 6 and sum(found.left_out.values()) == 6


def test_published_labels_come_back_as_a_label_source() -> None:
    """kind `published`: means without token counts, by content."""
    rows = tiny.world(6)
    labels = [one | {"nll_sum": 3 * one["nll_sum"], "n_tokens": 3} for one in tiny.soft(rows)]
    published, _ = published_tables(rows, labels, "reader_a", whole=False)
    records = [(Place(Path("x"), "row", number), one) for number, one in enumerate(published.to_pylist())]
    found, unmatched, _ = published_labels(records, {"train": rows}, "x")
    assert not any(unmatched["train"].values())
    assert [(one["query_id"], one["passage_id"]) for one in found["train"]] == [
        (one["query_id"], one["passage_id"]) for one in labels
    ]
    assert [one["nll_sum"] for one in found["train"]] == pytest.approx([one["nll_sum"] / 3 for one in labels])
    assert {one["n_tokens"] for one in found["train"]} == {None}


def test_no_rows_keep_their_columns() -> None:
    tables = published_tables([], [], "reader_a", whole=True)
    other = published_tables([row()], LABELED, "reader_a", whole=True)
    assert [table.schema for table in tables] == [table.schema for table in other]
    assert tables[0].num_rows == 0 and tables[0].schema.field("query_id").type == pa.int32()
