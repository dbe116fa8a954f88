"""Prediction rows: their fields, what the reader was shown, and that a finished batch is not paid for again."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tiny
import tiny_tokenizers
import torch

from bitter_retrieval.evaluation import answering
from bitter_retrieval.evaluation.answering import Shown, predict, top, without_loss
from bitter_retrieval.evaluation.retrieval import Ranking
from bitter_retrieval.journal import Journal
from bitter_retrieval.readers import generation
from bitter_retrieval.readers.answer_loss import Scorer, Triple
from bitter_retrieval.readers.generation import generate_answers
from bitter_retrieval.readers.language_model import BrokenReader, Reader, ReaderError
from bitter_retrieval.records import PREDICTIONS, Row, passage_texts
from bitter_retrieval.scoring import exact_match, f1

BUDGET = 300
ROWS = tiny.world(4)
TEXTS = passage_texts(tiny.world(12))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "answers.sqlite") as journal:
        yield journal


def shown(count: int = 1) -> list[Shown]:
    """Each question with its first passages, as if retrieved."""
    items = []
    for row in ROWS:
        ids = [passage["passage_id"] for passage in row["passages"]]
        items.append(Shown(row, ids[:count], Ranking([*ids, "p9"], [0.9, 0.5, 0.4, -0.1], [1, 2, 3])))
    return items


def ask(reader: Reader, journal: Journal, items: list[Shown], system: str = "kl", seed: int = 2) -> list[Row]:
    return predict(system, reader, 3, {seed: items}, TEXTS, BUDGET, journal)


def test_rows_have_the_tables_columns_and_types(journal: Journal) -> None:
    rows = ask(tiny.tiny_reader(), journal, shown())
    assert all(list(row) == PREDICTIONS.names for row in rows)
    table = pa.Table.from_pylist(rows, schema=PREDICTIONS)
    assert table.num_rows == len(ROWS) and all(column.null_count == 0 for column in table.columns)


def test_rows_say_what_was_asked_ranked_and_shown(journal: Journal) -> None:
    row = ask(tiny.tiny_reader(), journal, shown(2))[1]
    ids = [passage["passage_id"] for passage in ROWS[1]["passages"]]
    assert (row["system"], row["reader"], row["seed"], row["shown"]) == ("kl", "tiny", 2, 3)
    assert (row["query_id"], row["group_id"]) == ("q1", "g0")
    assert row["ranked_ids"] == [*ids, "p9"] and row["ranked_scores"] == [0.9, 0.5, 0.4, -0.1]
    assert (row["shown_ids"], row["candidate_ids"], row["candidate_ranks"]) == (ids[:2], ids, [1, 2, 3])


def test_nothing_retrieved_leaves_rankings_empty(journal: Journal) -> None:
    row = ask(tiny.tiny_reader(), journal, [Shown(ROWS[0], [])])[0]
    empty = ("ranked_ids", "ranked_scores", "shown_ids", "candidate_ids", "candidate_ranks")
    assert all(row[name] == [] for name in empty)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_answers_and_losses_are_those_of_the_passages_shown(count: int, journal: Journal) -> None:
    reader = tiny.tiny_reader(tokenizer="bpe", max_length=200)
    items = [replace(item, row={**item.row, "answers": [*item.row["answers"], "42", "北京"]}) for item in shown(count)]
    for row, item in zip(ask(reader, journal, items), items, strict=True):
        context = "\n".join(TEXTS[passage_id] for passage_id in item.passage_ids)
        query, references = item.row["query"], item.row["answers"]
        answer = generate_answers(reader, [(query, context)], BUDGET)[0].text
        losses = Scorer(reader, BUDGET).score([Triple(query, context, reference) for reference in references])
        means = [loss.nll_sum / loss.n_tokens for loss in losses]
        assert row["answer"] == answer and row["answer_nll"] == pytest.approx(min(means), abs=2e-5)
        assert len({round(mean, 3) for mean in means}) == 3


def test_the_first_passages_of_a_ranking_are_shown() -> None:
    rankings = [item.ranking for item in shown()]
    for count in (1, 3):
        for item, row, ranking in zip(top(ROWS, rankings, count), ROWS, rankings, strict=True):
            assert item == Shown(row, ranking.ids[:count], ranking) and len(item.passage_ids) == count


def test_the_empty_passage_is_no_passage_to_the_reader(journal: Journal) -> None:
    """Alone it is the question without a passage; among others it leaves no blank line."""
    reader, texts = tiny.tiny_reader(), TEXTS | {"": ""}
    alone, none, among, without = (
        predict(
            "kl", reader, 1, {0: [replace(item, passage_ids=ids(item)) for item in shown()]}, texts, BUDGET, journal
        )
        for ids in (
            lambda item: [""],
            lambda item: [],
            lambda item: [item.passage_ids[0], "", "p9"],
            lambda item: [item.passage_ids[0], "p9"],
        )
    )
    for empty, other in ((alone, none), (among, without)):
        assert [row["answer_nll"] for row in empty] == [row["answer_nll"] for row in other]
        assert all("" in row["shown_ids"] for row in empty)
    assert alone[0]["answer_nll"] != without[0]["answer_nll"]


def test_answers_are_scored_against_the_references(journal: Journal) -> None:
    reader = tiny.tiny_reader()
    said = [row["answer"] for row in ask(reader, journal, shown())]
    references = [[f"{said[0]} x", "y"], *(["x", answer] for answer in said[1:])]
    items = [replace(i, row={**i.row, "answers": r}) for i, r in zip(shown(), references, strict=True)]
    rows = ask(reader, journal, items)
    assert [row["em"] for row in rows] == [0.0, 1.0, 1.0, 1.0] and 0 < rows[0]["f1"] < 1
    for row, item in zip(rows, items, strict=True):
        assert row["em"] == exact_match(row["answer"], item.row["answers"])
        assert row["f1"] == f1(row["answer"], item.row["answers"])


def test_cut_contexts_are_counted(journal: Journal) -> None:
    reader = tiny.tiny_reader(tokenizer="word", max_length=38)
    assert [row["truncated"] for row in ask(reader, journal, shown(1))] == [0] * 4
    assert [row["truncated"] for row in ask(reader, journal, shown(3))] == [3] * 4


# -- what a reader cannot score --------------------------------------------------------------------------------------

LONG = "Ashby " * 99


@pytest.mark.parametrize("bad", [LONG, " "])
def test_answer_without_a_reference_that_can_be_scored_has_no_loss_and_counts_in_all_else(
    bad: str, journal: Journal
) -> None:
    reader = tiny.tiny_reader()
    usual = ask(reader, journal, shown())
    items = shown()
    items[1] = replace(items[1], row={**items[1].row, "answers": [bad]})
    items[2] = replace(items[2], row={**items[2].row, "answers": [bad, *ROWS[2]["answers"]]})
    for _ in range(2):  # computed, and from the journal
        rows = ask(reader, journal, items)
        assert [row["answer"] for row in rows] == [row["answer"] for row in usual]
        assert rows[1]["answer_nll"] is None and rows[1]["em"] == 0
        others = [rows[place]["answer_nll"] for place in (0, 2, 3)]
        assert others == pytest.approx([usual[place]["answer_nll"] for place in (0, 2, 3)], abs=2e-5)
    assert "1 of 4 answers have no answer loss, the first by tiny to query 'q1'" in without_loss(rows)
    assert without_loss(usual) == ""


def test_loss_that_is_not_finite_says_that_the_reader_is_broken(journal: Journal) -> None:
    reader = tiny.tiny_reader()
    reader.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ReaderError, match=r"is nan. Check the checkpoint and readers.tiny.dtype"):
        ask(reader, journal, shown())


def test_what_the_reader_cannot_be_asked_is_answered_wrongly_and_told(journal: Journal) -> None:
    reader = tiny.tiny_reader(tokenizer_object=tiny_tokenizers.tokenizer_of("chat"), chat=True, max_length=200)
    usual, items = ask(reader, journal, shown()), shown()
    items[1] = replace(items[1], passage_ids=["marked"])
    texts = TEXTS | {"marked": f"{TEXTS['p1']}<end>"}
    for _ in range(2):  # computed, and from the journal
        rows = predict("kl", reader, 3, {2: items}, texts, BUDGET, journal)
        assert (rows[1]["answer"], rows[1]["answer_nll"]) == ("", None)
        assert rows[1]["em"] == rows[1]["f1"] == rows[1]["truncated"] == 0
        for place in (0, 2, 3):
            assert rows[place]["answer"] == usual[place]["answer"]
            assert rows[place]["answer_nll"] == pytest.approx(usual[place]["answer_nll"], abs=2e-5)
    told = without_loss(rows)
    assert "1 of 4 answers have no answer loss, the first by tiny to query 'q1'" in told
    assert "1 of them are empty, and wrong" in told


def test_what_cannot_be_asked_has_no_loss_though_its_reference_could_be_scored(journal: Journal) -> None:
    reader, items = tiny.tiny_reader(), shown()
    asked = len(reader.encode(["?"], [""], None)[0].ids)
    query = "goat " * (reader.max_length - reader.max_new_tokens - asked + 1) + "?"  # no room for an answer of six
    assert Scorer(reader, BUDGET).score([Triple(query, "", "Ashby")]) != [None]
    items[2] = Shown({**items[2].row, "query": query}, [])
    row = ask(reader, journal, items)[2]
    assert (row["answer"], row["answer_nll"]) == ("", None)


@pytest.mark.parametrize("template", [None, "{{ raise_exception('no user may speak') }}"])
def test_reader_that_can_be_asked_nothing_stops(template: str | None, journal: Journal) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizers.tokenizer_of("chat"))
    tokenizer.chat_template = template
    with pytest.raises(BrokenReader, match=r"Set readers.tiny.chat to false"):
        ask(tiny.tiny_reader(tokenizer_object=tokenizer, chat=True), journal, shown())


# -- journal ---------------------------------------------------------------------------------------------------------


def test_second_call_does_not_touch_the_model(journal: Journal) -> None:
    reader = tiny.tiny_reader()
    first = ask(reader, journal, shown())
    without_model = replace(reader, model=None)
    assert ask(without_model, journal, shown()) == first
    other = ask(without_model, journal, [replace(item, ranking=None) for item in shown()], "oracle", 0)
    assert [row["answer_nll"] for row in other] == [row["answer_nll"] for row in first]
    assert other[0]["system"] == "oracle" and other[0]["seed"] == 0 and other[0]["ranked_ids"] == []


class Killed(BaseException):
    pass


def limited(monkeypatch: pytest.MonkeyPatch, most: float = float("inf")) -> list[tuple[str, int]]:
    """Batches of answers and chunks of losses computed, with their sizes; the process is killed after some."""
    done: list[tuple[str, int]] = []

    def counted(what: str, work: Any) -> Any:
        def wrapped(worker: Any, batch: Any, **settings: Any) -> Any:
            if len(done) == most:
                raise Killed
            done.append((what, len(batch)))
            return work(worker, batch, **settings)

        return wrapped

    monkeypatch.setattr(generation, "_generate", counted("answers", generation._generate))
    monkeypatch.setattr(answering.Scorer, "score", counted("losses", Scorer.score))
    monkeypatch.setattr(answering, "CHUNK", 3)
    return done


def many() -> list[Shown]:
    return [Shown(row, [p["passage_id"] for p in row["passages"]][: 1 + n % 3]) for n, row in enumerate(tiny.world(12))]


def test_killed_call_goes_on_after_its_last_batch_to_the_same_bits(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tiny.tiny_reader()
    with monkeypatch.context() as patch:
        done = limited(patch)
        with Journal(tmp_path / "whole.sqlite") as other:
            wanted = ask(reader, other, many())
    assert [what for what, _ in done] == ["losses"] * 4 + ["answers"] * (len(done) - 4) and len(done) > 5
    for most in range(len(done)):  # the journal grows by one in each life
        with monkeypatch.context() as patch, pytest.raises(Killed):
            again = limited(patch, min(most, 1))
            ask(reader, journal, many())
        assert again == done[most - 1 : most] if most else again == []
    with monkeypatch.context() as patch:
        again = limited(patch)
        assert ask(reader, journal, many()) == wanted and again == done[-1:]


def test_further_question_leaves_the_batches_before_it(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, done = tiny.tiny_reader(), limited(monkeypatch)
    first = ask(reader, journal, many())
    longest = Shown(tiny.world(1, first=12)[0], ["p1", "p2", "p3"])
    before = len(done)
    assert ask(reader, journal, [*many(), longest])[: len(first)] == first
    assert before > 5 and [what for what, _ in done[before:]] == ["losses", "answers"]


@pytest.mark.parametrize("what", ["method", "torch", "transformers"])
def test_what_computes_decides_the_key(what: str, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, done = tiny.tiny_reader(), limited(monkeypatch)
    ask(reader, journal, shown())
    once = len(done)
    if what == "method":
        monkeypatch.setattr(answering, "METHOD", answering.METHOD + 1)
    elif what == "torch":
        monkeypatch.setattr(torch, "__version__", "0.0")
    else:
        monkeypatch.setattr(answering, "version", lambda package: f"{package} 0.0")
    ask(reader, journal, shown())
    assert len(done) == 2 * once


@pytest.mark.parametrize("what", ["reader", "context", "references", "query"])
def test_what_decides_the_answer_decides_the_key(what: str, journal: Journal) -> None:
    reader, items = tiny.tiny_reader(), shown()
    ask(reader, journal, items)
    if what == "reader":
        reader = replace(reader, identity="another")
    elif what == "context":
        items[0] = replace(items[0], passage_ids=["p9"])
    else:
        field, value = ("answers", ["Garth"]) if what == "references" else ("query", "Where does Aldan live?")
        items[0] = replace(items[0], row={**items[0].row, field: value})
    with pytest.raises(AttributeError):  # the model is asked, and there is none
        ask(replace(reader, model=None), journal, items)


# -- several seeds ---------------------------------------------------------------------------------------------------


def by_seed() -> dict[int, list[Shown]]:
    """Three seeds: the second shows what the first does, the third something else to half of the questions."""
    changed = [replace(item, passage_ids=["p9"] if at % 2 else item.passage_ids) for at, item in enumerate(shown())]
    return {4: shown(), 2: [replace(item, ranking=None) for item in shown()], 7: changed}


def test_what_several_seeds_show_is_answered_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, asked, scored = tiny.tiny_reader(), [], []
    generate, score = answering.generate_answers, Scorer.score
    monkeypatch.setattr(answering, "generate_answers", lambda *given: asked.append(given[1]) or generate(*given))
    monkeypatch.setattr(Scorer, "score", lambda own, chunk, **more: scored.extend(chunk) or score(own, chunk, **more))
    rows = predict("kl", reader, 1, by_seed(), TEXTS, BUDGET, journal)
    passages = [[item.passage_ids[0], "p9"][: 1 + at % 2] for at, item in enumerate(shown())]
    wanted = [(row, TEXTS[one]) for row, own in zip(ROWS, passages, strict=True) for one in own]
    assert asked == [[(row["query"], text) for row, text in wanted]]
    assert scored == [Triple(row["query"], text, row["answers"][0]) for row, text in wanted]
    assert [(row["seed"], row["query_id"]) for row in rows] == [(seed, f"q{n}") for seed in (4, 2, 7) for n in range(4)]


def test_seeds_have_the_rows_that_they_have_alone(journal: Journal, tmp_path: Path) -> None:
    reader = tiny.tiny_reader()
    rows = predict("kl", reader, 1, by_seed(), TEXTS, BUDGET, journal)
    for seed, own in by_seed().items():
        with Journal(tmp_path / f"{seed}.sqlite") as other:
            alone = predict("kl", reader, 1, {seed: own}, TEXTS, BUDGET, other)
        for row, wanted in zip([row for row in rows if row["seed"] == seed], alone, strict=True):
            assert row == wanted | {"answer_nll": pytest.approx(wanted["answer_nll"], abs=2e-5)}


# -- answers without generation --------------------------------------------------------------------------------------


def test_references_that_the_reader_would_say_are_not_generated(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third of the vocabulary ends an answer: half of the references are what it says in full."""
    reader = tiny.tiny_reader(model=tiny.tiny_model("qwen3", 45, tie_word_embeddings=False))
    reader.model.generation_config.eos_token_id = list(range(0, 45, 3))
    said = [row["answer"] for row in ask(reader, journal, many())]
    references = [[answer if at % 2 and answer else "goat", "Ashby"] for at, answer in enumerate(said)]
    items = [replace(i, row={**i.row, "answers": own}) for i, own in zip(many(), references, strict=True)]
    with Journal(tmp_path / "other.sqlite") as other, monkeypatch.context() as patch:
        patch.setattr(generation.Ends, "greedy", lambda *given: None)
        wanted = ask(reader, other, items)
    generated: list[int] = []
    generate = generation._generate
    monkeypatch.setattr(
        generation, "_generate", lambda own, prompts: generated.append(len(prompts)) or generate(own, prompts)
    )
    assert ask(reader, journal, items) == wanted and [row["answer"] for row in wanted] == said
    assert len(items) / 4 < sum(generated) < 3 * len(items) / 4
