"""Properties of the sources, whatever a file says: it is read as it stands, or refused with its place; nothing else.

Every place of a record gets values of types, sizes and letters that break things elsewhere.
"""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from bitter_retrieval.data.question_files import read_questions
from bitter_retrieval.data.squad import read_squad
from bitter_retrieval.evaluation.retrievers import rank_by_bm25
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import PREPARED, Row, passage_texts, read_rows, write_rows
from bitter_retrieval.statistics.ranking_metrics import ranking_metrics

TEXTS = {
    "nul": "a\0b",
    "right to left": "\u202egnp.exe \u0634\u0631\u0642",
    "combining": "e\u0301" + "\u0301" * 50,
    "chinese": "\u534e\u6c99",
    "hindi": "\u0928\u0926\u0940",
    "emoji": "\U0001f469\u200d\U0001f680",
    "escape": "\x1b[31mred\x1b[0m",
    "markup": "<script>alert(1)</script> [red]x[/red] {title} {text} | a",
    "path": "../../etc/passwd",
    "root": "/etc/passwd",
    "drive": "C:\\con\\nul",
    "lines": "a\u2028b\rc\nd",
    "long": "long " * 200_000 + "end",
    "byte order mark": "\ufeffx",
    "unassigned": "\ufffe\uffff\U0010ffff",
    "number": "1e999",
    "word": "null",
}
SURROGATE = "half \ud83d"
ODD = [None, True, False, 0, 1, -1, 2, 10**30, 0.5, 1e308, float("nan"), "", " ", "0", "false", "[]", "['x']", [], {}]
ODD += [SURROGATE, *TEXTS.values(), [SURROGATE], [None], [[]], ["x", 1], [{"text": "x"}], {"text": None}]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", TEXTS)
def test_any_text_is_kept_to_the_letter(name: str, tmp_path: Path) -> None:
    """As query, answer, passage, title and each id; through prepared files, BM25 and the metrics of its ranking."""
    text = TEXTS[name]
    passages = [{"text": text, "passage_id": text, "is_selected": 1}, {"text": f"other {text}", "title": text}]
    row = {"query": text, "answers": [text], "query_id": text, "group_id": text, "passages": passages}
    other = {"query": "other", "answers": ["x"], "passages": ["Something else."]}
    rows = read_questions(write(tmp_path / "a.jsonl", [row, other])).rows
    write_rows(tmp_path / "a.parquet", rows, PREPARED)
    assert read_rows(tmp_path / "a.parquet", PREPARED) == rows == read_questions(tmp_path / "a.parquet").rows
    kept, plain = rows[0], text.strip()
    assert (kept["query"], kept["answers"]) == (plain, [plain]) and (kept["query_id"], kept["group_id"]) == (text, text)
    assert [passage["text"] for passage in kept["passages"]] == [plain, f"{plain}. other {plain}"]
    rankings = rank_by_bm25(rows, passage_texts(rows), 10)
    found = ranking_metrics({kept["query_id"]: rankings[0].ids}, {kept["query_id"]: {text}})
    assert len(rankings[0].ids) == 3 and found[text]["recall_10"] == 1.0


RECORDS: dict[str, Callable[[], Row]] = {
    "ours": lambda: {"query": "q", "answers": ["a"], "passages": [{"text": "t", "is_selected": 1}]},
    "ms marco": lambda: {
        "query": "q",
        "query_type": "entity",
        "answers": ["a"],
        "passages": {"passage_text": ["t", "u"], "is_selected": [0, 1], "url": ["x", "y"]},
    },
    "fid": lambda: {"question": "q", "answers": ["a"], "ctxs": [{"id": 1, "title": "T", "text": "t", "isgold": True}]},
    "dpr": lambda: {"question": "q", "answers": ["a"], "positive_ctxs": [{"text": "t"}], "negative_ctxs": []},
    "tevatron": lambda: {"query_id": 1, "query": "q", "answers": "a", "positive_passages": [{"docid": 1, "text": "t"}]},
    "flag": lambda: {"query": "q", "answers": ["a"], "pos": ["t"], "neg": ["u"]},
    "triplet": lambda: {"anchor": "q", "answers": ["a"], "positive": "t", "negative": "u"},
    "squad": lambda: {
        "id": "i",
        "title": "T",
        "context": "c a",
        "question": "q",
        "answers": {"text": ["a"], "answer_start": [2]},
    },
}


def places(value: Any) -> list[tuple[Any, Any]]:
    """All containers and keys inside a record."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [(value, key) for key in keys] + [found for key in keys for found in places(value[key])]


@pytest.mark.parametrize("layout", RECORDS)
def test_a_value_of_any_kind_is_read_or_refused_with_its_row(layout: str, tmp_path: Path) -> None:
    sound = RECORDS[layout]()
    for at, value in product(range(len(places(sound))), ODD):
        record = RECORDS[layout]()
        container, key = places(record)[at]
        container[key] = value
        file = write(tmp_path / "a.jsonl", [sound | dict.fromkeys({"id", "query_id"} & sound.keys(), "first"), record])
        try:
            rows = read_questions(file).rows
        except DataFileError as error:
            assert str(file) in str(error) and len(str(error)) < 1500, error
            continue
        write_rows(tmp_path / "a.parquet", rows, PREPARED)
        for row in rows:
            assert row["answers"] and all(isinstance(answer, str) and answer for answer in row["answers"])
            assert {passage["is_selected"] for passage in row["passages"]} <= {None, 0, 1}


def test_what_half_a_letter_stands_for_is_refused(tmp_path: Path) -> None:
    for key in ("query", "answers", "query_id", "group_id"):
        file = write(tmp_path / "a.jsonl", [RECORDS["ours"]() | {key: SURROGATE}])
        with pytest.raises(DataFileError, match=r"a.jsonl, line 1: .*ud83d"):
            read_questions(file)


def test_ids_like_paths_name_no_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = [RECORDS["squad"]() | {"id": name, "title": name} for name in TEXTS.values()]
    questions, _ = read_squad(write(tmp_path / "in/a.jsonl", rows))
    assert [question.id for question in questions] == list(TEXTS.values())
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.jsonl"]
