"""SQuAD files: both layouts give the same rows, splits share no article and no text, and errors name the place."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitter_retrieval.data.division import DivisionError
from bitter_retrieval.data.squad import from_rows, read_squad, squad_files, squad_splits
from bitter_retrieval.files.values import DataFileError
from bitter_retrieval.records import CORPUS, PREPARED, Row, read_rows, write_rows

SHARES = {"reader": 0.2, "train": 0.4, "validation": 0.1, "test": 0.2}  # one article of ten is in no split
XQUAD = Path(__file__).resolve().parents[2] / "../shared/data/xquad.en.json"


def asked(name: str, question: str, context: str, *answers: str) -> Row:
    return {
        "id": name,
        "question": question,
        "answers": [{"text": answer, "answer_start": context.find(answer)} for answer in answers],
    }


def article(number: int) -> Row:
    """Four paragraphs with a question each; every paragraph names the town, so other candidates hold the answer."""
    paragraphs = []
    for p in range(4):
        context = f"Town{number} has fact {p}: its mayor{number}x{p} bought {p + 3} boats from guild{number * p}."
        qa = asked(
            f"q{number}-{p}",
            f"Who in town{number} bought {p + 3} boats?",
            context,
            f"mayor{number}x{p}",
            f"Town{number}",
        )
        paragraphs.append({"context": context, "qas": [qa]})
    return {"title": f"Town_{number}", "paragraphs": paragraphs}


def oddities() -> Row:
    context = "Odd is a place."
    qas = [
        asked("odd-kept", " Where? ", context, "place", "a place", "place"),
        asked("odd-kept", "Again?", context, "place"),
        asked("odd-none", "Why?", context),
        asked("odd-blank-answer", "Why so?", context, " "),
        {**asked("odd-impossible", "What?", context), "is_impossible": True},
        asked("odd-empty", "  ", context, "place"),
        asked("odd-misplaced", "How?", context, "absent"),
    ]
    shared = article(0)["paragraphs"][0]["context"]  # a text of another article, which keeps it
    return {
        "title": "Odd",
        "paragraphs": [
            {"context": context, "qas": qas},
            {"context": "", "qas": [asked("odd-context", "Who?", "", "place")]},
            {"context": shared, "qas": [asked("odd-shared", "Whose?", shared, "mayor0x0")]},
        ],
    }


def write_json(path: Path, articles: list[Row]) -> Path:
    path.write_text(json.dumps({"version": "v2.0", "data": articles}))
    return path


def write_parquet(path: Path, articles: list[Row]) -> Path:
    flat = [
        {"id": qa["id"], "title": article["title"], "context": paragraph["context"], "question": qa["question"]}
        | {"answers": {key: [answer[key] for answer in qa["answers"]] for key in ("text", "answer_start")}}
        for article in articles
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]
    answers = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
    strings = [(name, pa.string()) for name in ("id", "title", "context", "question")]
    pq.write_table(pa.Table.from_pylist(flat, schema=pa.schema([*strings, ("answers", answers)])), path)
    return path


@pytest.fixture
def towns(tmp_path: Path) -> Path:
    return write_json(tmp_path / "towns.json", [article(number) for number in range(10)])


def every_row(splits: dict[str, list[Row]]) -> list[Row]:
    return [row for rows in splits.values() for row in rows]


def groups(splits: dict[str, list[Row]]) -> dict[str, set[str]]:
    return {split: {row["group_id"] for row in rows} for split, rows in splits.items()}


def texts(row: Row) -> list[str]:
    return [passage["text"] for passage in row["passages"]]


@pytest.mark.parametrize("write", [write_json, write_parquet])
def test_what_is_left_out_is_counted(tmp_path: Path, write: Any) -> None:
    questions, counts = read_squad(write(tmp_path / f"a.{write.__name__[6:]}", [article(0), oddities()]))
    assert counts == {
        "questions": 7,
        "empty_context": 1,
        "empty_question": 1,
        "unanswerable": 3,
        "duplicate_id": 1,
        "duplicate_answers": 1,
        "misplaced_answers": 1,
        "shared_paragraphs": 1,
    }
    kept = {question.id: question for question in questions}
    assert kept["odd-kept"].answers == ("place", "a place") and kept["odd-kept"].question == "Where?"
    assert kept["odd-misplaced"].article == "Odd"
    assert kept["odd-shared"].article == "Town_0"


def test_json_and_parquet_give_the_same(tmp_path: Path) -> None:
    articles = [*(article(number) for number in range(10)), oddities()]
    routes = [write_json(tmp_path / "a.json", articles), write_parquet(tmp_path / "a.parquet", articles)]
    first, second = (squad_splits(squad_files(path), "here", 3, 6, SHARES) for path in routes)
    assert first[2].pop("from")["train"] == {"a.json": 21} and second[2].pop("from")["train"] == {"a.parquet": 21}
    assert first == second
    assert read_squad(routes[0]) == read_squad(routes[1])


def test_a_folder_is_all_its_files(tmp_path: Path, towns: Path) -> None:
    whole = read_squad(towns)
    folder = tmp_path / "raw"
    folder.mkdir()
    write_json(folder / "a.json", [article(number) for number in range(6)])
    write_parquet(folder / "b.parquet", [article(number) for number in range(6, 10)])
    (folder / "README.md").write_text("not data")
    (folder / "._a.json").write_text("not data either")
    assert read_squad(folder) == whole


def test_splits_share_no_article_and_no_text(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [*(article(number) for number in range(10)), oddities()])
    for seed in range(5):
        splits, corpus, _ = squad_splits(squad_files(path), "here", seed, 10, SHARES)
        articles = list(groups(splits).values())
        seen = [{text for row in rows for text in texts(row)} for rows in splits.values()]
        assert [len(some) for some in articles] == [2, 5, 1, 2]
        assert len(set.union(*articles)) == sum(map(len, articles))
        assert len(set.union(*seen)) == sum(map(len, seen))
        assert seen[3] <= {passage["text"] for passage in corpus}
        assert not {passage["text"] for passage in corpus} & set.union(*seen[:3])


def test_corpus_is_test_articles_and_articles_in_no_split(towns: Path) -> None:
    splits, corpus, counts = squad_splits(squad_files(towns), "here", 0, 4, SHARES)
    taken = {row["group_id"] for split in ("reader", "train", "validation") for row in splits[split]}
    expected = [p["context"] for n in range(10) if f"Town_{n}" not in taken for p in article(n)["paragraphs"]]
    assert [passage["text"] for passage in corpus] == expected
    assert counts["questions_in_no_split"] == 4 and counts["corpus_paragraphs"] == 12
    assert len({passage["passage_id"] for passage in corpus}) == 12


def test_only_the_titles_drawn_are_there(tmp_path: Path) -> None:
    silent = {"title": "Silent", "paragraphs": [{"context": "Nobody asks.", "qas": []}]}
    towns = write_json(tmp_path / "a.json", [*(article(number) for number in range(10)), silent])
    shares = {"reader": 0, "train": 0.5, "validation": 0.25, "test": 0.25}
    found = {}
    for titles in (4, 8, 99):
        splits, corpus, account = squad_splits(squad_files(towns), "here", 0, 4, shares, titles)
        chosen = {row["group_id"] for row in every_row(splits)}
        assert splits["reader"] == [] and len(chosen) == min(titles, 10)
        assert {passage["text"] for passage in corpus} == {text for row in splits["test"] for text in texts(row)}
        assert account["other_titles"] == 4 * (10 - len(chosen)) and account["articles"] == len(chosen)
        found[titles] = chosen
    assert found[4] < found[8] < found[99]
    assert "Nobody asks." in [one["text"] for one in squad_splits(squad_files(towns), "here", 0, 4, shares)[1]]


def test_a_title_has_so_many_questions_and_all_its_paragraphs(towns: Path) -> None:
    whole, corpus, _ = squad_splits(squad_files(towns), "here", 0, 6, SHARES)
    few, same, account = squad_splits(squad_files(towns), "here", 0, 6, SHARES, None, 3)
    assert same == corpus and account["beyond_questions_per_title"] == 10
    for split, rows in few.items():
        assert {len([row for row in rows if row["group_id"] == title]) for title in groups(few)[split]} == {3}
        assert all(row in whole[split] for row in rows)


def test_rows_of_a_dataset_are_those_of_its_parquet(tmp_path: Path) -> None:
    articles = [*(article(number) for number in range(10)), oddities()]
    path = write_parquet(tmp_path / "train.parquet", articles)
    rows = [(f"train, row {number}", row) for number, row in enumerate(pq.read_table(path).to_pylist(), 1)]
    given, read = ({"train": from_rows(rows)}, squad_files(path))
    first, second = (squad_splits(parts, "here", 0, 6, SHARES) for parts in (given, read))
    assert first[2].pop("from")["test"] == {"train": 9} and second[2].pop("from")["test"] == {"train.parquet": 9}
    assert first == second
    bare = {name: rows[3][1][name] for name in ("id", "title", "context", "question")}
    for row in (rows[3][1] | {"title": None}, bare):
        with pytest.raises(DataFileError, match="train, row 4: '(title|answers)'"):
            list(from_rows([*rows[:3], ("train, row 4", row)]))


def test_paragraphs_without_answered_questions_are_distractors(tmp_path: Path) -> None:
    silent = {"title": "Silent", "paragraphs": [{"context": "Nobody asks.", "qas": []}]}
    path = write_json(tmp_path / "a.json", [*(article(number) for number in range(5)), silent])
    splits, corpus, _ = squad_splits(squad_files(path), "here", 0, 4, {"train": 0.6, "test": 0.4})
    assert "Nobody asks." in [passage["text"] for passage in corpus]
    assert "Silent" not in {row["group_id"] for row in every_row(splits)}


def test_candidates_are_distinct_and_hold_the_gold_once(towns: Path) -> None:
    splits, _, counts = squad_splits(squad_files(towns), "here", 0, 6, SHARES)
    contexts = {qa["id"]: p["context"] for n in range(10) for p in article(n)["paragraphs"] for qa in p["qas"]}
    for row in every_row(splits):
        selected = [passage["text"] for passage in row["passages"] if passage["is_selected"]]
        assert selected == [contexts[row["query_id"]]]
        assert len(set(texts(row))) == len({passage["passage_id"] for passage in row["passages"]}) == len(texts(row))
        assert {passage["role"] for passage in row["passages"]} == {None}
    assert counts["questions_with_fewer_candidates"] == 4  # the one validation article has four paragraphs
    assert counts["candidates_with_answer"] == 36 * 3  # its three neighbours name the town of every question


def test_own_article_comes_first_then_bm25(tmp_path: Path) -> None:
    near, far = "Otters swim in cold rivers.", "Trains leave at noon."
    gold, sibling = "Otters eat fish in rivers.", "Weather is mild."
    qa = asked("q", "What do otters eat in rivers?", gold, "fish")
    articles = [
        {"title": "Rest", "paragraphs": [{"context": far, "qas": []}, {"context": near, "qas": []}]},
        {"title": "Otter", "paragraphs": [{"context": gold, "qas": [qa]}, {"context": sibling, "qas": []}]},
    ]
    articles[0]["paragraphs"][0]["qas"].append(asked("r", "When do trains leave?", far, "noon"))
    path = write_json(tmp_path / "a.json", articles)
    found = {}
    for candidates in (1, 2, 3, 4):
        rows = squad_splits(squad_files(path), "here", 0, candidates, {"test": 1.0})[0]["test"]
        found[candidates] = next(set(texts(row)) for row in rows if row["query_id"] == "q")
    assert found == {1: {gold}, 2: {gold, sibling}, 3: {gold, sibling, near}, 4: {gold, sibling, near, far}}


def test_questions_and_texts_without_words_do_not_stop_bm25(tmp_path: Path) -> None:
    contexts = ["A b.", "!", "C d e."]
    paragraphs = [{"context": c, "qas": [asked(f"q{i}", "?", c, c[0])]} for i, c in enumerate(contexts)]
    path = write_json(tmp_path / "a.json", [{"title": "T", "paragraphs": paragraphs}])
    rows = squad_splits(squad_files(path), "here", 0, 3, {"test": 1.0})[0]["test"]
    assert all(sorted(texts(row)) == sorted(contexts) for row in rows)


def test_candidates_in_chinese_are_those_with_the_questions_words(tmp_path: Path) -> None:
    """And questions of which no text has a word are counted."""
    texts = ["华沙位于维斯瓦河畔。", "猫在家里睡觉。", "维斯瓦河很长。", "火车中午离开。"]
    questions = ["哪条河流经华沙,维斯瓦河吗", "猫在哪里睡觉", "zzz?"]
    paragraphs = [{"context": text, "qas": []} for text in texts]
    for at, question in enumerate(questions):
        paragraphs[at]["qas"].append(asked(f"q{at}", question, texts[at], texts[at][:2]))
    path = write_json(tmp_path / "a.json", [{"title": "T", "paragraphs": paragraphs}])
    splits, _, counts = squad_splits(squad_files(path), "here", 0, 2, {"test": 1.0})
    assert set(texts_of(splits["test"], "q0")) == {texts[0], texts[2]}
    assert counts["questions_without_matching_word"] == 1


def texts_of(rows: list[Row], query_id: str) -> list[str]:
    return next(texts(row) for row in rows if row["query_id"] == query_id)


def test_result_hangs_on_the_seed_and_not_on_the_order_of_the_file(towns: Path, tmp_path: Path) -> None:
    first = squad_splits(squad_files(towns), "here", 0, 6, SHARES)
    assert squad_splits(squad_files(towns), "here", 0, 6, SHARES) == first
    backwards = write_json(tmp_path / "b.json", [article(number) for number in reversed(range(10))])
    same = squad_splits(squad_files(backwards), "here", 0, 6, SHARES)[0]
    other = squad_splits(squad_files(towns), "here", 1, 6, SHARES)[0]
    assert groups(first[0]) == groups(same) != groups(other)


def test_seed_draws_the_order_of_the_candidates_and_not_their_choice(towns: Path) -> None:
    first, second = (squad_splits(squad_files(towns), "here", seed, 6, {"test": 1.0})[0]["test"] for seed in (0, 1))
    assert [texts(row) for row in first] != [texts(row) for row in second]
    assert [set(texts(row)) for row in first] == [set(texts(row)) for row in second]


def test_impossible_questions_are_left_out_whatever_answers_they_carry(tmp_path: Path) -> None:
    qas = [asked("kept", "Q", "c", "c"), asked("impossible", "Q", "c", "c") | {"is_impossible": True}]
    qas.append({"id": "bare", "question": "Q", "is_impossible": True})
    path = write_json(tmp_path / "a.json", [{"title": "T", "paragraphs": [{"context": "c", "qas": qas}]}])
    questions, counts = read_squad(path)
    assert [question.id for question in questions] == ["kept"] and counts["unanswerable"] == 2


def test_position_does_not_reveal_the_gold(towns: Path) -> None:
    rows = squad_splits(squad_files(towns), "here", 0, 4, {"test": 1.0})[0]["test"]
    positions = [next(i for i, passage in enumerate(row["passages"]) if passage["is_selected"]) for row in rows]
    assert all(3 <= positions.count(i) <= 20 for i in range(4))


def test_rows_and_corpus_fit_the_schemas(towns: Path, tmp_path: Path) -> None:
    splits, corpus, _ = squad_splits(squad_files(towns), "here", 0, 4, SHARES)
    for rows, schema in ((splits["train"], PREPARED), (corpus, CORPUS)):
        write_rows(tmp_path / "rows.parquet", rows, schema)
        assert read_rows(tmp_path / "rows.parquet", schema) == rows


def refusal(path: Path) -> str:
    with pytest.raises(DataFileError) as caught:
        read_squad(path)
    return str(caught.value)


def test_absent_path_and_empty_folder_say_where_data_belongs(tmp_path: Path) -> None:
    assert "data/raw/" in refusal(tmp_path / "absent.json")
    assert f"{tmp_path}: no data file here" in refusal(tmp_path)


def test_errors_say_where_the_data_stand_in_params(towns: Path, tmp_path: Path) -> None:
    with pytest.raises(DivisionError, match="Raise beyond.articles.validation to"):
        squad_splits(squad_files(towns), "here", 0, 4, SHARES | {"validation": 0.04}, at="beyond")
    (tmp_path / "none").mkdir()
    for path in (tmp_path / "absent.json", tmp_path / "none"):
        with pytest.raises(DataFileError, match="[Ss]et beyond.path to"):
            squad_files(path, "beyond")


def test_cut_off_files_are_named(towns: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_bytes(json.dumps(json.loads(towns.read_text()), indent=1).encode()[:700])
    message = refusal(cut)
    last = cut.read_text().splitlines()
    assert str(cut) in message and "cut off" in message and f"line {len(last)} column" in message
    parquet = write_parquet(tmp_path / "cut.parquet", [article(0)])
    parquet.write_bytes(parquet.read_bytes()[:300])
    assert f"{parquet}: cut off" in refusal(parquet)
    cut.write_bytes(b'{"data": "\xff"}')
    assert f"{cut}: cut off or broken" in refusal(cut)


@pytest.mark.parametrize(
    "content, parts",
    [
        ([1], ["'data'"]),
        ({"rows": []}, ["'data'", "rows"]),
        ({"data": [{"paragraphs": []}]}, ["article 1", "'title'"]),
        ({"data": [{"title": "T", "paragraphs": ["text"]}]}, ["article 1 (T)", "'paragraphs'", "text"]),
        ({"data": [{"title": "T", "paragraphs": [{"qas": []}]}]}, ["paragraph 1", "'context'"]),
        (
            {"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [{"id": 7, "question": "Q"}]}]}]},
            ["article 1 (T), paragraph 1, question 1", "'id' (str)", "'7'"],
        ),
        (
            {"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [{"id": "i", "question": "Q"}]}]}]},
            ["question 1", "'answers'"],
        ),
    ],
)
def test_other_layouts_are_refused_with_their_place(tmp_path: Path, content: Any, parts: list[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(content))
    message = refusal(path)
    assert all(part in message for part in [str(path), *parts]), message


def test_parquet_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [article(0)])
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["title", "answers"]), path)
    assert f"{path}: lacks the columns ['title', 'answers']" in refusal(path)
    names = pa.array(["q0", "q1", None, "q3"])
    pq.write_table(table.set_column(0, "id", names), path)
    assert f"{path}, row 3" in refusal(path)


def test_nothing_left_is_an_error_with_the_counts(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "a.json", [{"title": "T", "paragraphs": [{"context": "c", "qas": [asked("i", "Q", "c")]}]}]
    )
    message = refusal(path)
    assert str(path) in message and "'unanswerable': 1" in message


def test_a_split_without_questions_names_the_share_to_raise(towns: Path) -> None:
    with pytest.raises(DivisionError, match=r"here: 'validation'.*0\.04 of 10.*data\.articles\.validation to 0\.1000"):
        squad_splits(squad_files(towns), "here", 0, 4, SHARES | {"validation": 0.04})
    for shares in (SHARES | {"train": 0.9}, SHARES | {"train": -0.1}):
        with pytest.raises(DivisionError, match="their sum at most 1"):
            squad_splits(squad_files(towns), "here", 0, 4, shares)


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_articles_are_no_matter_of_shares(tmp_path: Path, count: int) -> None:
    path = write_json(tmp_path / "a.json", [article(number) for number in range(count)])
    with pytest.raises(DivisionError) as caught:
        squad_splits(squad_files(path), "here", 0, 4, SHARES)
    said = (
        f"here: {count} articles or groups, and each is in one split alone, so reader, train, validation, test cannot"
    )
    assert said in str(caught.value) and "Give data of 4 or more" in str(caught.value)
    assert "Raise" not in str(caught.value)


def test_the_share_that_the_message_names_is_enough(towns: Path) -> None:
    for before in (0.05, 0.15, 0.25, 0.35, 0.45):
        shares = {"reader": before + 0.1, "validation": 0.1, "test": 0.1}
        splits, _, _ = squad_splits(squad_files(towns), "here", 0, 4, shares)
        assert all(splits.values())


@pytest.mark.skipif(not XQUAD.is_file(), reason="XQuAD is not at hand")
def test_real_questions() -> None:
    questions, counts = read_squad(XQUAD)
    assert (len(questions), counts["questions"], counts["misplaced_answers"]) == (1190, 1190, 0)
    assert len({question.context for question in questions}) == 240
    assert len({question.article for question in questions}) == 48
    splits, corpus, counts = squad_splits(
        squad_files(XQUAD), "here", 0, 10, {"reader": 0.3, "train": 0.4, "validation": 0.1, "test": 0.2}
    )
    assert sum(map(len, splits.values())) == 1190 and counts["paragraphs"] == 240 and len(corpus) == 50
    assert all(len(row["passages"]) == 10 for row in every_row(splits))
    assert 0 < counts["candidates_with_answer"] < 1190
