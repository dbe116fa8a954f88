"""Files and rows in exactly the published layouts, with the oddities of the real ones.

`marco` is one row of MS MARCO (Hugging Face layout), `MARCO` a dataset of three splits: passages of 1 to 12, questions
without an answer, without a selected passage, with empty wellFormedAnswers, and repeated ones.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bitter_retrieval.records import Row

TOWNS = "Ashby Caldbury Dunmore Fenwick Garth Holt Ilford Kelso Lorton Marlow Norden Oxley".split()
NAMES = "Aldan Brenn Corvin Dorin Elmar Falk Gerda Hanno Imre Jorun Kaja Lorne".split()
STRINGS = pa.list_(pa.string())
MARCO_SCHEMA = pa.schema(
    [
        ("answers", STRINGS),
        ("passages", pa.struct([("is_selected", pa.list_(pa.int32())), ("passage_text", STRINGS), ("url", STRINGS)])),
        ("query", pa.string()),
        ("query_id", pa.int32()),
        ("query_type", pa.string()),
        ("wellFormedAnswers", STRINGS),
    ]
)


def passage(number: int) -> str:
    """One of many that name a person and a town."""
    name, town = NAMES[number % 12], TOWNS[(number * 5 + number // 12) % 12]
    return f"{name} {number // 12} was born in {town}, as the register of year {1700 + number} says."


def marco(number: int, count: int = 10, selected: int | None = 0, **fields: Any) -> Row:
    """A question about passage `number`, which is its first of `count`; the one at `selected` is marked, or none."""
    texts = [passage(number + 3 * place) for place in range(count)]
    row = {
        "answers": [TOWNS[(number * 5 + number // 12) % 12]],
        "passages": {
            "is_selected": [int(place == selected) for place in range(count)],
            "passage_text": texts,
            "url": [f"https://example.org/{number}/{place}" for place in range(count)],
        },
        "query": f"where was {NAMES[number % 12].lower()} {number // 12} born",
        "query_id": 19699 + number,
        "query_type": "location",
        "wellFormedAnswers": [],
    }
    return row | fields


def twice(row: Row) -> Row:
    """With its last passage repeated, and its answer too."""
    lists = {name: [*values, values[-1]] for name, values in row["passages"].items()}
    return row | {"passages": lists, "answers": row["answers"] * 2}


MARCO: dict[str, list[Row]] = {
    "train": [
        *(marco(number, count=1 + number % 12) for number in range(24)),
        marco(24, answers=["No Answer Present."], selected=None),
        marco(25, answers=[]),
        marco(26, selected=None),  # no passage is selected: still a question
        marco(27, wellFormedAnswers=["Born in Ashby."], answers=["", "Ashby"]),
        twice(marco(28, count=3)),
        marco(28, count=3),  # its query_id is repeated
        marco(29, count=0),
        marco(60, query_id=7),  # a query of test, under another id
        marco(30, query="  "),
    ],
    "validation": [*(marco(number) for number in range(40, 52)), marco(52, selected=None)],
    "test": [*(marco(number) for number in range(60, 68)), marco(68, answers=["No Answer Present."], selected=None)],
}


def hidden(rows: list[Row]) -> list[Row]:
    """MS MARCO v2.1's test split: no answers, and no passage marked."""
    return [
        row | {"answers": [], "passages": row["passages"] | {"is_selected": [-1] * len(row["passages"]["url"])}}
        for row in rows
    ]


def write_marco(folder: Path, splits: dict[str, list[Row]], suffix: str = ".parquet") -> Path:
    """A file a split, named as on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        write_rows(folder / f"{split}-00000-of-00001{suffix}", rows, MARCO_SCHEMA)
    return folder


MICROSOFTS = {  # names of MS MARCO's files as Microsoft distributes them
    "v1.1": {"train": "train_v1.1.json", "validation": "dev_v1.1.json", "test": "test_public_v1.1.json"},
    "v2.1": {"train": "train_v2.1.json", "validation": "dev_v2.1.json", "test": "eval_v2.1_public.json"},
}


def write_microsofts(folder: Path, version: str, splits: dict[str, list[Row]]) -> Path:
    """MS MARCO unconverted: v1.1 in lines, v2.1 an object of columns; test has only questions and passages."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in MICROSOFTS[version].items():
        rows = [microsofts(row, split == "test", version) for row in splits[split]]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        columns = {column: {str(place): row[column] for place, row in enumerate(rows)} for column in rows[0]}
        (folder / name).write_text(lines if version == "v1.1" else json.dumps(columns))
    return folder


def microsofts(row: Row, asked_only: bool, version: str) -> Row:
    names = ("passage_text", "url") if asked_only else ("is_selected", "url", "passage_text")
    passages = [dict(zip(names, values, strict=True)) for values in zip(*map(row["passages"].get, names), strict=True)]
    kept = {"passages": passages, "query": row["query"], "query_id": row["query_id"], "query_type": row["query_type"]}
    if asked_only:
        return kept
    well_formed = row["wellFormedAnswers"] or "[]"  # if empty, it is a text
    return {"answers": row["answers"], **kept} | ({"wellFormedAnswers": well_formed} if version == "v2.1" else {})


def write_rows(path: Path, rows: list[Row], schema: pa.Schema | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def published(rows: list[Row], loss: Any) -> list[Row]:
    """Rows in the published layout of soft labels: loss(row, text), and the empty passage last."""
    return [
        row
        | {
            "passages": {
                "is_selected": [*row["passages"]["is_selected"], 0],
                "passage_text": [*row["passages"]["passage_text"], ""],
                "url": [*row["passages"]["url"], ""],
                "soft_labels": [loss(row, text) for text in (*row["passages"]["passage_text"], "")],
            }
        }
        for row in rows
    ]


def squad(titles: int = 8, paragraphs: int = 3) -> list[Row]:
    """SQuAD in the Hugging Face layout: two questions a paragraph, one of which has no answer, as in v2."""
    rows = []
    for title in range(titles):
        for p in range(paragraphs):
            context = f"{passage(title * paragraphs + p)} It has {p + 2} gates and a mill of {NAMES[p]}."
            for q, answer in enumerate((f"{p + 2} gates", NAMES[p])):
                rows.append(
                    {
                        "id": f"{title}-{p}-{q}",
                        "title": f"Title_{title}",
                        "context": context,
                        "question": f"What does the register of {1700 + title * paragraphs + p} tell, part {q}?",
                        "answers": {"text": [answer], "answer_start": [context.find(answer)]},
                    }
                )
    rows[1]["answers"] = {"text": [], "answer_start": []}
    return rows
