"""Questions with their own candidates as splits: which split of the source feeds which, and what is left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import source_files
from source_files import MARCO, hidden, marco, write_marco, write_microsofts, write_rows

from bitter_retrieval.data.division import DivisionError
from bitter_retrieval.data.question_splits import SPLITS, question_splits, split_files
from bitter_retrieval.data.settings import Articles, Limits, QuestionData
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import Row

DATA = QuestionData(source="msmarco", path="raw", seed=0, candidates=10, articles=Articles(0.2, 0.4, 0.2, 0.2))
OWN = replace(DATA, source="jsonl")


def divided(path: Path, data: QuestionData = DATA) -> tuple[dict[str, list[Row]], list[Row], dict[str, Any]]:
    parts, corpus = split_files(path)
    return question_splits(parts, str(path), data, corpus)


def ids(splits: dict[str, list[Row]]) -> dict[str, list[str]]:
    return {split: [row["query_id"] for row in rows] for split, rows in splits.items()}


def numbers(*found: int) -> list[str]:
    return [str(19699 + number) for number in found]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_marco_is_split_as_it_comes_and_what_is_left_out_is_counted(tmp_path: Path, suffix: str) -> None:
    splits, corpus, account = divided(write_marco(tmp_path, MARCO, suffix))
    assert list(splits) == list(SPLITS)
    assert ids(splits) == {
        "reader": [],
        "train": numbers(*range(24), 26, 27, 28),
        "validation": numbers(*range(40, 53)),
        "test": numbers(*range(60, 68)),
    }
    left_out = account["read"]["train"].pop("left_out")
    fields = {"query_type": 33, "wellFormedAnswers": 1, "passages.url": 223}
    assert account["read"]["train"] == {"questions": 28, "used": 27, "left_out_fields": fields}
    assert {reason: count for reason, count in left_out.items() if count} == {
        "unanswerable": 2,
        "empty_query": 1,
        "no_passages": 1,
        "duplicate_id": 1,
        "empty_answers": 1,
        "duplicate_answers": 1,
        "duplicate_passages": 1,
        "group_elsewhere": 1,  # test has its query too
    }
    assert account["from"]["train"] == {f"train-00000-of-00001{suffix}": 27} and account["from"]["reader"] == {}
    assert [len(row["passages"]) for row in splits["train"]][:24] == [1 + number % 12 for number in range(24)]
    assert {one["text"] for one in corpus} == {one["text"] for row in splits["test"] for one in row["passages"]}


@pytest.mark.parametrize("odd", [hidden, lambda rows: [], lambda rows: [marco(61, selected=None)]])
def test_a_test_split_without_human_labels_gives_way_to_half_of_validation(tmp_path: Path, odd: Any) -> None:
    splits, corpus, account = divided(write_marco(tmp_path, MARCO | {"test": odd(MARCO["test"])}))
    parts = ids(splits)
    assert sorted(parts["validation"] + parts["test"]) == numbers(*range(40, 53))
    assert len(parts["validation"]) == 6
    assert account["from"]["test"] == {"validation-00000-of-00001.parquet": 7}
    reasons = account["read"]["test"]["left_out"]
    assert reasons["unanswerable"] + reasons["split_without_human_label"] == len(odd(MARCO["test"]))
    texts = {text for row in MARCO["validation"] for text in row["passages"]["passage_text"]}
    assert {one["text"] for one in corpus} == texts  # of all that test was cut from
    few = divided(tmp_path, replace(DATA, limits=Limits(validation=2, test=3)))
    assert [len(few[0][split]) for split in ("validation", "test")] == [2, 3]
    assert few[1] == corpus and few[2]["read"]["validation"]["left_out"]["not_drawn"] == 8


@pytest.mark.parametrize("version", ["v1.1", "v2.1"])
def test_microsofts_own_files_give_what_those_of_the_hub_give(tmp_path: Path, version: str) -> None:
    splits, corpus, account = divided(write_microsofts(tmp_path / version, version, MARCO))
    same = divided(write_marco(tmp_path / "hub", MARCO | {"test": hidden(MARCO["test"])}))
    for read in (account["read"], same[2]["read"]):  # Microsoft's v1.1 has no such field
        read["train"]["left_out_fields"].pop("wellFormedAnswers", None)
    assert (splits, corpus, account["read"]) == (same[0], same[1], same[2]["read"]) and len(splits["train"]) == 28
    assert account["read"]["test"]["left_out"]["unanswerable"] == 9


def test_ones_own_test_questions_need_no_labels(tmp_path: Path) -> None:
    rows = [row | {"passages": row["passages"]["passage_text"]} for row in MARCO["test"][:8]]
    write_rows(tmp_path / "test.jsonl", rows)
    for split in ("train", "validation"):
        write_rows(tmp_path / f"{split}.jsonl", MARCO[split][:12])
    assert ids(divided(tmp_path, OWN)[0])["test"] == numbers(*range(60, 68))
    (tmp_path / "test.jsonl").unlink()
    assert len(divided(tmp_path, OWN)[0]["test"]) == 6  # half of validation's


def test_limits_draw_by_the_seed_and_a_larger_one_holds_a_smaller(tmp_path: Path) -> None:
    write_marco(tmp_path, MARCO)
    drawn = {}
    for train in (5, 10, 20, None):
        limits = Limits(train=train, validation=4, test=train)
        splits, corpus, account = divided(tmp_path, replace(DATA, limits=limits))
        drawn[train] = ids(splits)["train"]
        assert len(drawn[train]) == (train or 27) and len(splits["validation"]) == 4
        assert drawn[train] == sorted(drawn[train], key=int), "rows are in the order of the file"
        left_out = account["read"]["train"]["left_out"]
        assert left_out["not_drawn"] + left_out["group_elsewhere"] == 28 - len(drawn[train])
        assert len({one["text"] for one in corpus}) == 35, "passages of what the limit leaves out are searched too"
    assert set(drawn[5]) < set(drawn[10]) < set(drawn[20]) < set(drawn[None])
    other = replace(DATA, limits=Limits(train=5), seed=1)
    assert ids(divided(tmp_path, other)[0])["train"] != drawn[5]


def test_reader_gets_questions_that_train_does_not(tmp_path: Path) -> None:
    write_marco(tmp_path, MARCO)
    found = ids(divided(tmp_path, replace(DATA, limits=Limits(reader=6, train=10)))[0])
    assert (len(found["reader"]), len(found["train"])) == (6, 10) and not {*found["reader"]} & {*found["train"]}
    write_marco(tmp_path, {"reader": [marco(90), marco(3)]})
    found = ids(divided(tmp_path, replace(DATA, limits=Limits(reader=6)))[0])
    assert found["reader"] == numbers(90) and "19702" in found["train"], "train keeps what both have"


def test_queries_that_come_again_are_one_group_and_groups_stay_together(tmp_path: Path) -> None:
    again = marco(40) | {"query_id": 1, "query": "  Where was  ELMAR 3 born "}
    splits, _, _ = divided(write_marco(tmp_path, MARCO | {"validation": [*MARCO["validation"], again], "test": []}))
    home = {row["query_id"]: (split, row["group_id"]) for split, rows in splits.items() for row in rows}
    assert home["1"] == home[str(19699 + 40)] and home["1"][1] == str(19699 + 40)
    for size in range(1, 8):
        splits, _, _ = divided(tmp_path, replace(DATA, limits=Limits(validation=size)))
        groups = [{row["group_id"] for row in splits[split]} for split in ("validation", "test")]
        assert not groups[0] & groups[1] and len(splits["validation"]) <= size


def test_a_single_file_is_divided_by_its_groups(tmp_path: Path) -> None:
    rows = [
        {"query": f"Question {number}?", "answers": "x", "passages": [f"Text {number}."], "group_id": f"g{number // 3}"}
        for number in range(30)
    ]
    path = write_rows(tmp_path / "mine.jsonl", rows)
    splits, corpus, account = divided(path, replace(OWN, articles=Articles(0.2, 0.4, 0.1, 0.2)))
    groups = {split: {row["group_id"] for row in rows} for split, rows in splits.items()}
    assert {split: len(of) for split, of in groups.items()} == {"reader": 2, "train": 4, "validation": 1, "test": 2}
    assert len(set.union(*groups.values())) == 9
    texts = {one["text"] for one in corpus}
    assert len(texts) == 9 and {one["text"] for row in splits["test"] for one in row["passages"]} < texts
    assert divided(tmp_path, replace(OWN, articles=Articles(0.2, 0.4, 0.1, 0.2)))[0] == splits, "a folder with one file"
    assert account["from"]["test"] == {"mine.jsonl": 6} and account["read"]["mine"]["left_out"]["not_drawn"] == 3
    assert account["read"]["mine"]["questions"] == 30
    with pytest.raises(DivisionError, match="mine.jsonl: 'validation' gets no question .* share 0.01 of 10"):
        divided(path, replace(OWN, articles=Articles(0.2, 0.4, 0.01, 0.2)))
    for articles, said in ((None, "beyond.articles is missing"), (Articles(1, 1, 0, 0), "beyond.articles is ")):
        with pytest.raises(ValueError, match=said):
            question_splits(*split_files(path)[:1], "here", replace(OWN, articles=articles), at="beyond")
    with pytest.raises(DataFileError, match="mine.jsonl: data.articles is missing"):
        divided(path, replace(OWN, articles=None))


def test_further_passages_of_all_corpus_files_are_searched(tmp_path: Path) -> None:
    write_marco(tmp_path, MARCO, ".jsonl")
    known = MARCO["test"][0]["passages"]["passage_text"][0]
    for shard, texts in enumerate((["More.", " ", known], ["Yet more.", "More."])):
        rows = [{"passage_id": f"c{shard}-{n}", "text": text} for n, text in enumerate(texts)]
        write_rows(tmp_path / f"corpus-{shard}.jsonl", rows)
    _, corpus, account = divided(tmp_path)
    assert {"passage_id": "c0-0", "text": "More."} in corpus and {"passage_id": "c1-0", "text": "Yet more."} in corpus
    assert len(corpus) == 37
    assert (account["empty_corpus_passages"], account["repeated_corpus_passages"]) == (1, 2)


@pytest.mark.parametrize("name", ["dev.jsonl", "val-0.jsonl", "mine_dev.jsonl"])
def test_dev_and_val_are_validation(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "train.jsonl", MARCO["train"][:5])
    write_rows(tmp_path / name, MARCO["validation"])
    parts, _ = split_files(tmp_path)
    of_hub = {"train": parts["train"], "dev": parts["validation"]}
    for given in (parts, of_hub):
        splits, _, account = question_splits(given, "here", OWN)
        assert [len(splits[split]) for split in SPLITS] == [0, 5, 6, 7]
        assert account["from"]["test"] == {name: 7} and list(account["read"]) == ["validation", "train"]


def test_what_no_split_would_take_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("train", "validation", "more", "train-test"):
        write_rows(tmp_path / f"{name}.jsonl", MARCO["validation"])
    with pytest.raises(DataFileError, match=r"files \['more.jsonl', 'train-test.jsonl'\] say no split, or sev"):
        divided(tmp_path)
    for more in (["more"], ["dev"], ["dev", "val"]):
        of_hub = dict.fromkeys(["train", "validation", *more], lambda left_out: [])
        with pytest.raises(DataFileError, match="left out. .* set beyond.path to it and remove beyond.hub") as said:
            question_splits(of_hub, "them/data", OWN, at="beyond")
        assert f"and {more} would" in str(said.value)


def test_a_group_named_after_its_first_question_stays_together(tmp_path: Path) -> None:
    own = {"answers": "x", "passages": ["Text."]}
    rows = [own | {"query_id": f"q{n}", "group_id": f"q{n - n % 2}", "query": f"Question {n % 3}?"} for n in range(20)]
    splits, _, _ = divided(write_rows(tmp_path / "mine.jsonl", rows), OWN)
    groups = {split: {row["group_id"] for row in rows} for split, rows in splits.items()}
    assert [len(groups[split]) for split in SPLITS] == [2, 4, 2, 2] and len(set.union(*groups.values())) == 10
    assert all(row["group_id"] == f"q{int(row['query_id'][1:]) // 2 * 2}" for rows in splits.values() for row in rows)


def test_ones_own_ids_that_come_twice_are_refused_with_both_places(tmp_path: Path) -> None:
    write_marco(tmp_path, MARCO, ".jsonl")
    with pytest.raises(DataFileError, match="train-.*jsonl, line 29, and .*line 30 have the same query_id '19727'"):
        divided(tmp_path, OWN)


def test_splits_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_rows(tmp_path / f"{name}.jsonl", MARCO["validation"])
    with pytest.raises(DataFileError, match=r"splits \['test', 'train'\] found. Give train and validation"):
        divided(tmp_path)
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").rename(tmp_path / f"mine{name}.jsonl")
    with pytest.raises(DataFileError, match=r"files \['minetest.jsonl', 'minetrain.jsonl'\] say no split"):
        divided(tmp_path)


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    bad = marco(70) | {"passages": {"is_selected": [1], "passage_text": ["a", "b"], "url": []}}
    write_marco(tmp_path, MARCO | {"test": [*MARCO["test"], bad]}, ".jsonl")
    with pytest.raises(DataFileError, match="test-.*jsonl, line 10: 2 passage_text and 1 is_selected are not par"):
        divided(tmp_path)


def test_the_fixture_has_what_is_odd_about_the_real_ones() -> None:
    rows = [row for split in MARCO.values() for row in split]
    assert {len(row["passages"]["url"]) for row in rows} == set(range(13))
    assert {type(row["passages"]) for row in rows} == {dict} and source_files.MARCO_SCHEMA.names == list(rows[0])
