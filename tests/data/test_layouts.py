"""Other people's layouts, as found in the wild, become the same prepared rows as ours; broken ones are named."""

import bz2
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitter_retrieval.data.layouts import titled
from bitter_retrieval.data.negatives import with_answer
from bitter_retrieval.data.passage_files import read_passages
from bitter_retrieval.data.question_files import read_questions
from bitter_retrieval.data.question_splits import question_splits, split_files
from bitter_retrieval.data.settings import Articles, Limits, QuestionData
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import Row

FID = {
    "question": "who wrote it",
    "answers": ["Ada", "Ada Brenn"],
    "ctxs": [
        {"id": 7, "title": "Ada", "text": "Ada wrote it.", "score": "1.3", "hasanswer": True, "isgold": True},
        {"id": 8, "title": "", "text": "Nobody did.", "score": None, "hasanswer": False, "isgold": False},
        {"id": 9, "text": "Without a title."},
    ],
}
DPR = {
    "dataset": "nq",
    "question": "who wrote it",
    "answers": ["Ada"],
    "positive_ctxs": [{"title": "Ada", "text": "Ada wrote it.", "score": 1000, "passage_id": "p7"}],
    "negative_ctxs": [],
    "hard_negative_ctxs": [{"title": "Brenn", "text": "Nobody did.", "psg_id": "p8"}],
}
TEVATRON = {
    "query_id": 3,
    "query": "who wrote it",
    "answers": ["Ada"],
    "positive_passages": [{"docid": 7, "title": "Ada", "text": "Ada wrote it."}],
    "negative_passages": [{"docid": "8", "title": "", "text": "Nobody did."}],
}
FLAG = {
    "query": "who wrote it",
    "pos": ["Ada wrote it."],
    "neg": ["Nobody did.", "Brenn did."],
    "pos_scores": [3.2],
    "neg_scores": None,
    "prompt": "Represent this",
    "answers": ["Ada"],
}
TRIPLET = {
    "anchor": "who wrote it",
    "positive": "Ada wrote it.",
    "negative": "Nobody did.",
    "negative_2": None,
    "negative_3": "Brenn did.",
    "answers": "Ada",
}


def write(path: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix.lower() == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix.lower() == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix.lower() == ".bz2":
        path.write_bytes(bz2.compress(text.encode()))
    elif path.suffix.lower() == ".zst":
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(text.encode())
    else:
        path.write_text(text)
    return path


def one(path: Path) -> Row:
    (row,) = read_questions(path).rows
    return row


def shown(row: Row) -> list[tuple[str, int | None]]:
    return [(passage["text"], passage["is_selected"]) for passage in row["passages"]]


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".JSONL", ".jsonl.gz", ".jsonl.bz2", ".json.zst", ".parquet"])
def test_fid_in_each_format(suffix: str, tmp_path: Path) -> None:
    row = one(write(tmp_path / f"train{suffix}", [FID]))
    assert (row["query"], row["answers"]) == ("who wrote it", ["Ada", "Ada Brenn"])
    assert shown(row) == [("Ada. Ada wrote it.", 1), ("Nobody did.", 0), ("Without a title.", None)]
    assert [passage["passage_id"] for passage in row["passages"]] == ["7", "8", "9"]
    assert row["query_id"] == "train-1"


def test_the_answer_of_atlas_is_its_target(tmp_path: Path) -> None:
    atlas = {key: value for key, value in FID.items() if key != "answers"} | {"target": "Ada"}
    assert one(write(tmp_path / "a.jsonl", [atlas]))["answers"] == ["Ada"]


def test_dpr(tmp_path: Path) -> None:
    row = one(write(tmp_path / "a.json", [DPR]))
    assert shown(row) == [("Ada. Ada wrote it.", 1), ("Brenn. Nobody did.", 0)]
    assert [passage["passage_id"] for passage in row["passages"]] == ["p7", "p8"]


def test_tevatron(tmp_path: Path) -> None:
    row = one(write(tmp_path / "a.jsonl", [TEVATRON]))
    assert (row["query_id"], shown(row)) == ("3", [("Ada. Ada wrote it.", 1), ("Nobody did.", 0)])


@pytest.mark.parametrize("record", [FLAG, TRIPLET, {"query": TRIPLET["anchor"], **TRIPLET, "anchor": None} | FLAG])
def test_layouts_of_texts_alone(record: Row, tmp_path: Path) -> None:
    row = one(write(tmp_path / "a.jsonl", [record]))
    assert shown(row) == [("Ada wrote it.", 1), ("Nobody did.", 0), ("Brenn did.", 0)]
    assert row["answers"] == ["Ada"]


def test_questions_without_an_answer_are_counted(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path / "a.jsonl", [FLAG, {**FLAG, "query": "who else", "answers": None}]))
    assert len(found.rows) == 1 and found.left_out["unanswerable"] == 1


def test_training_questions_without_an_answer_stay_if_they_are_wanted(tmp_path: Path) -> None:
    rows = [FLAG | {"query": f"who {number}", "answers": ["Ada"] if number % 2 else None} for number in range(40)]
    file = write(tmp_path / "a.jsonl", rows)
    made, _, account = splits(file, articles=SHARES, unanswered="train")
    assert any(not row["answers"] for row in made["train"]) and len(made["train"]) == 16
    assert all(row["answers"] for split in ("validation", "test") for row in made[split])
    kept = sum(map(len, made.values()))
    found = account["read"]["a"]
    assert (found["questions"], found["used"]) == (kept, kept)
    assert found["left_out"]["unanswerable"] == 40 - kept and found["left_out"]["not_drawn"] == 0
    assert len(splits(file, articles=SHARES)[0]["train"]) == 8


@pytest.mark.parametrize(
    ("record", "parts"),
    [
        ({**FID, "ctxs": {"text": "x"}}, ["ctxs should be a list"]),
        ({**FID, "ctxs": ["Ada wrote it."]}, ["unknown layout", "'Ada wrote it.'"]),
        ({**FID, "ctxs": [{"title": "Ada"}]}, ["unknown layout", "keys ['title']"]),
        ({**FID, "ctxs": [{"text": "Ada", "isgold": "yes"}]}, ["isgold should be true or false", "'yes'"]),
        ({**FID, "ctxs": [{"text": "Ada", "title": 7}]}, ["title of passage 1 should be text", "7"]),
        ({**FID, "ctxs": [{"text": "Ada", "isgold": "false"}]}, ["isgold should be true", "'false'"]),
        ({**FID, "ctxs": "[{'text': 'Ada'}]"}, ["ctxs should be a list", "[{"]),
        ({**FID, "answers": "[]", "target": "Ada"}, ["answers should be a list", "'[]'"]),
        ({**FID, "answers": None, "target": "['Ada']"}, ["answers should be a list", "['Ada']"]),
        ({**DPR, "positive_ctxs": "[]"}, ["positive_ctxs should be a list", "'[]'"]),
        ({**TEVATRON, "answers": '["Ada"]'}, ["answers should be a list", "Ada"]),
        ({**TRIPLET, "answers": "['Ada', 'Brenn']"}, ["answers should be a list", "Brenn"]),
        ({**TRIPLET, "positive": "['Ada', 'Brenn']"}, ["a passage should be a list", "Brenn"]),
        ({**TRIPLET, "negative_2": "[]"}, ["a passage should be a list", "'[]'"]),
        ({**FLAG, "neg": "['Ada', 'Brenn']"}, ["neg should be a list", "Brenn"]),
        ({**FLAG, "pos": "Ada wrote it."}, ["pos should be a list"]),
        ({**FLAG, "neg": [None]}, ["passage 2", "None"]),
        ({**TEVATRON, "positive_passages": [7]}, ["unknown layout", "7"]),
    ],
)
def test_a_broken_record_is_named(record: Row, parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as caught:
        read_questions(write(tmp_path / "a.jsonl", [FID, record]))
    assert all(part in str(caught.value) for part in ["a.jsonl, line 2: ", *parts]), str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.bz2", "a.jsonl.zst"])
def test_a_zipped_file_that_was_cut_off_is_named(name: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, [{**FID, "question": f"who wrote {number}"} for number in range(2000)])
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(DataFileError, match=rf"{name}.*(cut off|not JSON)"):
        read_questions(file)


@pytest.mark.parametrize("name", ["test.tsv", "test.csv", "notes.txt", "test.jsonl.xz", "test.parquet.gz", "test"])
def test_no_file_of_a_folder_is_passed_over(name: str, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [FID])
    (tmp_path / "README.md").write_text("About the data.")
    assert split_files(tmp_path)[0].keys() == {"train"}
    (tmp_path / name).write_text("query\tanswer\n")
    with pytest.raises(DataFileError, match=f"{name}: unknown format"):
        split_files(tmp_path)


@pytest.mark.parametrize("suffix", ".jsonl.gz .jsonl.bz2 .json.zst .ndjson .JSONL .Parquet .JSONL.GZ".split())
def test_each_file_of_a_folder_makes_its_split(suffix: str, tmp_path: Path) -> None:
    for split, count in {"Train": 6, "validation": 4, "TEST": 3}.items():
        own = [FLAG | {"query": f"{split} {number}", "pos": [f"{split} {number}"]} for number in range(count)]
        write(tmp_path / f"{split}{suffix}", own)
    write(tmp_path / f"Corpus{suffix}", [{"_id": f"c{number}", "text": f"Further {number}"} for number in range(50)])
    made, corpus, _ = splits(tmp_path)
    assert [len(made[split]) for split in ("train", "validation", "test")] == [6, 4, 3] and len(corpus) == 50 + 3 + 2


def test_fields_that_nobody_reads_are_counted_by_name(tmp_path: Path) -> None:
    for record, fields in (
        (FID, {"passages.score": 1, "passages.hasanswer": 2}),
        (DPR, {"dataset": 1, "passages.score": 1}),
        (TEVATRON | {"note": "x"}, {"note": 1}),
        (FLAG, {"pos_scores": 1, "prompt": 1}),
        (TRIPLET | {"label": [1, 0]}, {"label": 1}),
    ):
        for name in ("a.jsonl", "a.parquet"):
            found = read_questions(write(tmp_path / name, [record]))
            assert found.fields == fields | ({"passages.hasanswer": 2} if record is FID else {}), (name, record)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (FID | {"ctxs": [{"text": "Ada", "is_gold": True}]}, "'is_gold' is no known field, but 'isgold' is"),
        (FID | {"ctxs": [{"text": "Ada", "titel": "T"}]}, "'titel' is no known field, but 'title' is"),
        (DPR | {"groupId": "g"}, "'groupId' is no known field, but 'group_id' is"),
        (
            {key: DPR[key] for key in DPR if key != "hard_negative_ctxs"} | {"hard_neg_ctxs": []},
            "'hard_neg_ctxs' is no",
        ),
    ],
)
def test_a_misspelt_field_is_refused(record: Row, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=f"a.jsonl, line 1: {said}"):
        read_questions(write(tmp_path / "a.jsonl", [record]))


def test_a_record_of_ours_with_a_key_of_others_is_ours(tmp_path: Path) -> None:
    record = {"query": "q", "answers": ["a"], "passages": ["keep me", {"text": "b", "is_selected": 1}], "positive": "b"}
    assert shown(one(write(tmp_path / "a.jsonl", [record]))) == [("keep me", None), ("b", 1)]


def test_ids_that_are_places_in_a_question_are_replaced_and_counted(tmp_path: Path) -> None:
    other = {**FID, "question": "who else", "ctxs": [{"id": 7, "text": "Another."}, {"id": "", "text": "More."}]}
    found = read_questions(write(tmp_path / "a.jsonl", [FID, other]))
    ids = [[passage["passage_id"] for passage in row["passages"]] for row in found.rows]
    assert ids[0] == ["7", "8", "9"] and "7" not in ids[1] and len({*ids[0], *ids[1]}) == 5
    assert found.left_out["replaced_passage_ids"] == 1


def test_negatives_may_be_a_list(tmp_path: Path) -> None:
    record = {"query": "q", "positive": "a", "negatives": ["b", "c"], "answers": ["x"], "negative_score": 2}
    assert shown(one(write(tmp_path / "a.jsonl", [record]))) == [("a", 1), ("b", 0), ("c", 0)]


def test_an_empty_list_of_answers_gives_way_to_a_target(tmp_path: Path) -> None:
    assert one(write(tmp_path / "a.jsonl", [FID | {"answers": [], "target": "Ada"}]))["answers"] == ["Ada"]


def test_unanswered_questions_take_no_place_of_others(tmp_path: Path) -> None:
    limits = Limits(reader=4, train=10, validation=5, test=5)
    for split in ("train", "validation", "test"):
        rows = [FLAG | {"query": f"{split} {n}", "answers": ["Ada"] if n % 4 == 0 else None} for n in range(80)]
        write(tmp_path / f"{split}.jsonl", rows)
    made, _, account = splits(tmp_path, limits=limits, unanswered="train")
    assert [len(made[split]) for split in ("validation", "test")] == [5, 5]
    assert all(row["answers"] for split in ("reader", "validation", "test") for row in made[split])
    assert any(not row["answers"] for row in made["train"]) and account["read"]["test"]["used"] == 5
    assert account["read"]["test"]["left_out"]["unanswerable"] == 60
    same = splits(tmp_path, limits=limits)[0]
    assert [row["query"] for row in made["test"]] == [row["query"] for row in same["test"]]


def test_how_a_title_is_written() -> None:
    assert titled("Text.", "Title") == "Title. Text."
    assert titled("Text.", "Title", "{text} ({title})") == "Text. (Title)"
    assert titled("{title}", "{text}", "{title}: {text}") == "{text}: {title}"
    assert titled("Text.", "") == titled("Text.", None) == "Text."
    assert titled("", "Title") == "Title" and titled("", None) == titled("", "") == ""


# -- BEIR ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A folder with two questions in train, one in test and one in none; a passage that nobody judged."""
    folder = tmp_path / "scifact"
    (folder / "qrels").mkdir(parents=True)
    corpus = [
        {"_id": str(n), "title": f"T{n}" if n % 2 else "", "text": f"Text {n}.", "metadata": {}} for n in range(6)
    ]
    write(folder / "corpus.jsonl", corpus)
    queries = [
        {"_id": "a", "text": "query a", "metadata": {"answers": ["one"]}},
        {"_id": "b", "text": "query b", "answers": ["two", "2"]},
        {"_id": "c", "text": "query c", "answer": "three", "metadata": {}},
        {"_id": "d", "text": "query d"},
    ]
    write(folder / "queries.jsonl.gz", queries)
    header = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "train.tsv").write_text(header + "a\t0\t1\na\t1\t0\nb\t2\t2\n")
    (folder / "qrels" / "dev.tsv").write_text(header + "d\t4\t1\nc\t3\t1\n")
    return folder


def data(path: Path, **changes: Any) -> QuestionData:
    fields = {"source": "jsonl", "path": str(path), "seed": 0, "candidates": 4, **changes}
    return QuestionData(**fields)


def splits(path: Path, **changes: Any) -> tuple[dict[str, list[Row]], list[Row], dict[str, Any]]:
    parts, corpus = split_files(path)
    return question_splits(parts, str(path), data(path, **changes), corpus)


def test_a_folder_of_beir(beir: Path) -> None:
    parts, corpus = split_files(beir)
    assert list(parts) == ["dev", "train"] and [file.name for file in corpus] == ["corpus.jsonl"]
    found = {place.number: record for place, record in parts["train"](Counter())}
    assert [found[1]["query_id"], found[2]["query_id"]] == ["a", "b"]
    assert found[1]["answers"] == ["one"] and found[2]["answers"] == ["two", "2"]
    made, searched, account = splits(beir)
    assert {row["query_id"]: shown(row) for row in made["train"]} == {
        "a": [("Text 0.", 1), ("T1. Text 1.", 0)],
        "b": [("Text 2.", 1)],
    }
    assert [row["query_id"] for row in made["validation"] + made["test"]] == ["c"]
    assert account["read"]["validation"]["left_out"]["unanswerable"] == 1
    assert sorted(passage["passage_id"] for passage in searched) == list("012345")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a\t0", "train.tsv, line 4: a line should be query-id"),
        ("a\t0\tyes", "train.tsv, line 4: a line should be query-id"),
        ("a\t77\t1", "query 'a' has passage '77', which corpus lacks"),
        ("z\t0\t1", "query 'z' is not in queries"),
    ],
)
def test_judgements_that_fit_nothing_are_named(line: str, said: str, beir: Path) -> None:
    file = beir / "qrels" / "train.tsv"
    file.write_text("query-id\tcorpus-id\tscore\na\t0\t1\nb\t2\t1\n" + line + "\n")
    with pytest.raises(DataFileError) as caught:
        splits(beir)
    assert said in str(caught.value)


def test_judgements_in_another_encoding_are_named(beir: Path) -> None:
    (beir / "qrels" / "train.tsv").write_bytes(b"query-id\tcorpus-id\tscore\na\t\x80\t1\n")
    with pytest.raises(DataFileError, match=r"train.tsv: not UTF-8 \(invalid start byte, byte 28\). Save it as UTF-8"):
        splits(beir)


@pytest.mark.parametrize("query", [{"metadata": "{'answers': ['one']}"}, {"answers": "['one']"}])
def test_lists_and_objects_of_beir_are_no_texts(query: Row, beir: Path) -> None:
    write(beir / "queries.jsonl.gz", [{"_id": name, "text": name, **query} for name in "abcd"])
    with pytest.raises(DataFileError, match=r"queries.jsonl.gz, line 3: (metadata|answers) should be"):
        splits(beir)


@pytest.mark.parametrize("name", "qrels/a.tsv.gz qrels/a.txt qrels/a.jsonl test.jsonl corpus.tsv".split())
def test_no_file_of_beir_is_passed_over(name: str, beir: Path) -> None:
    (beir / name).write_text("")
    with pytest.raises(DataFileError, match=f"{Path(name).name}: "):
        split_files(beir)


def test_splits_and_fields_of_beir_in_capitals_and_more(beir: Path) -> None:
    before = splits(beir)
    (beir / "qrels" / "train.tsv").rename(beir / "qrels" / "TRAIN.TSV")
    (beir / "corpus.jsonl").rename(beir / "Corpus.JSONL")
    corpus = [json.loads(line) for line in (beir / "Corpus.JSONL").read_text().splitlines()]
    write(beir / "Corpus.JSONL", [row | {"url": "u"} for row in corpus])
    made, searched, account = splits(beir)
    assert (made, searched) == before[:2] and account["left_out_corpus_fields"] == {"url": 6}
    assert account["read"]["train"]["left_out_fields"] == {"passages.url": 3}


def test_judgements_without_a_header_lose_no_line(beir: Path) -> None:
    (beir / "qrels" / "train.tsv").write_text("a\t0\t1\nb\t2\t1\n")
    assert [row["query_id"] for row in splits(beir)[0]["train"]] == ["a", "b"]


def test_a_folder_of_beir_lacks_nothing(beir: Path) -> None:
    (beir / "queries.jsonl.gz").unlink()
    with pytest.raises(DataFileError, match=r"scifact: 0 files queries\.jsonl"):
        splits(beir)
    for file in (beir / "qrels").iterdir():
        file.unlink()
    with pytest.raises(DataFileError, match=r"qrels: no <split>\.tsv"):
        split_files(beir)


def test_passages_of_a_corpus_have_the_ids_that_others_give_them(tmp_path: Path) -> None:
    rows = [{"docid": 1, "title": "T", "text": "x"}, {"passage_id": "p2", "text": "y"}, {"_id": "3", "text": " "}]
    assert read_passages(write(tmp_path / "c.jsonl", rows), {}, tmp_path) == ({"1": "T. x", "p2": "y"}, 1)
    with pytest.raises(DataFileError, match="unknown layout, found keys"):
        read_passages(write(tmp_path / "d.jsonl", [{"text": "x"}]), {}, tmp_path)


# -- negatives -------------------------------------------------------------------------------------------------------

SHARES = Articles(reader=0.0, train=0.4, validation=0.3, test=0.3)


SERIES = "alpha beta gamma delta epsilon".split()


def nq(count: int) -> list[Row]:
    """Questions with the gold passage alone, as lost-in-the-middle has them."""
    return [
        {
            "question": f"who wrote book {number} of {SERIES[number % 5]}",
            "answers": [f"Ada{number}"],
            "ctxs": [
                {"title": "Books", "text": f"Book {number} of {SERIES[number % 5]} is by Ada{number}.", "isgold": True}
            ],
        }
        for number in range(count)
    ]


def test_bm25_gives_a_question_candidates(tmp_path: Path) -> None:
    made, corpus, account = splits(write(tmp_path / "nq.jsonl", nq(20)), articles=SHARES, negatives="bm25")
    rows = [row for of_split in made.values() for row in of_split]
    assert len(rows) == 20 and account["mined_candidates"] == 60 and account["questions_with_fewer_candidates"] == 0
    for row in rows:
        assert len({passage["passage_id"] for passage in row["passages"]}) == 4
        assert sorted(mark for _, mark in shown(row)) == [0, 0, 0, 1]
        number = int(row["answers"][0].removeprefix("Ada"))
        same = [text for text, mark in shown(row) if not mark and SERIES[number % 5] in text]
        assert len(same) >= 2, "passages with more words of the question come first"
    assert len({[mark for _, mark in shown(row)].index(1) for row in rows}) > 1, "the gold one has no fixed place"
    assert splits(tmp_path / "nq.jsonl", articles=SHARES, negatives="bm25") == (made, corpus, account)


def test_answers_in_any_script_are_found_as_words() -> None:
    passages = [{"text": text} for text in ("北京是中国的首都。", "वह कि नदी", "A cat.", "Cafés", "मैं")]
    found = [
        with_answer([answer], passages)
        for answer in ("首都", "京北", "की", "कि", "cat", "ca", "cafe", "म", "中国", "?")
    ]
    assert found == [1, 0, 0, 1, 1, 0, 0, 0, 1, 0]


def test_questions_without_a_matching_word_are_counted(tmp_path: Path) -> None:
    rows = [row | {"question": "zzz" if at < 3 else row["question"]} for at, row in enumerate(nq(20))]
    rows = [row | {"question": f"{row['question']} 0{at}"} for at, row in enumerate(rows)]
    _, _, account = splits(write(tmp_path / "nq.jsonl", rows), articles=SHARES, negatives="bm25")
    assert account["questions_without_matching_word"] == 3


def test_without_bm25_questions_keep_what_they_came_with(tmp_path: Path) -> None:
    made, _, account = splits(write(tmp_path / "nq.jsonl", nq(20)), articles=SHARES)
    assert {len(row["passages"]) for of_split in made.values() for row in of_split} == {1}
    assert "mined_candidates" not in account


def test_candidates_that_hold_the_answer_and_rows_with_too_few_are_counted(tmp_path: Path) -> None:
    rows = nq(3)
    rows[0]["answers"] = ["Books"]
    _, _, account = splits(write(tmp_path / "nq.jsonl", rows), articles=SHARES, negatives="bm25")
    assert account["mined_candidates"] == 6 and account["mined_candidates_with_answer"] == 2
    assert account["questions_with_fewer_candidates"] == 3


def test_nobodys_labels_stay_nobodys(tmp_path: Path) -> None:
    rows = [{"query": f"who {number}", "answers": ["x"], "passages": [f"Text {number}."]} for number in range(6)]
    made, *_ = splits(write(tmp_path / "own.jsonl", rows), articles=SHARES, negatives="bm25")
    assert {mark for of_split in made.values() for row in of_split for _, mark in shown(row)} == {None}
